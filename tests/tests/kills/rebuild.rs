//! A rebuild whose process kills itself at every point, while clients go on.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use idempo_projection::failpoint;
use idempo_proto::ops::v1::projection_service_client::ProjectionServiceClient;
use idempo_proto::ops::v1::{
    Generation, GenerationState, GetGenerationRequest, GetVerificationRequest, StartRebuildRequest, VerificationAgainst, VerificationState,
    VerifyGenerationRequest,
};
use idempo_tests::{Operated, World};
use tonic::Request;

use super::dice::{self, Dice};
use super::load::Load;
use super::{ANSWERS_BETWEEN, Place, begin, died, verdict};

const PROJECTOR: &str = "inventory-projector";
/// So few events are a part that there is one for every kill, and some for the end.
const SMALL_PARTS: [(&str, &str); 1] = [("IDEMPO_REBUILD_PART_EVENTS", "4")];
/// How long a rebuild may take that nobody kills.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// The pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

pub(crate) async fn a_rebuild_is_killed_at_every_point(world: &mut World) -> Result<()> {
    for mut dice in dice::rounds()? {
        let load = Load::start(world, &mut dice).await?;
        load.answered_more(ANSWERS_BETWEEN).await?;
        world.platform.kill(PROJECTOR)?;
        let generation = killed_and_resumed(world, &mut dice).await?;
        verdict::pass(world, &load.end().await?).await?;
        verified(world, &generation, VerificationAgainst::Live).await?;
        compared_and_killed(world, &generation, &mut dice).await?;
    }
    Ok(())
}

/// Has a generation compared with the fold by processes that are killed. Nothing but the request is left of each, and the last one answers it.
async fn compared_and_killed(world: &mut World, name: &str, dice: &mut Dice) -> Result<()> {
    world.platform.kill(PROJECTOR)?;
    for (life, point) in dice.shuffled(failpoint::VERIFY).into_iter().enumerate() {
        let place = Place { point, times: if point == failpoint::VERIFY_FOLDED { dice.up_to(3) } else { 1 } };
        begin(world, PROJECTOR, Some(&place), &SMALL_PARTS)?;
        if life == 0 {
            world.platform.wait_ready(PROJECTOR).await?;
            // It may be killed before it has answered.
            let _ = operations(world)?.verify_generation(said(to_compare(name, VerificationAgainst::Fold))).await;
        }
        died(world, PROJECTOR, &place).await?;
    }
    begin(world, PROJECTOR, None, &SMALL_PARTS)?;
    world.platform.wait_ready(PROJECTOR).await?;
    // The request of the one that was killed is heeded; asked for once more, it stays the same.
    verified(world, name, VerificationAgainst::Fold).await?;
    let began = Instant::now();
    loop {
        let row = world.auditor("inventory_view_db").await?.query_one(include_str!("../sql/temporary_tables.sql"), &[]).await?;
        let tables: i64 = row.try_get(0)?;
        if tables == 0 {
            return Ok(());
        }
        ensure!(began.elapsed() < READY_LIMIT, "{tables} temporary tables are left of comparisons");
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

fn to_compare(name: &str, against: VerificationAgainst) -> VerifyGenerationRequest {
    VerifyGenerationRequest { name: name.to_owned(), reason: "is it whole?".to_owned(), against: against.into() }
}

/// Has a generation built by processes that are killed; gives its name when it is ready.
async fn killed_and_resumed(world: &mut World, dice: &mut Dice) -> Result<String> {
    let in_parts = [failpoint::REBUILD_FOLDED, failpoint::REBUILD_BEFORE_COMMIT, failpoint::REBUILD_COMMITTED];
    let mut points = dice.shuffled(in_parts);
    let in_the_end =
        [failpoint::REBUILD_SCANNED, failpoint::REBUILD_INDEXED_PARTLY, failpoint::REBUILD_INDEXED, failpoint::REBUILD_FINISHED];
    points.extend(in_the_end);
    let mut name = String::new();
    for point in points {
        let place = Place { point, times: if in_parts.contains(&point) { dice.up_to(2) } else { 1 } };
        begin(world, PROJECTOR, Some(&place), &SMALL_PARTS)?;
        if name.is_empty() {
            world.platform.wait_ready(PROJECTOR).await?;
            let reason = "killed again and again".to_owned();
            let asked = StartRebuildRequest { name: "projections/inventory".to_owned(), reason, ..StartRebuildRequest::default() };
            let begun = operations(world)?.start_rebuild(said(asked)).await;
            // It may be killed before it has answered.
            name = match begun {
                Ok(begun) => begun.into_inner().generation.context("a generation")?.name,
                Err(_) => newest(world).await?,
            };
        }
        died(world, PROJECTOR, &place).await?;
    }
    begin(world, PROJECTOR, None, &SMALL_PARTS)?;
    world.platform.wait_ready(PROJECTOR).await?;
    let began = Instant::now();
    loop {
        let found = generation(world, &name).await?;
        if found.state() == GenerationState::Ready {
            let rebuild = found.rebuild.context("it was rebuilt")?;
            ensure!(rebuild.buckets_total > 4 && rebuild.buckets_done == rebuild.buckets_total, "{rebuild:?}");
            return Ok(name);
        }
        ensure!(began.elapsed() < READY_LIMIT, "{name} is not ready: {found:?}");
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

/// The live generation is the fold of the events; this one has the same rows.
async fn verified(world: &World, name: &str, against: VerificationAgainst) -> Result<()> {
    operations(world)?.verify_generation(said(to_compare(name, against))).await?;
    let began = Instant::now();
    loop {
        let asked = GetVerificationRequest { name: name.to_owned() };
        let answer = operations(world)?.get_verification(said(asked)).await?.into_inner();
        let found = answer.verification.context("a verification")?;
        match found.state() {
            VerificationState::Equal => return Ok(()),
            VerificationState::Waiting | VerificationState::Running if began.elapsed() < READY_LIMIT => {
                tokio::time::sleep(LOOK_PAUSE).await
            }
            _ => anyhow::bail!("{name} was not found equal: {found:?}, {:?}", answer.differences),
        }
    }
}

async fn generation(world: &World, name: &str) -> Result<Generation> {
    let asked = GetGenerationRequest { name: name.to_owned() };
    operations(world)?.get_generation(said(asked)).await?.into_inner().generation.context("a generation")
}

/// The generation that was begun last, by the database: the process that began it is dead.
async fn newest(world: &World) -> Result<String> {
    let row = world.auditor("inventory_view_db").await?.query_one(include_str!("../sql/newest_generation.sql"), &[]).await?;
    Ok(format!("projections/inventory/generations/{}", row.try_get::<_, i32>(0)?))
}

fn operations(world: &World) -> Result<ProjectionServiceClient<Operated>> {
    Ok(ProjectionServiceClient::new(world.operated(PROJECTOR)?))
}

fn said<M>(message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("idempo-caller", tonic::metadata::MetadataValue::from_static("tests"));
    request
}
