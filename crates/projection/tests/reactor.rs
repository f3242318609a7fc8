//! What a reactor's task does with its records and effects, on the log in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use idempo_devstack::testing::eventually;
use idempo_ids::Uuid;
use idempo_projection::memory::{EffectState, Fault, MemoryEffectLog};
use idempo_projection::{
    EffectId, EffectLog, Ended, Ending, Halt, ReactionPartition, ReactionProgress, Settlement, run_reaction_partition,
};
use proptest::prelude::*;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::partition::{Step, step, topic};
use crate::reactor_support::{Answer, Pusher, effect_of, granted_at, reaction_progress};
use crate::support::{HOME, LIMIT, Tap, entries, entry, feed, granted, of_unknown_type, passed_over, player, under};

struct Running<const WAIT: bool> {
    start: usize,
    log: Arc<MemoryEffectLog>,
    pusher: Arc<Pusher<WAIT>>,
    progress: Arc<ReactionProgress>,
    tap: Tap,
    cancel: CancellationToken,
    task: JoinHandle<Ended>,
}

/// Takes partition 0, which begins at 0, and runs it.
async fn run<const WAIT: bool>(log: &Arc<MemoryEffectLog>, pusher: &Arc<Pusher<WAIT>>) -> Running<WAIT> {
    let (tap, feed) = feed();
    let (cancel, progress) = (CancellationToken::new(), reaction_progress());
    let (taken, next_offset) = loop {
        // Faults may be waiting.
        let Ok(taken) = log.acquire(0).await else { continue };
        if let Ok(Some(next_offset)) = log.begin(0, taken.epoch, 0).await {
            break (taken, next_offset);
        }
    };
    let partition = ReactionPartition {
        reactor: Arc::clone(pusher),
        log: Arc::clone(log),
        progress: Arc::clone(&progress),
        topic: Arc::from("numbers"),
        home: HOME,
        epoch: taken.epoch,
        next_offset,
        last_event: taken.last_event,
        settlements: taken.settlements,
    };
    let task = tokio::spawn(run_reaction_partition(partition, feed, cancel.clone()));
    let start = usize::try_from(next_offset).expect("an offset");
    Running { start, log: Arc::clone(log), pusher: Arc::clone(pusher), progress, tap, cancel, task }
}

impl<const WAIT: bool> Running<WAIT> {
    /// Waits until every record before this offset is dealt with, and no effect is pending.
    async fn settled(&self, next_offset: i64) {
        eventually(LIMIT, "the position is there", async || self.tap.done.load(Ordering::SeqCst) >= next_offset).await;
        eventually(LIMIT, "no effect is pending", async || self.log.counts().await.is_ok_and(|counts| counts.unfinished == 0)).await;
    }

    async fn stopped(&self) -> Halt {
        let mut stopped = self.progress.stopped();
        let stopped = tokio::time::timeout(LIMIT, stopped.wait_for(|stopped| !stopped.is_empty())).await;
        stopped.expect("it stops in time").expect("the progress lives")[0].1.clone()
    }

    async fn end(self) -> Ended {
        self.cancel.cancel();
        self.task.await.expect("no panic")
    }
}

fn new_log() -> Arc<MemoryEffectLog> {
    Arc::new(MemoryEffectLog::new())
}

fn state_of(log: &MemoryEffectLog, id: EffectId) -> EffectState {
    log.effects().into_iter().find(|(found, _)| *found == id).expect("it is in the log").1
}

fn is_failed(state: &EffectState) -> bool {
    matches!(state, EffectState::Ended(Ending::Failed { .. }))
}

#[tokio::test]
async fn an_event_has_its_effects_once_however_often_it_comes() {
    let running = run(&new_log(), &Pusher::<false>::willing()).await;
    let records = [granted(1, 1, 2), granted(1, 1, 2), passed_over(2, 1), granted(1, 2, 1), granted(1, 1, 2), granted(2, 1, 1)];
    running.tap.send(entries(records));
    running.settled(6).await;
    assert_eq!((running.pusher.pushes(player(1)), running.pusher.pushes(player(2))), (vec![1, 1, 2], vec![1]));
    let ids: Vec<EffectId> = running.log.effects().into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, [effect_of(1, 1, 0), effect_of(1, 1, 1), effect_of(1, 2, 0), effect_of(2, 1, 0)]);
    assert_eq!(running.end().await, Ended::Revoked);
}

