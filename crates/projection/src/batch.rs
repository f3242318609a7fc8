//! From a run of records to one batch of writes. Pure.

use std::collections::HashMap;

use idempo_ids::StreamId;
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
    /// Its value; `None` for a tombstone.
    pub value: Option<Bytes>,
}

/// A run of records, decoded up to the first that can't be.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// The events that the projector consumes, each with its place in the run.
    events: Vec<(usize, Event)>,
    /// The offset of each record that could be read, and when its event was decided.
    records: Vec<(i64, Timestamp)>,
    halt: Option<Halt>,
}

/// What a run of records adds to the read model, up to the first that stops the partition.
#[derive(Debug)]
pub(crate) struct Folded<W> {
    pub(crate) writes: W,
    /// The last version of each stream that the run moves.
    pub(crate) versions: HashMap<StreamId, u64>,
    /// The offset after the last record of it; `None` where there is none.
    pub(crate) to: Option<i64>,
    pub(crate) newest_at: Option<Timestamp>,
    pub(crate) counts: Counts,
    pub(crate) halt: Option<Halt>,
}

impl Decoded {
    /// Decodes the records from offset `from` on; those before it are in the read model.
    pub(crate) fn of<P: Projector>(entries: &[Entry], from: i64) -> Self {
        let mut decoded = Self { events: Vec::new(), records: Vec::with_capacity(entries.len()), halt: None };
        for entry in entries.iter().filter(|entry| entry.offset >= from) {
            match decode::<P>(entry) {
                Ok((decided_at, event)) => {
                    decoded.events.extend(event.map(|event| (decoded.records.len(), event)));
                    decoded.records.push((entry.offset, decided_at));
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
    pub(crate) fn fold<P: Projector>(mut self, last: &dyn Fn(StreamId) -> u64) -> Folded<P::Writes> {
        match self.try_fold::<P>(last) {
            Ok(Added { writes, versions, duplicates }) => Folded {
                writes,
                versions,
                to: self.records.last().map(|(offset, _)| offset.saturating_add(1)),
                newest_at: self.records.iter().map(|(_, decided_at)| *decided_at).max(),
                counts: Counts {
                    applied: count(self.events.len().saturating_sub(duplicates)),
                    duplicates: count(duplicates),
                    passed_over: count(self.records.len().saturating_sub(self.events.len())),
                },
                halt: self.halt,
            },
            Err(Stop { place, cause }) => {
                // The writes may hold half of that event, so the records before it are folded anew.
                let offset = self.records.get(place).map_or(0, |(offset, _)| *offset);
                self.halt = Some(Halt { offset, cause });
                self.records.truncate(place);
                self.events.retain(|(at, _)| *at < place);
                self.fold::<P>(last)
            }
        }
    }

    /// What the events add; or the record that stops it.
    fn try_fold<P: Projector>(&self, last: &dyn Fn(StreamId) -> u64) -> Result<Added<P::Writes>, Stop> {
        let mut added = Added { writes: P::Writes::default(), versions: HashMap::new(), duplicates: 0 };
        for (place, event) in &self.events {
            let stop = |cause| Stop { place: *place, cause };
            let seen = added.versions.get(&event.stream_id).copied().unwrap_or_else(|| last(event.stream_id));
            if event.version <= seen {
                added.duplicates += 1;
                continue;
            }
            if event.version != seen.saturating_add(1) {
                return Err(stop(Cause::Gap { stream: event.stream_id, last: seen, found: event.version }));
            }
            P::apply(event, &mut added.writes).map_err(|malformed| stop(malformed.into()))?;
            added.versions.insert(event.stream_id, event.version);
        }
        Ok(added)
    }
}

/// What events add to the read model.
struct Added<W> {
    writes: W,
    versions: HashMap<StreamId, u64>,
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

fn decode<P: Projector>(entry: &Entry) -> Result<(Timestamp, Option<Event>), Cause> {
    let value = entry.value.as_ref().ok_or(Undecodable::Empty)?;
    let outline = Outline::read(value)?;
    match P::interest(outline.event_type) {
        Interest::PassedOver => Ok((outline.decided_at, None)),
        Interest::Consumed => Ok((outline.decided_at, Some(Event::decode(value)?))),
        Interest::Unknown => Err(Cause::UnknownType(outline.event_type)),
    }
}
