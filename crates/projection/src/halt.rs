//! Why a partition stops: what only a person can mend.

use idempo_ids::{EventId, StreamId};

use crate::event::Undecodable;
use crate::projector::Malformed;

/// A partition that stopped, and the record it stands before. All before that record is in the read model; nothing from it on is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("stopped before offset {offset}: {cause}")]
pub struct Halt {
    /// The offset of the first record that is not in the read model.
    pub offset: i64,
    /// Why.
    pub cause: Cause,
}

/// Why a partition stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Cause {
    /// The record is no event.
    #[error("the record is no event: {0}")]
    Undecodable(#[from] Undecodable),
    /// The event is of a type that the projector does not know.
    #[error("event type {0} is unknown to this projector")]
    UnknownType(u16),
    /// The projector can't apply the event.
    #[error("the event can't be applied: {0}")]
    Malformed(#[from] Malformed),
    /// Events of a stream are missing: they are not in the topic, or not in their place.
    #[error("stream {stream} goes on at version {found} after version {last}")]
    Gap {
        /// The stream.
        stream: StreamId,
        /// Its last version in the read model.
        last: u64,
        /// The version of the record.
        found: u64,
    },
    /// Another event with that version is in the read model: the stream has two histories.
    #[error("stream {stream} has event {known} as version {version} in the read model, and event {found} here")]
    Conflict {
        /// The stream.
        stream: StreamId,
        /// Its last version in the read model.
        version: u64,
        /// The event with that version in the read model.
        known: EventId,
        /// The event of the record.
        found: EventId,
    },
    /// The event is of a stream that its type does not belong to.
    #[error("stream {stream} is not the {category} stream of the event's partition key")]
    Foreign {
        /// The stream.
        stream: StreamId,
        /// The category of the streams that have events of this type.
        category: &'static str,
    },
    /// The record's key is not its event's partition key.
    #[error("the record's key is not the partition key of its event")]
    Key,
    /// The record is not in the partition of its key: somebody writes with another number of partitions, or another hash.
    #[error("the record belongs to partition {expected} of {partitions}")]
    Misplaced {
        /// Where it belongs.
        expected: i32,
        /// The topic's partitions, as configured.
        partitions: i32,
    },
    /// The topic has more partitions than it must have, and this is one of those.
    #[error("the topic must have {partitions} partitions: where a key belongs depends on their number")]
    Unexpected {
        /// The topic's partitions, as configured.
        partitions: i32,
    },
    /// The record before the position is another one than the read model has: the topic was made anew, or a broker has lost its end.
    #[error("the record before this offset is not event {known}, which the read model has from there")]
    LogReplaced {
        /// The event that the read model has from there.
        known: EventId,
    },
    /// The read model refuses the rows.
    #[error("the read model refuses the rows: {0}")]
    Refused(String),
    /// The log does not have the records that the read model needs next: retention has passed over them, or the topic is another one.
    #[error("the log holds the offsets {low} to {high} and not the one to go on at")]
    OffsetGone {
        /// The first offset that is kept.
        low: i64,
        /// The offset of the next record to be written.
        high: i64,
    },
    /// The partition can't be read.
    #[error("the partition can't be read: {0}")]
    Unreadable(String),
    /// So many records were dead letters within a minute that something is wrong with all of them.
    #[error("{} records of the partition were dead letters within a minute, and this is one more", crate::policy::POISON_PER_MINUTE_MAX)]
    Flood,
    /// The log of effects refuses them.
    #[error("the log of effects refuses them: {0}")]
    LogRefused(String),
    /// So many effects failed within a minute that something is wrong with all of them, or so many keys wait that no more can.
    #[error("so many effects of the partition have failed for good that something is wrong with all of them")]
    EffectFlood,
    /// So much is parked that nothing more can be.
    #[error("so much of the partition is parked behind dead letters that no more can be")]
    ParkingFull,
}

impl Cause {
    /// A stable name, for metrics and alerts.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Undecodable(_) => "UNDECODABLE_RECORD",
            Self::UnknownType(_) => "UNKNOWN_EVENT_TYPE",
            Self::Malformed(_) => "MALFORMED_EVENT",
            Self::Gap { .. } => "VERSION_GAP",
            Self::Conflict { .. } => "VERSION_CONFLICT",
            Self::Foreign { .. } => "FOREIGN_STREAM",
            Self::Key => "KEY_MISMATCH",
            Self::Misplaced { .. } => "MISPLACED_RECORD",
            Self::Unexpected { .. } => "UNEXPECTED_PARTITION",
            Self::LogReplaced { .. } => "LOG_REPLACED",
            Self::Refused(_) => "READ_MODEL_REFUSED",
            Self::OffsetGone { .. } => "OFFSET_GONE",
            Self::Unreadable(_) => "PARTITION_UNREADABLE",
            Self::Flood => "DEAD_LETTER_FLOOD",
            Self::ParkingFull => "PARKING_FULL",
            Self::LogRefused(_) => "EFFECT_LOG_REFUSED",
            Self::EffectFlood => "EFFECT_FLOOD",
        }
    }
}
