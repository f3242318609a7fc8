//! The client history: every send and what came of it, as the checks read it.
//!
//! One entry per send, in the order in which a client made them. Several sends may carry one idempotency key: retries after an unknown
//! outcome, and repetitions on purpose.

mod lines;

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tonic::Code;
use uuid::Uuid;

use crate::method::Method;
use crate::position::Position;

/// A word that is mostly known when the program is built, and is read from a file sometimes.
pub type Word = Cow<'static, str>;

/// What a client knew a command would come to when it sent it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    /// It is applied.
    Applied,
    /// It is refused with this reason.
    Refused(Word),
    /// It is malformed in this field: INVALID_ARGUMENT.
    Invalid(Word),
    /// Its key is taken by a request that differs in this field: ALREADY_EXISTS.
    Mismatch(Word),
}

/// Why a request was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// The first send of its key.
    First,
    /// The same again, because the outcome was unknown.
    Retry,
    /// The same again, at the same moment.
    Twin,
    /// The same again, after an answer.
    Again,
    /// Another payload under the same key.
    Changed,
}

/// A definite refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The gRPC code.
    pub code: Code,
    /// ErrorInfo's reason; empty where there is none.
    pub reason: String,
    /// The fields that BadRequest names, or the one that differs from the first payload.
    pub fields: Vec<String>,
    /// The message, in English.
    pub message: String,
    /// The encoded `google.rpc.Status`.
    pub details: Bytes,
}

/// What came of a send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Applied.
    Replied {
        /// The encoded reply, as it came.
        reply: Bytes,
        /// Whether the service says that it had answered this before.
        replayed: bool,
    },
    /// Refused for good.
    Refused {
        /// Why.
        refusal: Refusal,
        /// Whether the service says that it had answered this before.
        replayed: bool,
    },
    /// Nobody knows: no answer, or one that says to try again.
    Unknown {
        /// The gRPC code; `DeadlineExceeded` where the client stopped waiting.
        code: Code,
        /// ErrorInfo's reason; empty where there is none.
        reason: String,
    },
}

impl Answer {
    /// Whether it settles the command.
    #[must_use]
    pub const fn is_definite(&self) -> bool {
        !matches!(self, Self::Unknown { .. })
    }

    /// Whether the service says that it had answered this before.
    #[must_use]
    pub const fn is_replayed(&self) -> bool {
        match self {
            Self::Replied { replayed, .. } | Self::Refused { replayed, .. } => *replayed,
            Self::Unknown { .. } => false,
        }
    }
}

/// One send of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// The client, from 0.
    pub client: u16,
    /// The method.
    pub method: Method,
    /// The idempotency key; `None` where the request has none that is an id.
    pub key: Option<Uuid>,
    /// The id of the command, as its events carry it; `None` where there is no key.
    pub command: Option<Uuid>,
    /// The encoded request.
    pub request: Bytes,
    /// Why it was sent.
    pub purpose: Purpose,
    /// What the client knew it would come to.
    pub expected: Expected,
    /// When it was sent, in microseconds since the load began.
    pub invoked_us: u64,
    /// When the answer was there, in microseconds since the load began.
    pub settled_us: u64,
    /// What came of it.
    pub answer: Answer,
    /// The streams and versions of the reply's position; empty where there is none.
    pub position: Position,
}

/// One read with a position, and what it should have seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// The client, from 0.
    pub client: u16,
    /// The method.
    pub method: Method,
    /// What was read: a resource name.
    pub subject: String,
    /// When it was sent, in microseconds since the load began.
    pub invoked_us: u64,
    /// When the answer was there, in microseconds since the load began.
    pub settled_us: u64,
    /// What had to be in the answer, by field.
    pub wanted: Vec<(Word, String)>,
    /// The streams and versions that it had to wait for; empty where it waited for none.
    pub awaited: Position,
    /// The reason of a refusal; empty where it was not refused for good.
    pub refused: String,
    /// What was in the answer, by field; `None` where there was no answer.
    pub seen: Option<Vec<(Word, String)>>,
    /// A number of the subject that only grows: a wallet's version, an item's hop.
    pub mark: u64,
    /// What the mark had to be at least.
    pub floor: u64,
    /// How far behind the answer said it was, in events; `None` where the method does not say.
    pub lag_events: Option<i64>,
    /// How often PROJECTION_BEHIND or another unknown outcome came before the answer.
    pub retries: u32,
}

/// Everything that the clients did, in no order between clients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// Every send of a command.
    pub attempts: Vec<Attempt>,
    /// Every read.
    pub reads: Vec<Read>,
}

impl History {
    /// Adds what another client did.
    pub fn absorb(&mut self, other: Self) {
        self.attempts.extend(other.attempts);
        self.reads.extend(other.reads);
    }
}
