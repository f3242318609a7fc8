//! What has flowed from stores through topics into the read model, as far as it must have by now.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use super::Look;
use crate::checks::{rest, topic};
use crate::facts::{Store, Topic};
use crate::partition;
use crate::verdict::Verdict;

/// The events of a store that a read model with these stream versions has.
pub(super) fn up_to(store: &Store, versions: &BTreeMap<Uuid, u64>) -> Store {
    let has = |stream: &Uuid, version: u64| versions.get(stream).is_some_and(|last| version <= *last);
    let events = store.events.iter().filter(|event| has(&event.stream_id, event.version)).cloned().collect();
    Store { name: store.name.clone(), events, ..Store::default() }
}

/// I5: what is in Kafka is in a store.
pub(super) fn nothing_else(look: &Look) -> Verdict {
    let mut verdict = topic::never_more(&look.stores, &look.topics);
    (verdict.claim, verdict.of) = ("Kafka has the stores' events, as the same bytes, and no others", "records");
    verdict
}

/// I5, the other way: what an outbox says is in Kafka, is there.
pub(super) fn acknowledged_is_there(look: &Look) -> Verdict {
    let mut verdict = Verdict::new("I5", "Kafka has what the outboxes say it has", "events");
    let mut there: HashMap<Uuid, ()> = HashMap::new();
    let mut first: HashMap<Uuid, u64> = HashMap::new();
    for event in look.topics.iter().flat_map(|topic| &topic.records).filter_map(crate::facts::Record::event) {
        there.insert(event.event_id, ());
        let version = first.entry(event.stream_id).or_insert(event.version);
        *version = event.version.min(*version);
    }
    for (store, cursor) in look.stores.iter().zip(&look.cursors) {
        for event in store.events.iter().filter(|event| cursor.stands_for(event.xid, event.seq)) {
            let was_removed = || {
                let begins = first.get(&event.stream_id);
                is_cut(look, event.partition_key()) && begins.is_none_or(|begins| event.version < *begins)
            };
            if there.contains_key(&event.event_id) || !was_removed() {
                verdict.look(there.contains_key(&event.event_id), || {
                    format!("{}: event {}, version {} of {}, is not in Kafka", store.name, event.event_id, event.version, event.stream_id)
                });
            }
        }
    }
    verdict
}

/// I6 as far as logs are whole: of a partition that has lost its beginning, streams begin wherever they do.
pub(super) fn in_order(look: &Look) -> Verdict {
    topic::in_order_from(&look.topics, |topic: &Topic, partition| {
        if look.beginnings.contains_key(&(topic.name.clone(), partition)) { topic::Beginning::Removed } else { topic::Beginning::There }
    })
}

/// I13: what was there when the audit began has reached Kafka and the read model.
pub(super) fn moves(look: &Look) -> Verdict {
    let mut verdict = rest::no_backlog(&look.outboxes);
    verdict.claim = "what was committed when the audit began is in Kafka and in the read model";
    verdict.of = "outboxes and streams";
    verdict.looked_at(look.awaited_streams);
    for (stream, (due, there)) in &look.behind {
        verdict.require(false, || format!("stream {stream} was at version {due}, and the read model has {there}"));
    }
    verdict
}

/// Whether the records of a key may have been removed by retention.
fn is_cut(look: &Look, key: Uuid) -> bool {
    let key = key.hyphenated().to_string();
    look.topics.iter().any(|topic| {
        let partition = partition::of_key(key.as_bytes(), topic.partitions);
        partition.is_some_and(|partition| look.beginnings.contains_key(&(topic.name.clone(), partition)))
    })
}
