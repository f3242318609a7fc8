//! What becomes of records that can't be applied, on the store in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use idempo_dead_letter::{DeadLetterId, Disposition, Stage};
use idempo_devstack::testing::eventually;
use idempo_projection::memory::{Fault, MemoryTopic};
use idempo_projection::{ATTEMPTS_MAX, Cause, Ended, Entry, POISON_PER_MINUTE_MAX, Reached, Store, View};
use proptest::prelude::*;

use crate::partition::{Running, run_with};
use crate::support::{
    GROUP, LIMIT, Memory, TOTAL_MAX, Totals, entry, granted, malformed, of_unknown_type, passed_over, player, stream_of, under,
};

struct Scene {
    store: Arc<Memory>,
    topic: Arc<MemoryTopic>,
    running: Running,
}

impl Scene {
    async fn new() -> Self {
        let (store, topic) = (Arc::new(Memory::new()), Arc::new(MemoryTopic::new()));
        let running = run_with(&store, &topic).await;
        Self { store, topic, running }
    }

    /// Has dead letters drained, as a process does that looks what is wished.
    async fn drain(&self, offset: i64, is_discard: bool) {
        assert!(self.store.wish(0, offset, is_discard), "there is dead letter {offset}");
        drained(&self.store, &self.running).await;
    }

    fn totals(&self) -> Totals {
        self.store.model().0
    }

    async fn next_offset(&self) -> i64 {
        self.store.checkpoints().await.expect("checkpoints")[0].next_offset
    }
}

/// Waits until every wish is heeded.
async fn drained(store: &Arc<Memory>, running: &Running) {
    eventually(LIMIT, "all that is wished is drained", async || {
        let Ok(wishes) = store.wishes().await else { return false };
        let is_done = wishes.partitions.is_empty();
        running.progress.hear_wishes(wishes);
        is_done
    })
    .await;
}

fn sums(rows: &[(u128, i64, i64)]) -> Totals {
    rows.iter().map(|(number, total, events)| (player(*number), (*total, *events))).collect()
}

/// Every kind of record that one of several cures can help, for player 1 who has version 1.
fn poisons() -> Vec<(&'static str, Stage, Option<Vec<u8>>)> {
    vec![
        ("UNDECODABLE_RECORD", Stage::Decode, None),
        ("UNDECODABLE_RECORD", Stage::Decode, Some(b"not an envelope".to_vec())),
        ("UNDECODABLE_RECORD", Stage::Decode, Some(Vec::new())),
        ("UNDECODABLE_RECORD", Stage::Decode, Some(granted(1, 0, 10))),
        ("UNKNOWN_EVENT_TYPE", Stage::Decode, Some(of_unknown_type(1, 2))),
        ("KEY_MISMATCH", Stage::Decode, Some(granted(7, 1, 10))),
        ("MALFORMED_EVENT", Stage::Apply, Some(malformed(1, 2))),
        ("VERSION_GAP", Stage::Apply, Some(granted(1, 3, 10))),
        ("READ_MODEL_REFUSED", Stage::Persist, Some(granted(1, 2, TOTAL_MAX + 1))),
    ]
}

#[tokio::test]
async fn each_kind_of_poison_parks_its_key_and_the_others_flow() {
    for (code, at, poison) in poisons() {
        let stage = Scene::new().await;
        stage.running.tap.send([
            under(1, 0, Some(granted(1, 1, 10))),
            under(1, 1, poison.clone()),
            under(1, 2, Some(granted(1, 2, 5))),
            under(2, 3, Some(granted(2, 1, 7))),
            under(1, 4, Some(passed_over(1, 9))),
            under(1, 5, Some(granted(1, 3, 5))),
            under(2, 6, Some(granted(2, 2, 7))),
        ]);
        stage.running.done(7).await;
        assert_eq!(stage.totals(), sums(&[(1, 10, 1), (2, 14, 2)]), "{code}");
        assert_eq!(stage.store.letters(), [(0, 1, 0)], "{code}");
        assert_eq!(stage.store.parked(0).await.expect("it answers").records, 2, "{code}: what is passed over is not parked");
        let records = stage.topic.records();
        assert_eq!(records.len(), 1, "{code}");
        let id = DeadLetterId { group: GROUP.to_owned(), topic: "numbers".to_owned(), partition: 0, offset: 1 };
        let letter = &records[0];
        assert_eq!((&letter.id, letter.code.as_str(), letter.stage, letter.attempts), (&id, code, at, ATTEMPTS_MAX));
        assert_eq!(
            (letter.original.value.as_deref(), letter.original.key.as_deref()),
            (poison.as_deref(), Some(player(1).to_string().as_bytes()))
        );
        assert_eq!(letter.disposition == Disposition::RetriesExhausted, code == "READ_MODEL_REFUSED");
        assert_eq!(stage.running.end().await, Ended::Revoked);
    }
}

