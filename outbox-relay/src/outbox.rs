//! One outbox at one process: connect, stand by, relay, and again from the start whenever the lease or the database is lost.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use idempo_kafka::{Producer, ProducerConfig};
use idempo_runtime::Condition;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::keeper::{Keeper, Kept};
use crate::lease::{Fence, LeaseSession, Taken};
use crate::maintenance::Maintenance;
use crate::metrics::Metrics;
use crate::publisher::{Ended, PAGES_AHEAD, Publisher, read_pages};
use crate::reader::Reader;
use crate::routes::Routes;
use crate::status::{State, Status};
use crate::tracker::{Acked, Tracker};
use crate::{OutboxConfig, Rotation};

/// How often a stand-by tries to take the lease.
const STANDBY_INTERVAL: Duration = Duration::from_millis(200);
/// How soon a blocked outbox is tried again: someone may have made the topic, or given the right.
const BLOCKED_RETRY: Duration = Duration::from_secs(10);
/// The shortest and the longest wait after a failure.
const RETRY_DELAY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
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
    /// Who this process is, in leases.
    pub(crate) owner: String,
}

/// One outbox at one process.
pub(crate) struct Outbox {
    shared: Arc<Shared>,
    name: String,
    database: idempo_pg::Config,
    status: Status,
    metrics: Metrics,
    bell: Arc<Notify>,
}

impl Outbox {
    pub(crate) fn new(shared: Arc<Shared>, config: OutboxConfig, condition: Condition) -> Self {
        let metrics = Metrics::new(&config.name);
        let status = Status::new(&config.name, condition, metrics.clone());
        Self { shared, name: config.name, database: config.database, status, metrics, bell: Arc::new(Notify::new()) }
    }

