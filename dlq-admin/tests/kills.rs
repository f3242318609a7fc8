//! Processes that die at each point, and others that go on.

use idempo_devstack::testing;
use idempo_dlq_admin::failpoint;
use idempo_proto::ops::v1::JobState;

use crate::support::{LIMIT, Process, Stage, apply, comes_to, plan_all};

const SIGKILL_SHELL_CODE: Option<i32> = None;

/// Waits until a process has killed itself.
async fn dies(process: &mut Process, point: &str) {
    assert_eq!(process.ended().await, SIGKILL_SHELL_CODE, "at {point}: {}", process.log());
}

#[tokio::test]
async fn a_job_whose_worker_is_killed_at_any_point_ends_right() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    let mut applied = 0;
    for (round, (point, times)) in failpoint::JOB.iter().flat_map(|point| [(*point, 1), (*point, 2)]).enumerate() {
        // Some points are reached once in the life of a job.
        let once = [failpoint::DLQ_JOB_TAKEN, failpoint::DLQ_JOB_ENDED].contains(&point);
        if once && times > 1 {
            continue;
        }
        session.client.batch_execute("DELETE FROM ops.job_member; DELETE FROM ops.dead_letter").await.expect("emptied");
        stage.fake.forget();
        stage.fill(&session, 2_300).await;
        let mut dying = stage.start(Some(&format!("{point}:{times}")));
        let mut client = dying.client().await;
        let planned = plan_all(&mut client).await;
        // The answer may be lost with the process.
        let _ = apply(&mut client, &planned).await;
        dies(&mut dying, point).await;
        let next = stage.start(None);
        let mut client = next.client().await;
        let done = comes_to(&mut client, &planned.name, JobState::Done).await;
        let counts = done.counts.expect("counts");
        assert_eq!(
            (counts.applied, counts.gone, counts.waiting, counts.sent, counts.records),
            (2_300, 0, 0, 0, 2_300),
            "round {round}, at {point}"
        );
        let (distinct, most) = stage.fake.applied();
        assert_eq!((distinct, most), (2_300, Some(1)), "at {point}");
        let open = session.count("SELECT count(*) FROM ops.dead_letter WHERE state <> 'replayed'").await;
        assert_eq!(open, 0, "at {point}");
        applied += distinct;
    }
    assert_eq!(applied, 2_300 * 8);
}

#[tokio::test]
async fn records_are_read_once_though_the_reader_is_killed_at_any_point() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    let mut known = 0;
    for point in failpoint::INTAKE {
        let letters: Vec<_> = (0..300).map(|n| stage.letter(known + n, &format!("key {n}"), Some(b"x"))).collect();
        known += 300;
        let mut dying = stage.start(Some(point));
        stage.produce(&letters).await;
        dies(&mut dying, point).await;
        // Members of a group that died are missed after their session has timed out.
        let next = stage.start(None);
        testing::eventually(LIMIT, "all are known", async || session.count("SELECT count(*) FROM ops.dead_letter").await == known).await;
        let read = "SELECT sum(next_offset)::bigint FROM ops.position";
        testing::eventually(LIMIT, "the positions are behind all", async || session.count(read).await == known).await;
        drop(next);
    }
}

#[tokio::test]
async fn a_worker_that_is_frozen_is_overtaken_and_writes_nothing_when_it_comes_back() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    stage.fill(&session, 2_000).await;
    let frozen = stage.start(None);
    let mut client = frozen.client().await;
    let planned = plan_all(&mut client).await;
    stage.fake.state().away = u32::MAX;
    apply(&mut client, &planned).await.expect("begun");
    testing::eventually(LIMIT, "it works", async || !stage.fake.state().asked.is_empty()).await;
    frozen.signal(testing::Signal::STOP);
    let next = stage.start(None);
    let mut client = next.client().await;
    testing::eventually(LIMIT, "another has the job", async || session.count("SELECT epoch FROM ops.job").await >= 3).await;
    stage.fake.state().away = 0;
    let done = comes_to(&mut client, &planned.name, JobState::Done).await;
    frozen.signal(testing::Signal::CONT);
    let noticed = || frozen.log().contains("another process has the job");
    testing::eventually(LIMIT, "the frozen one notices", async || noticed()).await;
    assert_eq!(done.counts.expect("counts").applied, 2_000);
    assert_eq!(stage.fake.applied(), (2_000, Some(1)));
    let again = comes_to(&mut client, &planned.name, JobState::Done).await;
    assert_eq!(again.counts, done.counts);
}
