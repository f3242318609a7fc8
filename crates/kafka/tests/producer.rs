//! What a producer promises.

use std::sync::{Arc, Mutex};

use idempo_devstack::testing;
use idempo_kafka::{Config, Delivery, Outgoing, Producer, ProducerConfig, Refusal, SendError};

use crate::support::{LIMIT, kafka, topic};

type Told = Arc<Mutex<Vec<(usize, Delivery)>>>;

fn start(kafka: &Config, config: &ProducerConfig) -> (Producer, Told) {
    let told = Told::default();
    let tell = Arc::clone(&told);
    let producer = Producer::start(kafka, config, move |number, delivery| tell.lock().expect("no panic").push((number, delivery)));
    (producer.expect("a producer"), told)
}

#[tokio::test]
async fn deliveries_are_told_in_the_order_of_sending_within_a_partition() {
    let topic = topic(1).await;
    let (producer, told) = start(&kafka(), &ProducerConfig::default());
    for number in 0..1_000 {
        let record = Outgoing { topic: &topic, partition: 0, key: b"k", value: b"v", headers: &[] };
        testing::eventually(LIMIT, "room", async || producer.send(&record, number).is_ok()).await;
    }
    testing::eventually(LIMIT, "all deliveries", async || told.lock().expect("no panic").len() == 1_000).await;
    let told = told.lock().expect("no panic");
    let expected = |at: usize| (at, Delivery::Acknowledged { offset: i64::try_from(at).ok() });
    assert!(told.iter().enumerate().all(|(at, entry)| *entry == expected(at)), "each has the offset at which it stands");
}

#[tokio::test]
async fn a_record_that_is_too_large_is_refused_at_once() {
    let topic = topic(1).await;
    let (producer, _) = start(&kafka(), &ProducerConfig::default());
    let value = vec![b'x'; 2_000_000];
    let sent = producer.send(&Outgoing { topic: &topic, partition: 0, key: b"k", value: &value, headers: &[] }, 0);
    assert!(matches!(sent, Err(SendError::Refused(Refusal::TooLarge))), "{sent:?}");
}

#[tokio::test]
async fn a_partition_that_does_not_exist_is_refused() {
    let topic = topic(1).await;
    let (producer, told) = start(&kafka(), &ProducerConfig::default());
    let record = Outgoing { topic: &topic, partition: 9, key: b"k", value: b"v", headers: &[] };
    match producer.send(&record, 7) {
        Err(SendError::Refused(Refusal::UnknownPartition)) => return,
        sent => sent.expect("taken over while the topic is not yet known"),
    }
    testing::eventually(LIMIT, "the refusal is told", async || !told.lock().expect("no panic").is_empty()).await;
    assert_eq!(told.lock().expect("no panic").first(), Some(&(7, Delivery::Refused(Refusal::UnknownPartition))));
}

#[tokio::test]
async fn a_full_queue_says_so_and_a_purge_tells_of_every_record() {
    // Nobody listens there: records stay in the queue.
    let nowhere = Config { brokers: "127.0.0.1:1".to_owned(), ..Config::default() };
    let (producer, told) = start(&nowhere, &ProducerConfig { queue_records_max: 300, ..ProducerConfig::default() });
    let record = |partition| Outgoing { topic: "nowhere", partition, key: b"k", value: b"v", headers: &[] };
    let is_full = |number: &usize| {
        let partition = i32::try_from(*number).expect("small");
        matches!(producer.send(&record(partition), *number), Err(SendError::Full))
    };
    let taken = (0..1_000).find(is_full).expect("the queue has a limit");
    assert_eq!(taken, 300, "each connection has its part");
    assert!(is_full(&0), "a partition is opened by one record");
    testing::eventually(LIMIT, "the brokers are known to be away", async || producer.brokers_down()).await;
    producer.purge();
    testing::eventually(LIMIT, "every record is told of", async || told.lock().expect("no panic").len() == taken).await;
    assert!(told.lock().expect("no panic").iter().all(|(_, delivery)| *delivery == Delivery::Purged));
}