#[tokio::test]
async fn what_was_begun_and_not_noted_is_performed_again_under_the_same_id_before_what_is_behind_it() {
    let (log, silent) = (new_log(), Pusher::<false>::willing());
    silent.mute.send_replace(true);
    let first = run(&log, &silent).await;
    first.tap.send(entries([granted(1, 1, 1), granted(1, 2, 1)]));
    eventually(LIMIT, "both are in the log", async || log.effects().len() == 2).await;
    first.task.abort();
    let second = run(&log, &Pusher::<false>::willing()).await;
    second.tap.send([entry(2, Some(granted(1, 3, 1)))]);
    second.settled(3).await;
    let performed: Vec<EffectId> = second.pusher.taken().into_iter().map(|(id, _)| id).collect();
    assert_eq!(performed, [effect_of(1, 1, 0), effect_of(1, 2, 0), effect_of(1, 3, 0)]);
}

#[tokio::test]
async fn a_receiver_that_is_away_costs_no_attempt_and_other_keys_go_on() {
    let mut away = 5;
    let pusher = Pusher::<false>::new(move |push| {
        if push.player == player(2) || away == 0 {
            return Answer::Taken;
        }
        away -= 1;
        if away % 2 == 0 { Answer::Away } else { Answer::Unheard }
    });
    let running = run(&new_log(), &pusher).await;
    running.tap.send(entries([granted(1, 1, 1), granted(2, 1, 1), granted(1, 2, 1)]));
    eventually(LIMIT, "another key goes on", async || running.pusher.pushes(player(2)) == [1]).await;
    running.settled(3).await;
    let pushes = running.pusher.pushes(player(1));
    assert_eq!((pushes.len(), pushes.last()), (4, Some(&2)), "twice unheard, once heard, and the next: {pushes:?}");
    let distinct: BTreeSet<EffectId> = running.pusher.taken().into_iter().map(|(id, _)| id).collect();
    assert_eq!(distinct.len(), 3);
    assert!(running.log.effects().iter().all(|(_, state)| *state == EffectState::Done));
}

#[tokio::test]
async fn what_is_refused_three_times_has_failed_and_its_key_goes_on_where_the_reactor_says_so() {
    let pusher = Pusher::<false>::new(|push| if push.version == 2 { Answer::Refused } else { Answer::Taken });
    let running = run(&new_log(), &pusher).await;
    running.tap.send(entries((1..=4).map(|version| granted(1, version, 1))));
    running.settled(4).await;
    assert_eq!((running.pusher.pushes(player(1)), running.pusher.tries()), (vec![1, 3, 4], 6));
    let state = state_of(&running.log, effect_of(1, 2, 0));
    let reason = "the receiver says Refused".to_owned();
    assert_eq!(state, EffectState::Ended(Ending::Failed { attempts: 3, code: "PUSH_REFUSED".to_owned(), reason }));
    running.pusher.answer_by(|_| Answer::Taken);
    assert!(running.log.settle(effect_of(1, 2, 0), Settlement::Again, "tester", "mended").await.expect("it answers"));
    eventually(LIMIT, "it is performed", async || running.pusher.pushes(player(1)) == [1, 3, 4, 2]).await;
    running.settled(4).await;
}

#[tokio::test]
async fn a_key_waits_behind_a_failed_effect_until_it_is_settled_where_the_reactor_says_so() {
    let pusher = Pusher::<true>::new(|push| if push.player == player(1) && push.version == 2 { Answer::Refused } else { Answer::Taken });
    let log = new_log();
    let running = run(&log, &pusher).await;
    running.tap.send(entries((1..=3).flat_map(|version| [granted(1, version, 1), granted(2, version, 1)])));
    eventually(LIMIT, "another key goes on", async || running.pusher.pushes(player(2)) == [1, 2, 3]).await;
    eventually(LIMIT, "it has failed", async || is_failed(&state_of(&log, effect_of(1, 2, 0)))).await;
    assert_eq!((running.pusher.pushes(player(1)), running.log.counts().await.expect("counts").unfinished), (vec![1], 1));
    // The next owner knows it too.
    running.end().await;
    let running = run(&log, &pusher).await;
    running.tap.send([entry(6, Some(granted(1, 4, 1))), entry(7, Some(granted(2, 4, 1)))]);
    eventually(LIMIT, "another key goes on", async || running.pusher.pushes(player(2)) == [1, 2, 3, 4]).await;
    assert_eq!(running.pusher.pushes(player(1)), [1]);
    pusher.answer_by(|_| Answer::Taken);
    assert!(log.settle(effect_of(1, 2, 0), Settlement::Again, "tester", "mended").await.expect("it answers"));
    running.settled(8).await;
    assert_eq!(running.pusher.pushes(player(1)), [1, 2, 3, 4]);
}

