//! The port to where effects and the positions of reactors are kept.

use std::collections::BTreeSet;
use std::error::Error as StdError;
use std::future::Future;

use bytes::Bytes;
use idempo_errors::Class;
use idempo_ids::{EventId, Uuid};
use jiff::Timestamp;

use super::EffectId;

/// The most bytes of an encoded effect.
pub const EFFECT_BYTES_MAX: usize = 16_384;
/// The most effects of an event.
pub const EFFECTS_OF_EVENT_MAX: usize = 100;

/// Why the log did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The log is away, or a commit's outcome is unknown. The same call can be made again.
    #[error("the effect log is unavailable")]
    Unavailable(#[source] Box<dyn StdError + Send + Sync>),
    /// The log refuses what it is given. Asking again does not help.
    #[error("the effect log refuses the effects")]
    Refused(#[source] Box<dyn StdError + Send + Sync>),
}

impl idempo_errors::Classified for LogError {
    fn class(&self) -> Class {
        match self {
            Self::Unavailable(_) => Class::Unavailable,
            Self::Refused(_) => Class::Internal,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "EFFECT_LOG_UNAVAILABLE",
            Self::Refused(_) => "EFFECT_LOG_REFUSED",
        }
    }
}

/// A partition as it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The fence: greater than that of anybody who had the partition before.
    pub epoch: i64,
    /// The offset of the first record whose effects are not in the log; `None` where the partition has not begun.
    pub next_offset: Option<i64>,
    /// The event in the record before that, where it is known: what shows that the topic is still the same one.
    pub last_event: Option<EventId>,
    /// How often people have settled effects of the partition.
    pub settlements: i64,
}

/// How it stands with a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// The epoch of whoever took it last.
    pub epoch: i64,
    /// The offset of the first record whose effects are not in the log; `None` where it has not begun.
    pub next_offset: Option<i64>,
    /// How often people have settled effects of the partition.
    pub settlements: i64,
}

/// Where an effect is among those of its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The offset of its event's record.
    pub offset: i64,
    /// Its number among the effects of the event, from 0.
    pub ordinal: i32,
}

/// An effect that is to be performed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Its id.
    pub id: EffectId,
    /// Its place.
    pub place: Place,
    /// Its event.
    pub event: EventId,
    /// The partition key of the event: effects with the same one are performed in their order.
    pub key: Uuid,
    /// When the event was decided.
    pub decided_at: Timestamp,
    /// The W3C trace context of the command behind the event; empty when untraced.
    pub traceparent: String,
    /// The effect, encoded.
    pub effect: Bytes,
}

/// What a batch of records adds to the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    /// The partition.
    pub partition: i32,
    /// The epoch it was taken under.
    pub epoch: i64,
    /// Where the position must stand.
    pub from: i64,
    /// Where it will stand.
    pub to: i64,
    /// The event in the record before `to`, where it is known.
    pub last_event: Option<EventId>,
    /// The effects, in the order of their places.
    pub effects: Vec<Pending>,
    /// Those among them that are too old to be performed, by their ids: they are entered as expired.
    pub expired: BTreeSet<EffectId>,
}

/// What became of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// The position has moved, and these effects are in the log by this recording. The others were there before.
    Entered(BTreeSet<EffectId>),
    /// Nothing is in by this: the partition was taken by somebody else since, or the log has lost the end of what it had.
    Fenced,
}

/// How an effect ends that was not performed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// It is too old.
    Expired,
    /// It can't be performed.
    Failed {
        /// How often it was tried.
        attempts: u32,
        /// The stable name of the error.
        code: String,
        /// The error, in one line.
        reason: String,
    },
}

/// What people decide about an effect that has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// It is performed again, unless it is too old by then.
    Again,
    /// It is never performed.
    Dropped,
}

/// How many effects are unsettled, on all partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EffectCounts {
    /// Those that are in the log and to be performed.
    pub unfinished: u64,
    /// Those that have failed for good and wait for people.
    pub failed: u64,
    /// When the event of the oldest was decided that is to be performed.
    pub oldest_at: Option<Timestamp>,
}

/// What became of the effects of a reactor in a topic: outside any generation, never cleared by a rebuild.
///
/// An implementation keeps this:
/// * [`Self::record`] is one transaction with the reactor's position, synchronously committed: an effect is known before it is begun.
/// * An id is entered by one recording and never by another, whoever asks and however often.
/// * An effect that is entered and not ended is found again after a crash, by [`Self::unfinished`], and performed with the same id.
/// * Nothing that has ended begins again, but what has failed and is settled so by people.
pub trait EffectLog: Send + Sync + 'static {
    /// Takes a partition: whoever had it before records nothing more. Durable when it returns.
    ///
    /// # Errors
    /// Where the log is away.
    fn acquire(&self, partition: i32) -> impl Future<Output = Result<Taken, LogError>> + Send;

    /// Has a partition begin at `head` that has not begun; gives where it begins. `None` where it was taken by somebody else.
    ///
    /// # Errors
    /// Where the log is away.
    fn begin(&self, partition: i32, epoch: i64, head: i64) -> impl Future<Output = Result<Option<i64>, LogError>> + Send;

    /// Enters effects and moves the position, in one transaction, if the position is where the batch begins, under its epoch. Idempotent: asked again,
    /// the same recording has the same answer.
    ///
    /// # Errors
    /// [`LogError::Unavailable`] where it is not known whether it is in, [`LogError::Refused`] where it can't be.
    fn record(&self, recording: &Recording) -> impl Future<Output = Result<Recorded, LogError>> + Send;

    /// Says that effects were performed. Saying it twice changes nothing, and anybody may: it is true under any epoch.
    ///
    /// # Errors
    /// Where the log is away.
    fn done(&self, ids: &[EffectId]) -> impl Future<Output = Result<(), LogError>> + Send;

    /// Ends an effect of the partition that was not performed and is pending. `false` where somebody else has taken the partition.
    ///
    /// # Errors
    /// Where the log is away.
    fn end(&self, partition: i32, epoch: i64, id: EffectId, ending: &Ending) -> impl Future<Output = Result<bool, LogError>> + Send;

    /// At most `max` pending effects of a partition, after a place, in their order.
    ///
    /// # Errors
    /// Where the log is away.
    fn unfinished(&self, partition: i32, after: Option<Place>, max: usize) -> impl Future<Output = Result<Vec<Pending>, LogError>> + Send;

    /// The keys of a partition that have failed effects.
    ///
    /// # Errors
    /// Where the log is away.
    fn failed_keys(&self, partition: i32) -> impl Future<Output = Result<BTreeSet<Uuid>, LogError>> + Send;

    /// How it stands with a partition; `None` where nobody ever took it.
    ///
    /// # Errors
    /// Where the log is away.
    fn look(&self, partition: i32) -> impl Future<Output = Result<Option<Look>, LogError>> + Send;

    /// How many effects are unsettled.
    ///
    /// # Errors
    /// Where the log is away.
    fn counts(&self) -> impl Future<Output = Result<EffectCounts, LogError>> + Send;

    /// Settles an effect that has failed, on behalf of `caller` and for a reason, which are kept. `false` where it has not.
    ///
    /// # Errors
    /// Where the log is away.
    fn settle(
        &self,
        id: EffectId,
        settlement: Settlement,
        caller: &str,
        reason: &str,
    ) -> impl Future<Output = Result<bool, LogError>> + Send;
}
