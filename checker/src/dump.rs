//! A dump of topics as a file: messages of protobuf, each with its length before it. A topic is followed by its records.

use std::io::Write;

use bytes::{Buf as _, Bytes};
use prost::Message as _;

use crate::error::Error;
use crate::facts::{Record, Topic};

#[derive(Clone, PartialEq, prost::Message)]
struct Entry {
    /// A topic's name: its records follow. Empty in a record.
    #[prost(string, tag = "1")]
    topic: String,
    #[prost(int32, tag = "2")]
    partitions: i32,
    #[prost(int32, tag = "3")]
    partition: i32,
    #[prost(int64, tag = "4")]
    offset: i64,
    #[prost(int64, optional, tag = "5")]
    produced_ms: Option<i64>,
    #[prost(bytes = "bytes", tag = "6")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "7")]
    value: Bytes,
    #[prost(message, repeated, tag = "8")]
    headers: Vec<Header>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

/// Writes topics.
///
/// # Errors
/// Where `to` can't be written.
pub fn write(topics: &[Topic], to: &mut impl Write) -> std::io::Result<()> {
    for topic in topics {
        let head = Entry { topic: topic.name.clone(), partitions: topic.partitions, ..Entry::default() };
        to.write_all(&head.encode_length_delimited_to_vec())?;
        for record in &topic.records {
            let header = |(name, value): &(String, Bytes)| Header { name: name.clone(), value: value.clone() };
            let entry = Entry {
                topic: String::new(),
                partitions: 0,
                partition: record.partition,
                offset: record.offset,
                produced_ms: record.produced_ms,
                key: record.key.clone(),
                value: record.value.clone(),
                headers: record.headers.iter().map(header).collect(),
            };
            to.write_all(&entry.encode_length_delimited_to_vec())?;
        }
    }
    to.flush()
}

/// Reads what [`write`] has written. The records share the file's memory.
///
/// # Errors
/// [`Error::Format`] where it is no dump, or ends in the middle of one.
pub fn read(mut file: Bytes) -> Result<Vec<Topic>, Error> {
    let mut topics: Vec<Topic> = Vec::new();
    while file.has_remaining() {
        let entry = Entry::decode_length_delimited(&mut file).map_err(|error| Error::Format(format!("the dump can't be read: {error}")))?;
        if !entry.topic.is_empty() {
            topics.push(Topic { name: entry.topic, partitions: entry.partitions, records: Vec::new() });
            continue;
        }
        let topic = topics.last_mut().ok_or_else(|| Error::Format("the dump begins with no topic".to_owned()))?;
        topic.records.push(Record {
            partition: entry.partition,
            offset: entry.offset,
            produced_ms: entry.produced_ms,
            key: entry.key,
            value: entry.value,
            headers: entry.headers.into_iter().map(|header| (header.name, header.value)).collect(),
        });
    }
    Ok(topics)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_is_read_back_as_it_was_written_and_half_of_it_is_refused() {
        let record = |offset| Record {
            partition: 3,
            offset,
            produced_ms: Some(5),
            key: Bytes::from_static(b"key"),
            value: Bytes::from_static(b"value"),
            headers: vec![("traceparent".to_owned(), Bytes::from_static(b"00"))],
        };
        let empty = Topic { name: "empty".to_owned(), partitions: 3, records: vec![] };
        let topics = vec![Topic { name: "full".to_owned(), partitions: 12, records: vec![record(0), record(7)] }, empty];
        let mut file = Vec::new();
        write(&topics, &mut file).expect("a Vec takes everything");
        assert_eq!(read(Bytes::from(file.clone())).expect("a dump"), topics);
        file.pop();
        assert!(matches!(read(Bytes::from(file)), Err(Error::Format(_))));
        assert!(matches!(read(Bytes::from_static(&[2, 0x18, 1])), Err(Error::Format(_))));
    }
}
