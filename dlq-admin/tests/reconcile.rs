//! What ends at a consumer without this service, and what comes in between.

use idempo_dead_letter::DeadLetter;
use idempo_devstack::testing;
use idempo_proto::ops::v1::{DeadLetterFilter, DeadLetterState, JobState, ParkedLetterEnd, RestoreDeadLettersRequest};
use idempo_rpc::status::reason;
use jiff::{SignedDuration, Timestamp};
use tonic::Status;

use crate::support::{Client, LIMIT, Process, Session, Stage, apply, audit, by_operator, comes_to, list, plan_names};

/// The state of each dead letter, in the order of their offsets.
async fn states(session: &Session) -> Vec<String> {
    let rows = session.client.query("SELECT state FROM ops.dead_letter ORDER BY record_offset", &[]).await.expect("an answer");
    rows.iter().map(|row| row.get(0)).collect()
}

async fn come_to(session: &Session, expected: &[&str]) {
    testing::eventually(LIMIT, &format!("they come to be {expected:?}"), async || states(session).await == expected).await;
}

/// Waits until the consumer was asked once more than it was by now.
async fn is_asked(stage: &Stage) {
    let before = stage.fake.question_count();
    testing::eventually(LIMIT, "the consumer is asked", async || stage.fake.question_count() > before).await;
}

/// Waits until what was answered is written: nothing is asked before that.
async fn is_written(stage: &Stage) {
    stage.fake.hold_back(false);
    is_asked(stage).await;
}

async fn reconciled(session: &Session) -> i64 {
    session.count("SELECT count(*) FROM ops.audit WHERE action = 'reconcile'").await
}

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

#[tokio::test]
async fn what_ended_at_its_consumer_is_written_down_once_with_how_and_by_whom() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    stage.fill(&session, 6).await;
    let ended_at = at("2026-01-02T03:04:05Z");
    stage.fake.ends(&stage.name(1), ParkedLetterEnd::Applied, "ana", Some(ended_at));
    stage.fake.ends(&stage.name(2), ParkedLetterEnd::Discarded, "bo", None);
    stage.fake.ends(&stage.name(3), ParkedLetterEnd::GenerationGone, "", None);
    stage.fake.loses(&stage.name(4));
    stage.fake.loses(&stage.name(5));
    stage.fake.state().coming.insert(stage.name(5));
    let process = stage.start_asking();
    let mut client = process.client().await;
    come_to(&session, &["replayed", "discarded", "gone", "gone", "open", "open"]).await;
    is_asked(&stage).await;
    let entries = audit(&mut client).await;
    let told: Vec<_> = entries.iter().map(|entry| (entry.action.as_str(), entry.target.as_str(), entry.outcome.as_str())).collect();
    let names: Vec<String> = (1..=4).map(|n| stage.name(n)).collect();
    assert_eq!(told, names.iter().map(|name| ("reconcile", name.as_str(), "DONE")).collect::<Vec<_>>());
    assert!(entries.iter().all(|entry| entry.caller.starts_with("dlq-admin:") && entry.reason == "its consumer says so"), "{entries:?}");
    let details: Vec<_> = entries.iter().map(|entry| entry.detail.as_str()).collect();
    assert_eq!(details[0], "its consumer has applied it, as ana wanted, at 2026-01-02T03:04:05Z, with 3 records");
    assert_eq!(details[1..3], ["its consumer has discarded it, as bo wanted", "its generation is gone"]);
    let replayed = list(&mut client, DeadLetterFilter { state: DeadLetterState::Replayed.into(), ..Default::default() }, 10).await;
    assert_eq!(replayed[0].state_change_time, Some(idempo_rpc::timestamp::to_proto(ended_at)));

    // What was on its way has come, and was applied.
    stage.fake.state().coming.clear();
    come_to(&session, &["replayed", "discarded", "gone", "gone", "gone", "open"]).await;
    is_asked(&stage).await;
    assert_eq!((reconciled(&session).await, stage.fake.state().questions.last().copied()), (5, Some(1)));
    let metrics = process.get("/metrics").expect("metrics");
    assert!(metrics.contains("idempo_dlq_reconciled_total{outcome=\"gone\"} 3"), "{metrics}");
}

#[tokio::test]
async fn a_dead_letter_that_a_job_takes_meanwhile_is_left_to_the_job() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    stage.fill(&session, 2).await;
    stage.fake.ends(&stage.name(1), ParkedLetterEnd::Applied, "ana", None);
    stage.fake.hold_back(true);
    let process = stage.start_asking();
    let mut client = process.client().await;
    testing::eventually(LIMIT, "the consumer is asked", async || stage.fake.question_count() >= 1).await;
    let job = plan_names(&mut client, vec![stage.name(1)]).await;
    stage.fake.state().away = u32::MAX;
    apply(&mut client, &job).await.expect("begun");
    is_written(&stage).await;
    assert_eq!(states(&session).await, ["open", "open"]);
    assert_eq!(stage.fake.state().questions.last(), Some(&1), "nobody asks about what a job has");
    stage.fake.state().away = 0;
    comes_to(&mut client, &job.name, JobState::Done).await;
    assert_eq!(states(&session).await, ["replayed", "open"]);
    assert_eq!(reconciled(&session).await, 0);
}

