//! One outbox at one process: connect, stand by, relay, and again from the start whenever the lease or the database is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use idempo_clock::SharedClock;
use idempo_kafka::{Producer, ProducerConfig};
use idempo_pg::Pool;
use idempo_runtime::Condition;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::admin::Operated;
use crate::control::{self, Control};
use crate::keeper::{Keeper, Kept};
use crate::lease::{Fence, LeaseSession, Taken};
use crate::maintenance::Maintenance;
use crate::metrics::Metrics;
use crate::position::Position;
use crate::publisher::{Ended, PAGES_AHEAD, Publisher, read_pages};
use crate::quarantine::{Means, Quarantine};
use crate::readback::{self, Found, Guarantee, Logs};
use crate::reader::Reader;
use crate::rebase::rebase;
use crate::routes::Routes;
use crate::status::{State, Status};
use crate::tracker::{Acked, Tracker};
use crate::transaction::Transactions;
use crate::{OutboxConfig, Rotation};

/// How often a stand-by tries to take the lease.
const STANDBY_INTERVAL: Duration = Duration::from_millis(200);
/// How soon a blocked outbox is tried again: someone may have made the topic, or given the right.
const BLOCKED_RETRY: Duration = Duration::from_secs(10);
/// The shortest and the longest wait after a failure.
const RETRY_DELAY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How long whoever stepped down leaves the lease to others.
const STEP_DOWN_PAUSE: Duration = Duration::from_secs(5);
/// How long after a failure refusals of the same request are waited for.
const REFUSALS_SETTLE: Duration = Duration::from_millis(100);
/// Connections for what people ask and want, and for the quarantine.
const POOL_CONNECTIONS: u32 = 4;
/// How long it may take to fence predecessors before the brokers are said to be away.
const FENCING_MAX: Duration = Duration::from_secs(5);
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

/// One producer.
#[derive(Clone, Copy)]
struct Life<'a> {
    producer: &'a Arc<Producer>,
    tracker: &'a Tracker,
    fence: &'a Fence,
    transactions: Option<&'a Transactions<'a>>,
}

/// Why it is not known what is in Kafka.
enum LookBack {
    Ended(Ended),
    Failed(readback::Failure),
}

impl From<readback::Failure> for LookBack {
    fn from(failure: readback::Failure) -> Self {
        Self::Failed(failure)
    }
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

    async fn relay_with_one_producer(
        &self,
        acked: &watch::Sender<Acked>,
        held: Held<'_>,
        quarantine: &mut Quarantine,
        cancel: &CancellationToken,
    ) -> Ended {
        if let Some(ended) = self.ensure_topics(cancel).await {
            return ended;
        }
        let transactional = self.transactional.load(Ordering::Relaxed);
        let tracker = Arc::new(Tracker::new(acked.clone(), self.metrics.clone(), self.shared.routes.slots(), transactional));
        let producer = match self.start_producer(&quarantine.next_producer(), &tracker, transactional) {
            Ok(producer) => Arc::new(producer),
            Err(error) => return Ended::Failed(error.to_string()),
        };
        let _ended = EndOnDrop { producer: &producer, tracker: &tracker };
        let transactions = transactional.then(|| Transactions::new(&producer, &tracker, held.fence));
        let looked = match &transactions {
            Some(transactions) => self.fence_predecessors(transactions, held.fence, cancel).await,
            None => Ok(()),
        };
        let found = match looked {
            Ok(()) => self.look_back(acked, held, transactional, cancel).await,
            Err(ended) => Err(ended),
        };
        let life = Life { producer: &producer, tracker: &tracker, fence: held.fence, transactions: transactions.as_ref() };
        let ended = match found {
            Ok(found) => {
                if let Err(error) = quarantine.load().await {
                    return Ended::Database(error);
                }
                quarantine.topics_are_gone(&found.missing);
                let position = acked.borrow().position.clone();
                self.publish(life, position, found, quarantine, cancel).await
            }
            Err(ended) => return ended,
        };
        if let (Some(transactions), Ended::Failed(_) | Ended::Blocked(_) | Ended::Refused | Ended::Database(_)) = (&transactions, &ended) {
            transactions.abort().await;
        }
        match ended {
            Ended::Refused | Ended::Failed(_) => self.judge(ended, &tracker, quarantine).await,
            Ended::Cleared => {
                quarantine.clear_suspects();
                Ended::Cleared
            }
            ended => ended,
        }
    }

