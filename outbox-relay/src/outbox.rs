//! One outbox at one process: connect, stand by, relay, and again from the start whenever the lease or the database is lost.

mod life;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use idempo_clock::SharedClock;
use idempo_kafka::ProducerConfig;
use idempo_pg::Pool;
use idempo_runtime::Condition;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::admin::Operated;
use crate::control::{self, Control};
use crate::keeper::{Keeper, Kept};
use crate::lease::{Fence, LeaseSession, Taken};
use crate::maintenance::Maintenance;
use crate::metrics::Metrics;
use crate::publisher::Ended;
use crate::quarantine::{Means, Quarantine};
use crate::rebase::rebase;
use crate::routes::Routes;
use crate::status::{State, Status};
use crate::tracker::Acked;
use crate::{OutboxConfig, Rotation};

/// How often a stand-by tries to take the lease.
const STANDBY_INTERVAL: Duration = Duration::from_millis(200);
/// How soon a blocked outbox is tried again: someone may have made the topic, or given the right.
const BLOCKED_RETRY: Duration = Duration::from_secs(10);
/// The shortest and the longest wait after a failure.
const RETRY_DELAY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How long whoever stepped down leaves the lease to others.
const STEP_DOWN_PAUSE: Duration = Duration::from_secs(5);
/// Connections for what people ask and want, and for the quarantine.
const POOL_CONNECTIONS: u32 = 4;
/// How long the last statements of a holder may take.
const RELEASE_MAX: Duration = Duration::from_secs(2);

/// What all outboxes of a process share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) kafka: idempo_kafka::Config,
    pub(crate) producer: ProducerConfig,
    pub(crate) routes: Routes,
    pub(crate) rotation: Rotation,
    pub(crate) page_rows_max: usize,
    pub(crate) quarantine_rows_max: u32,
    /// What stands before the names of topics, and of producers that send in transactions.
    pub(crate) prefix: String,
    /// Who this process is, in leases.
    pub(crate) owner: String,
}

/// One outbox at one process.
pub(crate) struct Outbox {
    shared: Arc<Shared>,
    name: String,
    database: idempo_pg::Config,
    /// For what is asked now and then.
    pool: Pool,
    control: watch::Sender<Option<Control>>,
    status: Arc<Status>,
    metrics: Metrics,
    bell: Arc<Notify>,
    /// A row was met whose topic is exactly-once: from then on all rows of this outbox go in transactions.
    transactional: AtomicBool,
    /// A topic ends before what was acknowledged in it.
    records_lost: AtomicBool,
}

/// The lease, while it is held.
#[derive(Clone, Copy)]
struct Held<'a> {
    session: &'a LeaseSession,
    epoch: i64,
    fence: &'a Fence,
}

impl Outbox {
    /// An outbox that is not relayed yet.
    ///
    /// # Errors
    /// Where the database's configuration is unusable.
    pub(crate) fn new(
        shared: Arc<Shared>,
        config: OutboxConfig,
        condition: Condition,
        clock: SharedClock,
    ) -> Result<Self, idempo_pg::Error> {
        let metrics = Metrics::new(&config.name);
        let status = Arc::new(Status::new(&config.name, condition, clock, metrics.clone()));
        let pool = Pool::open(&idempo_pg::Config { max_connections: POOL_CONNECTIONS, ..config.database.clone() })?;
        let (control, _) = watch::channel(None);
        let (bell, transactional, records_lost) = (Arc::new(Notify::new()), AtomicBool::new(false), AtomicBool::new(false));
        Ok(Self { shared, name: config.name, database: config.database, pool, control, status, metrics, bell, transactional, records_lost })
    }

    /// What operating the outbox needs of it.
    pub(crate) fn operated(&self) -> Operated {
        Operated { name: self.name.clone(), pool: self.pool.clone(), status: Arc::clone(&self.status) }
    }

    /// Relays until `cancel`, as holder or as stand-by.
    pub(crate) async fn run(self, cancel: CancellationToken) {
        let maintenance =
            Maintenance { database: &self.database, rotation: &self.shared.rotation, status: &self.status, metrics: &self.metrics };
        tokio::select! {
            () = self.hold_again_and_again(&cancel) => {}
            () = maintenance.run() => {}
            () = self.prepare() => {}
            () = control::follow(&self.pool, &self.control, &self.metrics) => {}
        }
    }

