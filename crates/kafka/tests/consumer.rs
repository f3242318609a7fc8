//! What a consumer promises.

use std::collections::BTreeSet;
use std::time::Duration;

use idempo_devstack::testing;
use idempo_kafka::{
    Assigned, Consumer, ConsumerConfig, Error, Event, Events, PartitionStream, Record, Revoked, StartOffset, TopicPartition,
};

use crate::support::{LIMIT, consumer_config, fill, from_the_start, kafka, topic};

async fn next(events: &mut Events) -> Event {
    tokio::time::timeout(LIMIT, events.next()).await.expect("an event in time").expect("the consumer runs")
}

async fn assigned(events: &mut Events) -> Assigned {
    loop {
        match next(events).await {
            Event::Assigned(assigned) if assigned.partitions().is_empty() => drop(assigned),
            Event::Assigned(assigned) => return assigned,
            Event::Revoked(revoked) if revoked.partitions().is_empty() => revoked.done(),
            other => unreachable!("{other:?}"),
        }
    }
}

async fn revoked(events: &mut Events) -> Revoked {
    loop {
        match next(events).await {
            Event::Revoked(revoked) => return revoked,
            Event::Assigned(assigned) if assigned.partitions().is_empty() => drop(assigned),
            other => unreachable!("{other:?}"),
        }
    }
}

async fn take(stream: &mut PartitionStream, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    while records.len() < count {
        let received = tokio::time::timeout(LIMIT, stream.recv_many(&mut records, count)).await.expect("records in time");
        assert!(received > 0, "the stream ended after {} records", records.len());
    }
    records
}

fn value(record: &Record) -> usize {
    str::from_utf8(record.value().expect("a value")).expect("text").parse().expect("a number")
}

#[tokio::test]
async fn a_partition_is_read_from_the_offset_that_was_asked_for() {
    let topic = topic(2).await;
    fill(&topic, 0, 0..50).await;
    fill(&topic, 1, 100..150).await;
    let (consumer, mut events) = Consumer::start(&kafka(), &consumer_config(&topic)).expect("a consumer");
    let assigned = assigned(&mut events).await;
    let mut streams = assigned
        .start([(TopicPartition::new(&topic, 0), StartOffset::Offset(20)), (TopicPartition::new(&topic, 1), StartOffset::Beginning)]);
    streams.sort_by_key(|stream| stream.partition().partition);
    let [first, second] = &mut streams[..] else { unreachable!("two partitions") };
    let records = take(first, 30).await;
    assert_eq!(records.iter().map(|record| record.offset).collect::<Vec<_>>(), (20..50).collect::<Vec<_>>());
    assert_eq!(records.iter().map(value).collect::<Vec<_>>(), (20..50).collect::<Vec<_>>());
    assert_eq!(records[0].key(), Some(&b"key"[..]));
    assert_eq!(take(second, 50).await.iter().map(value).collect::<Vec<_>>(), (100..150).collect::<Vec<_>>());
    assert_eq!((first.high_watermark(), second.high_watermark()), (50, 50));
    consumer.close().await;
    assert!(first.recv().await.is_none(), "a stream ends with its consumer");
}

