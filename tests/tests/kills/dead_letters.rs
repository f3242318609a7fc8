//! A projector that kills itself while it parks what can't be applied, and while it drains it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use idempo_projection::failpoint::{
    PROJECT_BEFORE_DEAD_LETTER, PROJECT_BEFORE_DRAIN_COMMIT, PROJECT_DEAD_LETTER_PRODUCED, PROJECT_DRAINED,
};
use idempo_proto::ops::v1::parked_service_client::ParkedServiceClient;
use idempo_proto::ops::v1::{ListParkedLettersRequest, ParkedLetter, ReplayParkedLettersRequest};
use idempo_tests::{Operated, World};
use tonic::Request;

use super::load::Load;
use super::{Place, begin, dice, died, verdict};

const PROJECTOR: &str = "inventory-projector";
/// Players whose rows are refused, and how many items each is granted.
const PLAYERS: usize = 8;
const ITEMS: usize = 3;
/// How long it may take until everything is parked, or drained.
const LIMIT: Duration = Duration::from_secs(60);
/// The pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

pub(crate) async fn a_projector_is_killed_while_it_parks_and_drains(world: &mut World) -> Result<()> {
    for mut dice in dice::rounds()? {
        let load = Load::start(world, &mut dice).await?;
        let players: Vec<String> = (0..PLAYERS).map(|_| world.player()).collect();
        let sword = world.item_type().await?;
        refuse(world, &players).await?;
        world.platform.kill(PROJECTOR)?;
        for point in dice.shuffled([PROJECT_BEFORE_DEAD_LETTER, PROJECT_DEAD_LETTER_PRODUCED]) {
            let place = Place { point, times: dice.up_to(3) };
            begin(world, PROJECTOR, Some(&place), &[])?;
            for player in &players {
                world.item(player, &sword).await?;
            }
            died(world, PROJECTOR, &place).await?;
        }
        for player in &players {
            world.item(player, &sword).await?;
        }
        begin(world, PROJECTOR, None, &[])?;
        world.platform.wait_ready(PROJECTOR).await?;
        let names = all_parked(world).await?;
        mend(world).await?;
        world.platform.kill(PROJECTOR)?;
        for point in dice.shuffled([PROJECT_BEFORE_DRAIN_COMMIT, PROJECT_DRAINED]) {
            let place = Place { point, times: 1 };
            begin(world, PROJECTOR, Some(&place), &[])?;
            // It is killed before it can answer; or before it is ready, where it finds a wish that is left.
            let (first, second) = names.split_at(PLAYERS / 2);
            let half = if point == PROJECT_DRAINED { first } else { second };
            if world.platform.wait_ready(PROJECTOR).await.is_ok() {
                let _ = replay(world, half).await;
            }
            died(world, PROJECTOR, &place).await?;
        }
        begin(world, PROJECTOR, None, &[])?;
        world.platform.wait_ready(PROJECTOR).await?;
        let began = Instant::now();
        while !letters(world).await?.is_empty() {
            ensure!(began.elapsed() < LIMIT, "dead letters are left: {:?}", letters(world).await?);
            replay(world, &names).await?;
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        verdict::pass(world, &load.end().await?).await?;
    }
    Ok(())
}

/// Has the read model refuse what belongs to these players.
async fn refuse(world: &World, players: &[String]) -> Result<()> {
    let ids: Vec<&str> = players.iter().filter_map(|player| player.strip_prefix("players/")).collect();
    let sql = include_str!("../sql/refuse_players.sql").replace("{players}", &ids.join(","));
    world.superuser("inventory_view_db").await?.batch_execute(&sql).await?;
    Ok(())
}

async fn mend(world: &World) -> Result<()> {
    world.superuser("inventory_view_db").await?.batch_execute(include_str!("../sql/refuse_nobody.sql")).await?;
    Ok(())
}

/// Waits until there is a dead letter for each player, with all else behind it; gives their names.
async fn all_parked(world: &World) -> Result<Vec<String>> {
    let began = Instant::now();
    let behind = i64::try_from(ITEMS - 1)?;
    loop {
        let found = letters(world).await?;
        if found.len() == PLAYERS && found.iter().all(|letter| letter.parked_records == behind) {
            return Ok(found.into_iter().map(|letter| letter.name).collect());
        }
        ensure!(began.elapsed() < LIMIT, "not all is parked: {found:?}");
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

async fn letters(world: &World) -> Result<Vec<ParkedLetter>> {
    let asked = ListParkedLettersRequest { parent: "projections/inventory".to_owned(), ..ListParkedLettersRequest::default() };
    Ok(service(world)?.list_parked_letters(asked).await?.into_inner().parked_letters)
}

async fn replay(world: &World, names: &[String]) -> Result<()> {
    let asked = ReplayParkedLettersRequest { names: names.to_vec(), reason: "mended".to_owned(), force: false, wait_ms: 5_000 };
    let mut request = Request::new(asked);
    request.metadata_mut().insert("idempo-caller", tonic::metadata::MetadataValue::from_static("tests"));
    service(world)?.replay_parked_letters(request).await.context("replaying")?;
    Ok(())
}

fn service(world: &World) -> Result<ParkedServiceClient<Operated>> {
    Ok(ParkedServiceClient::new(world.operated(PROJECTOR)?))
}
