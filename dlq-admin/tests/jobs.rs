//! Replay jobs: planned, rehearsed, applied, cancelled.

use std::time::{Duration, Instant};

use idempo_devstack::testing;
use idempo_proto::ops::v1::{
    ApplyJobRequest, CancelJobRequest, DeadLetterFilter, DeadLetterState, JobAction, JobCounts, JobState, ListJobMembersRequest,
    MemberState, PlanJobRequest, RehearseJobRequest,
};
use idempo_rpc::status::reason;
use tonic::Code;

use crate::support::{Client, LIMIT, Stage, apply, apply_of, by_operator, comes_to, job, list, plan_all, plan_names};

async fn states(client: &mut Client, job: &str) -> Vec<(MemberState, String)> {
    let request = ListJobMembersRequest { parent: job.to_owned(), page_size: 1_000, ..Default::default() };
    let members = client.list_job_members(request).await.expect("an answer").into_inner().members;
    members.into_iter().map(|member| (member.state(), member.code)).collect()
}

fn counts(counts: Option<JobCounts>) -> (i64, i64, i64, i64, i64) {
    let JobCounts { waiting, applied, failed_again, gone, refused, .. } = counts.expect("counts");
    (waiting, applied, failed_again, gone, refused)
}

#[tokio::test]
async fn a_job_settles_each_member_as_its_consumer_says() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    stage.fill(&session, 10).await;
    {
        let mut state = stage.fake.state();
        state.failing.insert(stage.name(1));
        state.held.insert(stage.name(2), (5, 0));
        state.held.insert(stage.name(3), (0, 4));
        state.held.remove(&stage.name(4));
    }
    let nobodys = "UPDATE ops.dead_letter SET consumer_group = 'nobody.g1' WHERE record_offset = 5";
    session.client.batch_execute(nobodys).await.expect("changed");
    let process = stage.start(None);
    let mut client = process.client().await;

    let filter = Some(DeadLetterFilter { topic: stage.topic(), ..Default::default() });
    let request = PlanJobRequest { filter, reason: "mended".to_owned(), ..Default::default() };
    let planned = client.plan_job(by_operator(request)).await.expect("planned").into_inner().job.expect("a job");
    assert_eq!((planned.state(), planned.member_count, planned.parts.len()), (JobState::Planned, 10, 4));
    assert_eq!(planned.parts.iter().map(|part| part.count).sum::<i64>(), 10);

    let request = RehearseJobRequest { name: planned.name.clone(), members_max: 0, reason: "look".to_owned() };
    let rehearsed = client.rehearse_job(by_operator(request)).await.expect("rehearsed").into_inner();
    // Of the ten, one would fail, one is gone, and one has no consumer; the guard is no matter of a rehearsal.
    assert_eq!((rehearsed.would_apply_count, rehearsed.would_fail_count, rehearsed.records), (7, 3, 11));
    assert_eq!(rehearsed.differences.len(), 9);
    assert_eq!(stage.fake.state().applied.len(), 0);

    apply(&mut client, &planned).await.expect("begun");
    let done = comes_to(&mut client, &planned.name, JobState::Done).await;
    assert_eq!(counts(done.counts), (0, 6, 1, 1, 2));
    assert_eq!(done.counts.expect("counts").records, 10);
    let found = states(&mut client, &planned.name).await;
    let of = |state: MemberState| found.iter().filter(|(found, _)| *found == state).map(|(_, code)| code.as_str()).collect::<Vec<_>>();
    assert_eq!(of(MemberState::FailedAgain), ["VERSION_GAP"]);
    let mut refused = of(MemberState::Refused);
    refused.sort_unstable();
    assert_eq!(refused, ["CONSUMER_UNKNOWN", "REPLAYED_TOO_OFTEN"]);
    let open = list(&mut client, DeadLetterFilter { state: DeadLetterState::Open.into(), ..Default::default() }, 100).await;
    let mut offsets: Vec<_> = open.iter().map(|letter| (letter.offset, letter.replay_count)).collect();
    offsets.sort_unstable();
    assert_eq!(offsets, [(1, 1), (2, 0), (5, 0)]);
    let gone = list(&mut client, DeadLetterFilter { state: DeadLetterState::Gone.into(), ..Default::default() }, 100).await;
    assert_eq!(gone.iter().map(|letter| letter.offset).collect::<Vec<_>>(), [4]);
}