#[tokio::test]
async fn a_failed_effect_that_is_dropped_lets_its_key_go_on_without_it() {
    let pusher = Pusher::<true>::new(|push| if push.version == 1 { Answer::Refused } else { Answer::Taken });
    let running = run(&new_log(), &pusher).await;
    running.tap.send(entries([granted(1, 1, 1), granted(1, 2, 1)]));
    eventually(LIMIT, "it has failed", async || running.log.counts().await.is_ok_and(|counts| counts.failed == 1)).await;
    assert!(!running.log.settle(effect_of(1, 2, 0), Settlement::Dropped, "tester", "it has not").await.expect("it answers"));
    assert!(running.log.settle(effect_of(1, 1, 0), Settlement::Dropped, "tester", "gone").await.expect("it answers"));
    running.settled(2).await;
    assert_eq!((running.pusher.pushes(player(1)), state_of(&running.log, effect_of(1, 1, 0))), (vec![2], EffectState::Dropped));
}

#[tokio::test]
async fn what_is_too_old_is_dropped_and_said_so() {
    let running = run(&new_log(), &Pusher::<false>::willing()).await;
    running.tap.send(entries([granted_at(1, 1, 1_000), granted(1, 2, 1)]));
    running.settled(2).await;
    assert_eq!(running.pusher.pushes(player(1)), [2]);
    assert_eq!(state_of(&running.log, effect_of(1, 1, 0)), EffectState::Ended(Ending::Expired));
}

#[tokio::test]
async fn a_log_that_is_away_or_does_not_answer_costs_no_effect_and_doubles_none() {
    let running = run(&new_log(), &Pusher::<false>::willing()).await;
    running.log.inject([Fault::Away, Fault::AnswerLost, Fault::AnswerLost, Fault::Away, Fault::AnswerLost, Fault::AnswerLost]);
    running.tap.send(entries((1..=50).map(|version| granted(1, version, 1))));
    running.settled(50).await;
    assert_eq!(running.pusher.pushes(player(1)), (1..=50).collect::<Vec<u64>>());
}

#[tokio::test]
async fn a_zombie_gives_the_partition_up_also_where_nothing_comes() {
    let log = new_log();
    let zombie = run(&log, &Pusher::<false>::willing()).await;
    let _owner = run(&log, &Pusher::<false>::willing()).await;
    assert_eq!(zombie.task.await.expect("no panic"), Ended::Fenced);
}

#[tokio::test]
async fn a_record_that_cant_be_understood_stops_the_partition_by_name_and_what_is_before_it_is_performed() {
    let cases = [
        ("UNKNOWN_EVENT_TYPE", entry(2, Some(of_unknown_type(1, 3)))),
        ("UNDECODABLE_RECORD", under(1, 2, Some(b"no event".to_vec()))),
        ("UNDECODABLE_RECORD", under(1, 2, None)),
        ("KEY_MISMATCH", under(2, 2, Some(granted(1, 3, 1)))),
        ("MALFORMED_EVENT", entry(2, Some(crate::support::malformed(1, 3)))),
    ];
    for (code, poison) in cases {
        let running = run(&new_log(), &Pusher::<false>::willing()).await;
        running.tap.send(entries([granted(1, 1, 1), granted(1, 2, 1)]).into_iter().chain([poison, entry(3, Some(granted(1, 4, 1)))]));
        let halt = running.stopped().await;
        assert_eq!((halt.offset, halt.cause.code()), (2, code));
        running.settled(2).await;
        assert_eq!(running.pusher.pushes(player(1)), [1, 2]);
        assert_eq!(running.log.look(0).await.expect("it answers").expect("it is there").next_offset, Some(2));
    }
}

#[tokio::test]
async fn a_topic_that_was_made_anew_is_not_taken_for_the_old_one() {
    let log = new_log();
    let running = run(&log, &Pusher::<false>::willing()).await;
    running.tap.send(entries([granted(1, 1, 1), granted(1, 2, 1)]));
    running.settled(2).await;
    running.end().await;
    let running = run(&log, &Pusher::<false>::willing()).await;
    running.tap.send([entry(1, Some(granted(7, 1, 1))), entry(2, Some(granted(7, 2, 1)))]);
    assert_eq!(running.stopped().await.cause.code(), "LOG_REPLACED");
    assert_eq!(running.pusher.taken(), []);
}