#[tokio::test]
async fn a_job_that_was_planned_before_a_member_ended_is_refused() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    stage.fill(&session, 2).await;
    let process = stage.start_asking();
    let mut client = process.client().await;
    let job = plan_names(&mut client, vec![stage.name(1), stage.name(2)]).await;
    stage.fake.ends(&stage.name(1), ParkedLetterEnd::Applied, "ana", None);
    come_to(&session, &["replayed", "open"]).await;
    let refused = apply(&mut client, &job).await.expect_err("a member has ended");
    assert_eq!(reason(&refused).as_deref(), Some("JOB_MEMBERS_CHANGED"));
}

#[tokio::test]
async fn what_failed_again_by_a_job_between_the_question_and_the_answer_stays_open() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    stage.fill(&session, 2).await;
    stage.fake.loses(&stage.name(1));
    stage.fake.hold_back(true);
    let process = stage.start_asking();
    let mut client = process.client().await;
    testing::eventually(LIMIT, "the consumer is asked", async || stage.fake.question_count() >= 1).await;
    stage.fake.holds([stage.name(1)], 0);
    stage.fake.state().failing.insert(stage.name(1));
    let job = plan_names(&mut client, vec![stage.name(1)]).await;
    apply(&mut client, &job).await.expect("begun");
    comes_to(&mut client, &job.name, JobState::Done).await;
    is_written(&stage).await;
    assert_eq!((states(&session).await, reconciled(&session).await), (vec!["open".to_owned(), "open".to_owned()], 0));
}

/// A dead letter that its consumer says has ended, and one that it has, taken in by a process that waits for that answer.
async fn asked_about_two(stage: &Stage, session: &Session, ended_at: Option<Timestamp>) -> (Process, DeadLetter) {
    let (letter, other) = (stage.letter(1, "key", None), stage.letter(2, "other", None));
    stage.fake.holds([other.id.to_string()], 0);
    stage.fake.state().coming.insert(letter.id.to_string());
    stage.produce(&[letter.clone(), other]).await;
    let process = stage.start_asking();
    testing::eventually(LIMIT, "both are known", async || states(session).await.len() == 2).await;
    stage.fake.hold_back(true);
    stage.fake.ends(&letter.id.to_string(), ParkedLetterEnd::Applied, "ana", ended_at);
    stage.fake.state().coming.clear();
    testing::eventually(LIMIT, "the answer is held back", async || stage.fake.state().held_back > 0).await;
    (process, letter)
}

#[tokio::test]
async fn what_came_from_the_topic_again_between_the_question_and_the_answer_stays_open() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    let (_process, letter) = asked_about_two(&stage, &session, None).await;
    // Its consumer was taken back, and failed on it as if it had never seen it: it was not replayed in vain.
    let again = DeadLetter { last_failed_at: letter.last_failed_at + SignedDuration::from_secs(60), ..letter.clone() };
    stage.fake.holds([letter.id.to_string()], 0);
    stage.produce(std::slice::from_ref(&again)).await;
    let taken_in = "SELECT count(*) FROM ops.dead_letter WHERE last_failed_at > '2025-10-09T08:54:00Z'";
    testing::eventually(LIMIT, "it is taken in", async || session.count(taken_in).await == 1).await;
    is_written(&stage).await;
    assert_eq!((states(&session).await, reconciled(&session).await), (vec!["open".to_owned(), "open".to_owned()], 0));
}

#[tokio::test]
async fn what_comes_again_after_it_had_ended_is_open_again_and_what_was_late_is_not() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    let ended_at = at("2025-10-09T09:00:00Z");
    let (_process, letter) = asked_about_two(&stage, &session, Some(ended_at)).await;
    stage.fake.hold_back(false);
    come_to(&session, &["replayed", "open"]).await;
    let fails_at = |time: &str| DeadLetter { last_failed_at: at(time), replay_count: 1, ..letter.clone() };
    let read = "SELECT count(*) FROM ops.dead_letter WHERE replay_count = 1 AND record_offset = 1";
    // It failed once more before it ended, and the topic was slow to tell.
    stage.produce(&[fails_at("2025-10-09T08:59:59Z")]).await;
    testing::eventually(LIMIT, "it is taken in", async || session.count(read).await == 1).await;
    assert_eq!(states(&session).await, ["replayed", "open"]);
    stage.fake.holds([letter.id.to_string()], 0);
    stage.produce(&[fails_at("2025-10-09T09:00:01Z")]).await;
    come_to(&session, &["open", "open"]).await;
    is_asked(&stage).await;
    assert_eq!((states(&session).await, reconciled(&session).await), (vec!["open".to_owned(), "open".to_owned()], 1));
}

