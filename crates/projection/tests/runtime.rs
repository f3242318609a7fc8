//! The whole runtime on real PostgreSQL and Kafka.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use idempo_devstack::testing::{self, eventually};
use idempo_kafka::{
    Consumer, ConsumerConfig, Delivery, Event, Outgoing, Producer, ProducerConfig, SendError, TopicSpec, ensure_topics, partition_of,
};
use idempo_projection::{Cause, Halt, Options, PartitionState, Progress, Projection, Reached};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::{LIMIT, Postgres, Tally, Totals, View, granted, of_unknown_type, player, progress, stream_of};

pub(crate) const PARTITIONS: i32 = 4;
/// After how long without a sign of it a member of the group is taken for dead: the least that the brokers allow.
const SESSION_TIMEOUT_MS: u32 = 6_000;

pub(crate) fn kafka() -> idempo_kafka::Config {
    idempo_kafka::Config { brokers: testing::kafka_brokers(), ..idempo_kafka::Config::default() }
}

/// A topic of one test.
pub(crate) struct Topic {
    pub(crate) name: String,
    partitions: i32,
}

impl Topic {
    pub(crate) async fn new() -> Self {
        Self::with(PARTITIONS).await
    }

    pub(crate) async fn with(partitions: i32) -> Self {
        let topic = Self { name: format!("{}grants", testing::topic_prefix()), partitions };
        topic.make().await;
        topic
    }

    /// Makes it; again after it was deleted, as soon as the broker has forgotten the old one.
    pub(crate) async fn make(&self) {
        let Self { name, partitions } = self;
        let spec = |name, partitions| TopicSpec { name, partitions, retention_hours: 1, replication: 1, min_insync: 1 };
        let specs = [spec(name.clone(), *partitions), spec(idempo_dead_letter::dlq_topic(name), 1)];
        eventually(LIMIT, "the topics can be made", async || ensure_topics(&kafka(), &specs).await.is_ok()).await;
    }

    fn partition(number: u128) -> i32 {
        partition_of(player(number).to_string().as_bytes(), PARTITIONS)
    }

    /// Writes records, each under its player's key, and waits until the broker has them all.
    pub(crate) async fn write(&self, records: impl IntoIterator<Item = (u128, Vec<u8>)>) {
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&acknowledged);
        let producer = Producer::start(&kafka(), &ProducerConfig::default(), move |_, delivery| {
            assert!(matches!(delivery, Delivery::Acknowledged { .. }), "{delivery:?}");
            seen.fetch_add(1, Ordering::SeqCst);
        })
        .expect("a producer");
        let mut count = 0;
        for (number, value) in records {
            let key = player(number).to_string();
            let partition = partition_of(key.as_bytes(), self.partitions);
            let record = Outgoing { topic: &self.name, partition, key: key.as_bytes(), value: &value, headers: &[] };
            while let Err(error) = producer.send(&record, count) {
                assert!(matches!(error, SendError::Full), "{error:?}");
                tokio::task::yield_now().await;
            }
            count += 1;
        }
        eventually(LIMIT, "every record is acknowledged", async || acknowledged.load(Ordering::SeqCst) == count).await;
    }
}

/// A process of the projection.
pub(crate) struct Process {
    pub(crate) progress: Arc<Progress>,
    pub(crate) view: idempo_projection::View<Postgres>,
    cancel: CancellationToken,
    task: JoinHandle<Result<(), idempo_projection::Error>>,
}

impl Process {
    pub(crate) fn start(view: &View, topic: &Topic, group: &str) -> Self {
        Self::named(view, topic, group, "")
    }

    /// A process with a name of its own in the group.
    fn named(view: &View, topic: &Topic, group: &str, instance_id: &str) -> Self {
        let (store, progress, cancel) = (view.store(&topic.name), progress(), CancellationToken::new());
        let options = Options {
            kafka: kafka(),
            consumer: ConsumerConfig {
                session_timeout_ms: SESSION_TIMEOUT_MS,
                instance_id: instance_id.to_owned(),
                ..ConsumerConfig::default()
            },
            group_id: format!("{}{group}", topic.name),
            topic: topic.name.clone(),
            partitions: topic.partitions,
            dead_letter_partitions: 1,
            generation: 1,
        };
        let projection = Projection::new(store, Arc::clone(&progress), options);
        let view = projection.view();
        let task = tokio::spawn({
            let cancel = cancel.clone();
            async move { projection.run::<Tally>(cancel).await }
        });
        Self { progress, view, cancel, task }
    }

    fn running(&self) -> usize {
        self.progress.states().iter().filter(|(_, state)| *state == PartitionState::Running).count()
    }

