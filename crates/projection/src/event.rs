//! From the bytes of a record to an event.

use idempo_ids::{EventId, StreamId, Uuid};
use idempo_proto::event::v1::EventEnvelope;
use idempo_proto::event::v1::event_envelope::Data;
use jiff::Timestamp;
use prost::Message as _;
use prost::bytes::{Buf as _, Bytes};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// The smallest field number of `EventEnvelope` that is an event's type. Below it are the fields of the envelope itself.
const EVENT_TYPE_MIN: u32 = 100;
/// The number of `EventEnvelope.event_id`.
const EVENT_ID: u32 = 1;
/// The number of `EventEnvelope.decided_at`.
const DECIDED_AT: u32 = 5;

/// An event as a projector sees it: complete and checked, whatever its data says.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its id.
    pub event_id: EventId,
    /// Its stream.
    pub stream_id: StreamId,
    /// Its version in its stream, from 1 to `i64::MAX`.
    pub version: u64,
    /// Who owns the stream: the player, for wallets and inventories.
    pub partition_key: Uuid,
    /// When it was decided, on the clock of the command service.
    pub decided_at: Timestamp,
    /// The W3C trace context of the command that caused it; empty when untraced.
    pub traceparent: String,
    /// The type number of its data: the number of its field in `EventEnvelope`.
    pub event_type: u16,
    /// What happened.
    pub data: Data,
}

/// Why the bytes of a record are no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// The record has no value.
    #[error("the record has no value")]
    Empty,
    /// The bytes are no protobuf message, or not this one.
    #[error("not an event envelope: {0}")]
    Malformed(String),
    /// A field of the envelope is missing or out of its bounds.
    #[error("envelope field {0} is missing or out of bounds")]
    Field(&'static str),
    /// There is no data, more than one, or one of a type that this program does not know.
    #[error("no data of a known type")]
    Data,
}

/// What is read of an envelope without decoding the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outline {
    /// The event's id.
    pub event_id: EventId,
    /// The type number of the data.
    pub event_type: u16,
    /// When the event was decided.
    pub decided_at: Timestamp,
}

impl Outline {
    /// Reads the outline of an envelope: one pass over the keys of its fields.
    ///
    /// # Errors
    /// [`Undecodable`] where the bytes are no envelope with exactly one data field.
    pub fn read(envelope: &Bytes) -> Result<Self, Undecodable> {
        let mut rest: &[u8] = envelope;
        let mut event_type = None;
        let mut decided_at = None;
        let mut event_id = None;
        while rest.has_remaining() {
            let (field, wire_type) = decode_key(&mut rest).map_err(malformed)?;
            if wire_type != WireType::LengthDelimited {
                skip_field(wire_type, field, &mut rest, DecodeContext::default()).map_err(malformed)?;
                continue;
            }
            let length = decode_varint(&mut rest).map_err(malformed)?;
            let parts = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
            let (content, behind) = parts.ok_or_else(|| Undecodable::Malformed("cut off".to_owned()))?;
            rest = behind;
            if field >= EVENT_TYPE_MIN && event_type.replace(field).is_some() {
                return Err(Undecodable::Data);
            }
            if field == EVENT_ID {
                event_id = EventId::from_slice(content).ok();
            }
            if field == DECIDED_AT {
                decided_at = Some(prost_types::Timestamp::decode(content).map_err(malformed)?);
            }
        }
        let event_type = event_type.and_then(|field| u16::try_from(field).ok()).ok_or(Undecodable::Data)?;
        let event_id = event_id.ok_or(Undecodable::Field("event_id"))?;
        Ok(Self { event_id, event_type, decided_at: timestamp(decided_at)? })
    }
}