    /// Finds out whether the broker has refused rows, and puts the guilty one into quarantine.
    async fn judge(&self, ended: Ended, tracker: &Tracker, quarantine: &mut Quarantine) -> Ended {
        // All rows of a refused request are told of at once, by another thread.
        tokio::time::sleep(REFUSALS_SETTLE).await;
        let refused = tracker.refused();
        tracker.close();
        if refused.is_empty() {
            return ended;
        }
        let Some((seq, refusal)) = quarantine.suspect(&refused) else {
            tracing::warn!(
                outbox = self.name,
                rows = refused.len(),
                "a request was refused: its rows are sent one by one, to find the guilty one"
            );
            return Ended::Refused;
        };
        match quarantine.convict(seq, refusal).await {
            Ok(()) => Ended::Refused,
            Err(ended) => ended,
        }
    }

    fn start_producer(
        &self,
        producer: &ProducerConfig,
        tracker: &Arc<Tracker>,
        transactional: bool,
    ) -> Result<Producer, idempo_kafka::Error> {
        let hears = Arc::clone(tracker);
        let on_delivery = move |number, delivery| hears.told(number, delivery);
        let kafka = &self.shared.kafka;
        if transactional {
            let id = format!("{}idempo.outbox.{}", self.shared.prefix, self.name);
            return Producer::start_transactional(kafka, producer, &id, on_delivery);
        }
        Producer::start(kafka, producer, on_delivery)
    }

    /// Sends what follows `position`, but for rows that were `found` in Kafka.
    async fn publish(
        &self,
        life: Life<'_>,
        position: Position,
        found: Found,
        quarantine: &mut Quarantine,
        cancel: &CancellationToken,
    ) -> Ended {
        let reader = match self.open_reader(position).await {
            Ok(reader) => reader,
            Err(error) => return Ended::Database(error),
        };
        let (sender, mut pages) = mpsc::channel(PAGES_AHEAD);
        let stop = cancel.child_token();
        let reading = read_pages(reader.0, sender, Arc::clone(&self.bell), stop.clone(), self.metrics.clone());
        let reading = AbortOnDropHandle::new(tokio::spawn(reading));
        self.status.relaying_unless_blocked();
        let publisher = Publisher {
            producer: life.producer,
            tracker: life.tracker,
            routes: &self.shared.routes,
            fence: life.fence,
            status: &self.status,
            metrics: &self.metrics,
            stop: &stop,
            transactions: life.transactions,
        };
        let ended = tokio::select! {
            ended = publisher.publish(&mut pages, found, quarantine) => ended,
            () = publisher.watch() => Ended::Drained,
            // Reading stops, and what was read is sent.
            () = async { self.until_paused(true).await; stop.cancel(); std::future::pending().await } => Ended::Paused,
        };
        match ended {
            // Pages end when reading does, and it does so by itself only when the database has failed.
            Ended::Drained if stop.is_cancelled() && !cancel.is_cancelled() => Ended::Paused,
            Ended::Drained if !cancel.is_cancelled() => match reading.await {
                Ok(Err(error)) => Ended::Database(error),
                Ok(Ok(())) => Ended::Failed("reading has ended".to_owned()),
                Err(error) => Ended::Failed(error.to_string()),
            },
            ended => ended,
        }
    }

    /// Sees to it that no earlier producer of this outbox can commit anything from now on.
    async fn fence_predecessors(&self, transactions: &Transactions<'_>, fence: &Fence, cancel: &CancellationToken) -> Result<(), Ended> {
        let began = Instant::now();
        let mut delays = retry_delays();
        loop {
            if !fence.holds() {
                // Without the lease it would be the successor that is fenced.
                return Err(Ended::Fenced);
            }
            if let Some(done) = transactions.init().await {
                return done;
            }
            // It takes its time until what a predecessor left open is settled.
            if began.elapsed() > FENCING_MAX || transactions.brokers_are_away() {
                self.status.set(State::BrokerAway);
            }
            self.wait(&mut delays, cancel).await?;
        }
    }

