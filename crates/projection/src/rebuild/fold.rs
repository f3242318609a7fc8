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

#[cfg(test)]
mod tests {
    use idempo_ids::Uuid;
    use idempo_proto::event::v1::event_envelope::Data;
    use idempo_proto::event::v1::{EventEnvelope, ItemUnequipped, WalletOpened};
    use prost::Message as _;

    use super::*;
    use crate::projector::Malformed;

    const OWNER: Uuid = Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0001);

    /// Takes note of the versions that it is given.
    #[derive(Debug)]
    struct Versions;

    impl Projector for Versions {
        type Writes = Vec<u64>;

        const NAME: &'static str = "versions";
        const LOGIC: &'static str = "versions/1";

        fn interest(event_type: u16) -> Interest {
            match event_type {
                100..=199 => Interest::PassedOver,
                200..=209 => Interest::Consumed,
                _ => Interest::Unknown,
            }
        }

        fn category(_: u16) -> &'static str {
            "inventory"
        }

        fn apply(event: &Event, writes: &mut Vec<u64>) -> Result<(), Malformed> {
            writes.push(event.version);
            Ok(())
        }
    }

    fn stream() -> StreamId {
        StreamId::of("inventory", OWNER)
    }

    fn stored(version: i64, data: Data) -> Stored {
        let bytes = |id: Uuid| Bytes::copy_from_slice(id.as_bytes());
        let envelope = EventEnvelope {
            event_id: bytes(Uuid::from_u128(u128::from(version.unsigned_abs()))),
            stream_id: bytes(stream().uuid()),
            version: version.unsigned_abs(),
            partition_key: bytes(OWNER),
            decided_at: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 0 }),
            data: Some(data),
            ..EventEnvelope::default()
        };
        Stored { stream: stream(), version, envelope: envelope.encode_to_vec().into() }
    }

    fn unequipped(version: i64) -> Stored {
        stored(version, Data::ItemUnequipped(ItemUnequipped { item_id: Bytes::copy_from_slice(OWNER.as_bytes()) }))
    }

    #[test]
    fn the_events_of_a_stream_are_applied_in_order_and_its_end_is_known() {
        let mut fold = Fold::<Versions>::new();
        for version in 1..=3 {
            fold.add(&unequipped(version)).expect("it is applied");
        }
        fold.add(&stored(1, Data::WalletOpened(WalletOpened::default()))).expect("it is passed over");
        assert_eq!((fold.writes, fold.events), (vec![1, 2, 3], 4));
        let end = StreamEnd { stream: stream(), version: 3, event_id: Some(idempo_ids::EventId::new(Uuid::from_u128(3))) };
        assert_eq!(fold.ends, [end]);
    }

    #[test]
    fn a_stream_without_its_first_event_or_one_in_the_middle_is_refused() {
        let mut fold = Fold::<Versions>::new();
        assert_eq!(fold.add(&unequipped(2)), Err(Cause::Gap { stream: stream(), last: 0, found: 2 }));
        fold.add(&unequipped(1)).expect("it is applied");
        assert_eq!(fold.add(&unequipped(3)), Err(Cause::Gap { stream: stream(), last: 1, found: 3 }));
    }

    #[test]
    fn a_row_that_says_something_else_than_its_envelope_is_refused() {
        let mut fold = Fold::<Versions>::new();
        let elsewhere = Stored { stream: StreamId::of("inventory", Uuid::nil()), ..unequipped(1) };
        assert_eq!(fold.add(&elsewhere), Err(Undecodable::Field("stream_id").into()));
        assert_eq!(fold.add(&Stored { version: 2, ..unequipped(1) }), Err(Undecodable::Field("version").into()));
    }
}