#[tokio::test]
async fn a_record_without_a_key_is_a_dead_letter_that_nothing_waits_behind() {
    let stage = Scene::new().await;
    let keyless = |offset| Entry { key: None, ..under(1, offset, Some(granted(1, 1, 1))) };
    stage.running.tap.send([keyless(0), keyless(1), under(1, 2, Some(granted(1, 1, 10)))]);
    stage.running.done(3).await;
    assert_eq!((stage.totals(), stage.store.letters()), (sums(&[(1, 10, 1)]), vec![(0, 0, 0), (0, 1, 0)]));
    stage.drain(0, true).await;
    stage.drain(1, false).await;
    assert_eq!(stage.store.letters(), [(0, 1, 1)]);
}

#[tokio::test]
async fn a_replay_applies_what_was_parked_in_order_and_the_key_flows_again() {
    let stage = Scene::new().await;
    // Too much at once; when some is taken away it fits.
    stage.running.tap.send([under(1, 0, Some(granted(1, 1, TOTAL_MAX))), under(1, 1, Some(granted(1, 2, 10)))]);
    stage.running.tap.send((2..12).map(|offset| under(1, offset, Some(granted(1, u64::try_from(offset + 1).expect("small"), 1)))));
    stage.running.done(12).await;
    assert_eq!(stage.totals(), sums(&[(1, TOTAL_MAX, 1)]));
    stage.drain(1, false).await;
    assert_eq!(stage.store.letters(), [(0, 1, 1)], "it has failed again");
    assert_eq!(stage.topic.records().iter().map(|letter| (letter.id.offset, letter.replay_count)).collect::<Vec<_>>(), [(1, 0), (1, 1)]);
    assert_eq!(stage.topic.records()[0].first_failed_at, stage.topic.records()[1].first_failed_at);

    stage.store.mend(|model| model.0.insert(player(1), (0, 1)).map_or((), drop));
    stage.drain(1, false).await;
    assert_eq!((stage.totals(), stage.store.letters()), (sums(&[(1, 20, 12)]), vec![]));
    stage.running.tap.send([under(1, 12, Some(granted(1, 13, 1)))]);
    stage.running.done(13).await;
    assert_eq!(stage.totals(), sums(&[(1, 21, 13)]));
    assert_eq!(stage.next_offset().await, 13);
}

#[tokio::test]
async fn what_is_discarded_is_missing_in_its_stream_and_the_next_event_is_a_dead_letter_for_it() {
    let stage = Scene::new().await;
    stage.running.tap.send([under(1, 0, Some(granted(1, 1, 10))), under(1, 1, Some(malformed(1, 2))), under(1, 2, Some(granted(1, 3, 5)))]);
    stage.running.done(3).await;
    stage.drain(1, true).await;
    assert_eq!((stage.totals(), stage.store.letters()), (sums(&[(1, 10, 1)]), vec![(0, 2, 0)]));
    let last = stage.topic.records().pop().expect("a record");
    assert_eq!((last.id.offset, last.code.as_str(), last.attempts), (2, "VERSION_GAP", 1));
    // Garbage, on the other hand, was never an event: without it all goes on.
    stage.running.tap.send([under(2, 3, None), under(2, 4, Some(granted(2, 1, 7)))]);
    stage.running.done(5).await;
    stage.drain(3, true).await;
    assert_eq!(stage.totals(), sums(&[(1, 10, 1), (2, 7, 1)]));
}

