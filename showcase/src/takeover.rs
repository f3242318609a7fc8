//! Kills the relay that holds the outboxes, and measures how long until another one moves their events on.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use idempo_checker::databases::Session;
use idempo_checker::facts;
use idempo_devstack::Platform;

/// The relays of the dev stack.
const RELAYS: [&str; 2] = ["relay-1", "relay-2"];
/// The pause between two looks at an outbox.
const LOOK_PAUSE: Duration = Duration::from_millis(5);
/// How long a relay may take to hold an outbox in the first place.
const HELD_LIMIT: Duration = Duration::from_secs(15);
/// How long a takeover may take before it counts as none.
const TAKEOVER_LIMIT: Duration = Duration::from_secs(30);

/// How one outbox was taken over.
#[derive(Debug, Clone)]
pub struct Takeover {
    /// The outbox.
    pub outbox: &'static str,
    /// From the kill until another relay had the lease.
    pub lease_after: Duration,
    /// From the kill until its cursor moved.
    pub moved_after: Duration,
}

/// What came of the kill.
#[derive(Debug, Clone)]
pub struct Killed {
    /// The relay that was killed.
    pub relay: &'static str,
    /// The outboxes that it held, and how they were taken over.
    pub takeovers: Vec<Takeover>,
}

/// An outbox to watch.
pub struct Outbox {
    /// Its name.
    pub name: &'static str,
    /// The auditor's session in its database.
    pub session: Session,
}

/// Kills the relay that holds the first outbox with SIGKILL, and waits until every outbox that it held moves on under another relay.
///
/// # Errors
/// When no relay holds the first outbox, the holder is none of the platform's processes, or nobody takes over within half a minute.
pub async fn kill_and_watch(platform: &mut Platform, outboxes: &[Outbox]) -> Result<Killed> {
    let first = outboxes.first().context("there is an outbox")?;
    let state = held(first).await?;
    let relay = holder(platform, state.owner.as_deref().unwrap_or_default())?;
    let mut before = Vec::with_capacity(outboxes.len());
    for outbox in outboxes {
        let state = outbox.session.relay().await?;
        if state.owner.as_deref().is_some_and(|owner| holder(platform, owner).is_ok_and(|holder| holder == relay)) {
            before.push((outbox, state));
        }
    }
    platform.kill(relay)?;
    let killed_at = Instant::now();
    let watches = before.iter().map(|(outbox, state)| watch(outbox, state, killed_at));
    let takeovers = futures_util::future::try_join_all(watches).await?;
    Ok(Killed { relay, takeovers })
}

/// Waits until somebody holds an outbox.
async fn held(outbox: &Outbox) -> Result<facts::Outbox> {
    let began = Instant::now();
    while began.elapsed() < HELD_LIMIT {
        let state = outbox.session.relay().await?;
        if state.held && state.owner.is_some() {
            return Ok(state);
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    bail!("no relay took the outbox {} within {} s", outbox.name, HELD_LIMIT.as_secs())
}

async fn watch(outbox: &Outbox, before: &facts::Outbox, killed_at: Instant) -> Result<Takeover> {
    // When the next epoch was first seen, and how far the cursor was then: only what the new holder moves counts.
    let mut taken: Option<(Duration, facts::Outbox)> = None;
    while killed_at.elapsed() < TAKEOVER_LIMIT {
        let now = outbox.session.relay().await?;
        match &taken {
            None if now.lease_epoch > before.lease_epoch => taken = Some((killed_at.elapsed(), now)),
            Some((lease_after, first)) if now.cursor != first.cursor => {
                return Ok(Takeover { outbox: outbox.name, lease_after: *lease_after, moved_after: killed_at.elapsed() });
            }
            _ => {}
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    let lease = taken.map_or_else(|| "nobody took the lease".to_owned(), |(after, _)| format!("the lease was taken after {after:?}"));
    bail!("outbox {}: {lease}, and its cursor did not move within {} s", outbox.name, TAKEOVER_LIMIT.as_secs())
}

/// The relay that calls itself so: it says it in its log when it starts.
fn holder(platform: &Platform, owner: &str) -> Result<&'static str> {
    for relay in RELAYS {
        let log = std::fs::read_to_string(platform.service(relay)?.log())?;
        let lines = log.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let instance = lines.filter_map(|line| Some(line.get("instance")?.as_str()?.to_owned())).next_back();
        if instance.is_some_and(|instance| instance == owner) {
            return Ok(relay);
        }
    }
    bail!("the lease is held by «{owner}», which is none of the platform's relays")
}
