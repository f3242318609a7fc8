//! Processes that kill themselves at named points while clients go on: at each point of the append, the relay and the projection, and inside of
//! the append's one transaction.
//!
//! Where exactly is drawn from a seed, which is printed. `KILL_SEED` gives the first seed, `KILL_SEEDS` says how many follow each other, and
//! `KILL_POINT` picks the points whose names contain it. See `docs/testing.md`.

mod dead_letters;
mod dice;
mod load;
mod rebuild;
mod stops;
mod verdict;

use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use idempo_event_store::failpoint as append;
use idempo_outbox_relay::failpoint as relay;
use idempo_projection::failpoint as project;
use idempo_tests::World;

use crate::takeovers::holder;
pub(crate) use dead_letters::a_projector_is_killed_while_it_parks_and_drains;
use dice::Dice;
use load::Load;
pub(crate) use rebuild::a_rebuild_is_killed_at_every_point;
use stops::Fate;

/// The variable that tells a process where to kill itself.
const KILL_AT: &str = "IDEMPO_KILL_AT";
/// The signal it uses.
const SIGKILL: i32 = 9;
/// How long a process may take to come to a point.
const DEATH_LIMIT: Duration = Duration::from_secs(60);
/// How long a relay may take until it has a lease.
const TAKE_LIMIT: Duration = Duration::from_secs(15);
/// How many commands are answered after a kill before the next.
const ANSWERS_BETWEEN: usize = 20;
/// The pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(20);
/// The databases whose outboxes are relayed.
const OUTBOXES: [&str; 2] = ["wallet_db", "inventory_db"];
/// Relays of these tests let the outbox tables take turns all the time.
const TURNING: [(&str, &str); 2] = [("IDEMPO_ROTATION__TABLE_BYTES_MAX", "16384"), ("IDEMPO_ROTATION__CHECK_INTERVAL_MS", "20")];

/// A point, and how often it is reached until the kill.
struct Place {
    point: &'static str,
    times: u32,
}

impl Place {
    fn drawn(dice: &mut Dice, point: &'static str) -> Self {
        Self { point, times: dice.up_to(times_max(point)) }
    }

    fn setting(&self) -> String {
        format!("{}:{}", self.point, self.times)
    }
}

/// How often a point is reached at most until the kill: so many times come within a second or two.
fn times_max(point: &str) -> u32 {
    match point {
        // One for each outbox, where there is nobody to wait for.
        relay::RELAY_BEFORE_TAKE | relay::RELAY_TAKEN => 2,
        relay::RELAY_BEFORE_RELEASE | relay::RELAY_RELEASED => 1,
        relay::RELAY_BEFORE_RENEW | relay::RELAY_RENEWED => 3,
        relay::RELAY_BEFORE_ROTATE | relay::RELAY_ROTATED => 4,
        relay::RELAY_BEFORE_TRUNCATE | relay::RELAY_TRUNCATED => 4,
        project::PROJECT_BEFORE_ACQUIRE | project::PROJECT_ACQUIRED => 6,
        _ => 30,
    }
}

/// Begins a process's next life; with a place, its last moment is there.
fn begin(world: &mut World, process: &str, place: Option<&Place>, variables: &[(&str, &str)]) -> Result<()> {
    let setting = place.map(Place::setting);
    let mut variables = variables.to_vec();
    variables.extend(setting.as_deref().map(|setting| (KILL_AT, setting)));
    world.platform.begin_life(process, &variables)
}

/// Waits until a process has killed itself at a place.
async fn died(world: &mut World, process: &str, place: &Place) -> Result<()> {
    let status = world.platform.wait_end(process, DEATH_LIMIT).await.with_context(|| format!("to be killed at {}", place.setting()))?;
    ensure!(status.signal() == Some(SIGKILL), "{process} was to be killed at {} and ended with {status}", place.setting());
    Ok(())
}

pub(crate) async fn a_command_service_is_killed_at_every_point_of_the_append(world: &mut World) -> Result<()> {
    for mut dice in dice::rounds()? {
        let load = Load::start(world, &mut dice).await?;
        for point in dice.shuffled(append::ALL) {
            let place = Place::drawn(&mut dice, point);
            let process = dice.one_of(["wallet", "inventory"]);
            world.platform.kill(process)?;
            begin(world, process, Some(&place), &[])?;
            died(world, process, &place).await?;
            begin(world, process, None, &[])?;
            world.platform.wait_ready(process).await?;
            load.answered_more(ANSWERS_BETWEEN).await?;
        }
        let ended = load.end().await?;
        ensure!(ended.unsure() > 0, "no command was in flight when a service was killed");
        verdict::pass(world, &ended).await?;
    }
    Ok(())
}

