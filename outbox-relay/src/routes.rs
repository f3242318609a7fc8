//! Where rows go: topic numbers to topics, keys to partitions, stored headers to Kafka's.

use std::collections::HashMap;

use idempo_kafka::{Copies, TopicSpec, ensure_topics, partition_of, topic_specs};
use smallvec::SmallVec;
use tokio::sync::OnceCell;

/// Headers of a record; more than these are on the heap.
pub(crate) type Headers<'a> = SmallVec<[(&'a str, &'a [u8]); 2]>;

/// A topic that rows can go to.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) topic: String,
    pub(crate) partitions: i32,
}

impl Route {
    /// The partition of a key, as Kafka's clients for Java choose it.
    pub(crate) fn partition(&self, key: &[u8]) -> i32 {
        partition_of(key, self.partitions)
    }
}

/// Every topic that rows can go to.
#[derive(Debug)]
pub(crate) struct Routes {
    by_number: HashMap<i16, Route>,
    specs: Vec<TopicSpec>,
    ensured: OnceCell<()>,
}

impl Routes {
    /// The topics of `topics.yaml`, with `prefix` before their names.
    pub(crate) fn new(copies: Copies, prefix: &str) -> Self {
        let topics = idempo_schemas::topics();
        let by_number = topics
            .topics
            .iter()
            .map(|topic| (topic.number, Route { topic: format!("{prefix}{}", topic.name), partitions: topic.partitions }))
            .collect();
        Self { by_number, specs: topic_specs(topics, copies, prefix), ensured: OnceCell::new() }
    }

    /// The topic with this number.
    pub(crate) fn get(&self, number: i16) -> Option<&Route> {
        self.by_number.get(&number)
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
        let routes = Routes::new(Copies::Local, "t-");
        let route = routes.get(3).expect("economy events");
        assert_eq!((route.topic.as_str(), route.partitions), ("t-economy-events", 12));
        assert!(routes.get(99).is_none());
    }
}
