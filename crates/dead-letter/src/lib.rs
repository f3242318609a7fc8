//! The record of a dead letter: what a consumer writes to `<topic>.dlq`, and what whoever operates dead letters reads there.
//!
//! In the flow: a projection that can't apply a record writes [`DeadLetter::headers`] beside the record's own key, value and headers; the
//! dead-letter service reads them back by [`DeadLetter::from_record`]. The names of the headers are Kafka Connect's under our prefix, all values are
//! UTF-8, and there is one of Spring's besides, by which common tools find the topic that a record came from.
//!
//! Invariants kept here:
//! * A dead letter has one identity wherever it is: consumer group, topic, partition and offset of the failed record ([`DeadLetterId`]). One that is
//!   produced twice, or fails again, is the same one.
//! * The record is as it was: key, value and headers are its bytes, and a tombstone stays one.
//! * What is read from the headers is what was written to them, but for texts longer than [`TEXT_BYTES_MAX`], which are cut.
//!
//! What it does not do: talk to a broker, or decide what is a dead letter.

mod headers;
mod id;

use bytes::Bytes;
use jiff::Timestamp;

pub use headers::{HEADER_PREFIX, NotADeadLetter, ORIGINAL_TOPIC, is_own};
pub use id::{DeadLetterId, InvalidName};

/// The longest text of an error in a header, in bytes. Longer ones are cut: a record must not come to be too large by what is said of it.
pub const TEXT_BYTES_MAX: usize = 8_192;

/// A header of a record: its name, and its value where it has one.
pub type Header = (String, Option<Bytes>);

/// The dead-letter topic of a topic.
#[must_use]
pub fn dlq_topic(topic: &str) -> String {
    format!("{topic}.dlq")
}

/// Where a record failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Its bytes, its key or its place are not those of an event.
    Decode,
    /// The event can't be applied to what is there.
    Apply,
    /// The store refuses what follows from it.
    Persist,
}

impl Stage {
    /// The name at rest.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Apply => "apply",
            Self::Persist => "persist",
        }
    }

    /// The stage of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        [Self::Decode, Self::Apply, Self::Persist].into_iter().find(|stage| stage.name() == name)
    }
}

/// Why a record was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Disposition {
    /// It can't be read as an event.
    PoisonDecode,
    /// It is an event that contradicts those before it, or the rules.
    PoisonDomain,
    /// It was refused by the store as often as it was tried.
    RetriesExhausted,
    /// A person has said that it is never to be applied.
    OperatorRejected,
}

impl Disposition {
    /// The name at rest.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PoisonDecode => "poison_decode",
            Self::PoisonDomain => "poison_domain",
            Self::RetriesExhausted => "retries_exhausted",
            Self::OperatorRejected => "operator_rejected",
        }
    }

    /// The disposition of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        let all = [Self::PoisonDecode, Self::PoisonDomain, Self::RetriesExhausted, Self::OperatorRejected];
        all.into_iter().find(|disposition| disposition.name() == name)
    }
}

/// The failed record, as it was in its topic.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Original {
    /// Its key; `None` for a record without one.
    pub key: Option<Bytes>,
    /// Its value; `None` for a tombstone.
    pub value: Option<Bytes>,
    /// Its own headers, in their order.
    pub headers: Vec<Header>,
}

/// A dead letter: a record, and why a consumer could not take it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Which record, of which consumer.
    pub id: DeadLetterId,
    /// The record.
    pub original: Original,
    /// When the record was written to its topic; `None` where the broker does not say. Kept to the millisecond.
    pub timestamp: Option<Timestamp>,
    /// Where it failed last.
    pub stage: Stage,
    /// Why it failed last, as a stable name.
    pub code: String,
    /// The same for people.
    pub message: String,
    /// What caused it, the outermost first, one cause a line; empty where nothing more is known.
    pub trace: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it failed first, to the millisecond.
    pub first_failed_at: Timestamp,
    /// When it failed last, to the millisecond.
    pub last_failed_at: Timestamp,
    /// Why it was given up.
    pub disposition: Disposition,
    /// How often it was replayed in vain.
    pub replay_count: u32,
    /// The version of the program that gave it up.
    pub app_version: String,
}
