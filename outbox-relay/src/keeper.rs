//! What a holder does beside publishing: renews its lease and stores the position.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::lease::{Fence, LeaseSession};
use crate::metrics::Metrics;
use crate::routes::Routes;
use crate::tracker::Acked;

/// How often the lease is renewed: several times before it ends.
const RENEW_INTERVAL: Duration = Duration::from_secs(1);
/// The shortest time between two writes of the cursor.
const CURSOR_INTERVAL: Duration = Duration::from_millis(50);
/// How long a position may wait when no row was acknowledged since the last write, only snapshots that show nothing new.
const EMPTY_INTERVAL: Duration = Duration::from_secs(5);

/// How keeping ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It was asked to end, and the last position is stored.
    Stopped,
    /// The lease is lost, or it can't be known whether it is.
    Lost(&'static str),
}

/// Keeps one lease.
pub(crate) struct Keeper<'a> {
    pub(crate) session: &'a LeaseSession,
    pub(crate) epoch: i64,
    pub(crate) fence: &'a Fence,
    pub(crate) acked: watch::Receiver<Acked>,
    pub(crate) routes: &'a Routes,
    pub(crate) metrics: &'a Metrics,
}

impl Keeper<'_> {
    /// Renews the lease and stores the position until `stop`, or until the lease is lost. Whatever takes longer than the lease holds is a loss.
    pub(crate) async fn keep(mut self, stop: &CancellationToken) -> Kept {
        let mut renew = tokio::time::interval(RENEW_INTERVAL);
        renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stored = self.acked.borrow().clone();
        let mut stored_at = Instant::now();
        let mut news = true;
        loop {
            let due = stored_at + if self.acked.borrow().rows == stored.rows { EMPTY_INTERVAL } else { CURSOR_INTERVAL };
            tokio::select! {
                () = self.session.ended.cancelled() => return Kept::Lost("the session has ended"),
                () = stop.cancelled() => break,
                _ = renew.tick() => {
                    if let Err(lost) = self.renew().await {
                        return lost;
                    }
                }
                changed = self.acked.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    news = true;
                }
                () = tokio::time::sleep_until(due), if news => {
                    news = false;
                    let acked = self.acked.borrow_and_update().clone();
                    if acked.position != stored.position && let Err(lost) = self.store(&acked).await {
                        return lost;
                    }
                    (stored, stored_at) = (acked, Instant::now());
                }
            }
        }
        let last = self.acked.borrow().clone();
        if last.position != stored.position
            && let Err(lost) = self.store(&last).await
        {
            return lost;
        }
        Kept::Stopped
    }

    async fn renew(&self) -> Result<(), Kept> {
        let began = Instant::now();
        let renewed = timeout_at(self.fence.until().into(), self.session.renew(self.epoch, self.fence)).await;
        self.metrics.storage("renew_lease", began.elapsed());
        judge(renewed)
    }

    async fn store(&self, acked: &Acked) -> Result<(), Kept> {
        let began = Instant::now();
        fail::fail_point!(crate::failpoint::RELAY_BEFORE_CURSOR);
        let written = timeout_at(self.fence.until().into(), self.session.write_cursor(self.epoch, acked, self.routes)).await;
        fail::fail_point!(crate::failpoint::RELAY_CURSOR_WRITTEN);
        self.metrics.storage("write_cursor", began.elapsed());
        judge(written)
    }
}

fn judge(answer: Result<Result<bool, idempo_pg::Error>, tokio::time::error::Elapsed>) -> Result<(), Kept> {
    match answer {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err(Kept::Lost("another relay has taken it")),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the lease could not be kept");
            Err(Kept::Lost("the database failed"))
        }
        Err(_) => Err(Kept::Lost("the database did not answer in time")),
    }
}
