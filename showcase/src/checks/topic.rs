//! What is in Kafka: the events of the stores and nothing else (I5), each key in order (I6).

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use idempo_ids::{EventId, StreamId};
use idempo_proto::event::v1::EventEnvelope;
use prost::Message as _;

use super::Verdict;
use crate::facts::{Store, StoredEvent, Topic};

/// What Kafka's partitioner makes of a key: the partition among this many.
pub type Partitioner = fn(&[u8], i32) -> i32;

/// I5: the ids in the topic are those in the stores, and the bytes are the stored bytes.
#[must_use]
pub fn same_events(stores: &[&Store], topic: &Topic) -> Verdict {
    let mut verdict = Verdict::new("I5", "Kafka has the stores' events, as the same bytes, and no others", "events");
    let stored: HashMap<EventId, &StoredEvent> =
        stores.iter().flat_map(|store| &store.events).map(|event| (event.event_id, event)).collect();
    let mut found = HashSet::new();
    for record in &topic.records {
        let id = EventEnvelope::decode(record.value.clone()).ok().and_then(|envelope| EventId::from_slice(&envelope.event_id).ok());
        let same = id.and_then(|id| stored.get(&id)).is_some_and(|event| event.envelope == record.value);
        verdict.require(same, || format!("partition {} offset {} is no event of a store: {id:?}", record.partition, record.offset));
        found.extend(id);
    }
    for (id, event) in &stored {
        verdict.look(found.contains(id), || format!("event {id}, version {} of {}, is not in Kafka", event.version, event.stream_id));
    }
    verdict
}

/// I6: per key one partition, the one of Java's partitioner; per stream the first occurrences in order without a gap; duplicates equal.
#[must_use]
pub fn in_order(topic: &Topic, partition_of: Partitioner) -> Verdict {
    let mut verdict = Verdict::new("I6", "per key in stream order without a gap; duplicates are byte-identical", "records");
    let mut versions: HashMap<StreamId, u64> = HashMap::new();
    let mut first: HashMap<EventId, (&Bytes, &Bytes)> = HashMap::new();
    for record in &topic.records {
        let place = || format!("partition {} offset {}", record.partition, record.offset);
        let due = partition_of(&record.key, topic.partitions);
        verdict.look(due == record.partition, || format!("{} should be in partition {due}", place()));
        let Ok(envelope) = EventEnvelope::decode(record.value.clone()) else {
            verdict.require(false, || format!("{} is no event", place()));
            continue;
        };
        let (Ok(id), Ok(stream)) = (EventId::from_slice(&envelope.event_id), StreamId::from_slice(&envelope.stream_id)) else {
            verdict.require(false, || format!("{} has no ids", place()));
            continue;
        };
        let key_agrees = idempo_ids::Uuid::from_slice(&envelope.partition_key).is_ok_and(|key| key.to_string().as_bytes() == record.key);
        verdict.require(key_agrees, || format!("{} has another key than its envelope says", place()));
        if let Some(earlier) = first.insert(id, (&record.key, &record.value)) {
            verdict.require(earlier == (&record.key, &record.value), || format!("{} repeats event {id} with other bytes", place()));
            continue;
        }
        let last = versions.entry(stream).or_default();
        verdict.require(envelope.version == *last + 1, || {
            format!("{}: version {} of {stream} comes after version {last}", place(), envelope.version)
        });
        *last = envelope.version;
    }
    verdict
}

/// How many records say again what an earlier one said.
#[must_use]
pub fn duplicates(topic: &Topic) -> u64 {
    let mut seen = HashSet::new();
    let repeated = topic.records.iter().filter(|record| !seen.insert(&record.value)).count();
    u64::try_from(repeated).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::samples::{event, record, store, stream, topic};

    const ALWAYS_ZERO: Partitioner = |_, _| 0;

    fn sample() -> (Store, Topic) {
        let store = store(vec![event(1, stream(1), 1, 1, 0), event(2, stream(1), 2, 2, 0), event(3, stream(2), 1, 3, 0)]);
        let topic = topic(store.events.iter().map(record).collect());
        (store, topic)
    }

    #[test]
    fn the_same_events_in_order_pass_also_with_duplicates() {
        let (store, mut topic) = sample();
        topic.records.push(topic.records[0].clone());
        assert!(same_events(&[&store], &topic).holds());
        assert!(in_order(&topic, ALWAYS_ZERO).holds());
        assert_eq!(duplicates(&topic), 1);
    }

    #[test]
    fn a_lost_event_and_a_foreign_event_are_flagged() {
        let (store, mut lost) = sample();
        lost.records.remove(2);
        assert_eq!(same_events(&[&store], &lost).flaw_count, 1);
        let (_, mut foreign) = sample();
        foreign.records.push(record(&event(9, stream(3), 1, 8, 0)));
        assert_eq!(same_events(&[&store], &foreign).flaw_count, 1);
        let (_, mut spoilt) = sample();
        spoilt.records[0].value = Bytes::from_static(b"\xff");
        assert_eq!(same_events(&[&store], &spoilt).flaw_count, 2);
    }

    #[test]
    fn an_inversion_a_gap_a_changed_duplicate_and_a_wrong_partition_are_flagged() {
        let (_, mut inverted) = sample();
        inverted.records.swap(0, 1);
        assert!(in_order(&inverted, ALWAYS_ZERO).flaw_count > 0);
        let (_, mut gap) = sample();
        gap.records.remove(0);
        assert_eq!(in_order(&gap, ALWAYS_ZERO).flaw_count, 1);
        let (store, mut changed) = sample();
        let mut other = store.events[0].clone();
        other.decoded.traceparent = "changed".to_owned();
        other.envelope = other.decoded.encode_to_vec().into();
        changed.records.push(record(&other));
        assert_eq!(in_order(&changed, ALWAYS_ZERO).flaw_count, 1);
        let (_, topic) = sample();
        assert_eq!(in_order(&topic, |_, _| 1).flaw_count, 3);
        let (_, mut key) = sample();
        key.records[0].key = Bytes::from_static(b"somebody");
        assert_eq!(in_order(&key, ALWAYS_ZERO).flaw_count, 1);
    }
}
