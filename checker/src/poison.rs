//! Poison: records that somebody else has written into a topic. What the platform has written is judged without them, and what has become of them by
//! itself ([`crate::checks::dead_letters`]).

use std::borrow::Cow;
use std::collections::HashSet;

use bytes::Bytes;

use crate::facts::{Place, Record, Topic};

/// A record that was put in by hand.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Injected {
    /// Its key.
    pub key: Bytes,
    /// Its value; empty for a tombstone.
    pub value: Bytes,
}

/// Such a record as it stands in a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The topic.
    pub topic: String,
    /// The record.
    pub record: Record,
}

impl Found {
    /// Where it is.
    #[must_use]
    pub fn place(&self) -> Place {
        (self.topic.clone(), self.record.partition, self.record.offset)
    }
}

/// Takes the injected records out of a dump, so that what is left is what the platform has written. Gives them, in the order of the dump.
pub fn take_out(topics: &mut [Topic], injected: &[Injected]) -> Vec<Found> {
    let known: HashSet<(&Bytes, &Bytes)> = injected.iter().map(|one| (&one.key, &one.value)).collect();
    let mut found = Vec::new();
    for topic in topics {
        let name = &topic.name;
        let out = topic.records.extract_if(.., |record| known.contains(&(&record.key, &record.value)));
        found.extend(out.map(|record| Found { topic: name.clone(), record }));
    }
    found
}

/// What the platform has written, and the injected records apart from it.
#[must_use]
pub fn apart<'a>(topics: &'a [Topic], injected: &[Injected]) -> (Cow<'a, [Topic]>, Vec<Found>) {
    if injected.is_empty() {
        return (Cow::Borrowed(topics), Vec::new());
    }
    let mut topics = topics.to_vec();
    let found = take_out(&mut topics, injected);
    (Cow::Owned(topics), found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(key: &Bytes, value: &Bytes) -> Record {
        Record { partition: 0, offset: 0, produced_ms: None, key: key.clone(), value: value.clone(), headers: Vec::new() }
    }

    #[test]
    fn only_what_was_injected_is_taken_out() {
        let (key, value) = (Bytes::from_static(b"key"), Bytes::from_static(b"value"));
        let injected = Injected { key: key.clone(), value: Bytes::new() };
        let records = vec![record(&key, &value), record(&key, &Bytes::new()), record(&value, &Bytes::new())];
        let mut topics = [Topic { name: "t".to_owned(), partitions: 1, records }];
        let found = take_out(&mut topics, &[injected]);
        assert_eq!(found.iter().map(Found::place).collect::<Vec<_>>(), [("t".to_owned(), 0, 0)]);
        assert_eq!(topics.iter().map(|topic| topic.records.len()).sum::<usize>(), 2);
    }
}
