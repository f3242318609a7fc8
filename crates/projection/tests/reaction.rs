//! The whole runtime of a reactor on real PostgreSQL and Kafka.

use std::collections::BTreeSet;
use std::sync::Arc;

use idempo_devstack::testing::eventually;
use idempo_kafka::ConsumerConfig;
use idempo_kafka::by_hand::{self, Anything};
use idempo_projection::{EffectId, EffectLog, PartitionState, Reaction, ReactionOptions, ReactionProgress};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::effect_log::LogDatabase;
use crate::reactor_support::{Pusher, effect_of, reaction_progress};
use crate::runtime::{PARTITIONS, Topic, grants, kafka};
use crate::support::{LIMIT, player};

/// A process of the reactor.
struct Process {
    pusher: Arc<Pusher<true>>,
    progress: Arc<ReactionProgress>,
    cancel: CancellationToken,
    task: JoinHandle<Result<(), idempo_projection::Error>>,
}

impl Process {
    fn start(database: &LogDatabase, topic: &Topic, group: &str) -> Self {
        let (log, progress, cancel) = (database.log(&topic.name), reaction_progress(), CancellationToken::new());
        let pusher = Pusher::<true>::willing();
        let options = ReactionOptions {
            kafka: kafka(),
            consumer: ConsumerConfig { session_timeout_ms: 6_000, ..ConsumerConfig::default() },
            group_id: format!("{}-pusher{group}", topic.name),
            topic: topic.name.clone(),
            partitions: PARTITIONS,
        };
        let reaction = Reaction::new(Arc::clone(&pusher), log, Arc::clone(&progress), options);
        let task = tokio::spawn({
            let cancel = cancel.clone();
            async move { reaction.run(cancel).await }
        });
        Self { pusher, progress, cancel, task }
    }

    fn running(&self) -> usize {
        self.progress.states().iter().filter(|(_, state)| *state == PartitionState::Running).count()
    }

    /// Waits until it has all partitions.
    async fn ready(&self) {
        eventually(LIMIT, "all partitions are taken", async || self.running() == usize::try_from(PARTITIONS).expect("small")).await;
    }

    async fn stop(self) -> Vec<EffectId> {
        self.cancel.cancel();
        let ended = tokio::time::timeout(LIMIT, self.task).await.expect("it ends in time");
        ended.expect("no panic").expect("no error");
        self.pusher.taken().into_iter().map(|(id, _)| id).collect()
    }
}

/// The effects of [`grants`].
fn effects(players: u128, versions: std::ops::RangeInclusive<u64>) -> BTreeSet<EffectId> {
    versions.flat_map(|version| (0..players).map(move |number| effect_of(number, version, 0))).collect()
}

/// Waits until so many effects are in the log and all are done.
async fn eventually_done(database: &LogDatabase, topic: &Topic, count: usize) {
    let log = database.log(&topic.name);
    eventually(LIMIT, "the effects are in the log", async || database.effects().await.len() >= count).await;
    eventually(LIMIT, "they are done", async || log.counts().await.is_ok_and(|counts| counts.unfinished == 0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reactor_begins_at_the_head_and_later_where_it_stood_whatever_came_meanwhile() {
    let (database, topic) = (LogDatabase::new().await, Topic::new().await);
    topic.write(grants(20, 1..=5)).await;
    let first = Process::start(&database, &topic, "");
    first.ready().await;
    topic.write(grants(20, 6..=8)).await;
    eventually_done(&database, &topic, 60).await;
    let performed = first.stop().await;
    assert_eq!((performed.len(), performed.into_iter().collect()), (60, effects(20, 6..=8)));
    topic.write(grants(20, 9..=10)).await;
    let second = Process::start(&database, &topic, "-a-group-that-remembers-nothing");
    eventually_done(&database, &topic, 100).await;
    assert_eq!(second.stop().await.into_iter().collect::<BTreeSet<_>>(), effects(20, 9..=10));
    assert!(database.effects().await.iter().all(|(_, state)| state == "done"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebalance_between_processes_loses_no_effect_and_gives_none_a_second_id() {
    let (database, topic) = (LogDatabase::new().await, Topic::new().await);
    let first = Process::start(&database, &topic, "");
    first.ready().await;
    topic.write(grants(40, 1..=20)).await;
    let second = Process::start(&database, &topic, "");
    topic.write(grants(40, 21..=40)).await;
    eventually(LIMIT, "both have partitions", async || first.running() > 0 && second.running() > 0).await;
    topic.write(grants(40, 41..=60)).await;
    let mut performed = first.stop().await;
    topic.write(grants(40, 61..=80)).await;
    eventually_done(&database, &topic, 3_200).await;
    performed.extend(second.stop().await);
    assert_eq!(database.effects().await.len(), 3_200);
    assert_eq!(performed.into_iter().collect::<BTreeSet<_>>(), effects(40, 1..=80));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_both_believe_to_own_everything_fence_each_other_and_enter_each_effect_once() {
    let (database, topic) = (LogDatabase::new().await, Topic::new().await);
    let first = Process::start(&database, &topic, "-one");
    first.ready().await;
    let second = Process::start(&database, &topic, "-two");
    for part in 0..10 {
        topic.write(grants(10, part * 10 + 1..=part * 10 + 10)).await;
    }
    eventually_done(&database, &topic, 1_000).await;
    let mut performed = first.stop().await;
    performed.extend(second.stop().await);
    assert_eq!(database.effects().await.len(), 1_000);
    assert_eq!(performed.into_iter().collect::<BTreeSet<_>>(), effects(10, 1..=100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_cant_be_understood_stops_its_partition_alone_until_people_pass_over_it() {
    let (database, topic) = (LogDatabase::new().await, Topic::new().await);
    let process = Process::start(&database, &topic, "");
    process.ready().await;
    let key = player(0).to_string();
    let partition = idempo_kafka::partition_of(key.as_bytes(), PARTITIONS);
    let garbage = Anything { partition, key: Some(key.as_bytes()), value: Some(b"no event") };
    by_hand::write(&kafka(), &topic.name, &[garbage]).await.expect("it is written");
    topic.write(grants(20, 1..=2)).await;
    let in_others = (0..20).filter(|number| idempo_kafka::partition_of(player(*number).to_string().as_bytes(), PARTITIONS) != partition);
    eventually_done(&database, &topic, in_others.count() * 2).await;
    let mut stopped = process.progress.stopped();
    let stopped = tokio::time::timeout(LIMIT, stopped.wait_for(|stopped| !stopped.is_empty())).await.expect("in time");
    let halts: Vec<(i32, i64, &str)> =
        stopped.as_deref().expect("the progress lives").iter().map(|(number, halt)| (*number, halt.offset, halt.cause.code())).collect();
    assert_eq!(halts, [(partition, 0, "UNDECODABLE_RECORD")]);
    drop(stopped);
    assert!(database.pass_over(&topic.name, partition, 0).await);
    eventually_done(&database, &topic, 40).await;
    assert_eq!(process.stop().await.into_iter().collect::<BTreeSet<_>>(), effects(20, 1..=2));
}