#[tokio::test]
async fn a_dead_letter_topic_that_is_away_keeps_the_offset_and_the_partition_goes_on_when_it_is_back() {
    let stage = Scene::new().await;
    stage.topic.set_away(true);
    stage.running.tap.send([under(1, 0, Some(granted(1, 1, 10))), under(1, 1, None), under(2, 2, Some(granted(2, 1, 7)))]);
    eventually(LIMIT, "it is tried again and again", async || stage.topic.tries() >= 3).await;
    assert_eq!((stage.next_offset().await, stage.store.letters()), (1, vec![]));
    assert_eq!(stage.totals(), sums(&[(1, 10, 1)]));
    stage.topic.set_away(false);
    stage.running.done(3).await;
    assert_eq!((stage.totals(), stage.topic.records().len()), (sums(&[(1, 10, 1), (2, 7, 1)]), 1));
}

#[tokio::test]
async fn a_partition_that_is_taken_away_while_the_topic_is_away_ends_and_the_next_one_writes_the_same_dead_letter() {
    let stage = Scene::new().await;
    stage.topic.set_away(true);
    stage.running.tap.send([under(1, 0, None)]);
    eventually(LIMIT, "it is tried", async || stage.topic.tries() >= 1).await;
    assert_eq!(tokio::time::timeout(LIMIT, stage.running.end()).await, Ok(Ended::Revoked));
    stage.topic.set_away(false);
    // The first owner after it writes the dead letter and dies before the store has it.
    let second = run_with(&stage.store, &stage.topic).await;
    stage.store.inject([Fault::Away; 10_000]);
    second.tap.send([under(1, 0, None)]);
    eventually(LIMIT, "it is written", async || !stage.topic.records().is_empty()).await;
    second.task.abort();
    stage.store.heal();
    let third = run_with(&stage.store, &stage.topic).await;
    third.tap.send([under(1, 0, None), under(2, 1, Some(granted(2, 1, 7)))]);
    third.done(2).await;
    let ids: Vec<DeadLetterId> = stage.topic.records().into_iter().map(|letter| letter.id).collect();
    assert_eq!(ids.len(), 2);
    assert_eq!(ids[0], ids[1], "produced twice, it is the same one");
    assert_eq!(stage.store.letters(), [(0, 0, 0)]);
}

#[tokio::test]
async fn a_flood_stops_the_partition_and_the_topic_is_spared() {
    let stage = Scene::new().await;
    let most = i64::try_from(POISON_PER_MINUTE_MAX).expect("small");
    stage.running.tap.send((0..most + 5).map(|offset| under(u128::try_from(offset).expect("small"), offset, None)));
    let halt = stage.running.stopped().await;
    assert_eq!((halt.offset, &halt.cause), (most, &Cause::Flood));
    assert_eq!((stage.topic.records().len(), stage.next_offset().await), (POISON_PER_MINUTE_MAX, most));
    // What is parked can be drained all the same.
    stage.drain(0, true).await;
    assert_eq!(stage.store.letters().len(), POISON_PER_MINUTE_MAX - 1);
}

#[tokio::test]
async fn who_waits_for_a_parked_key_is_told_at_once_and_by_name() {
    let stage = Scene::new().await;
    let view = View::new(Arc::clone(&stage.store), Arc::clone(&stage.running.progress), 1);
    let early = tokio::spawn({
        let view = view.clone();
        async move { view.reached(&[(stream_of(1), 2)], LIMIT).await }
    });
    stage.running.tap.send([under(1, 0, Some(granted(1, 1, 10))), under(1, 1, None), under(1, 2, Some(granted(1, 2, 10)))]);
    stage.running.done(3).await;
    let named =
        |reached: Reached| if let Reached::Parked(letter) = reached { (letter.group, letter.offset) } else { panic!("{reached:?}") };
    assert_eq!(named(early.await.expect("no panic").expect("the store answers")), (GROUP.to_owned(), 1));
    let late = tokio::time::timeout(LIMIT / 10, view.reached(&[(stream_of(1), 2)], LIMIT)).await.expect("at once");
    assert_eq!(named(late.expect("the store answers")).1, 1);
    assert_eq!(view.reached(&[(stream_of(1), 1)], LIMIT).await.expect("the store answers"), Reached::Yes, "what is there is there");
    let other = view.reached(&[(stream_of(2), 1)], Duration::from_millis(30)).await.expect("the store answers");
    assert_eq!(other, Reached::NotYet);
}