    pub(crate) async fn stop(self) {
        self.cancel.cancel();
        let ended = tokio::time::timeout(LIMIT, self.task).await.expect("it ends in time");
        ended.expect("no panic").expect("no error");
    }
}

/// Grants to players 0 to `players`, versions `versions` of each, some of them twice.
pub(crate) fn grants(players: u128, versions: std::ops::RangeInclusive<u64>) -> Vec<(u128, Vec<u8>)> {
    let mut records = Vec::new();
    for version in versions {
        for number in 0..players {
            records.push((number, granted(number, version, 1)));
            if (number + u128::from(version)).is_multiple_of(7) {
                records.push((number, granted(number, version, 1)));
            }
        }
    }
    records
}

pub(crate) fn totals(players: u128, versions: i64) -> Totals {
    (0..players).map(|number| (player(number), (versions, versions))).collect()
}

pub(crate) async fn eventually_totals(view: &View, expected: &Totals) {
    eventually(LIMIT, "all is in the read model", async || {
        view.totals().await.values().map(|row| row.1).sum::<i64>() >= expected.values().map(|row| row.1).sum()
    })
    .await;
    assert_eq!(view.totals().await, *expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebalance_between_processes_loses_nothing_and_doubles_nothing() {
    let (view, topic) = (View::new().await, Topic::new().await);
    let first = Process::start(&view, &topic, "");
    topic.write(grants(40, 1..=100)).await;
    let second = Process::start(&view, &topic, "");
    topic.write(grants(40, 101..=200)).await;
    eventually(LIMIT, "both have partitions", async || first.running() > 0 && second.running() > 0).await;
    topic.write(grants(40, 201..=300)).await;
    first.stop().await;
    topic.write(grants(40, 301..=400)).await;
    eventually_totals(&view, &totals(40, 400)).await;
    eventually(LIMIT, "nothing is left", async || second.view.lag(None).events == 0).await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_both_believe_to_own_everything_fence_each_other_and_double_nothing() {
    let (view, topic) = (View::new().await, Topic::new().await);
    let first = Process::start(&view, &topic, "-one");
    let second = Process::start(&view, &topic, "-two");
    for part in 0..20 {
        topic.write(grants(10, part * 20 + 1..=part * 20 + 20)).await;
    }
    eventually_totals(&view, &totals(10, 400)).await;
    first.stop().await;
    second.stop().await;
    assert_eq!(view.totals().await, totals(10, 400));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_goes_on_at_the_offset_in_the_read_model_whatever_the_group_remembers() {
    let (view, topic) = (View::new().await, Topic::new().await);
    let first = Process::start(&view, &topic, "-one");
    topic.write(grants(10, 1..=10)).await;
    eventually_totals(&view, &totals(10, 10)).await;
    eventually(LIMIT, "the checkpoints are at the end", async || first.view.lag(None).events == 0).await;
    first.stop().await;
    // Were the records read again, they would count again: nothing here knows them any more.
    view.execute("DELETE FROM tally; DELETE FROM stream_version").await;
    let second = Process::start(&view, &topic, "-a-group-that-remembers-nothing");
    topic.write((100..110).map(|number| (number, granted(number, 1, 1)))).await;
    let expected: Totals = (100..110).map(|number| (player(number), (1, 1))).collect();
    eventually_totals(&view, &expected).await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offset_that_the_log_does_not_have_stops_its_partition_by_name() {
    let (view, topic) = (View::new().await, Topic::new().await);
    view.execute(&format!(
        "INSERT INTO checkpoint (projection, generation, topic, partition, next_offset) VALUES ('tally', 1, '{}', 2, 1000000)",
        topic.name
    ))
    .await;
    let process = Process::start(&view, &topic, "");
    let mut stopped = process.progress.stopped();
    let stopped = tokio::time::timeout(LIMIT, stopped.wait_for(|stopped| !stopped.is_empty())).await.expect("in time");
    let expected = Halt { offset: 1_000_000, cause: Cause::OffsetGone { low: 0, high: 0 } };
    assert_eq!(*stopped.expect("the progress lives"), [(2, expected)]);
    topic.write(grants(20, 1..=5).into_iter().filter(|(number, _)| Topic::partition(*number) != 2)).await;
    let expected: Totals = totals(20, 5).into_iter().filter(|(id, _)| partition_of(id.to_string().as_bytes(), PARTITIONS) != 2).collect();
    eventually_totals(&view, &expected).await;
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_cant_be_understood_parks_its_key_and_its_partition_goes_on() {
    let (view, topic) = (View::new().await, Topic::new().await);
    let process = Process::start(&view, &topic, "");
    topic.write([(0, granted(0, 1, 1)), (0, of_unknown_type(0, 2)), (0, granted(0, 2, 1))]).await;
    topic.write(grants(20, 1..=5).into_iter().filter(|(number, _)| *number != 0)).await;
    let mut expected = totals(20, 5);
    expected.insert(player(0), (1, 1));
    eventually_totals(&view, &expected).await;
    eventually(LIMIT, "nothing is left", async || process.view.lag(None).events == 0).await;
    let reached = process.view.reached(&[(stream_of(0), 2)], LIMIT).await.expect("the database answers");
    assert!(matches!(&reached, Reached::Parked(letter) if letter.topic == topic.name), "{reached:?}");
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_lost_its_last_commits_while_nothing_came_gets_them_again() {
    let (view, topic) = (View::new().await, Topic::new().await);
    let process = Process::start(&view, &topic, "");
    topic.write(grants(10, 1..=10)).await;
    eventually_totals(&view, &totals(10, 10)).await;
    eventually(LIMIT, "the checkpoints are at the end", async || process.view.lag(None).events == 0).await;
    // What a crash does to commits that were not on disk: rows, versions and positions are as they were before.
    view.execute("DELETE FROM tally; DELETE FROM stream_version; UPDATE checkpoint SET next_offset = 0").await;
    eventually_totals(&view, &totals(10, 10)).await;
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_whose_connections_are_cut_costs_no_event_and_doubles_none() {
    let (view, topic) = (View::new().await, Topic::new().await);
    let process = Process::start(&view, &topic, "");
    let killer = idempo_pg::connect(&view.database.superuser()).await.expect("a connection of its own");
    let (client, connection) = killer;
    tokio::spawn(connection);
    for part in 0..20 {
        topic.write(grants(10, part * 20 + 1..=part * 20 + 20)).await;
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
        client.batch_execute(sql).await.expect("the sessions end");
    }
    let expected = totals(10, 400);
    eventually(LIMIT, "nothing is left", async || process.view.lag(None).events == 0 && process.running() == 4).await;
    let seen: BTreeMap<_, _> = loop {
        // The pool may still hand out a connection that was cut.
        if view.pool.check().await.is_ok() {
            break view.totals().await;
        }
    };
    assert_eq!(seen, expected);
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_another_process_sees_what_it_waits_for() {
    let (view, topic) = (View::new().await, Topic::new().await);
    let writing = Process::start(&view, &topic, "");
    eventually(LIMIT, "all partitions are taken", async || writing.running() == 4).await;
    let reading = idempo_projection::View::new(view.store(&topic.name), progress(), 1);
    let waiting = tokio::spawn({
        let reading = reading.clone();
        async move { reading.reached(&[(stream_of(3), 5)], LIMIT).await }
    });
    topic.write(grants(10, 1..=5)).await;
    assert_eq!(waiting.await.expect("no panic").expect("the database answers"), Reached::Yes);
    assert!(view.totals().await[&player(3)].0 >= 5);
    assert_eq!(reading.reached(&[(stream_of(3), 6)], Duration::from_millis(50)).await.expect("the database answers"), Reached::NotYet);
    writing.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_name_somebody_else_takes_is_fenced_by_the_broker_and_comes_back_by_itself() {
    const NAME: &str = "projector-1";
    let (view, topic) = (View::new().await, Topic::new().await);
    let process = Process::named(&view, &topic, "", NAME);
    topic.write(grants(10, 1..=10)).await;
    eventually_totals(&view, &totals(10, 10)).await;

    // The broker gives it the partitions, and answers FENCED_INSTANCE_ID to whoever had the name.
    let config = ConsumerConfig {
        group_id: topic.name.clone(),
        topics: vec![topic.name.clone()],
        instance_id: NAME.to_owned(),
        session_timeout_ms: SESSION_TIMEOUT_MS,
        ..ConsumerConfig::default()
    };
    let (intruder, mut events) = Consumer::start(&kafka(), &config).expect("a consumer");
    let next =
        async |events: &mut idempo_kafka::Events| tokio::time::timeout(LIMIT, events.next()).await.expect("in time").expect("an event");
    let mut was_given = false;
    // The process makes another consumer, which takes the name back: then the other one is told the same.
    let failed = loop {
        match next(&mut events).await {
            Event::Assigned(assigned) => was_given |= !assigned.partitions().is_empty(),
            Event::Revoked(revoked) => revoked.done(),
            Event::Failed { partition, error } => break (partition, error.to_string()),
        }
    };
    assert!(was_given && failed.0.is_none(), "{failed:?}");
    intruder.close().await;
    topic.write(grants(10, 11..=20)).await;
    eventually_totals(&view, &totals(10, 20)).await;
    eventually(LIMIT, "nothing is left", async || process.view.lag(None).events == 0).await;
    process.stop().await;
}