impl Event {
    /// Decodes an envelope.
    ///
    /// # Errors
    /// [`Undecodable`] where anything is missing that every event has, or the data is of no type that this program knows.
    pub fn decode(envelope: &Bytes) -> Result<Self, Undecodable> {
        let Outline { event_id, event_type, decided_at } = Outline::read(envelope)?;
        let envelope = EventEnvelope::decode(envelope.clone()).map_err(malformed)?;
        let id = |bytes: &Bytes, field| Uuid::from_slice(bytes).map_err(|_| Undecodable::Field(field));
        if envelope.version == 0 || i64::try_from(envelope.version).is_err() {
            return Err(Undecodable::Field("version"));
        }
        Ok(Self {
            event_id,
            stream_id: StreamId::new(id(&envelope.stream_id, "stream_id")?),
            version: envelope.version,
            partition_key: id(&envelope.partition_key, "partition_key")?,
            decided_at,
            traceparent: envelope.traceparent,
            event_type,
            data: envelope.data.ok_or(Undecodable::Data)?,
        })
    }
}

fn timestamp(value: Option<prost_types::Timestamp>) -> Result<Timestamp, Undecodable> {
    value.and_then(|at| Timestamp::new(at.seconds, at.nanos).ok()).ok_or(Undecodable::Field("decided_at"))
}

fn malformed(error: prost::DecodeError) -> Undecodable {
    Undecodable::Malformed(error.to_string())
}

#[cfg(test)]
mod tests {
    use idempo_proto::event::v1::{ItemUnequipped, WalletOpened};

    use super::*;

    fn envelope() -> EventEnvelope {
        EventEnvelope {
            event_id: vec![1; 16].into(),
            stream_id: vec![2; 16].into(),
            version: 7,
            partition_key: vec![3; 16].into(),
            decided_at: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 5_000 }),
            command_id: vec![4; 16].into(),
            correlation_id: vec![5; 16].into(),
            causation_id: Bytes::new(),
            traceparent: String::new(),
            data: Some(Data::ItemUnequipped(ItemUnequipped { item_id: vec![6; 16].into() })),
        }
    }

    fn encoded(envelope: &EventEnvelope) -> Bytes {
        envelope.encode_to_vec().into()
    }

    #[test]
    fn the_outline_says_what_the_event_says() {
        let event = Event::decode(&encoded(&envelope())).expect("an event");
        assert_eq!((event.event_type, event.version), (209, 7));
        assert_eq!(
            Outline::read(&encoded(&envelope())),
            Ok(Outline { event_id: event.event_id, event_type: 209, decided_at: event.decided_at })
        );
    }

    #[test]
    fn an_envelope_without_a_field_that_every_event_has_is_no_event() {
        let cases = [
            ("event_id", EventEnvelope { event_id: Bytes::new(), ..envelope() }),
            ("stream_id", EventEnvelope { stream_id: vec![1; 15].into(), ..envelope() }),
            ("version", EventEnvelope { version: 0, ..envelope() }),
            ("version", EventEnvelope { version: u64::MAX, ..envelope() }),
            ("partition_key", EventEnvelope { partition_key: Bytes::new(), ..envelope() }),
            ("decided_at", EventEnvelope { decided_at: None, ..envelope() }),
        ];
        for (field, spoilt) in cases {
            assert_eq!(Event::decode(&encoded(&spoilt)), Err(Undecodable::Field(field)));
        }
    }

    #[test]
    fn data_that_is_missing_doubled_or_of_an_unknown_type_is_no_event() {
        let mut none = envelope();
        none.data = None;
        assert_eq!(Outline::read(&encoded(&none)), Err(Undecodable::Data));

        let mut second = envelope();
        second.data = Some(Data::WalletOpened(WalletOpened { player_id: vec![9; 16].into(), ..WalletOpened::default() }));
        let doubled: Bytes = [none.encode_to_vec(), envelope().encode_to_vec(), second.encode_to_vec()].concat().into();
        assert_eq!(Outline::read(&doubled), Err(Undecodable::Data));

        let mut unknown = none.encode_to_vec();
        // Field 299, length-delimited, empty.
        unknown.extend([0xda, 0x12, 0x00]);
        assert_eq!(Outline::read(&unknown.clone().into()).map(|outline| outline.event_type), Ok(299));
        assert_eq!(Event::decode(&unknown.into()), Err(Undecodable::Data));
    }

    #[test]
    fn bytes_that_are_no_protobuf_are_no_event() {
        for bytes in [&b"\xff\xff\xff"[..], b"not an envelope", b"\x0a\x7f", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"] {
            assert!(Event::decode(&Bytes::copy_from_slice(bytes)).is_err(), "{bytes:?}");
        }
    }
}
