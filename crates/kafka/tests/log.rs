//! Reading stretches of logs, and transactions as their readers see them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use idempo_devstack::testing;
use idempo_kafka::{
    Bounds, Delivery, LogReader, LogRecord, Outgoing, Producer, ProducerConfig, ReadEnd, ReadLimit, Stretch, TopicPartition,
    TransactionError, Visibility,
};

use crate::support::{LIMIT, fill, kafka, topic};

const NO_LIMIT: ReadLimit = ReadLimit { records: usize::MAX, time: LIMIT };

fn reader(visibility: Visibility) -> LogReader {
    LogReader::new(&kafka(), visibility).expect("a reader")
}

/// Reads stretches, and gives the stretch, offset and value of each record.
async fn read(reader: &LogReader, stretches: Vec<Stretch>, limit: ReadLimit) -> (Vec<(usize, i64, String)>, ReadEnd) {
    let keep = |all: &mut Vec<_>, number: usize, record: LogRecord<'_>| {
        all.push((number, record.offset, String::from_utf8_lossy(record.value).into_owned()));
    };
    reader.read(stretches, limit, Vec::new(), keep).await.expect("it can be read")
}

#[tokio::test]
async fn stretches_are_read_from_their_beginning_to_their_end_and_no_further() {
    let topic = topic(6).await;
    for partition in 0..6 {
        fill(&topic, partition, 0..5_000).await;
    }
    let partitions: Vec<_> = (0..6).map(|partition| TopicPartition::new(&topic, partition)).collect();
    let reader = reader(Visibility::Committed);
    let bounds = reader.bounds(&partitions, LIMIT).await.expect("an answer");
    assert_eq!(bounds, vec![Bounds { start: 0, end: 5_000 }; 6]);
    let mut stretches: Vec<_> = partitions.iter().map(|partition| Stretch { partition: partition.clone(), from: 100, to: 900 }).collect();
    stretches.extend(partitions.iter().map(|partition| Stretch { partition: partition.clone(), from: 2_000, to: 5_000 }));
    for _ in 0..3 {
        let (records, end) = read(&reader, stretches.clone(), NO_LIMIT).await;
        assert_eq!(end, ReadEnd { records: 6 * 3_800, complete: true });
        for (number, stretch) in stretches.iter().enumerate() {
            let offsets: Vec<i64> = records.iter().filter(|(of, ..)| *of == number).map(|(_, offset, _)| *offset).collect();
            assert_eq!(offsets, (stretch.from..stretch.to).collect::<Vec<_>>());
        }
        assert!(records.iter().all(|(_, offset, value)| *value == offset.to_string()));
    }
}

#[tokio::test]
async fn a_limit_ends_reading_and_says_so() {
    let topic = topic(1).await;
    fill(&topic, 0, 0..1_000).await;
    let stretch = Stretch { partition: TopicPartition::new(&topic, 0), from: 0, to: 1_000 };
    let (records, end) = read(&reader(Visibility::Committed), vec![stretch], ReadLimit { records: 10, time: LIMIT }).await;
    assert_eq!((records.len(), end), (10, ReadEnd { records: 10, complete: false }));
}

/// A producer with transactions of this name, and how many of its records are acknowledged.
fn transactional(id: &str) -> (Arc<Producer>, Arc<AtomicUsize>) {
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&acknowledged);
    let hears = move |_, delivery| _ = matches!(delivery, Delivery::Acknowledged { .. }) && seen.fetch_add(1, Ordering::SeqCst) > 0;
    (Arc::new(Producer::start_transactional(&kafka(), &ProducerConfig::default(), id, hears).expect("a producer")), acknowledged)
}

type Step = fn(&Producer, Duration) -> Result<(), TransactionError>;

/// Takes a step until it is done or has failed.
async fn step(producer: &Arc<Producer>, step: Step) -> Result<(), TransactionError> {
    loop {
        let producer = Arc::clone(producer);
        match tokio::task::spawn_blocking(move || step(&producer, Duration::from_secs(5))).await.expect("no panic") {
            Err(TransactionError::Retry(_)) => {}
            done => return done,
        }
    }
}

/// Sends values in the transaction that is open, and waits until they are acknowledged.
async fn send((producer, acknowledged): &(Arc<Producer>, Arc<AtomicUsize>), topic: &str, values: &[&str]) {
    let awaited = acknowledged.load(Ordering::SeqCst) + values.len();
    for value in values {
        let record = Outgoing { topic, partition: 0, key: b"key", value: value.as_bytes(), headers: &[] };
        testing::eventually(LIMIT, "there is room", async || producer.send(&record, 0).is_ok()).await;
    }
    testing::eventually(LIMIT, "they are acknowledged", async || acknowledged.load(Ordering::SeqCst) == awaited).await;
}

#[tokio::test]
async fn only_what_is_committed_is_read_and_a_successor_fences_and_aborts() {
    let topic = topic(1).await;
    let zombie = transactional(&topic);
    step(&zombie.0, Producer::init_transactions_blocking).await.expect("begun");
    zombie.0.begin_transaction().expect("begun");
    send(&zombie, &topic, &["a", "b"]).await;
    step(&zombie.0, Producer::commit_blocking).await.expect("committed");
    zombie.0.begin_transaction().expect("begun");
    send(&zombie, &topic, &["never"]).await;
    let partition = [TopicPartition::new(&topic, 0)];
    let (committed, all) = (reader(Visibility::Committed), reader(Visibility::Uncommitted));
    assert_eq!(committed.bounds(&partition, LIMIT).await.expect("an answer"), [Bounds { start: 0, end: 3 }], "a, b, and the commit");
    assert_eq!(all.bounds(&partition, LIMIT).await.expect("an answer"), [Bounds { start: 0, end: 4 }]);

    let successor = transactional(&topic);
    step(&successor.0, Producer::init_transactions_blocking).await.expect("begun");
    assert_eq!(committed.bounds(&partition, LIMIT).await.expect("an answer"), [Bounds { start: 0, end: 5 }], "with the abort");
    let fenced = step(&zombie.0, Producer::commit_blocking).await;
    assert!(matches!(fenced, Err(TransactionError::Fenced(_))), "{fenced:?}");
    successor.0.begin_transaction().expect("begun");
    send(&successor, &topic, &["c"]).await;
    step(&successor.0, Producer::commit_blocking).await.expect("committed");

    let stretch = |to| vec![Stretch { partition: partition[0].clone(), from: 0, to }];
    let (records, end) = read(&committed, stretch(7), NO_LIMIT).await;
    let values: Vec<&str> = records.iter().map(|(_, _, value)| value.as_str()).collect();
    assert_eq!((values, end.complete), (vec!["a", "b", "c"], true), "the end is found though it is no record");
    let (records, end) = read(&committed, stretch(5), NO_LIMIT).await;
    assert_eq!((records.len(), end.complete), (2, true), "an end before others' records");
}
