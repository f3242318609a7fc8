//! From a run of records to one batch of writes. Pure.

use std::collections::HashMap;

use idempo_ids::{EventId, StreamId, Uuid};
use idempo_kafka::{RecordHeaders, partition_of};
use jiff::Timestamp;
use prost::bytes::Bytes;

use crate::event::{Event, Outline, Undecodable};
use crate::halt::{Cause, Halt};
use crate::meters::Counts;
use crate::parking::Lot;
use crate::projector::{Interest, Projector};

/// A record, as far as a projection looks at it, and keeps it where it can't be applied.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// Its offset.
    pub offset: i64,
    /// Its key; `None` for a record without one.
    pub key: Option<Bytes>,
    /// Its value; `None` for a tombstone.
    pub value: Option<Bytes>,
    /// Its headers.
    pub headers: RecordHeaders,
    /// When it was written, in milliseconds since 1970; 0 where the broker does not say.
    pub timestamp_ms: i64,
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
    /// Each record that was read, whoever's it is.
    records: Vec<Read>,
    /// Those of keys that are parked, each with its place in the run.
    followers: Vec<(usize, Entry)>,
    halt: Option<Halt>,
}

/// A record that was read. Of one whose key is parked it may not be known what it is.
#[derive(Debug, Clone, Copy)]
struct Read {
    offset: i64,
    decided_at: Option<Timestamp>,
    event_id: Option<EventId>,
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
    /// Records that wait behind a dead letter of their key.
    pub(crate) followers: Vec<Entry>,
    pub(crate) halt: Option<Halt>,
}

/// A version of a stream, and the event with it, where it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Version {
    pub(crate) number: u64,
    pub(crate) event_id: Option<EventId>,
}

impl Decoded {
    /// Decodes the records from offset `from` on; those before it are in the read model. Records of keys that are parked are set aside, unless they
    /// are none of the projector's business.
    pub(crate) fn of<P: Projector>(entries: &[Entry], from: i64, home: Home, parked: &Lot) -> Self {
        let mut decoded = Self { events: Vec::new(), records: Vec::with_capacity(entries.len()), followers: Vec::new(), halt: None };
        // All that a partition pays of which nothing is parked.
        let parked = Some(parked).filter(|parked| !parked.is_empty());
        for entry in entries.iter().filter(|entry| entry.offset >= from) {
            if parked.is_some_and(|parked| parked.has(entry)) && decoded.set_aside::<P>(entry) {
                continue;
            }
            match decode(entry, home, P::interest) {
                Ok((Outline { event_id, decided_at, .. }, event)) => {
                    decoded.events.extend(event.map(|event| (decoded.records.len(), event)));
                    decoded.records.push(Read { offset: entry.offset, decided_at: Some(decided_at), event_id: Some(event_id) });
                }
                Err(cause) => {
                    decoded.halt = Some(Halt { offset: entry.offset, cause });
                    break;
                }
            }
        }
        decoded
    }

    /// Sets a record aside whose key is parked. `false` where it is none of the projector's business.
    fn set_aside<P: Projector>(&mut self, entry: &Entry) -> bool {
        let outline = entry.value.as_ref().and_then(|value| Outline::read(value).ok());
        if outline.is_some_and(|outline| P::interest(outline.event_type) == Interest::PassedOver) {
            return false;
        }
        self.followers.push((self.records.len(), entry.clone()));
        let (decided_at, event_id) = (outline.map(|outline| outline.decided_at), outline.map(|outline| outline.event_id));
        self.records.push(Read { offset: entry.offset, decided_at, event_id });
        true
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
        let mut added = Added::default();
        match self.add_to::<P>(&mut added, last) {
            Ok(()) => self.folded(added),
            Err(Stop { place, cause }) => {
                // The writes may hold half of that event, so the records before it are folded anew.
                self.stop_at(place, cause);
                self.fold::<P>(last)
            }
        }
    }

    /// Ends the run before a record.
    fn stop_at(&mut self, place: usize, cause: Cause) {
        let offset = self.records.get(place).map_or(0, |record| record.offset);
        self.halt = Some(Halt { offset, cause });
        self.cut(place);
    }

