//! What is in Kafka: the events of the stores and nothing else (I5), each key in order (I6), and what was there stays (I8).

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use uuid::Uuid;

use crate::facts::{Record, Store, StoredEvent, Topic};
use crate::partition;
use crate::verdict::Verdict;

/// I5: the ids in the topics are those in the stores, each in one topic, and the bytes are the stored bytes.
#[must_use]
pub fn same_events(stores: &[Store], topics: &[Topic]) -> Verdict {
    let mut verdict = Verdict::new("I5", "Kafka has the stores' events, as the same bytes, and no others", "events");
    let mut stored: HashMap<Uuid, (&StoredEvent, Option<&str>)> =
        stores.iter().flat_map(|store| &store.events).map(|event| (event.event_id, (event, None))).collect();
    for topic in topics {
        for record in &topic.records {
            let event = record.event();
            let found = event.and_then(|event| stored.get_mut(&event.event_id));
            let same = found.as_ref().is_some_and(|(event, _)| event.envelope == record.value);
            verdict.require(same, || {
                let id = event.map_or_else(|| "what is no event".to_owned(), |event| event.event_id.to_string());
                format!("{} is no event of a store, as these bytes: {id}", place(topic, record))
            });
            if let Some((_, seen)) = found {
                let elsewhere = seen.replace(&topic.name);
                verdict.require(elsewhere.is_none_or(|other| other == topic.name), || {
                    format!("{} is in {} too", place(topic, record), elsewhere.unwrap_or_default())
                });
            }
        }
    }
    for (id, (event, seen)) in &stored {
        verdict.look(seen.is_some(), || format!("event {id}, version {} of {}, is not in Kafka", event.version, event.stream_id));
    }
    verdict
}

/// I5 at an earlier moment: nothing was in Kafka that is not in the stores at the end.
#[must_use]
pub fn never_more(stores: &[Store], earlier: &[Topic]) -> Verdict {
    let mut verdict = Verdict::new("I5", "Kafka never had what the stores don't have", "records seen earlier");
    let stored: HashMap<Uuid, &Bytes> =
        stores.iter().flat_map(|store| &store.events).map(|event| (event.event_id, &event.envelope)).collect();
    for topic in earlier {
        for record in &topic.records {
            let known = record.event().is_some_and(|event| stored.get(&event.event_id).is_some_and(|bytes| **bytes == record.value));
            verdict.look(known, || format!("{} was there and is no event of a store", place(topic, record)));
        }
    }
    verdict
}

/// I6: per key one partition, the one of Java's partitioner; per stream the first occurrences in order without a gap; duplicates equal.
#[must_use]
pub fn in_order(topics: &[Topic]) -> Verdict {
    in_order_from(topics, |_, _| Beginning::There)
}

/// Whether a partition's log still has its first record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// It has.
    There,
    /// Retention has removed it: a stream's first record there is whichever is left.
    Removed,
}

/// As [`in_order`], where logs may have lost their beginnings.
#[must_use]
pub fn in_order_from(topics: &[Topic], beginning: impl Fn(&Topic, i32) -> Beginning) -> Verdict {
    let mut verdict = Verdict::new("I6", "per key in stream order without a gap; duplicates are byte-identical", "records");
    let mut versions: HashMap<Uuid, u64> = HashMap::new();
    let mut first: HashMap<Uuid, &Record> = HashMap::new();
    for topic in topics {
        let mut last: Option<&Record> = None;
        for record in &topic.records {
            let place = || place(topic, record);
            let onward = last.is_none_or(|last| (last.partition, last.offset) < (record.partition, record.offset));
            verdict.require(onward, || format!("{} does not come after the record before it", place()));
            last = Some(record);
            let due = partition::of_key(&record.key, topic.partitions);
            verdict.look(due == Some(record.partition), || format!("{} should be in partition {due:?}", place()));
            let Some(event) = record.event() else {
                verdict.require(false, || format!("{} is no event", place()));
                continue;
            };
            let key = event.partition_key.hyphenated().to_string();
            verdict.require(key.as_bytes() == record.key, || format!("{} has another key than its envelope says", place()));
            if let Some(earlier) = first.get(&event.event_id) {
                verdict.require(earlier.key == record.key && earlier.value == record.value, || {
                    format!("{} repeats event {} with other bytes", place(), event.event_id)
                });
                continue;
            }
            first.insert(event.event_id, record);
            let begins_here = || if beginning(topic, record.partition) == Beginning::There { 0 } else { event.version.saturating_sub(1) };
            let last = versions.entry(event.stream_id).or_insert_with(begins_here);
            verdict.require(event.version == *last + 1, || {
                format!("{}: version {} of {} comes after version {last}", place(), event.version, event.stream_id)
            });
            *last = event.version;
        }
    }
    verdict
}

/// I8 over time: a record that was in a partition stays at its offset, and none comes in before it.
#[must_use]
pub fn kept(earlier: &[Topic], now: &[Topic]) -> Verdict {
    let mut verdict = Verdict::new("I8", "what was delivered stays, and nothing is delivered before it", "records seen earlier");
    for was in earlier {
        let is: HashMap<(i32, i64), &Record> = now
            .iter()
            .filter(|topic| topic.name == was.name)
            .flat_map(|topic| &topic.records)
            .map(|record| ((record.partition, record.offset), record))
            .collect();
        let mut ends: HashMap<i32, i64> = HashMap::new();
        let mut known = HashSet::new();
        for record in &was.records {
            let same = is.get(&(record.partition, record.offset)).is_some_and(|now| now.key == record.key && now.value == record.value);
            verdict.look(same, || format!("{} was there and is gone or changed", place(was, record)));
            let end = ends.entry(record.partition).or_default();
            *end = record.offset.max(*end);
            known.insert((record.partition, record.offset));
        }
        for ((partition, offset), record) in &is {
            let came_before = ends.get(partition).is_some_and(|end| offset < end) && !known.contains(&(*partition, *offset));
            verdict.require(!came_before, || format!("{} came in before what was there", place(was, record)));
        }
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

fn place(topic: &Topic, record: &Record) -> String {
    format!("{} partition {} offset {}", topic.name, record.partition, record.offset)
}
