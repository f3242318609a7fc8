//! `dead-letters`: many dead letters in the dead-letter service and parked at their consumer, the inventory projector: how long a page of their
//! groups and the plan of a job take, and how fast a job replays them, through both processes.

mod stage;

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use idempo_proto::ops::v1::{
    ApplyJobRequest, DeadLetterFilter, DeadLetterJob, GetJobRequest, JobState, ListDeadLetterGroupsRequest, ListDeadLettersRequest,
    PlanJobRequest,
};
use serde_json::json;

use crate::Size;
use crate::database::settle;
use crate::report::{Bar, Measured, Report};
use crate::usage::{Watch, cpu_seconds, float};
use stage::{Stage, said};

/// What a page of groups, and a plan, may take, in milliseconds.
const GROUPS_MAX_MS: f64 = 100.0;
const PLAN_MAX_MS: f64 = 2_000.0;
/// How many dead letters are to be replayed in a second, at least.
const REPLAYED_MIN: f64 = 5_000.0;
/// How often a page is asked for.
const PAGES: u32 = 20;
/// How long a replay may take.
const REPLAY_MAX: Duration = Duration::from_secs(900);
/// How often it is looked how far a job is.
const LOOK_PAUSE: Duration = Duration::from_millis(20);
const REASON: &str = "a bench";

/// Measures `rounds` times, each with databases of its own.
pub(crate) async fn run(size: Size, report: &mut Report) -> anyhow::Result<()> {
    report.parameter("followers", json!(stage::followers(size.letters)));
    for round in 1..=size.rounds {
        let mut stage = Stage::start(size.letters).await?;
        pages(&mut stage, round, report).await?;
        replayed(&mut stage, round, report).await?;
        stage.check().await?;
        stage.stop().await?;
    }
    Ok(())
}

async fn pages(stage: &mut Stage, round: u32, report: &mut Report) -> anyhow::Result<()> {
    let (mut groups_ms, mut letters_ms) = (0.0_f64, 0.0_f64);
    for page in 0..=PAGES {
        let began = Instant::now();
        let groups = stage.service.list_dead_letter_groups(said(ListDeadLetterGroupsRequest::default())?).await?.into_inner();
        let took = millis(began.elapsed());
        ensure!(groups.total_count == i64::from(stage.letters), "{} dead letters are in groups", groups.total_count);
        let began = Instant::now();
        let asked = ListDeadLettersRequest { page_size: 100, ..ListDeadLettersRequest::default() };
        let listed = stage.service.list_dead_letters(said(asked)?).await?.into_inner().dead_letters;
        ensure!(!listed.is_empty(), "an empty page");
        // The first one pays for statements being prepared.
        if page > 0 {
            (groups_ms, letters_ms) = (groups_ms.max(took), letters_ms.max(millis(began.elapsed())));
        }
    }
    report.add(round, Measured::new("page of groups, the longest of 20", groups_ms, "ms").bar(Bar::AtMost(GROUPS_MAX_MS)));
    report.add(round, Measured::new("page of 100 dead letters, the longest of 20", letters_ms, "ms"));
    Ok(())
}

async fn replayed(stage: &mut Stage, round: u32, report: &mut Report) -> anyhow::Result<()> {
    let filter = Some(DeadLetterFilter { topic: stage.topic.clone(), ..DeadLetterFilter::default() });
    let began = Instant::now();
    let asked = PlanJobRequest { filter, reason: REASON.to_owned(), ..PlanJobRequest::default() };
    let job = stage.service.plan_job(said(asked)?).await?.into_inner().job.context("no job is planned")?;
    report.add(round, Measured::new("plan of a replay", millis(began.elapsed()), "ms").bar(Bar::AtMost(PLAN_MAX_MS)));
    ensure!(job.member_count == i64::from(stage.letters), "{} members are planned", job.member_count);

    settle(&stage.view).await?;
    let pid = stage.service_pid().context("the dead-letter service is not running")?;
    let (watch, cpu, began) = (Watch::begin(stage.projector_pid(), stage.postgres)?, cpu_seconds(pid)?, Instant::now());
    let asked = ApplyJobRequest { name: job.name.clone(), reason: REASON.to_owned(), ..ApplyJobRequest::default() };
    stage.service.apply_job(said(asked)?).await?;
    let done = loop {
        let job = job_of(stage, &job.name).await?;
        if job.state() == JobState::Done {
            break job;
        }
        ensure!(began.elapsed() < REPLAY_MAX, "the replay is not done after {} s: {job:?}", REPLAY_MAX.as_secs());
        tokio::time::sleep(LOOK_PAUSE).await;
    };
    let took = began.elapsed();
    let letters = u64::from(stage.letters);
    let measured = Measured::new("replay, through the projector", float(letters) / took.as_secs_f64(), "dead letters/s");
    report.add(round, measured.bar(Bar::AtLeast(REPLAYED_MIN)).cost(watch.cost(letters)?));
    let cpu = (cpu_seconds(pid)? - cpu) * 1_000_000.0 / float(letters);
    report.add(round, Measured::new("replay: CPU of the dead-letter service", cpu, "s/million"));
    let counts = done.counts.context("a job has counts")?;
    let records = i64::from(stage.letters) + i64::from(stage::followers(stage.letters));
    ensure!(counts.applied == i64::from(stage.letters) && counts.records == records, "{counts:?} of {records} records");
    Ok(())
}

async fn job_of(stage: &mut Stage, name: &str) -> anyhow::Result<DeadLetterJob> {
    let asked = GetJobRequest { name: name.to_owned() };
    stage.service.get_job(said(asked)?).await?.into_inner().job.context("no such job")
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
