//! The topic: filled once, read by a bare loop and by the projector.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::{Message as _, Offset, TopicPartitionList};

use super::world::Record;

/// How long the broker is waited for, in each call.
const BROKER_WAIT: Duration = Duration::from_secs(60);

/// Makes the topic and writes the records.
pub(crate) async fn fill(brokers: &str, topic: &str, partitions: i32, records: &[Record]) -> anyhow::Result<()> {
    make(brokers, topic, partitions).await?;
    write(brokers, topic, records)
}

/// Makes the topic.
pub(crate) async fn make(brokers: &str, topic: &str, partitions: i32) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    for result in admin.create_topics([&new], &AdminOptions::new()).await? {
        result.map_err(|(name, code)| anyhow::anyhow!("{name}: {code}"))?;
    }
    Ok(())
}

/// Writes the records, in their order, as the relay does: lz4, the key in hyphens, no header where a command was not traced.
pub(crate) fn write<'a>(brokers: &str, topic: &str, records: impl IntoIterator<Item = &'a Record>) -> anyhow::Result<()> {
    tokio::task::block_in_place(|| produce(brokers, topic, records))
}

fn produce<'a>(brokers: &str, topic: &str, records: impl IntoIterator<Item = &'a Record>) -> anyhow::Result<()> {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", "lz4")
        .set("linger.ms", "5")
        .create()?;
    for record in records {
        let key = record.key.to_string();
        let mut next = BaseRecord::to(topic).key(&key).payload(&record.value).partition(record.partition);
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

/// How long a loop takes that reads the whole topic and does nothing with it.
pub(crate) fn read_bare(brokers: &str, topic: &str, partitions: i32, records: usize) -> anyhow::Result<Duration> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", format!("{topic}-bare"))
        .set("enable.auto.commit", "false")
        .set("check.crcs", "true")
        .create()?;
    let mut from = TopicPartitionList::new();
    for partition in 0..partitions {
        from.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    let began = Instant::now();
    consumer.assign(&from)?;
    let mut bytes = 0;
    for _ in 0..records {
        let message = consumer.poll(BROKER_WAIT).context("the topic ended early")??;
        bytes += message.payload().map_or(0, <[u8]>::len);
    }
    anyhow::ensure!(bytes > records, "records of nothing");
    Ok(began.elapsed())
}
