//! What goes into the event store's executor, and what comes out.

use bytes::Bytes;
use idempo_errors::{Class, Classified};
use idempo_ids::{CommandId, CorrelationId, Uuid};
use smallvec::SmallVec;

use crate::domain::StreamTarget;

/// A command on its way to be decided and appended.
#[derive(Debug)]
pub struct Submission<C> {
    /// What is asked.
    pub command: C,
    /// The streams it names, 1 to [`idempo_decider::COMMAND_STREAMS_MAX`], without repetition; the one it is addressed to comes first. Those
    /// that it adds no event to are checked to be at the version it was decided on, but not held there until it commits.
    pub streams: SmallVec<[StreamTarget; 2]>,
    /// Its idempotency key.
    pub key: IdempotencyKey,
    /// The version the caller expects of the first stream (its etag); `None` for whatever it is. A mismatch is a refusal and binds the key:
    /// the caller reads again and sends another request.
    pub expected_version: Option<u64>,
    /// Checks and answers, but appends nothing and binds no key.
    pub validate_only: bool,
    /// Who made the key, and so how old it may be when it is first seen.
    pub key_origin: KeyOrigin,
    /// What the command belongs to and comes from.
    pub origin: Origin,
}

/// Who made an idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyOrigin {
    /// A client, who makes it when the command is made: at most [`CLIENT_KEY_AGE_MAX_MS`] old when it is first seen.
    Client,
    /// We derived it from what caused the command (a hold, an event), and it carries the time of that.
    Derived,
}

/// How old a client's key may be when it is first seen, in milliseconds: 24 hours.
pub const CLIENT_KEY_AGE_MAX_MS: u64 = 24 * 3_600 * 1_000;
/// How far ahead of our clock a key may be, in milliseconds: 5 minutes.
pub const KEY_AHEAD_MAX_MS: u64 = 5 * 60 * 1_000;
/// How long keys are remembered at least, in milliseconds: 35 days. A derived key that is older is not taken.
pub const KEY_MEMORY_MS: u64 = 35 * 24 * 3_600 * 1_000;

/// An idempotency key: one caller's one key for one method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// A digest of caller and method, 16 bytes.
    pub scope: [u8; 16],
    /// The key: a UUIDv7.
    pub key: Uuid,
    /// A digest for each field of the request; see [`idempo_rpc::fingerprint`].
    pub fingerprint: Bytes,
}

impl IdempotencyKey {
    /// The command's id.
    #[must_use]
    pub fn command_id(&self) -> CommandId {
        CommandId::of(self.key, &self.scope)
    }
}

/// Where a command comes from, for its events' envelopes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// What the whole chain belongs to; `None` begins one with the command's key.
    pub correlation_id: Option<CorrelationId>,
    /// The event or command that directly caused it; `None` for a client.
    pub causation_id: Option<Uuid>,
    /// The W3C `traceparent` of the caller's span; empty when untraced.
    pub traceparent: String,
}

/// A definite answer. The same key gets an equal one each time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Applied: the encoded response.
    Replied {
        /// The encoded response.
        reply: Bytes,
        /// Whether an earlier attempt had been answered already.
        replayed: bool,
    },
    /// Refused: the encoded `google.rpc.Status`.
    Refused {
        /// The encoded status.
        status: Bytes,
        /// Whether an earlier attempt had been answered already.
        replayed: bool,
    },
    /// The key was used with another payload. Nothing changed.
    KeyReused {
        /// The numbers of the request's fields that differ, ascending; at least one.
        fields: Vec<u32>,
    },
    /// Nothing is stored under the key, and it is older than keys are remembered, or too far ahead of our clock. Nothing changed. One that is
    /// only too old to be taken is bound to its refusal, and comes as [`Outcome::Refused`].
    KeyOutOfWindow,
}

/// Why there is no definite answer. The key is not known to be bound; sending the same request again settles it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The database is away, or its answer was lost.
    #[error("the event store is away")]
    Unavailable,
    /// Too many commands are waiting.
    #[error("too many commands are waiting")]
    Overloaded,
    /// The streams kept moving on under the command.
    #[error("the streams kept changing")]
    Contended,
    /// A stored event can't be read, or an invariant of the store is broken.
    #[error("the event store holds something that can't be read")]
    Corrupt,
    /// The submission names no stream, too many, or one twice: a defect of the service that made it. Nothing changed.
    #[error("the submission names its streams wrongly")]
    Malformed,
}

impl Classified for Error {
    fn class(&self) -> Class {
        match self {
            Self::Unavailable | Self::Contended => Class::Unavailable,
            Self::Overloaded => Class::Exhausted,
            Self::Corrupt | Self::Malformed => Class::Internal,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Unavailable => "DEPENDENCY_UNAVAILABLE",
            Self::Overloaded => "OVERLOADED",
            Self::Contended => "STREAM_CONTENDED",
            Self::Corrupt => "EVENT_STORE_CORRUPT",
            Self::Malformed => "SUBMISSION_MALFORMED",
        }
    }
}
