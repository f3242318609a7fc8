//! Wishes for dead letters that are in the dead-letter topic, or said to be, and not with their consumer.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use idempo_devstack::testing::eventually;
use idempo_proto::ops::v1::parked_letter_outcome::Outcome;
use idempo_proto::ops::v1::{
    DiscardParkedLettersRequest, GetParkedLetterRequest, ParkedLetterEnd, ParkedLetterOutcome, ReplayParkedLettersRequest,
};

use crate::stage::{PARTITIONS, Stage, kafka, said};
use crate::standings::{FAR, beside};
use crate::support::LIMIT;
use crate::world::player;

/// How long a wish may take that is in vain, in milliseconds.
const SHORT_MS: i32 = 300;

impl Stage {
    async fn next_offset(&self, partition: i32) -> i64 {
        let ends = idempo_kafka::watermarks(&kafka(), &self.topic, PARTITIONS).await.expect("the ends");
        ends[usize::try_from(partition).expect("small")].1
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_that_is_wished_for_before_its_consumer_has_it_is_waited_for_and_replayed() {
    let stage = Stage::start().await;
    stage.garbage(player(0).uuid(), Some(b"not an envelope")).await;
    eventually(LIMIT, "it is a dead letter", async || stage.letters().await.len() == 1).await;
    let first = stage.letters().await.remove(0);
    assert!(matches!(stage.discard(std::slice::from_ref(&first.name)).await[..], [Outcome::Discarded(_)]));

    let name = beside(&first, first.partition, stage.next_offset(first.partition).await);
    let mut early = stage.parked.clone();
    let asked = ReplayParkedLettersRequest { names: vec![name.clone()], reason: "mended".to_owned(), force: false, wait_ms: 10_000 };
    let wish = tokio::spawn(async move { early.replay_parked_letters(said(asked)).await });
    let is_asked_for = async || stage.twin_audit().await.iter().any(|entry| entry.target == name && entry.outcome == "ABSENT");
    eventually(LIMIT, "it is asked for", is_asked_for).await;
    stage.garbage(player(0).uuid(), Some(b"not an envelope")).await;
    let outcomes = wish.await.expect("it ran").expect("an answer").into_inner().outcomes;
    let outcome = outcomes[0].outcome.as_ref().expect("an outcome");
    // Garbage stays garbage: that it failed again shows that it was tried.
    assert!(matches!(outcome, Outcome::FailedAgain(failed) if failed.replay_count == 1), "{outcome:?}");
    let left = stage.letters().await;
    assert_eq!(left.iter().map(|letter| (&letter.name, letter.replay_count)).collect::<Vec<_>>(), [(&name, 1)]);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wish_for_what_does_not_come_or_waits_behind_another_is_refused_and_what_is_gone_is_called_so() {
    let stage = Stage::start().await;
    for _ in 0..2 {
        stage.garbage(player(0).uuid(), Some(b"not an envelope")).await;
    }
    eventually(LIMIT, "all is read", async || stage.letters().await.len() == 1 && stage.lag().await == 0).await;
    let letter = stage.letters().await.remove(0);
    let found = stage.parked.clone().get_parked_letter(said(GetParkedLetterRequest { name: letter.name.clone() })).await;
    let behind = beside(&letter, letter.partition, found.expect("it is there").into_inner().parked_records[0].offset);
    let names = [beside(&letter, letter.partition, FAR), behind, letter.name.replace(".g1.", ".g9.")];

    let began = Instant::now();
    let asked = DiscardParkedLettersRequest { names: names.to_vec(), reason: "garbage".to_owned(), wait_ms: SHORT_MS };
    let answer = stage.parked.clone().discard_parked_letters(said(asked)).await.expect("an answer").into_inner();
    assert!(began.elapsed() >= Duration::from_millis(SHORT_MS.unsigned_abs().into()), "what is coming is waited for");
    let told: Vec<_> = answer
        .outcomes
        .iter()
        .map(|outcome| match outcome.outcome.as_ref().expect("an outcome") {
            Outcome::Refused(refused) => refused.code.as_str(),
            Outcome::Gone(gone) => gone.end().as_str_name(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, ["DEAD_LETTER_COMING", "DEAD_LETTER_BEHIND_ANOTHER", "PARKED_LETTER_END_GENERATION_GONE"]);
    let noted: Vec<_> = stage.twin_audit().await.into_iter().map(|entry| (entry.target, entry.outcome)).collect();
    for (name, last) in names.iter().zip(["DEAD_LETTER_COMING", "DEAD_LETTER_BEHIND_ANOTHER", "GONE"]) {
        let of_it: BTreeSet<&str> = noted.iter().filter(|(target, _)| target == name).map(|(_, outcome)| outcome.as_str()).collect();
        assert_eq!(of_it, BTreeSet::from(["ABSENT", last]), "{noted:?}");
    }

    // What is gone is not waited with.
    let began = Instant::now();
    let asked = DiscardParkedLettersRequest { names: names[2..].to_vec(), reason: "garbage".to_owned(), wait_ms: 10_000 };
    stage.parked.clone().discard_parked_letters(said(asked)).await.expect("an answer");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(stage.letters().await.iter().map(|letter| letter.parked_records).collect::<Vec<_>>(), [1], "nothing was done");

    // What waits behind another one that is discarded by the same request becomes the dead letter then, and its own wish is heard: it is tried by the
    // drain, and the wish for it finds it.
    let asked =
        DiscardParkedLettersRequest { names: vec![letter.name.clone(), names[1].clone()], reason: "garbage".to_owned(), wait_ms: 10_000 };
    let answer = stage.parked.clone().discard_parked_letters(said(asked)).await.expect("an answer").into_inner();
    let discarded = |outcome: &ParkedLetterOutcome| matches!(outcome.outcome, Some(Outcome::Discarded(_)));
    assert!(answer.outcomes.iter().all(discarded), "{answer:?}");
    assert!(stage.letters().await.is_empty(), "nothing is left");
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_that_has_ended_once_before_its_position_was_set_back_ends_again() {
    let stage = Stage::start().await;
    stage.garbage(player(0).uuid(), Some(b"not an envelope")).await;
    eventually(LIMIT, "it is a dead letter", async || stage.letters().await.len() == 1).await;
    let letter = stage.letters().await.remove(0);
    let ended = format!(
        "INSERT INTO projection.dead_letter_end (projection, generation, topic, partition, record_offset, discarded, applied_records, wished_by, wish_reason)
         VALUES ('inventory', 1, '{}', {}, {}, false, 7, 'nobody', '')",
        letter.topic, letter.partition, letter.offset
    );
    stage.damage(&ended).await;
    let names = [letter.name];
    let outcomes = stage.discard(&names).await;
    assert!(matches!(&outcomes[..], [Outcome::Discarded(done)] if done.records_applied == 0), "{outcomes:?}");
    let again = stage.discard(&names).await;
    assert!(
        matches!(&again[..], [Outcome::Gone(gone)] if gone.end() == ParkedLetterEnd::Discarded && gone.caller == "tester"),
        "{again:?}"
    );
    stage.stop().await;
}
