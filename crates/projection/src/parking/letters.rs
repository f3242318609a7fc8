//! What the store keeps of dead letters, and what it is told to do with them.

use std::sync::Arc;

use bytes::Bytes;
use idempo_dead_letter::{DeadLetter, DeadLetterId, Disposition, Original, Stage};
use idempo_ids::{StreamId, Uuid, parse_hyphenated};
use idempo_kafka::RecordHeaders;
use jiff::Timestamp;

use crate::batch::Entry;
use crate::event::Outline;
use crate::halt::Cause;
use crate::policy::Remedy;
use crate::projector::{Interest, Projector};
use crate::store::StreamEnd;

/// What the program that writes dead letters is.
const APP_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Why a record is a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Where it failed.
    pub stage: Stage,
    /// Why it is given up.
    pub disposition: Disposition,
    /// Why it failed, as a stable name: [`Cause::code`].
    pub code: &'static str,
    /// The same for people.
    pub reason: String,
    /// How often it was tried, ever.
    pub attempts: u32,
    /// How often it was replayed in vain.
    pub replay_count: u32,
    /// When it failed first.
    pub first_failed_at: Timestamp,
    /// When it failed now.
    pub failed_at: Timestamp,
}

impl Failure {
    /// What a cause makes of a record that is tried for the first time, `attempts` times; `None` where it stops the partition.
    pub(crate) fn of(cause: &Cause, attempts: u32, now: Timestamp) -> Option<Self> {
        let Remedy::Park(stage, disposition) = Remedy::of(cause) else { return None };
        let (code, reason) = (cause.code(), cause.to_string());
        Some(Self { stage, disposition, code, reason, attempts, replay_count: 0, first_failed_at: now, failed_at: now })
    }
}

/// A record that becomes a dead letter, or is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// The consumer group, part of its identity.
    pub group: Arc<str>,
    /// The record.
    pub entry: Entry,
    /// Why.
    pub failure: Failure,
    /// The streams that can have events under its key.
    pub streams: Vec<StreamId>,
}

impl Letter {
    /// The event's type number and id, where the record is an event.
    #[must_use]
    pub fn outline(&self) -> Option<Outline> {
        self.entry.value.as_ref().and_then(|value| Outline::read(value).ok())
    }

    /// As it goes to the dead-letter topic.
    pub(crate) fn record(&self, topic: &str, partition: i32) -> DeadLetter {
        let Entry { offset, key, value, headers, timestamp_ms } = &self.entry;
        let Failure { stage, disposition, code, reason, attempts, replay_count, first_failed_at, failed_at } = &self.failure;
        let own = headers.iter().map(|(name, value)| (name.to_owned(), value.map(Bytes::copy_from_slice)));
        DeadLetter {
            id: DeadLetterId { group: self.group.to_string(), topic: topic.to_owned(), partition, offset: *offset },
            original: Original { key: key.clone(), value: value.clone(), headers: own.collect() },
            timestamp: Timestamp::from_millisecond(*timestamp_ms).ok().filter(|_| *timestamp_ms > 0),
            stage: *stage,
            code: (*code).to_owned(),
            message: reason.clone(),
            trace: String::new(),
            attempts: *attempts,
            first_failed_at: *first_failed_at,
            last_failed_at: *failed_at,
            disposition: *disposition,
            replay_count: *replay_count,
            app_version: APP_VERSION.to_owned(),
        }
    }
}

/// The streams that can have events of `P` under a key; none where the key is no hyphenated UUID.
pub(crate) fn streams_of<P: Projector>(key: Option<&Bytes>) -> Vec<StreamId> {
    let owner: Option<Uuid> = key.and_then(|key| str::from_utf8(key).ok()).and_then(|key| parse_hyphenated(key).ok());
    let Some(owner) = owner else { return Vec::new() };
    let types = (0..=u16::MAX).filter(|event_type| P::interest(*event_type) == Interest::Consumed);
    let mut categories: Vec<&'static str> = types.map(P::category).collect();
    categories.sort_unstable();
    categories.dedup();
    categories.into_iter().map(|category| StreamId::of(category, owner)).collect()
}

/// What a batch parks.
#[derive(Debug, Default)]
pub struct Parking {
    /// The record that becomes a dead letter with it.
    pub letter: Option<Letter>,
    /// Records of keys that have a dead letter, in the order of their offsets.
    pub followers: Vec<Entry>,
}

impl Parking {
    /// Whether it parks nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.letter.is_none() && self.followers.is_empty()
    }
}

/// A dead letter that people want drained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wished {
    /// Its offset.
    pub offset: i64,
    /// Its revision, under which it is to be drained.
    pub revision: i64,
    /// Whether it is to be discarded; else it is replayed.
    pub is_discard: bool,
    /// Whether it is done itself: followers are left.
    pub is_begun: bool,
    /// The record; of one that is done, as it was.
    pub head: Entry,
    /// The first records behind it, in the order of their offsets.
    pub followers: Vec<Entry>,
    /// Whether there are more of them.
    pub has_more: bool,
    /// How often it was tried.
    pub attempts: u32,
    /// How often it was replayed in vain.
    pub replay_count: u32,
    /// When it failed first.
    pub first_failed_at: Timestamp,
}

/// What one transaction drains: rows, versions, and what becomes of dead letters.
#[derive(Debug)]
pub struct Drain<W> {
    /// The partition.
    pub partition: i32,
    /// The epoch of the lease on it.
    pub epoch: i64,
    /// The streams whose events are in it, each once, with a version above the one in the store.
    pub versions: Vec<StreamEnd>,
    /// The rows.
    pub writes: W,
    /// What becomes of the dead letters, in the order of their offsets.
    pub letters: Vec<Drained>,
}

/// What becomes of one dead letter, and of what is parked behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drained {
    /// Its offset.
    pub offset: i64,
    /// The revision at which it was read.
    pub revision: i64,
    /// The offset of the last record behind it that leaves the queue; less than `offset` where none does.
    pub through: i64,
    /// How many records are applied, or were before.
    pub applied: u64,
    /// What comes then.
    pub next: Next,
}

/// What comes after a part of a queue was drained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing: the key is free.
    Free,
    /// More of the queue.
    More,
    /// The dead letter itself has failed again, and waits.
    Failed(Failure),
    /// A record behind it has failed, and is the dead letter of the key from here on.
    Blocked(Box<Letter>),
}

/// What became of a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drainage {
    /// It is in the read model.
    Done,
    /// Nothing of it is in by this call: a dead letter has another revision by now, or is gone.
    Stale,
    /// Nothing of it is in: the partition was taken by somebody else.
    Fenced,
}

/// Which partitions have wishes that are not heeded, and whether there are dead letters at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// The partitions.
    pub partitions: Vec<i32>,
    /// Whether any partition has a dead letter.
    pub has_letters: bool,
}

/// How much is parked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ParkedCounts {
    /// Dead letters.
    pub letters: u64,
    /// Keys that have one.
    pub keys: u64,
    /// Records parked behind them.
    pub records: u64,
    /// When the oldest of the dead letters failed first.
    pub oldest_at: Option<Timestamp>,
}

/// The parts of an entry that a table has.
pub(crate) fn entry_of(
    offset: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<u8>,
    written_at: Option<Timestamp>,
) -> Entry {
    Entry {
        offset,
        key: key.map(Bytes::from),
        value: value.map(Bytes::from),
        headers: RecordHeaders::from_bytes(headers.into()),
        timestamp_ms: written_at.map_or(0, Timestamp::as_millisecond),
    }
}