    /// Finds out which rows beyond the position are in Kafka, and from where on this producer's own records will be.
    async fn look_back(
        &self,
        acked: &watch::Sender<Acked>,
        held: Held<'_>,
        transactional: bool,
        cancel: &CancellationToken,
    ) -> Result<Found, Ended> {
        let guarantee = if transactional { Guarantee::ExactlyOnce } else { Guarantee::AtLeastOnce };
        let mut delays = retry_delays();
        loop {
            let error = match self.look_back_once(acked, held, guarantee).await {
                Ok(found) => {
                    self.set_records_lost(false);
                    return Ok(found);
                }
                Err(LookBack::Ended(ended)) => return Err(ended),
                Err(LookBack::Failed(readback::Failure::Lost(reason))) => {
                    self.set_records_lost(true);
                    return Err(Ended::Blocked(reason));
                }
                Err(LookBack::Failed(readback::Failure::Kafka(error))) => error,
            };
            tracing::debug!(outbox = self.name, %error, "the logs can't be read back yet");
            self.status.set(State::BrokerAway);
            self.wait(&mut delays, cancel).await?;
        }
    }

    async fn look_back_once(&self, acked: &watch::Sender<Acked>, held: Held<'_>, guarantee: Guarantee) -> Result<Found, LookBack> {
        let began = Instant::now();
        let routes = &self.shared.routes;
        let mut before = acked.borrow().clone();
        if self.records_lost.load(Ordering::Relaxed) {
            // People may have decided to go on without them.
            before.tails = in_time(held, held.session.read_tails(held.epoch, routes)).await?;
        }
        let logs = Logs::look(&self.shared.kafka, routes, &before.tails).await?;
        if before.tails.begin_missing(logs.bounds()) {
            // Stored before anything is sent: else a successor would not know from where on to look.
            let written = async { Ok(held.session.write_cursor(held.epoch, &before, routes).await?.then_some(())) };
            in_time(held, written).await?;
        }
        let mut tails = before.tails;
        tails.cut(logs.bounds());
        let (found, end) = logs.read(&tails, guarantee).await?;
        if !end.complete && guarantee == Guarantee::ExactlyOnce {
            return Err(LookBack::Ended(Ended::Failed("what predecessors have sent could not be read in time".to_owned())));
        }
        if end.complete {
            tracing::info!(outbox = self.name, records = end.records, different = found.len(), "what predecessors have sent was read back");
        } else {
            tracing::warn!(outbox = self.name, records = end.records, "reading back has met its limit: rows may be sent again");
        }
        self.metrics.read_back(began.elapsed());
        acked.send_modify(|acked| acked.tails = tails);
        Ok(found)
    }

    fn set_records_lost(&self, lost: bool) {
        self.records_lost.store(lost, Ordering::Relaxed);
        self.metrics.records_lost(lost);
    }

    /// Waits before something is tried again.
    async fn wait(&self, delays: &mut impl Iterator<Item = Duration>, cancel: &CancellationToken) -> Result<(), Ended> {
        let delay = delays.next().unwrap_or(RETRY_DELAY.1);
        cancel.run_until_cancelled(tokio::time::sleep(delay)).await.ok_or(Ended::Drained)
    }

    async fn open_reader(&self, position: Position) -> Result<(Reader, AbortOnDropHandle<()>), idempo_pg::Error> {
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

/// What the database answers while the lease holds, and holds for this process.
async fn in_time<T>(held: Held<'_>, answer: impl Future<Output = Result<Option<T>, idempo_pg::Error>>) -> Result<T, LookBack> {
    match tokio::time::timeout_at(held.fence.until().into(), answer).await {
        Ok(Ok(Some(answer))) => Ok(answer),
        Ok(Ok(None)) | Err(_) => Err(LookBack::Ended(Ended::Fenced)),
        Ok(Err(error)) => Err(LookBack::Ended(Ended::Database(error))),
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