    /// Sees to the topics already while another process relays, so that a take-over need not.
    async fn prepare(&self) {
        let mut delays = retry_delays();
        while let Err(error) = self.shared.routes.ensure(&self.shared.kafka).await {
            tracing::debug!(%error, "the topics are not there yet");
            tokio::time::sleep(delays.next().unwrap_or(RETRY_DELAY.1)).await;
        }
        std::future::pending().await
    }

    async fn hold_again_and_again(&self, cancel: &CancellationToken) {
        let mut delays = retry_delays();
        while !cancel.is_cancelled() {
            match self.hold(cancel).await {
                Ok(()) => delays = retry_delays(),
                Err(error) => {
                    tracing::warn!(outbox = self.name, error = &error as &dyn std::error::Error, "the outbox's database has failed");
                    self.status.set(State::Connecting);
                    self.status.went_wrong(error.to_string());
                    let delay = delays.next().unwrap_or(RETRY_DELAY.1);
                    cancel.run_until_cancelled(tokio::time::sleep(delay)).await;
                }
            }
        }
    }

    /// Waits for the lease and relays while it is held.
    async fn hold(&self, cancel: &CancellationToken) -> Result<(), idempo_pg::Error> {
        let session = LeaseSession::connect(&self.database, &self.shared.owner, Arc::clone(&self.bell)).await?;
        self.set_records_lost(false);
        loop {
            if let Some(taken) = session.take(&self.shared.routes).await? {
                self.status.set(State::Starting);
                self.metrics.took_over();
                tracing::info!(outbox = self.name, epoch = taken.epoch, "the lease was taken");
                let (epoch, leave) = (taken.epoch, cancel.child_token());
                let led = tokio::select! {
                    led = self.lead(&session, taken, &leave) => led,
                    () = self.step_down_is_wanted(epoch, &leave) => Ok(()),
                };
                // Whoever was asked to step down leaves the lease to another for a while; where there is none, it comes back.
                if leave.is_cancelled() && !cancel.is_cancelled() {
                    self.status.set(State::Standby);
                    cancel.run_until_cancelled(tokio::time::sleep(STEP_DOWN_PAUSE)).await;
                }
                return led;
            }
            self.status.set(State::Standby);
            tokio::select! {
                () = tokio::time::sleep(STANDBY_INTERVAL) => {}
                () = cancel.cancelled() => return Ok(()),
            }
        }
    }

    /// Relays until `cancel` or until the lease is lost.
    async fn lead(&self, session: &LeaseSession, taken: Taken, cancel: &CancellationToken) -> Result<(), idempo_pg::Error> {
        let is_ahead = taken.position.done.snapshot.xmax > taken.now.xmax;
        let (acked, heard) = watch::channel(Acked { position: taken.position, tails: taken.tails, rows: 0 });
        let held = Held { session, epoch: taken.epoch, fence: &taken.fence };
        let routes = &self.shared.routes;
        let keeper = Keeper { session, epoch: taken.epoch, fence: &taken.fence, acked: heard, routes, metrics: &self.metrics };
        let stop = CancellationToken::new();
        let keep = keeper.keep(&stop);
        tokio::pin!(keep);
        tokio::select! {
            kept = &mut keep => {
                // Nothing of what ran beside is left: the producer's queue is thrown away with it.
                self.lost(&kept);
                return Ok(());
            }
            ended = self.relay_rebased(&acked, held, is_ahead, cancel) => {
                if !matches!(ended, Ended::Drained | Ended::Rebased) {
                    stop.cancel();
                    // The lease ends with its session. Where it is the database that failed, this fails too.
                    let _ = tokio::time::timeout(RELEASE_MAX, &mut keep).await;
                    return self.ended(ended);
                }
            }
        }
        stop.cancel();
        match tokio::time::timeout(RELEASE_MAX, keep).await {
            Ok(Kept::Stopped) => session.release(taken.epoch).await?,
            Ok(Kept::Lost(reason)) => tracing::warn!(outbox = self.name, reason, "the last position was not stored"),
            Err(_) => tracing::warn!(outbox = self.name, "the last position was not stored in time"),
        }
        Ok(())
    }

    fn lost(&self, kept: &Kept) {
        if let Kept::Lost(reason) = kept {
            self.metrics.fenced();
            tracing::warn!(outbox = self.name, reason, "the lease is lost, publishing has stopped");
        }
        self.status.set(State::Standby);
    }

