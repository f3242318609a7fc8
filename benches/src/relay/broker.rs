//! Kafka as the bench sees it: topics on the broker's clock, a bare producer loop, and what the broker has.

use std::time::Duration;

use anyhow::{Context as _, bail};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

use super::fill::Record;

/// The partitions of a bench's topic, as many as `economy-events` has.
pub(crate) const PARTITIONS: i32 = 12;
/// How long the broker is waited for, in each call.
const BROKER_WAIT: Duration = Duration::from_secs(30);

/// A topic that the broker stamps with its own clock when it appends.
pub(crate) async fn make_topic(brokers: &str, name: &str) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let topic = NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1)).set("message.timestamp.type", "LogAppendTime");
    for result in admin.create_topics([&topic], &AdminOptions::new()).await? {
        result.map_err(|(name, code)| anyhow::anyhow!("{name}: {code}"))?;
    }
    Ok(())
}

/// Sends the records as fast as librdkafka takes them: what a relay could reach if it had nothing else to do.
pub(crate) fn send_bare(brokers: &str, topic: &str, records: &[Record]) -> anyhow::Result<()> {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", "lz4")
        .set("linger.ms", "5")
        .set("batch.size", "1000000")
        .set("queue.buffering.max.messages", "200000")
        .set("queue.buffering.max.kbytes", "262144")
        .create()?;
    for record in records {
        let mut next = BaseRecord::to(topic).key(record.key.as_bytes()).payload(&*record.payload).partition(record.partition);
        loop {
            match producer.send(next) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    next = back;
                    producer.poll(Duration::from_millis(1));
                }
                Err((error, _)) => bail!(error),
            }
        }
    }
    producer.flush(BROKER_WAIT)?;
    Ok(())
}

/// How many records the topic has.
pub(crate) fn count(consumer: &BaseConsumer, topic: &str) -> anyhow::Result<u64> {
    let mut count = 0;
    for partition in 0..PARTITIONS {
        let (low, high) = consumer.fetch_watermarks(topic, partition, BROKER_WAIT)?;
        count += u64::try_from(high - low)?;
    }
    Ok(count)
}

/// A client to read with.
pub(crate) fn consumer(brokers: &str) -> anyhow::Result<BaseConsumer> {
    Ok(ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", "idempo-bench").set("enable.auto.commit", "false").create()?)
}

/// One record as it is in the topic.
#[derive(Debug)]
pub(crate) struct Appended {
    pub(crate) partition: i32,
    pub(crate) at_ms: i64,
    pub(crate) key: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

/// Reads a topic from its beginning to its end as it is now.
pub(crate) fn read_all(consumer: &BaseConsumer, topic: &str, mut each: impl FnMut(&Appended)) -> anyhow::Result<u64> {
    let mut from = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        from.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&from)?;
    let expected = count(consumer, topic)?;
    for _ in 0..expected {
        let message = consumer.poll(BROKER_WAIT).context("the topic ended early")??;
        each(&Appended {
            partition: message.partition(),
            at_ms: message.timestamp().to_millis().context("a record without a time")?,
            key: message.key().unwrap_or_default().to_vec(),
            payload: message.payload().unwrap_or_default().to_vec(),
        });
    }
    consumer.unassign()?;
    Ok(expected)
}

/// The time from the first to the last append, on the broker's clock.
pub(crate) fn span(consumer: &BaseConsumer, topic: &str) -> anyhow::Result<Duration> {
    let (mut first, mut last) = (i64::MAX, 0);
    read_all(consumer, topic, |record| {
        first = first.min(record.at_ms);
        last = last.max(record.at_ms);
    })?;
    Ok(Duration::from_millis(u64::try_from(last.saturating_sub(first))?.max(1)))
}
