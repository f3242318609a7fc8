//! Processes that are killed with SIGKILL, and those that go on.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use futures_util::future::try_join_all;
use idempo_tests::{World, log};
use tonic::Code;

/// How long a stand-by may take until an event that was stored after the kill is readable.
const TAKEOVER_LIMIT: Duration = Duration::from_secs(10);
/// How long a restarted projector may take until it has everything.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(15);
/// How many items are granted while the projector is killed.
const ITEMS: usize = 60;
/// The pause between two attempts.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Waits until the read model has `position`, and answers how long that took.
pub(crate) async fn readable(world: &World, player: &str, position: &str, limit: Duration) -> Result<Duration> {
    let began = Instant::now();
    loop {
        match world.items(player, position).await {
            Ok(_) => return Ok(began.elapsed()),
            Err(status) if status.code() == Code::Unavailable && began.elapsed() < limit => tokio::time::sleep(RETRY_PAUSE).await,
            Err(status) => return Err(status).with_context(|| format!("after {:?}", began.elapsed())),
        }
    }
}

/// The relay that holds an outbox: its lease names the instance, which the process tells at its start.
pub(crate) async fn holder(world: &World, database: &str) -> Result<&'static str> {
    let owner: String = world.auditor(database).await?.query_one(include_str!("sql/lease_owner.sql"), &[]).await?.try_get(0)?;
    for relay in ["relay-1", "relay-2"] {
        let lines = log::lines(world.platform.service(relay)?)?;
        let started = lines.iter().rev().find(|line| log::text(line, "message") == "starting").context("a relay tells its start")?;
        if log::text(started, "instance") == owner {
            return Ok(relay);
        }
    }
    bail!("the lease is held by {owner}, which is no relay of ours")
}

pub(crate) async fn a_standby_goes_on_when_the_relay_is_killed(world: &mut World) -> Result<()> {
    let item_type = world.item_type().await?;
    // Twice: the second time it is the one that has taken over, and the one that was started again has to.
    for _ in 0..2 {
        let relay = holder(world, "inventory_db").await?;
        let player = world.player();
        let (_, before) = world.item(&player, &item_type).await?;
        readable(world, &player, &before, TAKEOVER_LIMIT).await?;
        world.platform.kill(relay)?;
        let (item, position) = world.item(&player, &item_type).await?;
        let took = readable(world, &player, &position, TAKEOVER_LIMIT).await?;
        writeln!(std::io::stderr(), "{relay} was killed; what was stored then was readable after {} ms", took.as_millis())?;
        assert!(world.items(&player, &position).await?.items.iter().any(|shown| shown.name == item));
        assert_ne!(holder(world, "inventory_db").await?, relay);
        world.platform.start_again(relay).await?;
    }
    Ok(())
}

pub(crate) async fn a_killed_projector_goes_on_and_doubles_nothing(world: &mut World) -> Result<()> {
    let item_type = world.item_type().await?;
    let players: Vec<String> = (0..8).map(|_| world.player()).collect();
    let grants = |count: usize| {
        let granted = players.iter().cycle().take(count).map(|player| world.item(player, &item_type));
        try_join_all(granted.collect::<Vec<_>>())
    };
    let (_, first) = grants(ITEMS / 2).await?.pop().context("granted items")?;
    readable(world, players.first().context("a player")?, &first, CATCH_UP_LIMIT).await?;
    let in_flight = grants(ITEMS).await?;
    world.platform.kill("inventory-projector")?;
    let last = world.item(players.first().context("a player")?, &item_type).await?;
    world.platform.start_again("inventory-projector").await?;

    let began = Instant::now();
    for ((_, position), player) in in_flight.iter().chain([&last]).zip(players.iter().cycle()) {
        readable(world, player, position, CATCH_UP_LIMIT).await?;
    }
    writeln!(std::io::stderr(), "the projector that was started again had everything after {} ms", began.elapsed().as_millis())?;
    assert_eq!(world.projected().await?, world.folded().await?);
    Ok(())
}
