//! From a run of records to one batch of writes. Pure.

use std::collections::HashMap;

use idempo_ids::{EventId, StreamId, Uuid};
use idempo_kafka::partition_of;
use jiff::Timestamp;
use prost::bytes::Bytes;

use crate::event::{Event, Outline, Undecodable};
use crate::halt::{Cause, Halt};
use crate::meters::Counts;
use crate::projector::{Interest, Projector};

/// A record, as far as a projection looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its offset.
    pub offset: i64,
    /// Its key; `None` for a record without one.
    pub key: Option<Bytes>,
    /// Its value; `None` for a tombstone.
    pub value: Option<Bytes>,
}

/// Where records are read, which says what keys they can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Home {
    /// The partition's number.
    pub partition: i32,
    /// The partitions of the topic, as configured.
    pub partitions: i32,
}

/// A run of records, decoded up to the first that can't be.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// The events that the projector consumes, each with its place in the run.
    events: Vec<(usize, Event)>,
    /// Each record that could be read.
    records: Vec<Readable>,
    halt: Option<Halt>,
}

/// A record that could be read, whoever's it is.
#[derive(Debug, Clone, Copy)]
struct Readable {
    offset: i64,
    decided_at: Timestamp,
    event_id: EventId,
}

/// What a run of records adds to the read model, up to the first that stops the partition.
#[derive(Debug)]
pub(crate) struct Folded<W> {
    pub(crate) writes: W,
    /// The last version of each stream that the run moves, and the event with it.
    pub(crate) versions: HashMap<StreamId, Version>,
    /// The offset after the last record of it; `None` where there is none.
    pub(crate) to: Option<i64>,
    /// The event of that record.
    pub(crate) last_event: Option<EventId>,
    pub(crate) newest_at: Option<Timestamp>,
    pub(crate) counts: Counts,
    pub(crate) halt: Option<Halt>,
}

/// A version of a stream, and the event with it, where it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Version {
    pub(crate) number: u64,
    pub(crate) event_id: Option<EventId>,
}

impl Decoded {
    /// Decodes the records from offset `from` on; those before it are in the read model.
    pub(crate) fn of<P: Projector>(entries: &[Entry], from: i64, home: Home) -> Self {
        let mut decoded = Self { events: Vec::new(), records: Vec::with_capacity(entries.len()), halt: None };
        for entry in entries.iter().filter(|entry| entry.offset >= from) {
            match decode::<P>(entry, home) {
                Ok((Outline { event_id, decided_at, .. }, event)) => {
                    decoded.events.extend(event.map(|event| (decoded.records.len(), event)));
                    decoded.records.push(Readable { offset: entry.offset, decided_at, event_id });
                }
                Err(cause) => {
                    decoded.halt = Some(Halt { offset: entry.offset, cause });
                    break;
                }
            }
        }
        decoded
    }

    /// The streams of the events, each once or more.
    pub(crate) fn streams(&self) -> impl Iterator<Item = StreamId> {
        self.events.iter().map(|(_, event)| event.stream_id)
    }

    /// The trace contexts of the commands behind the events, those that have one.
    pub(crate) fn traceparents(&self) -> impl Iterator<Item = &str> {
        self.events.iter().map(|(_, event)| event.traceparent.as_str()).filter(|traceparent| !traceparent.is_empty())
    }

    /// Folds the events that are not in the read model yet. `last` gives the version of a stream that is, 0 where none is.
    pub(crate) fn fold<P: Projector>(mut self, last: &dyn Fn(StreamId) -> Version) -> Folded<P::Writes> {
        match self.try_fold::<P>(last) {
            Ok(Added { writes, versions, duplicates }) => Folded {
                writes,
                versions,
                to: self.records.last().map(|record| record.offset.saturating_add(1)),
                last_event: self.records.last().map(|record| record.event_id),
                newest_at: self.records.iter().map(|record| record.decided_at).max(),
                counts: Counts {
                    applied: count(self.events.len().saturating_sub(duplicates)),
                    duplicates: count(duplicates),
                    passed_over: count(self.records.len().saturating_sub(self.events.len())),
                },
                halt: self.halt,
            },
            Err(Stop { place, cause }) => {
                // The writes may hold half of that event, so the records before it are folded anew.
                let offset = self.records.get(place).map_or(0, |record| record.offset);
                self.halt = Some(Halt { offset, cause });
                self.records.truncate(place);
                self.events.retain(|(at, _)| *at < place);
                self.fold::<P>(last)
            }
        }
    }

