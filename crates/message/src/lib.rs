//! Messages as JSON, by the descriptor set: whatever the platform has a message for can be shown, also what this program has no type for.
//!
//! Not protobuf's own JSON: numbers are numbers, bytes that are an id are shown as a UUID, and every field of the message is there, under the name it has in
//! the file. Fields of a `oneof` and messages are left out where they are not set.

mod event;

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage as _, Value as Field,
};
use serde_json::{Map, Value};
use uuid::Uuid;

pub use event::{DATA, ENVELOPE, Event};

/// How long an id is, in bytes.
const ID_BYTES: usize = 16;
const TIMESTAMP: &str = "google.protobuf.Timestamp";

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    // A set that can't be read would be a defect of the build; a test says so.
    DescriptorPool::decode(idempo_proto::DESCRIPTOR_SET).unwrap_or_default()
});

/// The message type with this full name.
#[must_use]
pub fn descriptor(full_name: &str) -> Option<MessageDescriptor> {
    POOL.get_message_by_name(full_name)
}

/// A message of ours as JSON; `null` where the descriptor set does not have its type.
#[must_use]
pub fn json_of(full_name: &str, message: &impl Message) -> Value {
    let Some(descriptor) = descriptor(full_name) else { return Value::Null };
    DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice()).map_or(Value::Null, |message| json(&message))
}

/// A message as JSON.
#[must_use]
pub fn json(message: &DynamicMessage) -> Value {
    if message.descriptor().full_name() == TIMESTAMP {
        return timestamp(message).map_or(Value::Null, |time| Value::String(time.to_string()));
    }
    let mut fields = Map::new();
    for field in message.descriptor().fields() {
        let may_be_missing = field.containing_oneof().is_some() || (matches!(field.kind(), Kind::Message(_)) && !field.is_list());
        if may_be_missing && !message.has_field(&field) {
            continue;
        }
        fields.insert(field.name().to_owned(), value(&field, &message.get_field(&field)));
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
        Field::Map(map) => Value::Object(map.iter().map(|(key, one)| (key_text(key), value(field, one))).collect()),
    }
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(yes) => yes.to_string(),
        MapKey::I32(number) => number.to_string(),
        MapKey::I64(number) => number.to_string(),
        MapKey::U32(number) => number.to_string(),
        MapKey::U64(number) => number.to_string(),
        MapKey::String(text) => text.clone(),
    }
}

/// Bytes as text: a UUID where they can be one, else base64.
#[must_use]
pub fn bytes_text(bytes: &[u8]) -> String {
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

/// A time of a message, where it is one.
#[must_use]
pub fn time_of(at: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
    at.and_then(|at| Timestamp::new(at.seconds, at.nanos).ok())
}

/// A value of an enum as people write it: `OUTBOX_STATE_BROKER_AWAY` is `broker away`.
#[must_use]
pub fn enum_text(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase().replace('_', " ")
}

#[cfg(test)]
mod tests {
    use idempo_proto::event::v1::event_envelope::Data;
    use idempo_proto::event::v1::{Asset, EventEnvelope, FundsMinted};

    use super::*;

    #[test]
    fn an_event_is_shown_with_ids_names_and_times() {
        let minted = FundsMinted { asset: Asset::Coin.into(), amount: 1 << 60, ..FundsMinted::default() };
        let event = EventEnvelope {
            event_id: vec![1; 16].into(),
            decided_at: Some(prost_types::Timestamp { seconds: 0, nanos: 5_000 }),
            data: Some(Data::FundsMinted(minted)),
            ..EventEnvelope::default()
        };
        let json = json_of("idempo.event.v1.EventEnvelope", &event);
        assert_eq!(json["event_id"], "01010101-0101-0101-0101-010101010101");
        assert_eq!(json["decided_at"], "1970-01-01T00:00:00.000005Z");
        assert_eq!(json["funds_minted"]["asset"], "ASSET_COIN");
        assert_eq!(json["funds_minted"]["amount"], 1_u64 << 60);
        assert_eq!(json["version"], 0, "a field without a value is there");
        assert!(json.get("funds_burned").is_none(), "what did not happen is not there");
    }

    #[test]
    fn values_of_enums_are_words() {
        assert_eq!(enum_text("OUTBOX_STATE_BROKER_AWAY", "OUTBOX_STATE_"), "broker away");
    }
}