#[tokio::test]
async fn where_nobody_knows_when_it_ended_it_ended_before_it_was_asked_about() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    let (_process, letter) = asked_about_two(&stage, &session, None).await;
    let clock = async || -> Timestamp { session.client.query_one("SELECT clock_timestamp()", &[]).await.expect("a time").get(0) };
    let failed_at = clock().await + SignedDuration::from_millis(10);
    testing::eventually(LIMIT, "that is over", async || clock().await > failed_at + SignedDuration::from_millis(10)).await;
    stage.fake.hold_back(false);
    come_to(&session, &["replayed", "open"]).await;
    // The topic had it, and nobody had read it, when the answer was written.
    stage.fake.holds([letter.id.to_string()], 0);
    stage.produce(&[DeadLetter { last_failed_at: failed_at, ..letter }]).await;
    come_to(&session, &["open", "open"]).await;
}

#[tokio::test]
async fn processes_that_ask_about_the_same_dead_letter_write_it_down_once() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    stage.fill(&session, 2).await;
    stage.fake.ends(&stage.name(1), ParkedLetterEnd::Applied, "ana", None);
    stage.fake.hold_back(true);
    let _processes = [stage.start_asking(), stage.start_asking()];
    // The first is in the middle of it when the consumer group is due again.
    testing::eventually(LIMIT, "both ask", async || stage.fake.question_count() >= 2).await;
    is_written(&stage).await;
    is_asked(&stage).await;
    is_asked(&stage).await;
    assert_eq!((states(&session).await, reconciled(&session).await), (vec!["replayed".to_owned(), "open".to_owned()], 1));
    assert_eq!(session.count("SELECT revision FROM ops.dead_letter WHERE record_offset = 1").await, 2);
}

#[tokio::test]
async fn what_people_restore_meanwhile_stays_as_they_made_it() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    stage.fill(&session, 2).await;
    stage.fake.loses(&stage.name(1));
    stage.fake.hold_back(true);
    let process = stage.start_asking();
    let mut client = process.client().await;
    testing::eventually(LIMIT, "the consumer is asked", async || stage.fake.question_count() >= 1).await;
    let restore = RestoreDeadLettersRequest { names: vec![stage.name(1)], reason: "a mistake".to_owned() };
    client.restore_dead_letters(by_operator(restore)).await.expect("restored");
    is_written(&stage).await;
    assert_eq!((states(&session).await, reconciled(&session).await), (vec!["export_only".to_owned(), "open".to_owned()], 0));
}

#[tokio::test]
async fn a_consumer_that_does_not_say_settles_nothing_which_is_told_once() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    stage.fill(&session, 2).await;
    stage.fake.ends(&stage.name(1), ParkedLetterEnd::Applied, "ana", None);
    stage.fake.state().silence = Some(Status::unimplemented("an older one"));
    let process = stage.start_asking();
    let (away, unable) = ("a consumer does not say what became", "a consumer can't be asked what became");
    let told = |text: &str| process.log().matches(text).count();
    for (silence, outcome, text, times) in [
        (Status::unimplemented("an older one"), "no_such_call", unable, 1),
        (Status::unavailable("gone fishing"), "away", away, 1),
        (Status::unauthenticated("who is that"), "token_refused", unable, 2),
    ] {
        stage.fake.state().silence = Some(silence);
        testing::eventually(LIMIT, "that is said", async || told(text) == times).await;
        is_asked(&stage).await;
        is_asked(&stage).await;
        assert_eq!((told(text), states(&session).await), (times, vec!["open".to_owned(), "open".to_owned()]));
        let metrics = process.get("/metrics").unwrap_or_default();
        assert!(metrics.contains(&format!("outcome=\"{outcome}\"")), "{metrics}");
    }
    stage.fake.state().silence = None;
    come_to(&session, &["replayed", "open"]).await;
    testing::eventually(LIMIT, "that is said", async || told("the consumer says again what became") == 1).await;
}

#[tokio::test]
async fn many_are_asked_about_page_by_page_and_all_of_them() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    stage.fill(&session, 2_500).await;
    stage.fake.state().held.clear();
    let process = stage.start_asking();
    let mut client: Client = process.client().await;
    let open = "SELECT count(*) FROM ops.dead_letter WHERE state = 'open'";
    testing::eventually(LIMIT, "all have ended", async || session.count(open).await == 0).await;
    assert_eq!(stage.fake.state().questions.get(..3), Some(&[1_000, 1_000, 500][..]));
    assert_eq!(reconciled(&session).await, 2_500);
    let gone = list(&mut client, DeadLetterFilter { state: DeadLetterState::Gone.into(), ..Default::default() }, 1_000).await;
    assert_eq!(gone.len(), 2_500);
}
