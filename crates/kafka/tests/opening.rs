//! What a producer that the brokers don't know yet is told of its first records.
//!
//! The broker is the client library's own stand-in, since the moment can be chosen there. As a real one it takes any number as the first that it sees of
//! a producer, and it can be made to refuse a request. A real cluster of three showed the same: ADR 13.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use idempo_devstack::testing::eventually;
use idempo_kafka::{Config, Delivery, Outgoing, Producer, ProducerConfig, SendError};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::mocking::MockCluster;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};

use crate::support::LIMIT;

const TOPIC: &str = "opening";
/// What the broker takes for an answer: long enough for two requests to be under way.
const ROUND_TRIP: Duration = Duration::from_millis(200);

/// Two records, each in a request of its own. The broker refuses the first request because too few replicas are in sync, and would take the second.
#[tokio::test]
async fn the_first_record_is_not_overtaken_when_replicas_are_missing_for_a_moment() {
    let cluster = MockCluster::new(1).expect("a stand-in for a broker");
    cluster.create_topic(TOPIC, 2, 1).expect("a topic");
    let kafka = Config { brokers: cluster.bootstrap_servers(), ..Config::default() };
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = Arc::clone(&told);
    let config = ProducerConfig { batch_records_max: 1, connections: 1, ..ProducerConfig::default() };
    let producer = Producer::start(&kafka, &config, move |number, delivery| {
        assert!(matches!(delivery, Delivery::Acknowledged { .. }), "{delivery:?}");
        tell.lock().expect("no panic").push(number);
    })
    .expect("a producer");
    let acknowledged = |count: usize| told.lock().expect("no panic").len() == count;

    // From here on the producer has its id and its connection. It has written to partition 0 only.
    send(&producer, 0, "before", 0).await;
    eventually(LIMIT, "the producer works", async || acknowledged(1)).await;
    cluster.broker_round_trip_time(1, ROUND_TRIP).expect("set");
    cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS]);
    send(&producer, 1, "first", 1).await;
    send(&producer, 1, "second", 2).await;
    eventually(LIMIT, "all are acknowledged", async || acknowledged(3)).await;

    assert_eq!(values(&kafka.brokers, 1), ["first", "second"], "what is acknowledged is there, in order");
}

async fn send(producer: &Producer, partition: i32, value: &str, number: usize) {
    let record = Outgoing { topic: TOPIC, partition, key: b"key", value: value.as_bytes(), headers: &[] };
    eventually(LIMIT, "there is room", async || match producer.send(&record, number) {
        Ok(()) => true,
        Err(SendError::Full) => false,
        Err(error) => unreachable!("{error:?}"),
    })
    .await;
}

/// Everything that is in a partition.
fn values(brokers: &str, partition: i32) -> Vec<String> {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", brokers).set("group.id", "opening-group").set("enable.partition.eof", "true");
    let consumer: BaseConsumer = client.create().expect("a consumer");
    let mut whole = TopicPartitionList::new();
    whole.add_partition_offset(TOPIC, partition, Offset::Beginning).expect("an offset");
    consumer.assign(&whole).expect("assigned");
    let mut values = Vec::new();
    while let Some(Ok(record)) = consumer.poll(LIMIT) {
        values.push(String::from_utf8(record.payload().expect("a value").to_vec()).expect("text"));
    }
    values
}
