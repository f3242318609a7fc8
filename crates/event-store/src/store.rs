//! The port to where events are kept: PostgreSQL, or its twin in memory.

use std::future::Future;

use bytes::Bytes;
use idempo_ids::{EventId, StreamId};
use smallvec::SmallVec;

use crate::domain::StreamTarget;
use crate::submission::IdempotencyKey;

/// The most events that come back with the conflicts of one batch.
pub const SINCE_EVENTS_MAX: usize = 256;

/// The most events that one call of [`Store::load`] returns.
pub const LOAD_EVENTS_MAX: usize = 4_096;

/// Keeps events, outbox rows and answers. One conformance suite runs on every implementation.
pub trait Store: Send + Sync + 'static {
    /// The inline rows of a batch.
    type Rows: Default + Send + 'static;

    /// Appends a batch in one transaction: each command wholly or not at all, a result for each in the batch's order.
    ///
    /// Within a batch, the touches of one stream form a chain: each command expects the version that the one before it leaves. Where one
    /// fails, those that were decided on top of it come back as [`CommandResult::Conflict`].
    ///
    /// # Errors
    /// Where the whole batch has no effect ([`StoreError::Away`], [`StoreError::Contention`], [`StoreError::Refused`]), or where it can't
    /// be known whether it had ([`StoreError::Unknown`]).
    ///
    /// # Cancel safety
    /// Not cancel safe: a dropped call has an unknown outcome. The executor never drops one.
    fn append(&self, batch: Batch<Self::Rows>) -> impl Future<Output = Result<Vec<CommandResult>, StoreError>> + Send;

    /// Reads the events of some streams beyond given versions, ordered by stream and version, at most [`LOAD_EVENTS_MAX`]. A full answer
    /// may have more behind it.
    ///
    /// # Errors
    /// Where the store can't be read.
    ///
    /// # Cancel safety
    /// Cancel safe: it changes nothing.
    fn load(&self, after: Vec<(StreamId, u64)>) -> impl Future<Output = Result<Vec<StoredEvent>, StoreError>> + Send;

    /// What is stored under a key.
    ///
    /// # Errors
    /// Where the store can't be read.
    ///
    /// # Cancel safety
    /// Cancel safe: it changes nothing.
    fn lookup(&self, key: &IdempotencyKey) -> impl Future<Output = Result<Option<Settled>, StoreError>> + Send;

    /// Says that events were committed, so that the relay need not wait for its next look. Never fails, never blocks; may be lost.
    fn ring(&self);
}

/// Commands to append together.
#[derive(Debug)]
pub struct Batch<R> {
    /// The commands, in the order in which they were decided. No key stands twice in a batch.
    pub commands: Vec<CommandAppend>,
    /// The inline rows of all of them.
    pub rows: R,
}

/// One decided command.
#[derive(Debug, Clone)]
pub struct CommandAppend {
    /// Its idempotency key.
    pub key: IdempotencyKey,
    /// What its key will be bound to.
    pub settled: Settled,
    /// The streams it was decided on.
    pub touches: SmallVec<[Touch; 2]>,
    /// Its events. None for a refusal.
    pub events: SmallVec<[NewEvent; 2]>,
}

/// A definite answer, as it is stored under its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Applied or refused.
    pub verdict: Verdict,
    /// The digests of the request's fields.
    pub fingerprint: Bytes,
    /// The encoded response, or the encoded status of a refusal.
    pub reply: Bytes,
}

/// Whether a command had an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It had.
    Applied,
    /// It had none, and never will.
    Refused,
}

impl Verdict {
    /// The number at rest.
    #[must_use]
    pub const fn number(self) -> i16 {
        match self {
            Self::Applied => 0,
            Self::Refused => 1,
        }
    }

    /// The verdict with this number.
    #[must_use]
    pub const fn from_number(number: i16) -> Option<Self> {
        match number {
            0 => Some(Self::Applied),
            1 => Some(Self::Refused),
            _ => None,
        }
    }
}

/// One command on one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Touch {
    /// The stream.
    pub target: StreamTarget,
    /// Its category's number.
    pub category: i16,
    /// The version it was decided on.
    pub expected: u64,
    /// How many events the command adds to it.
    pub added: u32,
}

/// An event to store and to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// Its stream, and the Kafka key.
    pub target: StreamTarget,
    /// Its version in its stream.
    pub version: u64,
    /// Its id.
    pub event_id: EventId,
    /// Its type's number.
    pub event_type: i16,
    /// The topic's number.
    pub topic: i16,
    /// The Kafka headers, encoded by [`crate::headers::encode`]; `None` for none.
    pub headers: Option<Bytes>,
    /// The encoded `EventEnvelope`.
    pub envelope: Bytes,
}

/// An event read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvent {
    /// Its stream.
    pub stream_id: StreamId,
    /// Its version in its stream.
    pub version: u64,
    /// The encoded `EventEnvelope`.
    pub envelope: Bytes,
}

/// What became of one command of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandResult {
    /// Its events, outbox rows and answer are stored.
    Appended,
    /// Its key was bound before; nothing of it is stored.
    Taken(Settled),
    /// A stream it was decided on has moved on; nothing of it is stored, and its key is not bound by it.
    Conflict {
        /// Events that were appended since, as far as they were at hand: for each stream from the expected version on, without gaps. Where a
        /// batch has [`SINCE_EVENTS_MAX`] of them or more, there may be others.
        since: Vec<StoredEvent>,
    },
}

/// Why a whole batch, or a read, came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store is away. Nothing was changed.
    #[error("the event store's database is away")]
    Away(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The answer was lost: it can't be known whether the batch was committed. Sending it again is safe, its keys decide.
    #[error("the answer of the event store's database was lost")]
    Unknown(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A deadlock, a serialisation failure or a lock that could not be had in time. Nothing was changed.
    #[error("the event store's database gave up waiting for a lock")]
    Contention(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The store refuses what it was given, and will refuse it again. Nothing was changed.
    #[error("the event store's database refused the batch")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
}
