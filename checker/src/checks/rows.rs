//! I7: what is derived from the events is what is in the tables, row by row.

use std::collections::{HashMap, HashSet};

use idempo_proto::event::v1::EventEnvelope;
use prost::Message as _;
use uuid::Uuid;

use crate::facts::{Store, Tables, Topic, View};
use crate::inventory::Model;
use crate::verdict::Verdict;

/// I7: every row that follows from the events is there, as it follows, and there is no other.
#[must_use]
pub fn same_rows(claim: &'static str, folded: &Tables, there: &Tables) -> Verdict {
    let mut verdict = Verdict::new("I7", claim, "rows");
    for (table, folded) in folded {
        let Some(there) = there.get(table) else {
            verdict.require(false, || format!("table {table} was not read"));
            continue;
        };
        for (key, row) in folded {
            let found = there.get(key);
            verdict.look(found == Some(row), || {
                format!("{table} {key}: the fold says «{row}», the table «{}»", found.map_or("", String::as_str))
            });
        }
        for (key, row) in there {
            verdict.require(folded.contains_key(key), || format!("{table} {key} follows from no event: «{row}»"));
        }
    }
    verdict
}

/// The read model as it follows from the stores.
#[must_use]
pub fn fold_stores(stores: &[Store]) -> Model {
    Model::fold(stores.iter().flat_map(|store| &store.events).map(|event| &event.decoded))
}

/// The read model as it follows from the records below its own checkpoints, and the last version of each stream in them: whatever is in the
/// tables beyond that, or is not there, was not written in one transaction with the checkpoint. What it has parked it has on purpose not in its rows.
#[must_use]
pub fn fold_topics(topics: &[Topic], view: &View) -> (Model, HashMap<Uuid, u64>) {
    let (mut model, mut versions, mut seen) = (Model::default(), HashMap::new(), HashSet::new());
    let next: HashMap<(&str, i32), i64> =
        view.checkpoints.iter().map(|checkpoint| ((checkpoint.topic.as_str(), checkpoint.partition), checkpoint.next_offset)).collect();
    for topic in topics {
        for record in &topic.records {
            let is_read = next.get(&(topic.name.as_str(), record.partition)).is_some_and(|next| record.offset < *next);
            let is_parked = !view.parked.is_empty() && view.parked.contains(&(topic.name.clone(), record.partition, record.offset));
            let (true, false, Some(event)) = (is_read, is_parked, record.event()) else { continue };
            let Ok(envelope) = EventEnvelope::decode(record.value.clone()) else { continue };
            if !crate::inventory::concerns(&envelope) || !seen.insert(event.event_id) {
                continue;
            }
            model.add(&envelope);
            versions.insert(event.stream_id, event.version);
        }
    }
    (model, versions)
}

/// I7 on what stands beside the rows: the last version of each stream is that of the events below the checkpoints.
#[must_use]
pub fn same_versions(versions: &HashMap<Uuid, u64>, view: &View) -> Verdict {
    let mut verdict = Verdict::new("I7", "the read model's stream versions = the last below its checkpoints", "streams");
    for (stream, version) in versions {
        let there = view.versions.get(stream).copied().unwrap_or(0);
        verdict.look(there == *version, || format!("stream {stream} is at {there}, its checkpoint stands for {version}"));
    }
    for (stream, version) in &view.versions {
        verdict.require(versions.contains_key(stream), || format!("stream {stream} is at {version} and was not read"));
    }
    verdict
}