#[tokio::test]
async fn a_slow_task_holds_back_its_own_partition_only_and_loses_nothing() {
    let topic = topic(2).await;
    fill(&topic, 0, 0..20_000).await;
    fill(&topic, 1, 0..20_000).await;
    let config = ConsumerConfig { buffer_records: 16, fetch_queue_kib: 64, ..consumer_config(&topic) };
    let (_consumer, mut events) = Consumer::start(&kafka(), &config).expect("a consumer");
    let assigned = assigned(&mut events).await;
    let offsets = from_the_start(assigned.partitions());
    let mut streams = assigned.start(offsets);
    let [slow, quick] = &mut streams[..] else { unreachable!("two partitions") };
    // Nobody reads the slow one meanwhile.
    assert_eq!(take(quick, 20_000).await.iter().map(value).collect::<Vec<_>>(), (0..20_000).collect::<Vec<_>>());
    assert_eq!(take(slow, 20_000).await.iter().map(value).collect::<Vec<_>>(), (0..20_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_offset_that_the_log_does_not_have_fails_its_partition_and_no_other() {
    let topic = topic(2).await;
    fill(&topic, 0, 0..10).await;
    fill(&topic, 1, 0..10).await;
    let (_consumer, mut events) = Consumer::start(&kafka(), &consumer_config(&topic)).expect("a consumer");
    let assigned = assigned(&mut events).await;
    let mut streams = assigned
        .start([(TopicPartition::new(&topic, 0), StartOffset::Offset(99)), (TopicPartition::new(&topic, 1), StartOffset::Offset(0))]);
    streams.sort_by_key(|stream| stream.partition().partition);
    let Event::Failed { partition, error } = next(&mut events).await else { unreachable!("a failure") };
    assert_eq!(partition, Some(TopicPartition::new(&topic, 0)));
    assert!(matches!(error, Error::OffsetOutOfRange { wanted: 99, low: 0, high: 10, .. }), "{error:?}");
    assert!(streams[0].recv().await.is_none());
    assert_eq!(take(&mut streams[1], 10).await.len(), 10);
}

#[tokio::test]
async fn a_partition_without_an_offset_is_held_unread_and_can_be_given_up() {
    let topic = topic(2).await;
    fill(&topic, 0, 0..10).await;
    fill(&topic, 1, 0..10).await;
    let (consumer, mut events) = Consumer::start(&kafka(), &consumer_config(&topic)).expect("a consumer");
    let mut streams = assigned(&mut events).await.start([(TopicPartition::new(&topic, 1), StartOffset::Offset(0))]);
    assert_eq!(streams.len(), 1);
    assert_eq!(take(&mut streams[0], 10).await.len(), 10);
    tokio::time::timeout(LIMIT, consumer.close()).await.expect("the consumer closes");
}

#[tokio::test]
async fn partitions_move_to_a_second_member_and_back_without_a_record_lost_or_read_by_both() {
    let topic = topic(4).await;
    for partition in 0..4 {
        fill(&topic, partition, 0..100).await;
    }
    let config = consumer_config(&topic);
    let (first, mut first_events) = Consumer::start(&kafka(), &config).expect("a consumer");
    let all = assigned(&mut first_events).await;
    let offsets = from_the_start(all.partitions());
    let mut streams = all.start(offsets);
    assert_eq!(streams.len(), 4);
    for stream in &mut streams {
        assert_eq!(take(stream, 100).await.len(), 100);
    }

    let (second, mut second_events) = Consumer::start(&kafka(), &config).expect("a consumer");
    let gone = revoked(&mut first_events).await;
    assert_eq!((gone.partitions().len(), gone.lost()), (4, false));
    for stream in &mut streams {
        assert!(stream.recv().await.is_none(), "a revoked stream has ended");
    }
    gone.done();
    let (kept, moved) = (assigned(&mut first_events).await, assigned(&mut second_events).await);
    let mut both: Vec<_> = kept.partitions().iter().chain(moved.partitions()).cloned().collect();
    assert_eq!((kept.partitions().len(), moved.partitions().len()), (2, 2));
    both.sort();
    assert_eq!(both.iter().map(|partition| partition.partition).collect::<Vec<_>>(), [0, 1, 2, 3]);
    let from_100 = |partition: &TopicPartition| (partition.clone(), StartOffset::Offset(100));
    let (kept_from, moved_from) =
        (kept.partitions().iter().map(from_100).collect::<Vec<_>>(), moved.partitions().iter().map(from_100).collect::<Vec<_>>());
    let (mut kept, mut moved) = (kept.start(kept_from), moved.start(moved_from));

    for partition in 0..4 {
        fill(&topic, partition, 100..110).await;
    }
    for stream in kept.iter_mut().chain(&mut moved) {
        assert_eq!(take(stream, 10).await.iter().map(value).collect::<Vec<_>>(), (100..110).collect::<Vec<_>>());
    }

    second.close().await;
    let gone = revoked(&mut first_events).await;
    assert_eq!(gone.partitions().len(), 2);
    gone.done();
    let back = assigned(&mut first_events).await;
    let mut returned = back.partitions().to_vec();
    returned.sort();
    assert_eq!(returned, both);
    let again = back.start(returned.iter().map(|partition| (partition.clone(), StartOffset::Offset(105))));
    for mut stream in again {
        assert_eq!(take(&mut stream, 5).await.iter().map(value).collect::<Vec<_>>(), (105..110).collect::<Vec<_>>());
    }
    first.close().await;
}

/// Cooperative assignment fails this: the group keeps what it gave the member in the first half of the rebalance, and whoever died was to ask for
/// the second half.
#[tokio::test]
async fn a_member_that_dies_in_the_middle_of_a_rebalance_and_comes_back_leaves_no_partition_to_nobody() {
    let topic = topic(4).await;
    let named = |name: &str| ConsumerConfig { instance_id: format!("{topic}-{name}"), ..consumer_config(&topic) };
    let (first, mut first_events) = Consumer::start(&kafka(), &named("first")).expect("a consumer");
    let all = assigned(&mut first_events).await;
    assert_eq!(all.partitions().len(), 4);
    let offsets = from_the_start(all.partitions());
    let _streams = all.start(offsets);

    let (second, mut second_events) = Consumer::start(&kafka(), &named("second")).expect("a consumer");
    // It is asked to give something up, and is gone before it has: a member with a name does not tell the group.
    let _never_done = revoked(&mut first_events).await;
    first.close().await;
    let (again, mut again_events) = Consumer::start(&kafka(), &named("first")).expect("a consumer");

    let (mut of_first, mut of_second) = (BTreeSet::new(), BTreeSet::new());
    let numbers = |partitions: &[TopicPartition]| partitions.iter().map(|partition| partition.partition).collect::<BTreeSet<_>>();
    let all_are_read = async {
        while of_first.union(&of_second).count() < 4 {
            let (owned, event) = tokio::select! {
                event = next(&mut again_events) => (&mut of_first, event),
                event = next(&mut second_events) => (&mut of_second, event),
            };
            match event {
                Event::Assigned(came) => {
                    owned.append(&mut numbers(came.partitions()));
                    let offsets = from_the_start(came.partitions());
                    std::mem::forget(came.start(offsets));
                }
                Event::Revoked(gone) => {
                    let gone_numbers = numbers(gone.partitions());
                    owned.retain(|number| !gone_numbers.contains(number));
                    gone.done();
                }
                Event::Failed { error, .. } => unreachable!("{error}"),
            }
        }
    };
    tokio::time::timeout(LIMIT, all_are_read).await.expect("every partition has a reader");
    again.close().await;
    second.close().await;
}

#[tokio::test]
async fn a_task_that_never_says_it_has_stopped_is_not_waited_for_for_ever() {
    let topic = topic(2).await;
    let config = ConsumerConfig { revoke_wait_ms: 500, ..consumer_config(&topic) };
    let (_first, mut first_events) = Consumer::start(&kafka(), &config).expect("a consumer");
    let all = assigned(&mut first_events).await;
    let offsets = from_the_start(all.partitions());
    let _streams = all.start(offsets);
    let (_second, mut second_events) = Consumer::start(&kafka(), &config).expect("a consumer");
    let _never_done = revoked(&mut first_events).await;
    assert_eq!(assigned(&mut second_events).await.partitions().len(), 1);
}

#[tokio::test]
async fn records_written_later_arrive_soon() {
    let topic = topic(1).await;
    let (_consumer, mut events) = Consumer::start(&kafka(), &consumer_config(&topic)).expect("a consumer");
    let all = assigned(&mut events).await;
    let offsets = from_the_start(all.partitions());
    let mut streams = all.start(offsets);
    for number in 0..20 {
        fill(&topic, 0, number..number + 1).await;
        let record = tokio::time::timeout(Duration::from_secs(5), streams[0].recv()).await.expect("soon").expect("a record");
        assert_eq!(value(&record), number);
    }
    testing::eventually(LIMIT, "the high watermark follows", async || streams[0].high_watermark() == 20).await;
}

#[tokio::test]
async fn a_consumer_whose_instance_id_a_later_one_has_is_told_so() {
    let topic = topic(1).await;
    fill(&topic, 0, 0..10).await;
    let config = ConsumerConfig { instance_id: "twin".to_owned(), hint_interval_ms: 100, ..consumer_config(&topic) };
    let (first, mut first_events) = Consumer::start(&kafka(), &config).expect("a consumer");
    let streams = assigned(&mut first_events).await.start([(TopicPartition::new(&topic, 0), StartOffset::Beginning)]);
    let (second, mut second_events) = Consumer::start(&kafka(), &config).expect("a consumer");
    drop(assigned(&mut second_events).await);
    let error = loop {
        match next(&mut first_events).await {
            Event::Failed { partition: None, error } => break error,
            Event::Revoked(revoked) => revoked.done(),
            Event::Assigned(assigned) => drop(assigned),
            other => unreachable!("{other:?}"),
        }
    };
    assert!(matches!(&error, Error::Fenced { instance_id } if instance_id == "twin"), "{error:?}");
    drop(streams);
    first.close().await;
    second.close().await;
}