#[tokio::test]
async fn a_job_whose_members_have_changed_is_refused_and_planned_anew_it_is_not() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    stage.fill(&session, 20).await;
    let process = stage.start(None);
    let mut client = process.client().await;
    let all = plan_all(&mut client).await;
    stage.fake.state().failing.insert(stage.name(7));
    let one = plan_names(&mut client, vec![stage.name(7)]).await;
    let other = plan_names(&mut client, vec![stage.name(8)]).await;
    apply(&mut client, &one).await.expect("begun");
    comes_to(&mut client, &one.name, JobState::Done).await;

    let refused = apply(&mut client, &all).await.expect_err("one has failed again");
    assert_eq!((refused.code(), reason(&refused).as_deref()), (Code::FailedPrecondition, Some("JOB_MEMBERS_CHANGED")));
    assert!(refused.message().contains(&stage.name(7)) && refused.message().starts_with("1 members"), "{}", refused.message());
    assert_eq!(job(&mut client, &all.name).await.state(), JobState::Planned);
    apply(&mut client, &other).await.expect("its member has not changed");
    comes_to(&mut client, &other.name, JobState::Done).await;

    stage.fake.state().failing.clear();
    let anew = plan_all(&mut client).await;
    assert_eq!(anew.member_count, 19);
    apply(&mut client, &anew).await.expect("begun");
    let done = comes_to(&mut client, &anew.name, JobState::Done).await;
    assert_eq!(counts(done.counts), (0, 19, 0, 0, 0));
    let refused = apply(&mut client, &all).await.expect_err("all have changed");
    assert!(refused.message().starts_with("20 members"), "{}", refused.message());
}

#[tokio::test]
async fn a_dead_letter_is_in_one_job_at_a_time() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    stage.fill(&session, 3).await;
    let process = stage.start(None);
    let mut client = process.client().await;
    let (first, second) = (plan_all(&mut client).await, plan_names(&mut client, vec![stage.name(2)]).await);
    stage.fake.state().away = u32::MAX;
    apply(&mut client, &first).await.expect("begun");
    let refused = apply(&mut client, &second).await.expect_err("it is in another");
    assert_eq!(reason(&refused).as_deref(), Some("DEAD_LETTER_IN_JOB"));
    let shown = list(&mut client, DeadLetterFilter::default(), 100).await;
    assert!(shown.iter().all(|letter| letter.job == first.name), "{shown:?}");
    testing::eventually(LIMIT, "the job says what hinders it", async || {
        let mut client = client.clone();
        job(&mut client, &first.name).await.hindrance.contains("the consumer is away")
    })
    .await;
    stage.fake.state().away = 0;
    comes_to(&mut client, &first.name, JobState::Done).await;
    let refused = apply(&mut client, &second).await.expect_err("it is settled");
    assert_eq!(reason(&refused).as_deref(), Some("JOB_MEMBERS_CHANGED"));
    assert_eq!(stage.fake.applied(), (3, Some(1)));
}

#[tokio::test]
async fn a_lost_answer_and_a_pending_one_are_asked_for_again_and_come_to_what_was_done() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    stage.fill(&session, 2_500).await;
    let process = stage.start(None);
    let mut client = process.client().await;
    let planned = plan_all(&mut client).await;
    stage.fake.state().lost_answers = 1;
    stage.fake.state().pending = 1;
    apply(&mut client, &planned).await.expect("begun");
    let done = comes_to(&mut client, &planned.name, JobState::Done).await;
    assert_eq!(counts(done.counts), (0, 2_500, 0, 0, 0));
    assert_eq!(stage.fake.applied(), (2_500, Some(1)));
    let asked = stage.fake.state().asked.clone();
    assert!(asked.iter().all(|asked| *asked <= 1_000), "{asked:?}");
}

