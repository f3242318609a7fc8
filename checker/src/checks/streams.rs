//! I8: the versions of every stream run from 1 without a gap, its row says the last one, and what was there stays.

use std::collections::HashMap;

use uuid::Uuid;

use crate::facts::{Store, StoredEvent};
use crate::verdict::Verdict;

/// Where a stream is on the way through a store.
struct At {
    version: u64,
    partition_key: Uuid,
}

/// I8 on the stores, in the order of `seq`: each event is its stream's next one, and the envelope says what the row says.
#[must_use]
pub fn gapless(stores: &[Store]) -> Verdict {
    let mut verdict = Verdict::new("I8", "stream versions run from 1 without a gap", "streams");
    for store in stores {
        let mut streams: HashMap<Uuid, At> = HashMap::with_capacity(store.streams.len());
        let mut last_seq = i64::MIN;
        for event in &store.events {
            verdict.require(envelope_agrees(event), || {
                format!("{}: the envelope of {} says otherwise than its row", store.name, event.event_id)
            });
            verdict.require(event.seq > last_seq, || format!("{}: number {} comes after {last_seq}", store.name, event.seq));
            last_seq = event.seq;
            let at = streams.entry(event.stream_id).or_insert(At { version: 0, partition_key: event.partition_key() });
            verdict.require(event.version == at.version + 1, || {
                format!("{}: version {} of stream {} comes after version {}", store.name, event.version, event.stream_id, at.version)
            });
            verdict.require(event.partition_key() == at.partition_key, || {
                format!("{}: version {} of stream {} has another owner than the ones before", store.name, event.version, event.stream_id)
            });
            at.version = event.version;
        }
        for row in &store.streams {
            let at = streams.remove(&row.stream_id);
            let agrees = at.as_ref().is_some_and(|at| at.version == row.version && at.partition_key == row.partition_key);
            verdict.look(agrees, || {
                let last = at.as_ref().map_or(0, |at| at.version);
                format!("{}: the row of stream {} says {}, its last event is {last}", store.name, row.stream_id, row.version)
            });
        }
        verdict.require(streams.is_empty(), || format!("{}: {} streams have events and no row", store.name, streams.len()));
    }
    verdict
}

fn envelope_agrees(event: &StoredEvent) -> bool {
    event.decoded.stream_id == event.stream_id.as_bytes().as_slice()
        && event.decoded.version == event.version
        && event.decoded.event_id == event.event_id.as_bytes().as_slice()
        && event.decoded.data.is_some()
}

/// I8 and I4 over time: every event that a store had earlier is there still, in its place, as the same bytes.
#[must_use]
pub fn kept(earlier: &[Store], now: &[Store]) -> Verdict {
    let mut verdict = Verdict::new("I8", "what a store had earlier, it has still", "events seen earlier");
    for was in earlier {
        let is = now.iter().find(|store| store.name == was.name);
        let there: HashMap<(Uuid, u64), &StoredEvent> =
            is.iter().flat_map(|store| &store.events).map(|event| ((event.stream_id, event.version), event)).collect();
        for event in &was.events {
            let same =
                there.get(&(event.stream_id, event.version)).is_some_and(|now| now.envelope == event.envelope && now.seq == event.seq);
            verdict.look(same, || format!("{}: version {} of {} is gone or changed", was.name, event.version, event.stream_id));
        }
    }
    verdict
}
