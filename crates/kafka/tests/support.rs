//! A topic of one's own, filled with numbered records.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use idempo_devstack::testing;
use idempo_kafka::{
    Config, ConsumerConfig, Delivery, Outgoing, Producer, ProducerConfig, SendError, StartOffset, TopicPartition, TopicSpec, ensure_topics,
};

/// The longest that anything here is waited for.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) fn kafka() -> Config {
    Config { brokers: testing::kafka_brokers(), ..Config::default() }
}

/// Makes a topic that no other test has.
pub(crate) async fn topic(partitions: i32) -> String {
    let name = format!("{}numbers", testing::topic_prefix());
    ensure_topics(&kafka(), &[spec(&name, partitions)]).await.expect("the topic can be made");
    name
}

pub(crate) fn spec(name: &str, partitions: i32) -> TopicSpec {
    TopicSpec { name: name.to_owned(), partitions, retention_hours: 1, replication: 1, min_insync: 1 }
}

pub(crate) fn consumer_config(topic: &str) -> ConsumerConfig {
    ConsumerConfig {
        group_id: format!("{topic}-group"),
        topics: vec![topic.to_owned()],
        session_timeout_ms: 6_000,
        revoke_wait_ms: 5_000,
        ..ConsumerConfig::default()
    }
}

/// Sends records `from..to` to one partition, each with its number as the value, and waits until all are acknowledged.
pub(crate) async fn fill(topic: &str, partition: i32, numbers: std::ops::Range<usize>) {
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&acknowledged);
    let producer = Producer::start(&kafka(), &ProducerConfig::default(), move |_, delivery| {
        assert!(matches!(delivery, Delivery::Acknowledged { .. }), "{delivery:?}");
        seen.fetch_add(1, Ordering::SeqCst);
    })
    .expect("a producer");
    let count = numbers.len();
    for number in numbers {
        let value = number.to_string();
        let record = Outgoing { topic, partition, key: b"key", value: value.as_bytes(), headers: &[] };
        while let Err(error) = producer.send(&record, number) {
            assert!(matches!(error, SendError::Full), "{error:?}");
            tokio::task::yield_now().await;
        }
    }
    testing::eventually(LIMIT, "every record is acknowledged", async || acknowledged.load(Ordering::SeqCst) == count).await;
}

pub(crate) fn from_the_start(partitions: &[TopicPartition]) -> Vec<(TopicPartition, StartOffset)> {
    partitions.iter().map(|partition| (partition.clone(), StartOffset::Offset(0))).collect()
}
