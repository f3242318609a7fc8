//! Dead letters from end to end: a consumer parks what it can't apply, and people settle it through the dead-letter service.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use idempo_proto::ops::v1::dead_letter_service_client::DeadLetterServiceClient;
use idempo_proto::ops::v1::parked_letter_outcome::Outcome;
use idempo_proto::ops::v1::parked_service_client::ParkedServiceClient;
use idempo_proto::ops::v1::{
    ApplyJobRequest, DeadLetter, DeadLetterFilter, DeadLetterJob, DeadLetterState, GetDeadLetterRequest, GetJobRequest, JobState,
    ListDeadLetterAuditEntriesRequest, ListDeadLetterGroupsRequest, ListDeadLettersRequest, PlanJobRequest, RehearseJobRequest,
    RehearseJobResponse, ReplayParkedLettersRequest,
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
    refuse_some(world, &mut client).await?;
    let filter = DeadLetterFilter { event_type: "item_granted".to_owned(), code: CODE.to_owned(), ..Default::default() };
    let plan = PlanJobRequest { filter: Some(filter), reason: "the trigger is dropped".to_owned(), ..Default::default() };
    let job = client.plan_job(by_tests(plan)).await?.into_inner().job.context("a job")?;
    ensure!(job.member_count == PLAYERS, "{job:?}");
    let before = rehearse(&mut client, &job).await?;
    ensure!((before.would_apply_count, before.would_fail_count) == (0, PLAYERS), "{before:?}");

    mend(world).await?;
    let after = rehearse(&mut client, &job).await?;
    ensure!((after.would_apply_count, after.would_fail_count) == (PLAYERS, 0) && !after.differences.is_empty(), "{after:?}");
    let apply = ApplyJobRequest { name: job.name.clone(), reason: "the trigger is dropped".to_owned(), ..Default::default() };
    client.apply_job(by_tests(apply)).await?;
    let counts = done(&mut client, &job.name).await?.counts.context("counts")?;
    ensure!((counts.applied, counts.records) == (PLAYERS, PLAYERS * ITEMS), "{counts:?}");
    is_the_fold(world).await
}

/// Nobody tells the dead-letter service: it comes to know it by itself.
pub(crate) async fn what_is_replayed_at_the_projector_itself_comes_to_be_replayed(world: &mut World) -> Result<()> {
    let mut client = DeadLetterServiceClient::new(world.operated("dlq-admin")?);
    refuse_some(world, &mut client).await?;
    mend(world).await?;
    let names: Vec<String> = open(&mut client).await?.into_iter().map(|letter| letter.name).collect();
    let replay = ReplayParkedLettersRequest { names: names.clone(), reason: "mended".to_owned(), force: false, wait_ms: 10_000 };
    let mut projector = ParkedServiceClient::new(world.operated("inventory-projector")?);
    let outcomes = projector.replay_parked_letters(by_tests(replay)).await?.into_inner().outcomes;
    ensure!(outcomes.iter().all(|outcome| matches!(outcome.outcome, Some(Outcome::Applied(_)))), "{outcomes:?}");
    none_open(&mut client).await?;
    for name in &names {
        let letter = client.get_dead_letter(GetDeadLetterRequest { name: name.clone() }).await?.into_inner().dead_letter.context("it")?;
        ensure!(letter.state() == DeadLetterState::Replayed, "{letter:?}");
    }
    let asked = ListDeadLetterAuditEntriesRequest { page_size: 1_000, ..Default::default() };
    let entries = client.list_dead_letter_audit_entries(asked).await?.into_inner().audit_entries;
    let told: Vec<&str> = entries.iter().filter(|entry| names.contains(&entry.target)).map(|entry| entry.detail.as_str()).collect();
    let as_it_was =
        |detail: &&str| detail.starts_with("its consumer has applied it, as dev wanted, at ") && detail.ends_with(", with 3 records");
    ensure!(told.len() == names.len() && told.iter().all(as_it_was), "{told:?}");
    is_the_fold(world).await
}

/// Has the read model refuse what belongs to some players, until there is a dead letter of each, and none of others.
async fn refuse_some(world: &mut World, client: &mut Client) -> Result<()> {
    // Whoever has settled some at the consumer itself has left them open here for a moment.
    none_open(client).await?;
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
    all_known(client).await
}

async fn mend(world: &World) -> Result<()> {
    world.superuser("inventory_view_db").await?.batch_execute(include_str!("sql/refuse_nobody.sql")).await?;
    Ok(())
}

async fn is_the_fold(world: &World) -> Result<()> {
    let began = Instant::now();
    while world.projected().await? != world.folded().await? {
        ensure!(began.elapsed() < LIMIT, "the read model is not what follows from the events");
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    Ok(())
}

/// Dead letters that are open.
async fn open(client: &mut Client) -> Result<Vec<DeadLetter>> {
    let filter = DeadLetterFilter { state: DeadLetterState::Open.into(), ..Default::default() };
    let asked = ListDeadLettersRequest { filter: Some(filter), page_size: 1_000, ..Default::default() };
    Ok(client.list_dead_letters(asked).await?.into_inner().dead_letters)
}

async fn none_open(client: &mut Client) -> Result<()> {
    let began = Instant::now();
    loop {
        let letters = open(client).await?;
        if letters.is_empty() {
            return Ok(());
        }
        ensure!(began.elapsed() < LIMIT, "some stay open: {letters:?}");
        tokio::time::sleep(LOOK_PAUSE).await;
    }
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
