//! Places inside the append's transaction. It is one call of one database function, so a process can't be killed between its steps: triggers hold it
//! there, at a lock that the test has, until the process is dead or its backend is.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use idempo_tests::World;

use super::{LOOK_PAUSE, begin};

/// How long an append may take to come to a stop.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// Where an append is held. The numbers are those of `sql/install_stops.sql`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stop {
    StreamsAdvanced = 1,
    KeysClaimed = 2,
    OutboxWritten = 3,
    EventsWritten = 4,
    BeforeCommit = 5,
}

/// All of them.
pub(super) const ALL: [Stop; 5] = [Stop::StreamsAdvanced, Stop::KeysClaimed, Stop::OutboxWritten, Stop::EventsWritten, Stop::BeforeCommit];

/// What happens there.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
    /// The service is killed, and the database commits what nobody waits for; then the service is started again.
    ServiceThenCommit,
    /// The service is killed and started again, and its clients send everything again, while the database still works on the first.
    ServiceThenAgain,
    /// The backend is ended, and the service lives.
    Backend,
}

/// All of them.
pub(super) const FATES: [Fate; 3] = [Fate::ServiceThenCommit, Fate::ServiceThenAgain, Fate::Backend];

/// Makes the stops of a database; nobody is held before somebody locks one.
pub(super) async fn install(world: &World, database: &str) -> Result<()> {
    world.superuser(database).await?.batch_execute(include_str!("../sql/install_stops.sql")).await.context("making the stops")
}

/// Takes them away.
pub(super) async fn remove(world: &World, database: &str) -> Result<()> {
    world.superuser(database).await?.batch_execute(include_str!("../sql/remove_stops.sql")).await.context("taking the stops away")
}

/// Holds an append at a stop, and lets it meet its fate there. Everything runs again when this returns.
pub(super) async fn die(world: &mut World, (process, database): (&str, &str), stop: Stop, fate: Fate) -> Result<()> {
    let lock = world.superuser(database).await?;
    let number = stop as i32;
    lock.execute(include_str!("../sql/lock_stop.sql"), &[&number]).await?;
    let held = until(async || {
        let rows = lock.query(include_str!("../sql/held_at_stop.sql"), &[&number]).await?;
        rows.first().map(|row| Ok(row.try_get::<_, i32>(0)?)).transpose()
    })
    .await
    .context("no append came to the stop")?;
    match fate {
        Fate::ServiceThenCommit => world.platform.kill(process)?,
        Fate::ServiceThenAgain => {
            world.platform.kill(process)?;
            begin(world, process, None, &[])?;
            world.platform.wait_ready(process).await?;
            until(async || {
                let waiting: i64 = lock.query_one(include_str!("../sql/others_waiting.sql"), &[&held]).await?.try_get(0)?;
                Ok((waiting > 0).then_some(()))
            })
            .await
            .context("nothing was sent again")?;
        }
        Fate::Backend => {
            let ended: bool = lock.query_one(include_str!("../sql/end_backend.sql"), &[&held]).await?.try_get(0)?;
            anyhow::ensure!(ended, "the backend had ended by itself");
        }
    }
    lock.execute(include_str!("../sql/unlock_stop.sql"), &[&number]).await?;
    if matches!(fate, Fate::ServiceThenCommit) {
        begin(world, process, None, &[])?;
        world.platform.wait_ready(process).await?;
    }
    Ok(())
}

/// Asks until there is an answer.
async fn until<T>(ask: impl AsyncFn() -> Result<Option<T>>) -> Result<T> {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        if began.elapsed() > STOP_LIMIT {
            bail!("not within {STOP_LIMIT:?}");
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}