    /// Relays until `cancel`, as holder or as stand-by.
    pub(crate) async fn run(self, cancel: CancellationToken) {
        let maintenance =
            Maintenance { database: &self.database, rotation: &self.shared.rotation, status: &self.status, metrics: &self.metrics };
        tokio::select! {
            () = self.hold_again_and_again(&cancel) => {}
            () = maintenance.run() => {}
            () = self.prepare() => {}
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
                    let delay = delays.next().unwrap_or(RETRY_DELAY.1);
                    cancel.run_until_cancelled(tokio::time::sleep(delay)).await;
                }
            }
        }
    }

    /// Waits for the lease and relays while it is held.
    async fn hold(&self, cancel: &CancellationToken) -> Result<(), idempo_pg::Error> {
        let session = LeaseSession::connect(&self.database, &self.shared.owner, Arc::clone(&self.bell)).await?;
        loop {
            if let Some(taken) = session.take().await? {
                self.status.set(State::Starting);
                self.metrics.took_over();
                tracing::info!(outbox = self.name, epoch = taken.epoch, "the lease was taken");
                return self.lead(&session, taken, cancel).await;
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
        let restored = taken.position.done.snapshot.xmax > taken.now.xmax;
        let (acked, heard) = watch::channel(Acked { position: taken.position, rows: 0 });
        let keeper = Keeper { session, epoch: taken.epoch, fence: &taken.fence, acked: heard, metrics: &self.metrics };
        let stop = CancellationToken::new();
        let keep = keeper.keep(&stop);
        tokio::pin!(keep);
        tokio::select! {
            kept = &mut keep => {
                // Nothing of what ran beside is left: the producer's queue is thrown away with it.
                self.lost(&kept);
                return Ok(());
            }
            ended = async { if restored { self.stay_blocked(cancel).await } else { self.relay(&acked, &taken.fence, cancel).await } } => {
                if !matches!(ended, Ended::Drained) {
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
            Ended::Drained | Ended::Blocked(_) | Ended::Failed(_) => Ok(()),
        }
    }

    /// The database is younger than the cursor in it: restored, or failed over to a copy that lacked the end. To go on would be to go blind.
    async fn stay_blocked(&self, cancel: &CancellationToken) -> Ended {
        let reason = "the cursor is ahead of the database, which must have been restored: the outbox has to be re-based".to_owned();
        self.status.set(State::Blocked { reason });
        cancel.cancelled().await;
        Ended::Drained
    }

    /// One producer after the other, until something ends the lease.
    async fn relay(&self, acked: &watch::Sender<Acked>, fence: &Fence, cancel: &CancellationToken) -> Ended {
        let mut delays = retry_delays();
        loop {
            let rows_before = acked.borrow().rows;
            let ended = self.relay_with_one_producer(acked, fence, cancel).await;
            if acked.borrow().rows > rows_before {
                delays = retry_delays();
            }
            let delay = match ended {
                Ended::Blocked(reason) => {
                    self.status.set(State::Blocked { reason });
                    BLOCKED_RETRY
                }
                Ended::Failed(reason) => {
                    self.metrics.producer_failed();
                    tracing::warn!(outbox = self.name, reason, "the producer has failed, another one resumes from the acknowledged rows");
                    delays.next().unwrap_or(RETRY_DELAY.1)
                }
                Ended::Drained | Ended::Database(_) | Ended::Fenced => return ended,
            };
            if cancel.run_until_cancelled(tokio::time::sleep(delay)).await.is_none() {
                return Ended::Drained;
            }
        }
    }

    async fn relay_with_one_producer(&self, acked: &watch::Sender<Acked>, fence: &Fence, cancel: &CancellationToken) -> Ended {
        if let Some(ended) = self.ensure_topics(cancel).await {
            return ended;
        }
        let tracker = Arc::new(Tracker::new(acked.clone(), self.metrics.clone()));
        let hears = Arc::clone(&tracker);
        let started = Producer::start(&self.shared.kafka, &self.shared.producer, move |number, delivery| hears.told(number, delivery));
        let producer = match started {
            Ok(producer) => Arc::new(producer),
            Err(error) => return Ended::Failed(error.to_string()),
        };
        let _ended = EndOnDrop { producer: &producer, tracker: &tracker };
        let position = acked.borrow().position.clone();
        let reader = match self.open_reader(position).await {
            Ok(reader) => reader,
            Err(error) => return Ended::Database(error),
        };
        let (sender, mut pages) = mpsc::channel(PAGES_AHEAD);
        let stop = cancel.child_token();
        let reading = read_pages(reader.0, sender, Arc::clone(&self.bell), stop.clone(), self.metrics.clone());
        let reading = AbortOnDropHandle::new(tokio::spawn(reading));
        self.status.relaying_unless_blocked();
        let publisher =
            Publisher { producer: &producer, tracker: &tracker, routes: &self.shared.routes, fence, status: &self.status, stop: &stop };
        let ended = tokio::select! {
            ended = publisher.publish(&mut pages) => ended,
            () = publisher.watch() => Ended::Drained,
        };
        match ended {
            // Pages end when reading does, and it does so by itself only when the database has failed.
            Ended::Drained if !cancel.is_cancelled() => match reading.await {
                Ok(Err(error)) => Ended::Database(error),
                Ok(Ok(())) => Ended::Failed("reading has ended".to_owned()),
                Err(error) => Ended::Failed(error.to_string()),
            },
            ended => ended,
        }
    }

    async fn open_reader(&self, position: crate::position::Position) -> Result<(Reader, AbortOnDropHandle<()>), idempo_pg::Error> {
        let (client, connection) = idempo_pg::connect(&self.database).await?;
        let driver = AbortOnDropHandle::new(tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the reader's connection has ended");
            }
        }));
        Ok((Reader::new(client, position, self.shared.page_rows_max).await?, driver))
    }

    /// Waits until the topics are there; gives an end where they can't be had.
    async fn ensure_topics(&self, cancel: &CancellationToken) -> Option<Ended> {
        let mut delays = retry_delays();
        loop {
            let ensured = tokio::select! {
                ensured = self.shared.routes.ensure(&self.shared.kafka) => ensured,
                () = cancel.cancelled() => return Some(Ended::Drained),
            };
            match ensured {
                Ok(()) => return None,
                Err(idempo_kafka::Error::Unavailable { .. }) => self.status.set(State::BrokerAway),
                Err(error) => return Some(Ended::Blocked(error.to_string())),
            }
            let delay = delays.next().unwrap_or(RETRY_DELAY.1);
            if cancel.run_until_cancelled(tokio::time::sleep(delay)).await.is_none() {
                return Some(Ended::Drained);
            }
        }
    }
}

/// Ends a producer's life, whoever still holds it: its queue is thrown away, and what is told of it counts no more.
struct EndOnDrop<'a> {
    producer: &'a Producer,
    tracker: &'a Tracker,
}

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.tracker.close();
        self.producer.purge();
    }
}

fn retry_delays() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default().with_min_delay(RETRY_DELAY.0).with_max_delay(RETRY_DELAY.1).with_jitter().without_max_times().build()
}
