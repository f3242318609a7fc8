//! The life of one producer of an outbox: what it must know before it begins, and what follows from its end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use idempo_kafka::{Producer, ProducerConfig};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::{Held, Outbox, RETRY_DELAY, retry_delays};
use crate::lease::Fence;
use crate::position::Position;
use crate::publisher::{Ended, PAGES_AHEAD, Publisher, read_pages};
use crate::quarantine::Quarantine;
use crate::readback::{self, Found, Guarantee, Logs};
use crate::reader::Reader;
use crate::status::State;
use crate::tracker::{Acked, Tracker};
use crate::transaction::Transactions;

/// How long after a failure refusals of the same request are waited for.
const REFUSALS_SETTLE: Duration = Duration::from_millis(100);
/// How long it may take to fence predecessors before the brokers are said to be away.
const FENCING_MAX: Duration = Duration::from_secs(5);

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
    /// Relays with a producer of its own, until that ends.
    pub(super) async fn relay_with_one_producer(
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

    pub(super) fn set_records_lost(&self, lost: bool) {
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
