//! From the stored events of whole streams to what a new generation has of them. Pure.

use idempo_ids::StreamId;
use prost::bytes::Bytes;

use crate::batch::{Next, Version, next};
use crate::event::{Event, Outline, Undecodable};
use crate::halt::Cause;
use crate::projector::{Interest, Projector};
use crate::store::StreamEnd;

/// An event as the event store has it. Its envelope is what the relay makes the value of its record, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) stream: StreamId,
    pub(crate) version: i64,
    pub(crate) envelope: Bytes,
}

/// What some streams add to a generation that has nothing of them, by the same [`Projector`] that the consumer has.
pub(crate) struct Fold<P: Projector> {
    pub(crate) writes: P::Writes,
    /// How far each stream is in the writes: in the order of the streams.
    pub(crate) ends: Vec<StreamEnd>,
    /// Events that were looked at, those that are none of the projection's business included.
    pub(crate) events: i64,
}

impl<P: Projector> Fold<P> {
    pub(crate) fn new() -> Self {
        Self { writes: P::Writes::default(), ends: Vec::new(), events: 0 }
    }

    /// Adds the next event: streams come one after the other, each from its first version on.
    ///
    /// # Errors
    /// Why the event can't be applied. The writes are spoilt then.
    pub(crate) fn add(&mut self, stored: &Stored) -> Result<(), Cause> {
        self.events = self.events.saturating_add(1);
        let event_type = Outline::read(&stored.envelope)?.event_type;
        match P::interest(event_type) {
            Interest::PassedOver => return Ok(()),
            Interest::Unknown => return Err(Cause::UnknownType(event_type)),
            Interest::Consumed => {}
        }
        let event = Event::decode(&stored.envelope)?;
        if event.stream_id != stored.stream {
            return Err(Undecodable::Field("stream_id").into());
        }
        if i64::try_from(event.version) != Ok(stored.version) {
            return Err(Undecodable::Field("version").into());
        }
        let last = self.ends.last().filter(|end| end.stream == event.stream_id);
        let seen = last.map(|end| Version { number: end.version, event_id: end.event_id }).unwrap_or_default();
        if let Next::New = next::<P>(&event, seen)? {
            P::apply(&event, &mut self.writes)?;
            let end = StreamEnd { stream: event.stream_id, version: event.version, event_id: Some(event.event_id) };
            match self.ends.last_mut().filter(|last| last.stream == end.stream) {
                Some(last) => *last = end,
                None => self.ends.push(end),
            }
        }
        Ok(())
    }
}