    /// What the events add; or the record that stops it.
    fn try_fold<P: Projector>(&self, last: &dyn Fn(StreamId) -> Version) -> Result<Added<P::Writes>, Stop> {
        let mut added = Added { writes: P::Writes::default(), versions: HashMap::new(), duplicates: 0 };
        for (place, event) in &self.events {
            let seen = added.versions.get(&event.stream_id).copied().unwrap_or_else(|| last(event.stream_id));
            let added_one = match next::<P>(event, seen) {
                Ok(Next::Again) => {
                    added.duplicates += 1;
                    continue;
                }
                Ok(Next::New) => P::apply(event, &mut added.writes).map_err(Cause::from),
                Err(cause) => Err(cause),
            };
            added_one.map_err(|cause| Stop { place: *place, cause })?;
            added.versions.insert(event.stream_id, Version { number: event.version, event_id: Some(event.event_id) });
        }
        Ok(added)
    }
}

/// What an event is to a stream.
pub(crate) enum Next {
    New,
    Again,
}

/// What an event is to its stream, of which `seen` is in the read model. Only of the last version it is known which event had it: a stream that
/// was written anew is noticed when it comes to there, at the latest when it would go beyond.
pub(crate) fn next<P: Projector>(event: &Event, seen: Version) -> Result<Next, Cause> {
    let Event { stream_id: stream, version, event_id: found, .. } = *event;
    if version > seen.number {
        if version != seen.number.saturating_add(1) {
            return Err(Cause::Gap { stream, last: seen.number, found: version });
        }
        // Once a stream is enough: its id is all that later events have of it too.
        let category = P::category(event.event_type);
        if version == 1 && StreamId::of(category, event.partition_key) != stream {
            return Err(Cause::Foreign { stream, category });
        }
        return Ok(Next::New);
    }
    match seen.event_id {
        Some(known) if version == seen.number && known != found => Err(Cause::Conflict { stream, version, known, found }),
        _ => Ok(Next::Again),
    }
}

/// What events add to the read model.
struct Added<W> {
    writes: W,
    versions: HashMap<StreamId, Version>,
    duplicates: usize,
}

/// The place of a record that stops the partition, and why.
struct Stop {
    place: usize,
    cause: Cause,
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn decode<P: Projector>(entry: &Entry, home: Home) -> Result<(Outline, Option<Event>), Cause> {
    let value = entry.value.as_ref().ok_or(Undecodable::Empty)?;
    let outline = Outline::read(value)?;
    match P::interest(outline.event_type) {
        Interest::PassedOver => Ok((outline, None)),
        Interest::Consumed => {
            let event = Event::decode(value)?;
            check_key(entry.key.as_deref(), event.partition_key, home)?;
            Ok((outline, Some(event)))
        }
        Interest::Unknown => Err(Cause::UnknownType(outline.event_type)),
    }
}

/// A stream's events are in order because they have one key, and a key is in one partition. A record of which that is not true says that somebody
/// writes by other rules: what comes after it could be in any order.
fn check_key(key: Option<&[u8]>, partition_key: Uuid, home: Home) -> Result<(), Cause> {
    let mut hyphenated = Uuid::encode_buffer();
    let expected = partition_key.hyphenated().encode_lower(&mut hyphenated).as_bytes();
    if key != Some(expected) {
        return Err(Cause::Key);
    }
    match partition_of(expected, home.partitions) {
        partition if partition == home.partition => Ok(()),
        expected => Err(Cause::Misplaced { expected, partitions: home.partitions }),
    }
}
