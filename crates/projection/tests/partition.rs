//! What a partition's task does with its records, on the store in memory.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use idempo_devstack::testing::eventually;
use idempo_projection::memory::{Fault, MemoryTopic};
use idempo_projection::{Ended, Halt, Partition, Progress, Store, run_partition};
use proptest::prelude::*;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::{HOME, LIMIT, Memory, Tally, Tap, Totals, entries, entry, feed, granted, letters_to, passed_over, player, progress};

pub(crate) struct Running {
    pub(crate) start: usize,
    store: Arc<Memory>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) tap: Tap,
    pub(crate) cancel: CancellationToken,
    pub(crate) task: JoinHandle<Ended>,
}

/// Takes partition 0 and runs it.
async fn run(store: &Arc<Memory>) -> Running {
    run_with(store, &Arc::default()).await
}

/// The same with this dead-letter topic.
pub(crate) async fn run_with(store: &Arc<Memory>, dead: &Arc<MemoryTopic>) -> Running {
    let (tap, feed) = feed();
    let (cancel, progress) = (CancellationToken::new(), progress());
    let lease = loop {
        // Faults may be waiting.
        if let Ok(lease) = store.acquire(0).await {
            break lease;
        }
    };
    let parked = loop {
        if let Ok(parked) = store.parked(0).await {
            break parked;
        }
    };
    let (topic, letters) = (Arc::from("numbers"), letters_to(dead));
    let partition = Partition { store: Arc::clone(store), progress: Arc::clone(&progress), topic, home: HOME, lease, parked, letters };
    let task = tokio::spawn(run_partition::<Tally, Memory, _>(partition, feed, cancel.clone()));
    let start = usize::try_from(lease.next_offset).expect("an offset");
    Running { start, store: Arc::clone(store), progress, tap, cancel, task }
}

impl Running {
    pub(crate) async fn done(&self, next_offset: i64) {
        eventually(LIMIT, "the records are done", async || self.tap.done.load(Ordering::SeqCst) >= next_offset).await;
    }

    pub(crate) async fn stopped(&self) -> Halt {
        let mut stopped = self.progress.stopped();
        let stopped = tokio::time::timeout(LIMIT, stopped.wait_for(|stopped| !stopped.is_empty())).await;
        stopped.expect("it stops in time").expect("the progress lives")[0].1.clone()
    }

    pub(crate) async fn end(self) -> Ended {
        self.cancel.cancel();
        self.task.await.expect("no panic")
    }
}

fn total(player_number: u128, total: i64, events: i64) -> Totals {
    Totals::from([(player(player_number), (total, events))])
}

#[tokio::test]
async fn an_event_counts_once_however_often_it_comes() {
    let running = run(&Arc::new(Memory::new())).await;
    let again = [granted(1, 1, 10), granted(1, 1, 10), granted(1, 2, 5), granted(1, 1, 10), granted(1, 2, 5), granted(1, 3, 1)];
    let records = entries(again);
    running.tap.send(records.clone());
    running.done(6).await;
    // The same offsets once more, as after a rebalance that went wrong.
    running.tap.send(records);
    running.tap.send([entry(6, Some(granted(1, 4, 1)))]);
    running.done(7).await;
    assert_eq!(running.store.model().0, total(1, 17, 4));
    assert_eq!(running.end().await, Ended::Revoked);
}

#[tokio::test]
async fn events_of_others_are_passed_over_and_the_position_moves() {
    let running = run(&Arc::new(Memory::new())).await;
    running.tap.send(entries([passed_over(1, 7), granted(1, 1, 10), passed_over(1, 3)]));
    running.done(3).await;
    assert_eq!(running.store.model().0, total(1, 10, 1));
    assert_eq!(running.store.checkpoints().await.expect("checkpoints")[0].next_offset, 3);
}

#[tokio::test]
async fn a_store_that_is_away_or_does_not_answer_costs_no_event_and_doubles_none() {
    let running = run(&Arc::new(Memory::new())).await;
    running.store.inject([Fault::Away, Fault::AnswerLost, Fault::AnswerLost, Fault::Away, Fault::AnswerLost]);
    running.tap.send(entries((1..=50).map(|version| granted(1, version, 1))));
    running.done(50).await;
    assert_eq!(running.store.model().0, total(1, 50, 50));
}

#[tokio::test]
async fn a_zombie_gives_the_partition_up_and_leaves_nothing() {
    let store = Arc::new(Memory::new());
    let zombie = run(&store).await;
    zombie.tap.send(entries([granted(1, 1, 10)]));
    zombie.done(1).await;
    let owner = run(&store).await;
    zombie.tap.send([entry(1, Some(granted(1, 2, 5)))]);
    assert_eq!(zombie.task.await.expect("no panic"), Ended::Fenced);
    assert_eq!(store.model().0, total(1, 10, 1));
    owner.tap.send([entry(1, Some(granted(1, 2, 5)))]);
    owner.done(2).await;
    assert_eq!(store.model().0, total(1, 15, 2));
}

