//! Where rows go: topic numbers to topics, keys to partitions, stored headers to Kafka's.

use std::collections::HashMap;

use idempo_kafka::{Copies, TopicPartition, TopicSpec, ensure_topics, partition_of, topic_specs};
use smallvec::SmallVec;
use tokio::sync::OnceCell;

/// Headers of a record; more than these are on the heap.
pub(crate) type Headers<'a> = SmallVec<[(&'a str, &'a [u8]); 2]>;

/// A partition that rows can go to, by its place among all of them.
pub(crate) type Slot = u16;

/// A topic that rows can go to.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) topic: String,
    pub(crate) partitions: i32,
    /// Its rows go in transactions.
    pub(crate) exactly_once: bool,
    first_slot: Slot,
}

impl Route {
    /// The partition of a key, as Kafka's clients for Java choose it.
    pub(crate) fn partition(&self, key: &[u8]) -> i32 {
        partition_of(key, self.partitions)
    }

    /// The slot of one of its partitions.
    pub(crate) fn slot(&self, partition: i32) -> Slot {
        self.first_slot + Slot::try_from(partition).unwrap_or(0)
    }
}

/// Every topic that rows can go to.
#[derive(Debug)]
pub(crate) struct Routes {
    by_number: HashMap<i16, Route>,
    /// By slot.
    partitions: Vec<TopicPartition>,
    specs: Vec<TopicSpec>,
    ensured: OnceCell<()>,
}

impl Routes {
    /// The topics of `topics.yaml`, with `prefix` before their names. The rows of those named in `exactly_once` (without prefix) go in
    /// transactions.
    pub(crate) fn new(copies: Copies, prefix: &str, exactly_once: &[String]) -> Self {
        let topics = idempo_schemas::topics();
        let (mut by_number, mut partitions) = (HashMap::new(), Vec::new());
        for topic in topics.topics {
            let name = format!("{prefix}{}", topic.name);
            let first_slot = Slot::try_from(partitions.len()).unwrap_or(Slot::MAX);
            partitions.extend((0..topic.partitions).map(|partition| TopicPartition::new(&name, partition)));
            let exactly_once = exactly_once.iter().any(|once| once == topic.name);
            by_number.insert(topic.number, Route { topic: name, partitions: topic.partitions, exactly_once, first_slot });
        }
        Self { by_number, partitions, specs: topic_specs(topics, copies, prefix), ensured: OnceCell::new() }
    }

    /// The topic with this number.
    pub(crate) fn get(&self, number: i16) -> Option<&Route> {
        self.by_number.get(&number)
    }

    /// The number of slots: of all partitions that rows can go to.
    pub(crate) fn slots(&self) -> usize {
        self.partitions.len()
    }

    /// Every partition that rows can go to, by slot.
    pub(crate) fn partitions(&self) -> &[TopicPartition] {
        &self.partitions
    }

    /// The partition of a slot.
    pub(crate) fn partition(&self, slot: Slot) -> Option<&TopicPartition> {
        self.partitions.get(usize::from(slot))
    }

    /// The slot of a topic's partition.
    pub(crate) fn slot(&self, topic: i16, partition: i32) -> Option<Slot> {
        self.get(topic).filter(|route| (0..route.partitions).contains(&partition)).map(|route| route.slot(partition))
    }

    /// The number of the topic and the partition behind a slot.
    pub(crate) fn place(&self, slot: Slot) -> Option<(i16, i32)> {
        let of = |(number, route): (&i16, &Route)| {
            let partition = i32::from(slot.checked_sub(route.first_slot)?);
            (partition < route.partitions).then_some((*number, partition))
        };
        self.by_number.iter().find_map(of)
    }

    /// Makes the topics that are missing, and checks the partitions of all; once in the life of the process.
    ///
    /// # Errors
    /// As [`ensure_topics`].
    pub(crate) async fn ensure(&self, kafka: &idempo_kafka::Config) -> Result<(), idempo_kafka::Error> {
        self.ensured.get_or_try_init(|| ensure_topics(kafka, &self.specs)).await.map(|&()| ())
    }
}

/// Takes stored headers apart: name and value, each behind its length in one byte. `None` where the bytes are something else.
pub(crate) fn headers(mut stored: &[u8]) -> Option<Headers<'_>> {
    let mut headers = Headers::new();
    while !stored.is_empty() {
        let (name, rest) = part(stored)?;
        let (value, rest) = part(rest)?;
        headers.push((str::from_utf8(name).ok()?, value));
        stored = rest;
    }
    Some(headers)
}

fn part(stored: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = stored.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_taken_apart_as_they_were_stored() {
        let stored = b"\x0btraceparent\x0300-\x01a\x00";
        let expected: [(&str, &[u8]); 2] = [("traceparent", b"00-"), ("a", b"")];
        assert_eq!(headers(stored).as_deref(), Some(&expected[..]));
        assert_eq!(headers(b"").as_deref(), Some(&[][..]));
    }

    #[test]
    fn damaged_headers_are_no_headers() {
        for damaged in [&b"\x05abc"[..], b"\x01a", b"\x01a\x09b", b"\x01\xff\x00"] {
            assert_eq!(headers(damaged), None);
        }
    }

    #[test]
    fn every_topic_has_a_route() {
        let routes = Routes::new(Copies::Local, "t-", &[]);
        let route = routes.get(3).expect("economy events");
        assert_eq!((route.topic.as_str(), route.partitions), ("t-economy-events", 12));
        assert!(routes.get(99).is_none());
    }

    #[test]
    fn every_partition_has_a_slot_of_its_own() {
        let routes = Routes::new(Copies::Local, "", &["economy-events".to_owned()]);
        assert_eq!(routes.slots(), 40);
        for slot in 0..40 {
            let (topic, partition) = routes.place(slot).expect("a place");
            assert_eq!(routes.slot(topic, partition), Some(slot));
            let expected = TopicPartition::new(&routes.get(topic).expect("a route").topic, partition);
            assert_eq!(routes.partition(slot), Some(&expected));
        }
        assert_eq!((routes.place(40), routes.slot(3, 12), routes.slot(99, 0)), (None, None, None));
        assert!(routes.get(3).is_some_and(|route| route.exactly_once));
        assert!(routes.get(1).is_some_and(|route| !route.exactly_once));
    }
}
