//! Commits that the partitions of a process share.
//!
//! Where events come one by one, nearly each of them would be a transaction of its own: the same statements, the same round trips and the same wake-ups
//! as for a hundred. So small batches of different partitions that are ready at about the same moment are committed together. Whoever has the
//! turn leads: it waits until the last shared commit began some milliseconds ago, takes all batches that wait by then, its own included, commits them in
//! one transaction and answers the others. A batch that comes to a process at rest waits for nothing.
//!
//! Why each batch is in once, or not at all, as if it had been committed alone:
//! * Together they are one transaction in which every checkpoint must stand where its batch begins, under its epoch; if one does not, nothing of any is
//!   in ([`Store::commit_together`]), and each is committed by itself, which says which one is fenced, or refused.
//! * Where it is not known whether the transaction is in, each is committed by itself too: that a batch is in already is no error there
//!   ([`Store::commit`]).
//! * A leader that is dropped in the middle drops the others' questions, and they do the same. A batch whose partition's task is gone is not taken
//!   along. One that was taken when its task went is as one whose COMMIT was under way: the fence decides.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use idempo_dead_letter::DeadLetterId;
use idempo_ids::StreamId;
use tokio::sync::{Mutex as Turn, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::parking::Parked;
use crate::parking::letters::{Drain, Drainage, ParkedCounts, Wished, Wishes};
use crate::patience::chain;
use crate::store::{Batch, Checkpoint, Commit, Lease, Store, StoreError, StreamEnd};

/// The most records of a batch that shares a commit. A larger one has enough of its own to pay for a transaction.
const SHARED_RECORDS_MAX: i64 = 256;
/// The shortest time between the beginnings of two shared commits: under load it is what batches wait for each other at most.
const SHARED_INTERVAL: Duration = Duration::from_millis(4);

/// A store whose small commits are shared. There is one for a process and a generation.
#[derive(Debug)]
pub struct Group<S: Store> {
    store: Arc<S>,
    /// One for each partition of the process at most.
    waiting: Mutex<Vec<Waiting<S::Writes>>>,
    /// When the last shared commit began.
    turn: Turn<Option<Instant>>,
}

/// A batch that waits for a leader.
#[derive(Debug)]
struct Waiting<W> {
    batch: Arc<Batch<W>>,
    /// Told whether it is in; if not, or if nobody tells, it is to be committed by itself.
    told: oneshot::Sender<bool>,
}

impl<S: Store> Group<S> {
    /// Shares the small commits into `store`.
    #[must_use]
    pub fn new(store: Arc<S>) -> Self {
        Self { store, waiting: Mutex::default(), turn: Turn::new(None) }
    }

    /// Commits what waits, `own` among it. `None` where `own` is to be committed by itself.
    async fn lead(&self, last: &mut Option<Instant>, own: &Arc<Batch<S::Writes>>) -> Option<Result<Commit, StoreError>> {
        if let Some(last) = *last {
            sleep_until(last + SHARED_INTERVAL).await;
        }
        *last = Some(Instant::now());
        let mut group = std::mem::take(&mut *self.waiting());
        group.retain(|waiting| !waiting.told.is_closed() && !Arc::ptr_eq(&waiting.batch, own));
        if group.is_empty() {
            return Some(self.store.commit(own).await);
        }
        let mut batches: Vec<Arc<Batch<S::Writes>>> = group.iter().map(|waiting| Arc::clone(&waiting.batch)).collect();
        batches.push(Arc::clone(own));
        // Always in the same order, so that two processes which both believe to have these partitions don't wait for each other.
        batches.sort_unstable_by_key(|batch| batch.partition);
        let committed = match self.store.commit_together(&batches).await {
            Ok(committed) => committed,
            Err(error) => {
                tracing::debug!(
                    error = chain(&error),
                    batches = batches.len(),
                    "a shared commit has failed: each batch is committed by itself"
                );
                false
            }
        };
        for waiting in group {
            // Nobody hears it who has gone away meanwhile.
            let _ = waiting.told.send(committed);
        }
        committed.then_some(Ok(Commit::Committed))
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting<S::Writes>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Store> Store for Group<S> {
    type Writes = S::Writes;

    async fn commit(&self, batch: &Arc<Batch<S::Writes>>) -> Result<Commit, StoreError> {
        // One that parks something waits for the disk, which the others don't.
        if batch.to.saturating_sub(batch.from) > SHARED_RECORDS_MAX || !batch.parking.is_empty() {
            return self.store.commit(batch).await;
        }
        let (told, committed) = oneshot::channel();
        self.waiting().push(Waiting { batch: Arc::clone(batch), told });
        let led = tokio::select! {
            // An answer comes before the turn is free, so whoever gets the turn has had none.
            biased;
            committed = committed => committed.unwrap_or(false).then_some(Ok(Commit::Committed)),
            mut turn = self.turn.lock() => self.lead(&mut turn, batch).await,
        };
        match led {
            Some(result) => result,
            None => self.store.commit(batch).await,
        }
    }

    fn commit_together(&self, batches: &[Arc<Batch<S::Writes>>]) -> impl Future<Output = Result<bool, StoreError>> + Send {
        self.store.commit_together(batches)
    }

    fn acquire(&self, partition: i32) -> impl Future<Output = Result<Lease, StoreError>> + Send {
        self.store.acquire(partition)
    }

    fn versions(&self, streams: &[StreamId]) -> impl Future<Output = Result<Vec<StreamEnd>, StoreError>> + Send {
        self.store.versions(streams)
    }

    fn note_stop(&self, partition: i32, epoch: i64, code: &str, reason: &str) -> impl Future<Output = Result<(), StoreError>> + Send {
        self.store.note_stop(partition, epoch, code, reason)
    }

    fn checkpoints(&self) -> impl Future<Output = Result<Vec<Checkpoint>, StoreError>> + Send {
        self.store.checkpoints()
    }

    fn parked(&self, partition: i32) -> impl Future<Output = Result<Parked, StoreError>> + Send {
        self.store.parked(partition)
    }

    fn wished(&self, partition: i32) -> impl Future<Output = Result<Vec<Wished>, StoreError>> + Send {
        self.store.wished(partition)
    }

    fn drain(&self, drain: &Drain<S::Writes>) -> impl Future<Output = Result<Drainage, StoreError>> + Send {
        self.store.drain(drain)
    }

    fn wishes(&self) -> impl Future<Output = Result<Wishes, StoreError>> + Send {
        self.store.wishes()
    }

    fn parked_counts(&self) -> impl Future<Output = Result<ParkedCounts, StoreError>> + Send {
        self.store.parked_counts()
    }

    fn parked_stream(&self, streams: &[StreamId]) -> impl Future<Output = Result<Option<DeadLetterId>, StoreError>> + Send {
        self.store.parked_stream(streams)
    }
}