#[tokio::test]
async fn a_store_that_lost_its_last_commits_makes_the_task_give_up_so_that_they_are_read_again() {
    let store = Arc::new(Memory::new());
    let first = run(&store).await;
    let records = entries([granted(1, 1, 10), granted(1, 2, 5), granted(1, 3, 1)]);
    first.tap.send(records[..1].to_vec());
    first.done(1).await;
    let saved = store.save();
    first.tap.send(records[1..2].to_vec());
    first.done(2).await;
    store.restore(saved);
    first.tap.send(records[2..].to_vec());
    assert_eq!(first.task.await.expect("no panic"), Ended::Fenced);
    let second = run(&store).await;
    second.tap.send(records[1..].to_vec());
    second.done(3).await;
    assert_eq!(store.model().0, total(1, 16, 3));
}

#[tokio::test]
async fn a_task_whose_partition_is_taken_away_while_the_store_is_away_ends() {
    let running = run(&Arc::new(Memory::new())).await;
    running.store.inject([Fault::Away; 1_000]);
    running.tap.send(entries([granted(1, 1, 10)]));
    assert_eq!(tokio::time::timeout(LIMIT, running.end()).await, Ok(Ended::Revoked));
}

/// What happens next in a story of one partition.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// So many records more are delivered, in one piece.
    Deliver(usize),
    /// The partition is taken by a new task; the old one is a zombie that goes on with so many records.
    TakeOver(usize),
    /// The next calls of the store go wrong.
    Faults(Vec<bool>),
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (1..40_usize).prop_map(Step::Deliver),
        1 => (0..20_usize).prop_map(Step::TakeOver),
        1 => proptest::collection::vec(any::<bool>(), 1..4).prop_map(Step::Faults),
    ]
}

/// A topic of some streams in which records come again, as a relay leaves it after a crash: whole runs repeated, each stream in order.
pub(crate) fn topic() -> impl Strategy<Value = Vec<Vec<u8>>> {
    (proptest::collection::vec(1..5_u128, 1..150), proptest::collection::vec((0..150_usize, 1..20_usize), 0..5)).prop_map(
        |(players, repeats)| {
            let mut versions = std::collections::BTreeMap::new();
            let mut records: Vec<Vec<u8>> = Vec::new();
            for player in players {
                let version = versions.entry(player).or_insert(0_u64);
                *version += 1;
                records.push(granted(player, *version, i64::try_from(*version).expect("small")));
            }
            for (at, length) in repeats {
                let end = at.min(records.len());
                let tail = records[end.saturating_sub(length)..end].to_vec();
                records.splice(end..end, tail);
            }
            records
        },
    )
}

fn expected(records: &[Vec<u8>]) -> Totals {
    let mut seen = std::collections::BTreeSet::new();
    let mut totals = Totals::new();
    for record in records {
        let event = idempo_projection::Event::decode(&record.clone().into()).expect("an event");
        if seen.insert(event.event_id.uuid()) {
            let (total, count) = totals.entry(event.partition_key).or_default();
            *total += i64::try_from(event.version).expect("small");
            *count += 1;
        }
    }
    totals
}

async fn play(records: Vec<Vec<u8>>, steps: Vec<Step>) -> Totals {
    let store = Arc::new(Memory::new());
    let records = entries(records);
    let mut running = run(&store).await;
    let mut delivered = 0;
    let mut zombies = Vec::new();
    for step in steps {
        match step {
            Step::Deliver(count) => {
                let to = (delivered + count).min(records.len());
                running.tap.send(records[delivered..to].to_vec());
                delivered = to;
            }
            Step::TakeOver(more) => {
                let next = run(&store).await;
                let zombie = std::mem::replace(&mut running, next);
                let to = (delivered + more).min(records.len());
                // The zombie may have ended already, and then nobody hears it.
                for entry in &records[delivered..to] {
                    let _ = zombie.tap.sender.send(entry.clone());
                }
                zombies.push(zombie);
                delivered = running.start;
            }
            Step::Faults(faults) => store.inject(faults.into_iter().map(|lost| if lost { Fault::AnswerLost } else { Fault::Away })),
        }
    }
    running.tap.send(records[delivered..].to_vec());
    let end = i64::try_from(records.len()).expect("a length");
    eventually(LIMIT, "all is read", async || store.checkpoints().await.is_ok_and(|checkpoints| checkpoints[0].next_offset == end)).await;
    for zombie in zombies {
        drop(zombie.tap);
        zombie.cancel.cancel();
        zombie.task.await.expect("no panic");
    }
    store.model().0
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_every_event_counts_once(records in topic(), steps in proptest::collection::vec(step(), 0..30)) {
        let expected = expected(&records);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        prop_assert_eq!(runtime.block_on(play(records, steps)), expected);
    }
}
