//! What is in a record's value, as far as it can be told.
//!
//! By the descriptor set, not by types: an event that a later program writes is shown as far as this one knows it, and its type is a number then.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage as _, Value as Field};
use serde_json::{Map, Value};
use uuid::Uuid;

/// The message that every event travels in.
const ENVELOPE: &str = "idempo.event.v1.EventEnvelope";
/// The field of it that says what happened.
const DATA: &str = "data";
/// How long an id is, in bytes.
const ID_BYTES: usize = 16;
const TIMESTAMP: &str = "google.protobuf.Timestamp";

static ENVELOPE_DESCRIPTOR: LazyLock<Option<MessageDescriptor>> = LazyLock::new(|| {
    // A set that can't be read would be a defect of the build; a test says so.
    DescriptorPool::decode(idempo_proto::DESCRIPTOR_SET).ok()?.get_message_by_name(ENVELOPE)
});

/// An event.
#[derive(Debug)]
pub(crate) struct Event(DynamicMessage);

impl Event {
    /// The event in a record's value.
    ///
    /// # Errors
    /// Why it is none, for people.
    pub(crate) fn of(value: Option<&[u8]>) -> Result<Self, String> {
        let value = value.ok_or("the record is a tombstone: it has no value")?;
        let descriptor = ENVELOPE_DESCRIPTOR.clone().ok_or("this program does not know what an event is")?;
        let message = DynamicMessage::decode(descriptor, value).map_err(|error| format!("the bytes are no {ENVELOPE}: {error}"))?;
        let event = Self(message);
        // Any bytes can happen to be a message without fields that are known: an event has ids.
        for id in ["event_id", "stream_id"] {
            if event.id(id).is_none() {
                return Err(format!("the bytes are no {ENVELOPE}: its {id} has not {ID_BYTES} bytes"));
            }
        }
        Ok(event)
    }

    pub(crate) fn event_id(&self) -> Option<Uuid> {
        self.id("event_id")
    }

    pub(crate) fn stream_id(&self) -> Option<Uuid> {
        self.id("stream_id")
    }

    /// The version in its stream.
    pub(crate) fn version(&self) -> Option<i64> {
        i64::try_from(self.0.get_field_by_name("version")?.as_u64()?).ok()
    }

