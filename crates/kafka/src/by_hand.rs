//! What people do to topics by hand, and other programs by mistake: for tests of what happens then. No program of the platform calls it.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewPartitions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::topics::blocking;
use crate::{Config, Error};

/// The longest that one request takes.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A record as anybody can write it: to any partition, with or without a key or a value.
#[derive(Debug, Clone, Copy)]
pub struct Anything<'a> {
    /// The partition.
    pub partition: i32,
    /// The key, if any.
    pub key: Option<&'a [u8]>,
    /// The value, if any.
    pub value: Option<&'a [u8]>,
}

/// Writes records in their order, and waits until the broker has them.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Configuration`].
pub async fn write(config: &Config, topic: &str, records: &[Anything<'_>]) -> Result<(), Error> {
    let mut client = config.client()?;
    client.set("enable.idempotence", "true").set("message.max.bytes", "16000000");
    let producer: ThreadedProducer<DefaultProducerContext> =
        client.create().map_err(|source| Error::Configuration { context: "creating a producer", source })?;
    for record in records {
        let mut next = BaseRecord::<[u8], [u8]>::to(topic).partition(record.partition);
        next.key = record.key;
        next.payload = record.value;
        producer.send(next).map_err(|(source, _)| Error::Unavailable { context: "writing by hand", source })?;
    }
    blocking(move || producer.flush(TIMEOUT).map_err(|source| Error::Unavailable { context: "writing by hand", source })).await
}

/// Adds partitions to a topic, until it has `total`.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::TopicRefused`], [`Error::Configuration`].
pub async fn add_partitions(config: &Config, topic: &str, total: usize) -> Result<(), Error> {
    let answers = admin(config)?.create_partitions(&[NewPartitions::new(topic, total)], &options()).await;
    accepted(answers)
}

/// Deletes a topic.
///
/// # Errors
/// As [`add_partitions`].
pub async fn delete_topic(config: &Config, topic: &str) -> Result<(), Error> {
    let answers = admin(config)?.delete_topics(&[topic], &options()).await;
    accepted(answers)
}

/// Sets a property of a topic; its others get their defaults.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::TopicRefused`], [`Error::Configuration`].
pub async fn set_topic_property(config: &Config, topic: &str, property: &str, value: &str) -> Result<(), Error> {
    let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(property, value);
    let answers = admin(config)?.alter_configs(&[change], &options()).await;
    for answer in answers.map_err(|source| Error::Unavailable { context: "changing a topic", source })? {
        answer.map_err(|(_, code)| Error::TopicRefused { topic: topic.to_owned(), code })?;
    }
    Ok(())
}

/// Deletes the records of a partition before an offset, as retention does.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Configuration`].
pub async fn delete_before(config: &Config, topic: &str, partition: i32, offset: i64) -> Result<(), Error> {
    let unavailable = |source| Error::Unavailable { context: "deleting records", source };
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(offset)).map_err(unavailable)?;
    admin(config)?.delete_records(&list, &options()).await.map_err(unavailable)?;
    Ok(())
}

fn admin(config: &Config) -> Result<AdminClient<DefaultClientContext>, Error> {
    config.client()?.create().map_err(|source| Error::Configuration { context: "creating an admin client", source })
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT))
}

fn accepted(answers: Result<Vec<rdkafka::admin::TopicResult>, KafkaError>) -> Result<(), Error> {
    for answer in answers.map_err(|source| Error::Unavailable { context: "changing a topic", source })? {
        answer.map_err(|(topic, code)| Error::TopicRefused { topic, code })?;
    }
    Ok(())
}
