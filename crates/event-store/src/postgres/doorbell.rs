//! Tells the relay that there is something to send: `NOTIFY outbox`, after the commit and on a connection of its own.
//!
//! Never in the business transaction: there NOTIFY takes a lock that serialises all commits. Rings are coalesced; one that is lost costs the
//! relay a poll interval and nothing else.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The least time between two rings.
const RING_GAP: Duration = Duration::from_millis(2);

/// Where the ringing is asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Doorbell(Arc<Notify>);

impl Doorbell {
    pub(super) fn ring(&self) {
        self.0.notify_one();
    }

    /// Rings when asked, until `shutdown`. Failures are passed over: the relay looks by itself.
    pub(super) async fn run(self, pool: idempo_pg::Pool, shutdown: CancellationToken) {
        while shutdown.run_until_cancelled(self.0.notified()).await.is_some() {
            if let Ok(client) = pool.get().await
                && let Err(error) = client.batch_execute("NOTIFY outbox").await
            {
                tracing::debug!(error = &error as &dyn std::error::Error, "the relay could not be woken");
            }
            tokio::time::sleep(RING_GAP).await;
        }
    }
}