#[tokio::test]
async fn where_everything_fails_the_partition_stops_and_gives_nothing_more_up() {
    let pusher = Pusher::<false>::new(|_| Answer::Refused);
    let running = run(&new_log(), &pusher).await;
    running.tap.send(entries((0..200).map(|number| granted(number, 1, 1))));
    assert_eq!(running.stopped().await.cause.code(), "EFFECT_FLOOD");
    let counts = running.log.counts().await.expect("counts");
    assert_eq!((counts.failed, counts.unfinished), (64, 136));
    running.end().await;
}

#[tokio::test]
async fn a_partition_that_is_taken_away_lets_what_is_under_way_end() {
    let (log, pusher) = (new_log(), Pusher::<false>::willing());
    pusher.mute.send_replace(true);
    let running = run(&log, &pusher).await;
    running.tap.send(entries([granted(1, 1, 1)]));
    eventually(LIMIT, "it is in the log", async || log.effects().len() == 1).await;
    eventually(LIMIT, "it is under way", async || pusher.mute.receiver_count() > 0).await;
    running.cancel.cancel();
    pusher.mute.send_replace(false);
    assert_eq!(running.task.await.expect("no panic"), Ended::Revoked);
    assert_eq!(log.effects(), [(effect_of(1, 1, 0), EffectState::Done)]);
}

/// The effects that the records have, in the order of the records.
fn expected(records: &[Vec<u8>]) -> Vec<EffectId> {
    let mut seen = BTreeSet::new();
    let mut effects = Vec::new();
    for record in records {
        let event = idempo_projection::Event::decode(&record.clone().into()).expect("an event");
        let count = event.version.min(3);
        if seen.insert(event.event_id.uuid()) {
            effects.extend((0..count).map(|ordinal| EffectId::of("pusher", event.event_id, u32::try_from(ordinal).expect("small"))));
        }
    }
    effects
}

type Story = (Vec<(EffectId, EffectState)>, Vec<(EffectId, crate::reactor_support::Push)>);

async fn play(records: Vec<Vec<u8>>, steps: Vec<Step>, answers: Vec<u8>) -> Story {
    let log = new_log();
    let records = entries(records);
    let mut answers = answers.into_iter();
    let pusher = Pusher::<true>::new(move |_| match answers.next() {
        Some(0) => Answer::Away,
        Some(1) => Answer::Unheard,
        _ => Answer::Taken,
    });
    let mut running = run(&log, &pusher).await;
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
                let next = run(&log, &pusher).await;
                let zombie = std::mem::replace(&mut running, next);
                let to = (delivered + more).min(records.len());
                // The zombie may have ended already, and then nobody hears it.
                for entry in &records[delivered..to] {
                    let _ = zombie.tap.sender.send(entry.clone());
                }
                zombies.push(zombie);
                delivered = running.start;
            }
            Step::Faults(faults) => log.inject(faults.into_iter().map(|lost| if lost { Fault::AnswerLost } else { Fault::Away })),
        }
    }
    running.tap.send(records[delivered..].to_vec());
    running.settled(i64::try_from(records.len()).expect("a length")).await;
    for zombie in zombies {
        drop(zombie.tap);
        zombie.cancel.cancel();
        zombie.task.await.expect("no panic");
    }
    (log.effects(), pusher.taken())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_every_effect_is_performed_under_one_id_and_first_in_its_keys_order(
        records in topic(),
        steps in proptest::collection::vec(step(), 0..20),
        answers in proptest::collection::vec(0..30_u8, 0..200),
    ) {
        let expected = expected(&records);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (effects, taken) = runtime.block_on(play(records, steps, answers));
        prop_assert!(effects.iter().all(|(_, state)| *state == EffectState::Done));
        let entered: BTreeSet<EffectId> = effects.iter().map(|(id, _)| *id).collect();
        prop_assert_eq!(effects.len(), expected.len());
        prop_assert_eq!(&entered, &expected.iter().copied().collect());
        let mut first = BTreeMap::<Uuid, Vec<(u64, u8)>>::new();
        let mut seen = BTreeSet::new();
        for (id, push) in taken {
            if seen.insert(id) {
                first.entry(push.player).or_default().push((push.version, push.ordinal));
            }
        }
        prop_assert_eq!(seen, entered);
        prop_assert!(first.values().all(|order| order.is_sorted()), "{:?}", first);
    }
}
