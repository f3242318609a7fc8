//! Dumps topics with a consumer of its own: what the platform's consumer would lose, this one shows.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::error::Error;
use crate::facts::{Checkpoint, Record, Topic};

/// How long one look at the brokers may take.
const METADATA_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one poll may take.
const POLL_TIMEOUT: Duration = Duration::from_millis(200);

/// Every record of a topic, from the first that is kept to the last that is there; records of transactions that were aborted or still run are not
/// shown. A topic that does not exist has no partitions.
///
/// # Errors
/// [`Error::Topic`] when the brokers are away, [`Error::Late`] when it takes longer than `limit`.
pub async fn dump(brokers: &str, topic: &str, limit: Duration) -> Result<Topic, Error> {
    let (brokers, topic) = (brokers.to_owned(), topic.to_owned());
    let name = topic.clone();
    let reading = tokio::task::spawn_blocking(move || read(&brokers, &topic, limit));
    reading.await.unwrap_or_else(|_| Err(Error::Late(format!("reading {name}"))))
}

fn read(brokers: &str, topic: &str, limit: Duration) -> Result<Topic, Error> {
    let wrong = |source| Error::Topic { name: topic.to_owned(), source };
    let until = Instant::now() + limit;
    let consumer = consumer(brokers).map_err(wrong)?;
    let partitions = partitions(&consumer, topic).map_err(wrong)?;
    let mut assignment = TopicPartitionList::new();
    for partition in &partitions {
        assignment.add_partition_offset(topic, *partition, Offset::Beginning).map_err(wrong)?;
    }
    consumer.assign(&assignment).map_err(wrong)?;

    let mut unread: HashSet<i32> = partitions.iter().copied().collect();
    let mut records = Vec::new();
    while !unread.is_empty() {
        match consumer.poll(POLL_TIMEOUT) {
            Some(Ok(message)) if unread.contains(&message.partition()) => records.push(record(&message)),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                unread.remove(&partition);
            }
            Some(Err(error)) if error.rdkafka_error_code().is_none_or(is_lasting) => return Err(wrong(error)),
            _ => {}
        }
        if Instant::now() > until {
            return Err(Error::Late(format!("reading {topic}")));
        }
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    Ok(Topic { name: topic.to_owned(), partitions: i32::try_from(partitions.len()).unwrap_or(i32::MAX), records })
}

/// Whether an error does not pass by itself: librdkafka reports lost connections, and mends them.
const fn is_lasting(code: rdkafka::types::RDKafkaErrorCode) -> bool {
    use rdkafka::types::RDKafkaErrorCode as Code;
    !matches!(
        code,
        Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::OperationTimedOut
            | Code::Resolve
            | Code::NotLeaderForPartition
            | Code::LeaderNotAvailable
            | Code::UnknownLeaderEpoch
            | Code::FencedLeaderEpoch
    )
}

fn record(message: &BorrowedMessage<'_>) -> Record {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        let header =
            |header: rdkafka::message::Header<'_, &[u8]>| (header.key.to_owned(), Bytes::copy_from_slice(header.value.unwrap_or_default()));
        headers.iter().map(header).collect()
    });
    Record {
        partition: message.partition(),
        offset: message.offset(),
        produced_ms: message.timestamp().to_millis().filter(|millis| *millis > 0),
        key: Bytes::copy_from_slice(message.key().unwrap_or_default()),
        value: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
        headers,
    }
}

/// Where each partition of some topics ends: the offset after the last one that is given out.
///
/// # Errors
/// [`Error::Topic`] when the brokers are away or a topic does not exist.
pub async fn ends(brokers: &str, topics: &[String]) -> Result<Vec<Checkpoint>, Error> {
    let (brokers, topics) = (brokers.to_owned(), topics.to_owned());
    let asking = tokio::task::spawn_blocking(move || {
        let mut ends = Vec::new();
        for topic in topics {
            let wrong = |source| Error::Topic { name: topic.clone(), source };
            let consumer = consumer(&brokers).map_err(wrong)?;
            for partition in partitions(&consumer, &topic).map_err(wrong)? {
                let (_, next_offset) = consumer.fetch_watermarks(&topic, partition, METADATA_TIMEOUT).map_err(wrong)?;
                ends.push(Checkpoint { topic: topic.clone(), partition, next_offset });
            }
        }
        Ok(ends)
    });
    asking.await.unwrap_or_else(|_| Err(Error::Late("asking for the ends of topics".to_owned())))
}

/// Where logs begin that have lost their first records.
///
/// # Errors
/// [`Error::Topic`] when the brokers are away or a topic does not exist.
pub async fn beginnings(brokers: &str, topics: &[String]) -> Result<HashMap<(String, i32), i64>, Error> {
    let (brokers, topics) = (brokers.to_owned(), topics.to_owned());
    let asking = tokio::task::spawn_blocking(move || {
        let mut beginnings = HashMap::new();
        for topic in topics {
            let wrong = |source| Error::Topic { name: topic.clone(), source };
            let consumer = consumer(&brokers).map_err(wrong)?;
            for partition in partitions(&consumer, &topic).map_err(wrong)? {
                let (first, _) = consumer.fetch_watermarks(&topic, partition, METADATA_TIMEOUT).map_err(wrong)?;
                if first > 0 {
                    beginnings.insert((topic.clone(), partition), first);
                }
            }
        }
        Ok(beginnings)
    });
    asking.await.unwrap_or_else(|_| Err(Error::Late("asking for the beginnings of topics".to_owned())))
}

fn consumer(brokers: &str) -> Result<BaseConsumer, KafkaError> {
    ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("client.id", "idempo-checker")
        // Never joined and never written: partitions are assigned by hand.
        .set("group.id", "idempo-checker")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .set("allow.auto.create.topics", "false")
        .create()
}

fn partitions(consumer: &BaseConsumer, topic: &str) -> Result<Vec<i32>, KafkaError> {
    let metadata = consumer.fetch_metadata(Some(topic), METADATA_TIMEOUT)?;
    Ok(metadata.topics().iter().flat_map(|topic| topic.partitions()).map(|partition| partition.id()).collect())
}