#[tokio::test]
async fn a_job_keeps_to_its_rate_and_to_its_cap_and_goes_on_when_it_is_applied_again() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    stage.fill(&session, 300).await;
    let process = stage.start(None);
    let mut client = process.client().await;
    let planned = plan_all(&mut client).await;
    let request = ApplyJobRequest { members_per_second_max: 100, members_max: 150, ..apply_of(&planned) };
    let began = Instant::now();
    client.apply_job(by_operator(request)).await.expect("begun");
    let paused = comes_to(&mut client, &planned.name, JobState::Paused).await;
    let took = began.elapsed();
    assert_eq!(counts(paused.counts), (150, 150, 0, 0, 0));
    // 150 at 100 a second: the last are sent after 1.3 s at the earliest.
    assert!((Duration::from_millis(1_250)..Duration::from_secs(10)).contains(&took), "{took:?}");
    let asked = stage.fake.state().asked.clone();
    assert!(asked.iter().all(|asked| *asked <= 20), "{asked:?}");
    apply(&mut client, &planned).await.expect("it goes on");
    let done = comes_to(&mut client, &planned.name, JobState::Done).await;
    assert_eq!(counts(done.counts), (0, 300, 0, 0, 0));
}

#[tokio::test]
async fn a_cancelled_job_sends_nothing_more_and_settles_what_was_sent() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    stage.fill(&session, 9_000).await;
    let process = stage.start(None);
    let mut client = process.client().await;
    let planned = plan_all(&mut client).await;
    stage.fake.state().lost_answers = u32::MAX;
    apply(&mut client, &planned).await.expect("begun");
    testing::eventually(LIMIT, "some were asked about", async || !stage.fake.state().asked.is_empty()).await;
    let cancel = || by_operator(CancelJobRequest { name: planned.name.clone(), reason: "enough".to_owned() });
    let cancelled = client.cancel_job(cancel()).await.expect("cancelled").into_inner().job.expect("a job");
    assert_eq!(cancelled.state(), JobState::Cancelling);
    stage.fake.state().lost_answers = 0;
    let cancelled = comes_to(&mut client, &planned.name, JobState::Cancelled).await;
    let found = cancelled.counts.expect("counts");
    assert_eq!((found.applied + found.cancelled, found.sent), (9_000, 0));
    assert!((1_000..=4_000).contains(&found.applied), "four requests were under way at most: {found:?}");
    assert_eq!(stage.fake.applied(), (usize::try_from(found.applied).expect("few"), Some(1)));
    client.cancel_job(cancel()).await.expect("it is as it should be");
    let again = apply(&mut client, &planned).await.expect_err("it has ended");
    assert_eq!(reason(&again).as_deref(), Some("JOB_STATE"));
}

#[tokio::test]
async fn a_job_that_discards_applies_nothing_but_what_is_parked() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    stage.fill(&session, 40).await;
    let process = stage.start(None);
    let mut client = process.client().await;
    let filter = Some(DeadLetterFilter { code: "UNDECODABLE".to_owned(), ..Default::default() });
    let request = PlanJobRequest { action: JobAction::Discard.into(), filter, reason: "garbage".to_owned(), ..Default::default() };
    let planned = client.plan_job(by_operator(request)).await.expect("planned").into_inner().job.expect("a job");
    assert_eq!((planned.action(), planned.member_count), (JobAction::Discard, 10));
    apply(&mut client, &planned).await.expect("begun");
    let done = comes_to(&mut client, &planned.name, JobState::Done).await;
    assert_eq!(done.counts.expect("counts").discarded, 10);
    assert_eq!(stage.fake.applied(), (0, None));
    assert_eq!(stage.fake.state().held.len(), 30);
    let discarded = list(&mut client, DeadLetterFilter { state: DeadLetterState::Discarded.into(), ..Default::default() }, 3).await;
    assert_eq!(discarded.len(), 10);
}