pub(crate) async fn a_command_service_dies_inside_the_append(world: &mut World) -> Result<()> {
    for mut dice in dice::rounds()? {
        let load = Load::start(world, &mut dice).await?;
        let mut kills = 0;
        for (process, database) in [("wallet", "wallet_db"), ("inventory", "inventory_db")] {
            stops::install(world, database).await?;
            for stop in dice.shuffled(stops::ALL) {
                let fate = dice.one_of(stops::FATES);
                kills += usize::from(!matches!(fate, Fate::Backend));
                stops::die(world, (process, database), stop, fate).await.with_context(|| format!("{process}, {stop:?}, {fate:?}"))?;
                load.answered_more(ANSWERS_BETWEEN).await?;
            }
            stops::remove(world, database).await?;
        }
        let ended = load.end().await?;
        ensure!(kills == 0 || ended.unsure() > 0, "no command was in flight when a service was killed");
        verdict::pass(world, &ended).await?;
    }
    Ok(())
}

pub(crate) async fn a_relay_is_killed_at_every_point(world: &mut World) -> Result<()> {
    const AT_THE_END: [&str; 2] = [relay::RELAY_BEFORE_RELEASE, relay::RELAY_RELEASED];
    for mut dice in dice::rounds()? {
        let load = Load::start(world, &mut dice).await?;
        let (mut first, mut second) = ("relay-1", "relay-2");
        world.platform.kill(first)?;
        world.platform.kill(second)?;
        let at_work = dice.shuffled(relay::ALL).into_iter().filter(|point| !AT_THE_END.contains(point));
        let places: Vec<Place> = at_work.map(|point| Place::drawn(&mut dice, point)).collect();
        begin(world, first, places.first(), &TURNING)?;
        for (at, place) in places.iter().enumerate() {
            // The next one stands by already, and takes over.
            let before = lease_epochs(world).await?;
            begin(world, second, places.get(at + 1), &TURNING)?;
            died(world, first, place).await?;
            succeeds(world, second, before).await?;
            (first, second) = (second, first);
        }
        for point in dice.shuffled(AT_THE_END) {
            let place = Place::drawn(&mut dice, point);
            let before = lease_epochs(world).await?;
            begin(world, second, Some(&place), &TURNING)?;
            world.platform.kill(first)?;
            succeeds(world, second, before).await?;
            world.platform.ask_to_stop(second)?;
            died(world, second, &place).await?;
            begin(world, first, None, &TURNING)?;
        }
        world.platform.kill(first)?;
        for relay in [first, second] {
            world.platform.start_again(relay).await?;
        }
        load.answered_more(ANSWERS_BETWEEN).await?;
        verdict::pass(world, &load.end().await?).await?;
    }
    Ok(())
}

/// Waits until a relay has the leases on both outboxes, or has ended. Only then may another begin to stand by: one that came as early as this would
/// take a lease before it, and this one would wait at the other's side for a place that only a holder comes to.
///
/// The leases are of later epochs than those before the relay's life: under an earlier one, an earlier life of the process would have left it.
async fn succeeds(world: &mut World, relay: &str, before: [i64; 2]) -> Result<()> {
    let began = Instant::now();
    loop {
        if world.platform.fallen()?.is_some() {
            return Ok(());
        }
        let mut missing = None;
        for ((database, before), epoch) in OUTBOXES.iter().zip(before).zip(lease_epochs(world).await?) {
            match holder(world, database).await {
                Ok(holder) if holder == relay && epoch > before => {}
                Ok(holder) => {
                    missing = Some(format!("{holder} has the lease on {database}, of epoch {epoch}, and {relay} should have a later one"))
                }
                Err(error) => missing = Some(format!("{database}: {error:#}")),
            }
        }
        let Some(missing) = missing else { return Ok(()) };
        ensure!(began.elapsed() < TAKE_LIMIT, "{missing}");
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

/// The epochs of the leases on the outboxes.
async fn lease_epochs(world: &World) -> Result<[i64; 2]> {
    let mut epochs = [0; 2];
    for (epoch, database) in epochs.iter_mut().zip(OUTBOXES) {
        *epoch = world.auditor(database).await?.query_one(include_str!("sql/lease_epoch.sql"), &[]).await?.try_get(0)?;
    }
    Ok(epochs)
}

pub(crate) async fn a_projector_is_killed_at_every_point(world: &mut World) -> Result<()> {
    const PROJECTOR: &str = "inventory-projector";
    for mut dice in dice::rounds()? {
        let load = Load::start(world, &mut dice).await?;
        world.platform.kill(PROJECTOR)?;
        for point in dice.shuffled(project::ALL) {
            let place = Place::drawn(&mut dice, point);
            begin(world, PROJECTOR, Some(&place), &[])?;
            died(world, PROJECTOR, &place).await?;
        }
        world.platform.start_again(PROJECTOR).await?;
        verdict::pass(world, &load.end().await?).await?;
    }
    Ok(())
}
