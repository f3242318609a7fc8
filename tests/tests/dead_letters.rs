//! Dead letters from end to end: a consumer parks what it can't apply, and people settle it through the dead-letter service.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use idempo_proto::ops::v1::dead_letter_service_client::DeadLetterServiceClient;
use idempo_proto::ops::v1::{
    ApplyJobRequest, DeadLetterFilter, DeadLetterJob, GetJobRequest, JobState, ListDeadLetterGroupsRequest, PlanJobRequest,
    RehearseJobRequest, RehearseJobResponse,
};
use idempo_tests::{Operated, World};
use tonic::Request;

/// Players whose rows are refused, and how many items each is granted.
const PLAYERS: i64 = 6;
const ITEMS: i64 = 3;
/// The code of what the database refuses.
const CODE: &str = "READ_MODEL_REFUSED";
/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(30);
/// The pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

type Client = DeadLetterServiceClient<Operated>;

pub(crate) async fn what_the_read_model_refuses_is_found_rehearsed_mended_and_replayed_in_order(world: &mut World) -> Result<()> {
    let mut client = DeadLetterServiceClient::new(world.operated("dlq-admin")?);
    let sword = world.item_type().await?;
    let players: Vec<String> = (0..PLAYERS).map(|_| world.player()).collect();
    let ids: Vec<&str> = players.iter().filter_map(|player| player.strip_prefix("players/")).collect();
    let sql = include_str!("sql/refuse_players.sql").replace("{players}", &ids.join(","));
    world.superuser("inventory_view_db").await?.batch_execute(&sql).await?;
    for _ in 0..ITEMS {
        for player in &players {
            world.item(player, &sword).await?;
        }
    }
    all_known(&mut client).await?;
    let filter = DeadLetterFilter { event_type: "item_granted".to_owned(), code: CODE.to_owned(), ..Default::default() };
    let plan = PlanJobRequest { filter: Some(filter), reason: "the trigger is dropped".to_owned(), ..Default::default() };
    let job = client.plan_job(by_tests(plan)).await?.into_inner().job.context("a job")?;
    ensure!(job.member_count == PLAYERS, "{job:?}");
    let before = rehearse(&mut client, &job).await?;
    ensure!((before.would_apply_count, before.would_fail_count) == (0, PLAYERS), "{before:?}");

    world.superuser("inventory_view_db").await?.batch_execute(include_str!("sql/refuse_nobody.sql")).await?;
    let after = rehearse(&mut client, &job).await?;
    ensure!((after.would_apply_count, after.would_fail_count) == (PLAYERS, 0) && !after.differences.is_empty(), "{after:?}");
    let apply = ApplyJobRequest { name: job.name.clone(), reason: "the trigger is dropped".to_owned(), ..Default::default() };
    client.apply_job(by_tests(apply)).await?;
    let counts = done(&mut client, &job.name).await?.counts.context("counts")?;
    ensure!((counts.applied, counts.records) == (PLAYERS, PLAYERS * ITEMS), "{counts:?}");
    let began = Instant::now();
    while world.projected().await? != world.folded().await? {
        ensure!(began.elapsed() < LIMIT, "the read model is not what follows from the events");
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    Ok(())
}

/// Waits until there is a dead letter for each player.
async fn all_known(client: &mut Client) -> Result<()> {
    let began = Instant::now();
    loop {
        let groups = client.list_dead_letter_groups(ListDeadLetterGroupsRequest::default()).await?.into_inner().groups;
        if groups.iter().any(|group| (group.code.as_str(), group.count) == (CODE, PLAYERS)) {
            return Ok(());
        }
        ensure!(began.elapsed() < LIMIT, "not all are known: {groups:?}");
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

async fn rehearse(client: &mut Client, job: &DeadLetterJob) -> Result<RehearseJobResponse> {
    let asked = RehearseJobRequest { name: job.name.clone(), members_max: 0, reason: "to see".to_owned() };
    Ok(client.rehearse_job(by_tests(asked)).await?.into_inner())
}

/// The job when it is done.
async fn done(client: &mut Client, name: &str) -> Result<DeadLetterJob> {
    let began = Instant::now();
    loop {
        let job = client.get_job(GetJobRequest { name: name.to_owned() }).await?.into_inner().job.context("a job")?;
        if job.state() == JobState::Done {
            return Ok(job);
        }
        ensure!(began.elapsed() < LIMIT, "the job does not end: {job:?}");
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

fn by_tests<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("idempo-caller", tonic::metadata::MetadataValue::from_static("tests"));
    request
}
