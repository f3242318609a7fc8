//! The port to where a read model lives, its position beside it.

use std::error::Error as StdError;
use std::future::Future;
use std::sync::Arc;

use idempo_dead_letter::DeadLetterId;
use idempo_errors::Class;
use idempo_ids::{EventId, StreamId};
use jiff::Timestamp;

use crate::parking::Parked;
use crate::parking::letters::{Drain, Drainage, ParkedCounts, Parking, Wished, Wishes};

/// Why the store did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store is away, or a commit's outcome is unknown. The same call can be made again: the checkpoint decides whether it is needed.
    #[error("the read model is unavailable")]
    Unavailable(#[source] Box<dyn StdError + Send + Sync>),
    /// The store refuses the data. Asking again does not help.
    #[error("the read model refuses the data")]
    Refused(#[source] Box<dyn StdError + Send + Sync>),
    /// The generation was begun by other logic than this program's, or there is no such generation.
    #[error("generation {generation} of {projection} was not made by this program's logic ({logic}): build a new generation")]
    OtherLogic {
        /// The projection.
        projection: &'static str,
        /// The generation.
        generation: i32,
        /// What this program's logic is called.
        logic: &'static str,
    },
}

impl StoreError {
    /// Whether the same call can succeed without anyone mending anything.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl idempo_errors::Classified for StoreError {
    fn class(&self) -> Class {
        match self {
            Self::Unavailable(_) => Class::Unavailable,
            Self::Refused(_) | Self::OtherLogic { .. } => Class::Internal,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "READ_MODEL_UNAVAILABLE",
            Self::Refused(_) => "READ_MODEL_REFUSED",
            Self::OtherLogic { .. } => "GENERATION_OF_OTHER_LOGIC",
        }
    }
}

/// A partition taken: from where to read, and under which epoch to commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The fence: greater than that of any lease on the partition before.
    pub epoch: i64,
    /// The offset of the first record that is not in the read model.
    pub next_offset: i64,
    /// The event in the record before that, where it is known: what shows that the log is still the same one.
    pub last_event: Option<EventId>,
}

/// How far a stream is in a read model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamEnd {
    /// The stream.
    pub stream: StreamId,
    /// Its last version that is in the read model.
    pub version: u64,
    /// The event with that version, where it is known: another one with the same version is another history.
    pub event_id: Option<EventId>,
}

/// Where a partition stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The partition.
    pub partition: i32,
    /// The epoch of the last lease.
    pub epoch: i64,
    /// The offset of the first record that is not in the read model.
    pub next_offset: i64,
    /// When the newest event below it was decided; `None` while there was none.
    pub newest_at: Option<Timestamp>,
    /// The code of what stopped the partition before `next_offset`; `None` while nothing has.
    pub stopped: Option<String>,
}

/// What one transaction adds to a read model.
#[derive(Debug)]
pub struct Batch<W> {
    /// The partition it was read from.
    pub partition: i32,
    /// The epoch it was read under.
    pub epoch: i64,
    /// The offset before it: where the checkpoint must stand.
    pub from: i64,
    /// The offset after it: where the checkpoint will stand.
    pub to: i64,
    /// When the newest event up to `to` was decided.
    pub newest_at: Option<Timestamp>,
    /// The event in the record before `to`.
    pub last_event: Option<EventId>,
    /// The streams whose events are in it, each once, with a version above the one in the store.
    pub versions: Vec<StreamEnd>,
    /// The rows.
    pub writes: W,
    /// What it parks. A batch that parks something is durable when it is committed.
    pub parking: Parking,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Commit {
    /// It is in the read model, exactly once.
    Committed,
    /// It is not: the partition was taken by somebody else since, or the store has lost the end of what it had. Whoever wants to go on takes
    /// the partition anew and reads from where the store stands.
    Fenced,
}

/// Where a read model lives. The rows, the versions of the streams and the checkpoint change in one transaction.
pub trait Store: Send + Sync + 'static {
    /// What a batch adds.
    type Writes: Default + Send + Sync + 'static;

    /// Takes a partition: every earlier lease on it is void. Durable when it returns.
    ///
    /// # Errors
    /// Where the store is away.
    fn acquire(&self, partition: i32) -> impl Future<Output = Result<Lease, StoreError>> + Send;

    /// How far each of these streams is in the read model; a stream of which nothing is has no entry.
    ///
    /// # Errors
    /// Where the store is away.
    fn versions(&self, streams: &[StreamId]) -> impl Future<Output = Result<Vec<StreamEnd>, StoreError>> + Send;

    /// Commits a batch if the checkpoint is where it begins, under its epoch. Idempotent: a batch that is in is [`Commit::Committed`] again.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] where it is not known to be in, [`StoreError::Refused`] where it can't be.
    fn commit(&self, batch: &Arc<Batch<Self::Writes>>) -> impl Future<Output = Result<Commit, StoreError>> + Send;

    /// Commits batches of different partitions in one transaction, all or nothing. `false` where they can't be together, for whatever reason:
    /// a checkpoint is not where its batch begins, or under another epoch. Then nothing of any of them is in by this call.
    ///
    /// # Errors
    /// As [`Self::commit`]. Where it is not known whether they are in, each can be committed by itself.
    fn commit_together(&self, batches: &[Arc<Batch<Self::Writes>>]) -> impl Future<Output = Result<bool, StoreError>> + Send;

    /// Keeps why a partition has stopped, for those who ask where it stands, until it is taken the next time. Says nothing under an earlier epoch.
    ///
    /// # Errors
    /// Where the store is away.
    fn note_stop(&self, partition: i32, epoch: i64, code: &str, reason: &str) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Where the partitions stand, in their order; one that was never taken has no entry.
    ///
    /// # Errors
    /// Where the store is away.
    fn checkpoints(&self) -> impl Future<Output = Result<Vec<Checkpoint>, StoreError>> + Send;

    /// What is parked of a partition. To be asked for after [`Self::acquire`]: what any earlier lease parked is in the answer then.
    ///
    /// # Errors
    /// Where the store is away.
    fn parked(&self, partition: i32) -> impl Future<Output = Result<Parked, StoreError>> + Send;

    /// Dead letters of a partition that people want drained, those first that were wished first; with as much of what is behind them as one drain takes.
    ///
    /// # Errors
    /// Where the store is away.
    fn wished(&self, partition: i32) -> impl Future<Output = Result<Vec<Wished>, StoreError>> + Send;

    /// Drains dead letters in one transaction, all or nothing, under the epoch of the lease; the checkpoint stays. Durable when it returns. Made again
    /// after its answer was lost, it is [`Drainage::Stale`], whether it is in or not.
    ///
    /// # Errors
    /// As [`Self::commit`].
    fn drain(&self, drain: &Drain<Self::Writes>) -> impl Future<Output = Result<Drainage, StoreError>> + Send;

    /// Which partitions have wishes.
    ///
    /// # Errors
    /// Where the store is away.
    fn wishes(&self) -> impl Future<Output = Result<Wishes, StoreError>> + Send;

    /// How much is parked, on all partitions.
    ///
    /// # Errors
    /// Where the store is away.
    fn parked_counts(&self) -> impl Future<Output = Result<ParkedCounts, StoreError>> + Send;

    /// A dead letter of a key that one of these streams has its events under; `None` where there is none.
    ///
    /// # Errors
    /// Where the store is away.
    fn parked_stream(&self, streams: &[StreamId]) -> impl Future<Output = Result<Option<DeadLetterId>, StoreError>> + Send;
}