#[tokio::test]
async fn a_drain_whose_answer_is_lost_or_whose_store_is_away_applies_everything_once() {
    for faults in [vec![Fault::AnswerLost; 2], vec![Fault::Away, Fault::AnswerLost, Fault::Away], vec![Fault::Away; 3]] {
        let stage = Scene::new().await;
        stage.running.tap.send([under(1, 0, None)]);
        stage.running.tap.send((1..8_u64).map(|at| under(1, i64::try_from(at).expect("small"), Some(granted(1, at, 1)))));
        stage.running.done(8).await;
        assert!(stage.store.wish(0, 0, true));
        stage.store.inject(faults);
        drained(&stage.store, &stage.running).await;
        assert_eq!((stage.totals(), stage.store.letters()), (sums(&[(1, 7, 7)]), vec![]));
    }
}

/// What happens next in a story of one partition with poison in it.
#[derive(Debug, Clone)]
enum Step {
    Deliver(usize),
    TakeOver,
    Faults(Vec<bool>),
    /// Somebody wants the dead letter at this place of the list drained.
    Wish(usize),
    Heed,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (1..40_usize).prop_map(Step::Deliver),
        1 => Just(Step::TakeOver),
        1 => proptest::collection::vec(any::<bool>(), 1..4).prop_map(Step::Faults),
        3 => (0..20_usize).prop_map(Step::Wish),
        2 => Just(Step::Heed),
    ]
}

/// Records of some players, each stream in order, with garbage between them.
fn records() -> impl Strategy<Value = Vec<Entry>> {
    proptest::collection::vec((1..5_u128, 0..10_u8), 1..120).prop_map(|players| {
        let mut versions = BTreeMap::new();
        let mut garbage = 0;
        (0_i64..)
            .zip(players)
            .map(|(offset, (number, luck))| {
                if luck == 0 && garbage < POISON_PER_MINUTE_MAX / 2 {
                    garbage += 1;
                    return under(number, offset, None);
                }
                let version = versions.entry(number).or_insert(0_u64);
                *version += 1;
                entry(offset, Some(granted(number, *version, i64::try_from(*version).expect("small"))))
            })
            .collect()
    })
}

fn fold(records: &[Entry]) -> Totals {
    let mut totals = Totals::new();
    for event in records.iter().filter_map(|entry| idempo_projection::Event::decode(entry.value.as_ref()?).ok()) {
        let row = totals.entry(event.partition_key).or_default();
        *row = (row.0 + i64::try_from(event.version).expect("small"), row.1 + 1);
    }
    totals
}

async fn play(records: Vec<Entry>, steps: Vec<Step>) -> Totals {
    let mut stage = Scene::new().await;
    let mut delivered = 0;
    for step in steps {
        match step {
            Step::Deliver(count) => {
                let to = (delivered + count).min(records.len());
                for entry in &records[delivered..to] {
                    // It may be a zombie by now, and then nobody hears it.
                    let _ = stage.running.tap.sender.send(entry.clone());
                }
                delivered = to;
            }
            Step::TakeOver => {
                let next = run_with(&stage.store, &stage.topic).await;
                delivered = next.start;
                let zombie = std::mem::replace(&mut stage.running, next);
                drop(zombie.tap);
                zombie.cancel.cancel();
                zombie.task.await.expect("no panic");
            }
            Step::Faults(faults) => {
                stage.store.inject(faults.into_iter().map(|lost| if lost { Fault::AnswerLost } else { Fault::Away }));
            }
            Step::Wish(at) => {
                let letters = stage.store.letters();
                if let Some((_, offset, _)) = letters.get(at % letters.len().max(1)) {
                    // Garbage stays garbage, whether it is replayed or not: it is discarded now or in the end.
                    let _ = stage.store.wish(0, *offset, at % 3 != 0);
                }
            }
            Step::Heed => drained(&stage.store, &stage.running).await,
        }
    }
    stage.store.heal();
    for entry in &records[delivered..] {
        let _ = stage.running.tap.sender.send(entry.clone());
    }
    let end = i64::try_from(records.len()).expect("a length");
    eventually(LIMIT, "all is read", async || stage.next_offset().await == end).await;
    while let Some((_, offset, _)) = stage.store.letters().pop() {
        let _ = stage.store.wish(0, offset, true);
        drained(&stage.store, &stage.running).await;
    }
    assert_eq!(stage.store.parked(0).await.expect("it answers").records, 0);
    stage.totals()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_parked_and_drained_when_the_end_is_the_fold(records in records(), steps in proptest::collection::vec(step(), 0..30)) {
        let expected = fold(&records);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        prop_assert_eq!(runtime.block_on(play(records, steps)), expected);
    }
}