    fn ended(&self, ended: Ended) -> Result<(), idempo_pg::Error> {
        match ended {
            Ended::Database(error) => Err(error),
            Ended::Fenced => {
                self.lost(&Kept::Lost("it could not be renewed in time"));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Waits until people want the holder of this epoch to step down, and has it leave then.
    async fn step_down_is_wanted(&self, epoch: i64, leave: &CancellationToken) {
        let mut control = self.control.subscribe();
        let is_meant = |control: &Option<Control>| control.as_ref().is_some_and(|control| control.step_down_epoch == Some(epoch));
        if control.wait_for(is_meant).await.is_ok() {
            tracing::warn!(outbox = self.name, epoch, "people want this relay to step down");
            leave.cancel();
        }
        std::future::pending().await
    }

    /// Looks whether the cursor belongs to this database, and relays where it does.
    async fn relay_rebased(&self, acked: &watch::Sender<Acked>, held: Held<'_>, is_ahead: bool, cancel: &CancellationToken) -> Ended {
        match rebase(&self.database, &self.name, &self.shared.owner, held.epoch, is_ahead, &self.metrics).await {
            Ok(true) => return Ended::Rebased,
            Ok(false) => {}
            Err(error) => return Ended::Database(error),
        }
        let mut control = self.control.subscribe();
        // What people want must be known before the first row is sent.
        tokio::select! {
            known = control.wait_for(Option::is_some) => if known.is_err() { return Ended::Drained },
            () = cancel.cancelled() => return Ended::Drained,
        }
        let mut quarantine = Quarantine::new(Means {
            pool: self.pool.clone(),
            outbox: self.name.clone(),
            epoch: held.epoch,
            rows_max: u64::from(self.shared.quarantine_rows_max),
            kafka: self.shared.kafka.clone(),
            producer: self.shared.producer.clone(),
            control,
        });
        self.relay(acked, held, &mut quarantine, cancel).await
    }

    fn is_paused(&self) -> bool {
        self.control.borrow().as_ref().is_some_and(|control| control.paused.is_some())
    }

    /// Waits until the outbox is paused, or is not.
    async fn until_paused(&self, paused: bool) {
        let mut control = self.control.subscribe();
        let is_so = |control: &Option<Control>| control.as_ref().is_some_and(|control| control.paused.is_some() == paused);
        if control.wait_for(is_so).await.is_err() {
            std::future::pending().await
        }
    }

    /// What follows from the end of a producer's life: the wait before the next one, or the end of the lease.
    fn after(&self, ended: Ended, delays: &mut impl Iterator<Item = Duration>) -> Result<Duration, Ended> {
        match ended {
            Ended::Blocked(reason) => {
                self.status.set(State::Blocked { reason });
                Ok(BLOCKED_RETRY)
            }
            Ended::Failed(reason) => {
                self.metrics.producer_failed();
                tracing::warn!(outbox = self.name, reason, "the producer has failed, another one resumes from the acknowledged rows");
                self.status.went_wrong(reason);
                Ok(delays.next().unwrap_or(RETRY_DELAY.1))
            }
            Ended::NeedsTransactions => {
                tracing::info!(
                    outbox = self.name,
                    "the outbox has rows of an exactly-once topic: from here on its rows go in transactions"
                );
                self.transactional.store(true, Ordering::Relaxed);
                Ok(Duration::ZERO)
            }
            Ended::Refused => {
                self.metrics.producer_failed();
                Ok(RETRY_DELAY.0)
            }
            Ended::Cleared | Ended::Paused => Ok(Duration::ZERO),
            Ended::Drained | Ended::Database(_) | Ended::Fenced | Ended::Rebased => Err(ended),
        }
    }

    /// One producer after the other, until something ends the lease.
    async fn relay(&self, acked: &watch::Sender<Acked>, held: Held<'_>, quarantine: &mut Quarantine, cancel: &CancellationToken) -> Ended {
        let mut delays = retry_delays();
        loop {
            if self.is_paused() {
                self.status.set(State::Paused);
                tokio::select! {
                    () = self.until_paused(false) => self.status.set(State::Starting),
                    () = cancel.cancelled() => return Ended::Drained,
                }
            }
            let rows_before = acked.borrow().rows;
            let ended = self.relay_with_one_producer(acked, held, quarantine, cancel).await;
            if acked.borrow().rows > rows_before {
                delays = retry_delays();
            }
            let delay = match self.after(ended, &mut delays) {
                Ok(delay) => delay,
                Err(ended) => return ended,
            };
            if cancel.run_until_cancelled(tokio::time::sleep(delay)).await.is_none() {
                return Ended::Drained;
            }
        }
    }
}

fn retry_delays() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default().with_min_delay(RETRY_DELAY.0).with_max_delay(RETRY_DELAY.1).with_jitter().without_max_times().build()
}
