//! What is looked at after the load: both event stores, the topic, and the tables that are derived from the events.

use std::collections::BTreeMap;

use bytes::Bytes;
use idempo_ids::{CommandId, EventId, StreamId, Uuid};
use idempo_proto::event::v1::EventEnvelope;
use idempo_proto::event::v1::event_envelope::Data;

/// An event as a store has it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredEvent {
    /// The transaction that wrote it.
    pub xid: u64,
    /// Its place in the store's sequence.
    pub seq: i64,
    /// Its stream, as the row says.
    pub stream_id: StreamId,
    /// Its version, as the row says.
    pub version: u64,
    /// Its id, as the row says.
    pub event_id: EventId,
    /// The stored bytes.
    pub envelope: Bytes,
    /// What they say.
    pub decoded: EventEnvelope,
}

impl StoredEvent {
    /// The command that caused it; the nil id where the envelope has none.
    #[must_use]
    pub fn command_id(&self) -> CommandId {
        CommandId::from_slice(&self.decoded.command_id).unwrap_or(CommandId::new(Uuid::nil()))
    }

    /// The key of the client's command that its chain began with; the nil id where the envelope has none.
    #[must_use]
    pub fn correlation_id(&self) -> Uuid {
        Uuid::from_slice(&self.decoded.correlation_id).unwrap_or_default()
    }

    /// The owner of its stream; the nil id where the envelope has none.
    #[must_use]
    pub fn partition_key(&self) -> Uuid {
        Uuid::from_slice(&self.decoded.partition_key).unwrap_or_default()
    }

    /// What happened.
    #[must_use]
    pub const fn data(&self) -> Option<&Data> {
        self.decoded.data.as_ref()
    }
}

/// A stream's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamRow {
    /// The stream.
    pub stream_id: StreamId,
    /// Who owns it.
    pub partition_key: Uuid,
    /// The version of its last event.
    pub version: u64,
}

/// One event store.
#[derive(Debug, Clone, Default)]
pub struct Store {
    /// The database's name.
    pub name: &'static str,
    /// Every event, in the order of `seq`.
    pub events: Vec<StoredEvent>,
    /// Every stream.
    pub streams: Vec<StreamRow>,
}

/// A record of the topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// When it was produced, in milliseconds since 1970; `None` where the broker does not say.
    pub produced_ms: Option<i64>,
    /// Its key.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
}

/// The rows of one table as text, by key: to be compared row by row.
pub type Rows = BTreeMap<String, String>;

/// The rows of several tables, by table.
pub type Tables = BTreeMap<&'static str, Rows>;

/// The topic, with each record's event.
#[derive(Debug, Clone, Default)]
pub struct Topic {
    /// How many partitions it has.
    pub partitions: i32,
    /// Every record, by partition and offset.
    pub records: Vec<Record>,
}
