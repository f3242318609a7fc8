//! What is in a record's value, as far as it can be told.
//!
//! By the descriptor set, not by types: an event that a later program writes is shown as far as this one knows it, and its type is a number then.

use prost_reflect::{DynamicMessage, ReflectMessage as _};
use serde_json::Value;
use uuid::Uuid;

use crate::{ID_BYTES, descriptor, json};

/// The message that every event travels in.
pub const ENVELOPE: &str = "idempo.event.v1.EventEnvelope";
/// The field of it that says what happened.
pub const DATA: &str = "data";

/// An event, decoded.
#[derive(Debug)]
pub struct Event(DynamicMessage);

impl Event {
    /// The event in a record's value.
    ///
    /// # Errors
    /// Why it is none, for people.
    pub fn of(value: Option<&[u8]>) -> Result<Self, String> {
        let value = value.ok_or("the record is a tombstone: it has no value")?;
        let descriptor = descriptor(ENVELOPE).ok_or("this program does not know what an event is")?;
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

    /// The event's id.
    #[must_use]
    pub fn event_id(&self) -> Option<Uuid> {
        self.id("event_id")
    }

    /// The stream that it is in.
    #[must_use]
    pub fn stream_id(&self) -> Option<Uuid> {
        self.id("stream_id")
    }

    /// The version in its stream, from 1.
    #[must_use]
    pub fn version(&self) -> Option<i64> {
        i64::try_from(self.0.get_field_by_name("version")?.as_u64()?).ok()
    }

    /// The trace context of the command behind it; empty where there is none.
    #[must_use]
    pub fn traceparent(&self) -> String {
        self.0.get_field_by_name("traceparent").and_then(|field| field.as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// What happened, as the envelope's field is called; `field_317` for one that this program does not know, empty where nothing is said.
    #[must_use]
    pub fn kind(&self) -> String {
        let unknown = || self.0.unknown_fields().map(|field| format!("field_{}", field.number())).next();
        self.known_kind().or_else(unknown).unwrap_or_default()
    }

    /// What happened, as the envelope's field is called; `None` where this program does not know it.
    #[must_use]
    pub fn known_kind(&self) -> Option<String> {
        let data = self.0.descriptor().oneofs().find(|oneof| oneof.name() == DATA)?;
        data.fields().find(|field| self.0.has_field(field)).map(|field| field.name().to_owned())
    }

    /// The event as JSON: every field that is known, under the name that it has in the file; ids as UUIDs, other bytes in base64. The numbers of fields
    /// that are not known are under `unknown_fields`.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut json = json(&self.0);
        let unknown: Vec<Value> = self.0.unknown_fields().map(|field| Value::from(field.number())).collect();
        if let (Value::Object(fields), false) = (&mut json, unknown.is_empty()) {
            fields.insert("unknown_fields".to_owned(), Value::Array(unknown));
        }
        json
    }

    fn id(&self, field: &str) -> Option<Uuid> {
        let field = self.0.get_field_by_name(field)?;
        Uuid::from_slice(field.as_bytes()?).ok()
    }
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
        let json = event.json();
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
        assert!(event.json()["unknown_fields"] == serde_json::json!([317]), "{}", event.json());
    }

    #[test]
    fn what_is_no_event_says_why() {
        assert!(Event::of(None).is_err_and(|reason| reason.contains("tombstone")));
        assert!(Event::of(Some(b"\xff\xff")).is_err_and(|reason| reason.contains("are no")));
        assert!(Event::of(Some(b"")).is_err_and(|reason| reason.contains("event_id")));
    }
}
