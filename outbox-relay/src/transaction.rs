//! Rows in Kafka transactions, so that who reads what is committed sees each exactly once.
//!
//! # Why exactly once
//! * The transactional id is the outbox's. Before a producer sends anything it has fenced every earlier one: the broker refuses what a zombie
//!   still sends or commits, and what it had left open is committed or aborted by then, and will not change.
//! * Then the logs are read from the tails to their ends, all of them, waiting for other outboxes' transactions where they stand before the end. So
//!   it is known of each row beyond the position whether it is committed ([`crate::tails`] says why it can stand nowhere else, and here there
//!   are no late requests of zombies). Rows that are there are skipped, the others are sent.
//! * The position moves when a commit has succeeded. A commit of which that is not known ends the producer, and the next one finds out in the
//!   same way.
//!
//! So nothing about Kafka has to be stored in Kafka: the cursor in the database may be behind, but never ahead, and the difference is read back. A
//! cursor record in each transaction would say the same, at the price of one more topic and one more place that can be lost.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use idempo_kafka::{Producer, TransactionError};
use tokio::time::Instant;

use crate::lease::Fence;
use crate::publisher::Ended;
use crate::tracker::Tracker;

/// The longest that a transaction is open before it is to be committed.
const OPEN_MAX: Duration = Duration::from_millis(100);
/// How long a transaction waits for the next page. Where none comes, its rows need not wait for the end of its time.
const PAGE_WAIT: Duration = Duration::from_millis(5);
/// The rows from which a transaction is committed, whatever its time.
const ROWS_MAX: usize = 20_000;
/// The longest wait for an answer before the fence is looked at again.
const STEP_WAIT: Duration = Duration::from_millis(500);
/// The longest wait for acknowledgements before the fence is looked at again.
const ACKNOWLEDGEMENT_WAIT: Duration = Duration::from_millis(20);

/// The transactions of one producer.
pub(crate) struct Transactions<'a> {
    producer: &'a Arc<Producer>,
    tracker: &'a Tracker,
    fence: &'a Fence,
    open: Mutex<Option<Open>>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    began: Instant,
    paged: Instant,
    rows: usize,
}

impl<'a> Transactions<'a> {
    pub(crate) fn new(producer: &'a Arc<Producer>, tracker: &'a Tracker, fence: &'a Fence) -> Self {
        Self { producer, tracker, fence, open: Mutex::new(None) }
    }

    /// Fences the predecessors and settles what they left. `None` where the brokers are away, and it is to be called again.
    pub(crate) async fn init(&self) -> Option<Result<(), Ended>> {
        match self.step(Producer::init_transactions_blocking).await {
            Err(Ok(error)) => {
                tracing::debug!(%error, "the brokers have not fenced the predecessors yet");
                None
            }
            Err(Err(ended)) => Some(Err(ended)),
            Ok(()) => Some(Ok(())),
        }
    }

    /// Whether the last that was heard is that every broker is away.
    pub(crate) fn brokers_are_away(&self) -> bool {
        self.producer.brokers_down()
    }

    /// A record is about to be sent: there must be a transaction.
    pub(crate) fn count(&self) -> Result<(), Ended> {
        let mut open = self.lock();
        match &mut *open {
            Some(open) => open.rows += 1,
            None => {
                self.producer.begin_transaction().map_err(|error| failed(&error))?;
                let now = Instant::now();
                *open = Some(Open { began: now, paged: now, rows: 1 });
            }
        }
        Ok(())
    }

    /// A page was handed over, or needs nothing to be sent. Tells whether the transaction has to be committed before the next one.
    pub(crate) fn paged(&self) -> bool {
        let mut open = self.lock();
        let Some(open) = &mut *open else {
            drop(open);
            self.tracker.committed();
            return false;
        };
        open.paged = Instant::now();
        open.rows >= ROWS_MAX || open.paged.duration_since(open.began) >= OPEN_MAX
    }

    /// Waits until the open transaction is to be committed; for ever, where there is none.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn due(&self) {
        let open = *self.lock();
        match open {
            Some(open) => tokio::time::sleep_until((open.began + OPEN_MAX).min(open.paged + PAGE_WAIT)).await,
            None => std::future::pending().await,
        }
    }

    /// Commits what is open, and moves the position over it. Gives up at `deadline`, if there is one: then it is not known what is committed.
    pub(crate) async fn commit(&self, deadline: Option<Instant>) -> Result<(), Ended> {
        if self.lock().is_none() {
            return Ok(());
        }
        let is_late = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
        while !self.tracker.is_acknowledged() {
            let _ = tokio::time::timeout(ACKNOWLEDGEMENT_WAIT, self.tracker.progress.notified()).await;
            if let Some(failure) = self.tracker.failure() {
                return Err(failure.into());
            }
            self.go_on(is_late())?;
        }
        loop {
            match self.step(Producer::commit_blocking).await {
                Ok(()) => break,
                Err(Ok(error)) => tracing::debug!(%error, "the commit has no answer yet"),
                Err(Err(ended)) => return Err(ended),
            }
            self.go_on(is_late())?;
        }
        *self.lock() = None;
        self.tracker.committed();
        Ok(())
    }

    /// Aborts what is open, so that readers need not wait until the broker does it.
    pub(crate) async fn abort(&self) {
        if self.lock().take().is_some()
            && let Err(Err(ended)) = self.step(Producer::abort_blocking).await
        {
            tracing::debug!(?ended, "the transaction was not aborted; the next producer does that");
        }
    }

    fn go_on(&self, is_late: bool) -> Result<(), Ended> {
        if !self.fence.holds() {
            return Err(Ended::Fenced);
        }
        if is_late { Err(Ended::Failed("a commit was not answered in time".to_owned())) } else { Ok(()) }
    }

    /// Takes a step where blocking is allowed. What may be tried again is the inner `Ok` of an error.
    async fn step(&self, step: fn(&Producer, Duration) -> Result<(), TransactionError>) -> Result<(), Result<TransactionError, Ended>> {
        let producer = Arc::clone(self.producer);
        match tokio::task::spawn_blocking(move || step(&producer, STEP_WAIT)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error @ TransactionError::Retry(_))) => Err(Ok(error)),
            Ok(Err(error)) => Err(Err(failed(&error))),
            Err(error) => Err(Err(Ended::Failed(error.to_string()))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed(error: &TransactionError) -> Ended {
    let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    Ended::Failed(format!("{error}: {source}"))
}
