//! Tells the relay that there is something to send: `NOTIFY outbox`, after the commit and on a connection of its own.
//!
//! Never in the business transaction: there NOTIFY takes a lock that serialises all commits. One that is lost costs the relay a poll interval and
//! nothing else, so it need not be durable: NOTIFY takes an xid, and would wait for the disk.
//!
//! It is rung for the first commit after a pause only. The relay looks 1 ms after it has found something, and waits twice as long after each look that
//! finds nothing: what is committed a moment after something else is seen within a moment as long. A busy service would pay for hundreds of
//! transactions a second that tell the relay what it sees anyway.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use idempo_pg::Pool;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// A commit so long after the one before it is told of. A shorter pause is about as long as the relay waits at most.
const PAUSE_MIN: Duration = Duration::from_millis(5);

/// Where the ringing is asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Doorbell {
    bell: Arc<Notify>,
    last_commit: Arc<Mutex<Option<Instant>>>,
}

impl Doorbell {
    /// Something was committed just now.
    pub(super) fn ring(&self) {
        let now = Instant::now();
        let last = self.last_commit.lock().unwrap_or_else(PoisonError::into_inner).replace(now);
        if last.is_none_or(|last| now.saturating_duration_since(last) >= PAUSE_MIN) {
            self.bell.notify_one();
        }
    }

    /// Rings when asked, until `shutdown`. Failures are passed over: the relay looks by itself.
    pub(super) async fn run(self, pool: Pool, shutdown: CancellationToken) {
        while shutdown.run_until_cancelled(self.bell.notified()).await.is_some() {
            if let Err(error) = tell(&pool).await {
                tracing::debug!(error = &error as &dyn std::error::Error, "the relay could not be woken");
            }
        }
    }
}

async fn tell(pool: &Pool) -> Result<(), idempo_pg::Error> {
    let client = pool.get().await?;
    let statement = client.prepare_cached(include_str!("../sql/ring_doorbell.sql")).await?;
    client.execute(&statement, &[]).await?;
    Ok(())
}