    fn cut(&mut self, place: usize) {
        self.records.truncate(place);
        self.events.retain(|(at, _)| *at < place);
        self.followers.retain(|(at, _)| *at < place);
    }

    fn folded<W>(self, Added { writes, versions, duplicates }: Added<W>) -> Folded<W> {
        let passed_over = self.records.len().saturating_sub(self.events.len()).saturating_sub(self.followers.len());
        Folded {
            writes,
            versions,
            to: self.records.last().map(|record| record.offset.saturating_add(1)),
            last_event: self.records.last().and_then(|record| record.event_id),
            newest_at: self.records.iter().filter_map(|record| record.decided_at).max(),
            counts: Counts {
                applied: count(self.events.len().saturating_sub(duplicates)),
                duplicates: count(duplicates),
                passed_over: count(passed_over),
            },
            followers: self.followers.into_iter().map(|(_, entry)| entry).collect(),
            halt: self.halt,
        }
    }

    /// Adds the events to what others add; or says which record stops it.
    fn add_to<P: Projector>(&self, added: &mut Added<P::Writes>, last: &dyn Fn(StreamId) -> Version) -> Result<(), Stop> {
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
        Ok(())
    }
}

/// The queue of one key: records that are applied up to the first that can't be.
#[derive(Debug)]
pub(crate) struct Queue {
    decoded: Decoded,
}

impl Queue {
    /// Decodes the records of one key, in their order, and folds them by themselves, to see how far they can be.
    pub(crate) fn of<P: Projector>(entries: &[Entry], home: Home, last: &dyn Fn(StreamId) -> Version) -> Self {
        let mut queue = Self { decoded: Decoded::of::<P>(entries, i64::MIN, home, &Lot::default()) };
        if let Err(Stop { place, cause }) = queue.decoded.add_to::<P>(&mut Added::default(), last) {
            queue.decoded.stop_at(place, cause);
        }
        queue
    }

    /// The streams of the events in a queue, so far as they are to be known before it is folded.
    pub(crate) fn streams<P: Projector>(entries: &[Entry], home: Home) -> Vec<StreamId> {
        Decoded::of::<P>(entries, i64::MIN, home, &Lot::default()).streams().collect()
    }

    /// How many records of it can be applied.
    pub(crate) const fn good(&self) -> usize {
        self.decoded.records.len()
    }

    /// Why the next one can't be; `None` where all can.
    pub(crate) fn cause(&self) -> Option<&Cause> {
        self.decoded.halt.as_ref().map(|halt| &halt.cause)
    }

    /// Applies so many records and no more.
    pub(crate) fn limit(&mut self, good: usize, cause: Option<Cause>) {
        self.decoded.cut(good);
        self.decoded.halt = cause.map(|cause| Halt { offset: 0, cause });
    }

    /// Folds the queues of different keys together: what a projector makes of one does not depend on the others.
    pub(crate) fn fold_together<'a, P: Projector>(
        queues: impl IntoIterator<Item = &'a Self>,
        last: &dyn Fn(StreamId) -> Version,
    ) -> Result<Added<P::Writes>, Cause> {
        let mut added = Added::default();
        for queue in queues {
            queue.decoded.add_to::<P>(&mut added, last).map_err(|stop| stop.cause)?;
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
#[derive(Debug)]
pub(crate) struct Added<W> {
    pub(crate) writes: W,
    pub(crate) versions: HashMap<StreamId, Version>,
    duplicates: usize,
}

impl<W: Default> Default for Added<W> {
    fn default() -> Self {
        Self { writes: W::default(), versions: HashMap::new(), duplicates: 0 }
    }
}

/// The place of a record that stops the partition, and why.
struct Stop {
    place: usize,
    cause: Cause,
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// What a record says, and its event where `interest` has it consumed.
pub(crate) fn decode(entry: &Entry, home: Home, interest: fn(u16) -> Interest) -> Result<(Outline, Option<Event>), Cause> {
    let value = entry.value.as_ref().ok_or(Undecodable::Empty)?;
    let outline = Outline::read(value)?;
    match interest(outline.event_type) {
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