    /// The trace context of the command behind it; empty where there is none.
    pub(crate) fn traceparent(&self) -> String {
        self.0.get_field_by_name("traceparent").and_then(|field| field.as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// What happened, as the envelope's field is called; `field_317` for one that this program does not know, empty where nothing is said.
    pub(crate) fn kind(&self) -> String {
        let known = self.0.descriptor().oneofs().find(|oneof| oneof.name() == DATA);
        let known = known.and_then(|data| data.fields().find(|field| self.0.has_field(field)));
        let unknown = || self.0.unknown_fields().map(|field| format!("field_{}", field.number())).next();
        known.map(|field| field.name().to_owned()).or_else(unknown).unwrap_or_default()
    }

    /// The event as JSON: every field that is known, under the name that it has in the file; ids as UUIDs, other bytes in base64. The numbers of fields
    /// that are not known are under `unknown_fields`.
    pub(crate) fn json(&self) -> String {
        let mut json = json(&self.0);
        let unknown: Vec<Value> = self.0.unknown_fields().map(|field| Value::from(field.number())).collect();
        if let (Value::Object(fields), false) = (&mut json, unknown.is_empty()) {
            fields.insert("unknown_fields".to_owned(), Value::Array(unknown));
        }
        json.to_string()
    }

    fn id(&self, field: &str) -> Option<Uuid> {
        let field = self.0.get_field_by_name(field)?;
        Uuid::from_slice(field.as_bytes()?).ok()
    }
}

fn json(message: &DynamicMessage) -> Value {
    if message.descriptor().full_name() == TIMESTAMP {
        return timestamp(message).map_or(Value::Null, |time| Value::String(time.to_string()));
    }
    let mut fields = Map::new();
    for field in message.descriptor().fields() {
        let may_be_missing = field.containing_oneof().is_some() || (matches!(field.kind(), Kind::Message(_)) && !field.is_list());
        if !may_be_missing || message.has_field(&field) {
            fields.insert(field.name().to_owned(), value(&field, &message.get_field(&field)));
        }
    }
    Value::Object(fields)
}

fn value(field: &FieldDescriptor, found: &Field) -> Value {
    match found {
        Field::Bool(yes) => Value::from(*yes),
        Field::I32(number) => Value::from(*number),
        Field::I64(number) => Value::from(*number),
        Field::U32(number) => Value::from(*number),
        Field::U64(number) => Value::from(*number),
        Field::F32(number) => Value::from(*number),
        Field::F64(number) => Value::from(*number),
        Field::String(text) => Value::from(text.as_str()),
        Field::Bytes(bytes) => Value::String(bytes_text(bytes)),
        Field::EnumNumber(number) => match field.kind() {
            Kind::Enum(known) => known.get_value(*number).map_or(Value::from(*number), |value| Value::from(value.name())),
            _ => Value::from(*number),
        },
        Field::Message(message) => json(message),
        Field::List(list) => list.iter().map(|one| value(field, one)).collect(),
        // No message of the platform has one.
        Field::Map(map) => Value::from(format!("{} entries", map.len())),
    }
}

fn bytes_text(bytes: &[u8]) -> String {
    match Uuid::from_slice(bytes) {
        Ok(id) if bytes.len() == ID_BYTES => id.hyphenated().to_string(),
        _ => STANDARD.encode(bytes),
    }
}

fn timestamp(message: &DynamicMessage) -> Option<Timestamp> {
    let seconds = message.get_field_by_name("seconds")?.as_i64()?;
    let nanos = message.get_field_by_name("nanos")?.as_i32()?;
    Timestamp::new(seconds, nanos).ok()
}

#[cfg(test)]
mod tests {
    use idempo_proto::event::v1::event_envelope::Data;
    use idempo_proto::event::v1::{EventEnvelope, ItemConsumed};
    use prost::Message as _;

    use super::*;

    fn consumed() -> EventEnvelope {
        EventEnvelope {
            event_id: vec![1; 16].into(),
            stream_id: vec![2; 16].into(),
            version: 7,
            data: Some(Data::ItemConsumed(ItemConsumed::default())),
            ..Default::default()
        }
    }

    #[test]
    fn an_event_is_told_by_its_kind_its_ids_and_its_place() {
        let event = Event::of(Some(&consumed().encode_to_vec())).expect("an event");
        assert_eq!((event.kind().as_str(), event.version()), ("item_consumed", Some(7)));
        assert_eq!(event.stream_id(), Some(Uuid::from_bytes([2; 16])));
        let json: Value = serde_json::from_str(&event.json()).expect("JSON");
        assert_eq!(json.pointer("/event_id").and_then(Value::as_str), Some("01010101-0101-0101-0101-010101010101"));
        assert!(json.get("item_consumed").is_some() && json.get("item_sent").is_none(), "{json}");
    }

    #[test]
    fn a_kind_that_is_not_known_is_a_number() {
        let mut bytes = EventEnvelope { data: None, ..consumed() }.encode_to_vec();
        // Field 317, of two bytes.
        bytes.extend([0xea, 0x13, 0x02, 0x08, 0x01]);
        let event = Event::of(Some(&bytes)).expect("an event");
        assert_eq!(event.kind(), "field_317");
        assert!(event.json().contains("\"unknown_fields\":[317]"), "{}", event.json());
    }

    #[test]
    fn what_is_no_event_says_why() {
        assert!(Event::of(None).is_err_and(|reason| reason.contains("tombstone")));
        assert!(Event::of(Some(b"\xff\xff")).is_err_and(|reason| reason.contains("are no")));
        assert!(Event::of(Some(b"")).is_err_and(|reason| reason.contains("event_id")));
    }
}
