//! Small facts for the checks' own tests.

use bytes::Bytes;
use idempo_ids::{CommandId, EventId, StreamId, Uuid};
use idempo_proto::event::v1::event_envelope::Data;
use idempo_proto::event::v1::{EventEnvelope, WalletOpened};
use prost::Message as _;
use tonic::Code;

use crate::facts::{Record, Store, StoredEvent, StreamRow, Topic};
use crate::history::{Answer, Attempt, Expected, Purpose, Refusal};
use crate::method::Method;

pub(super) fn key(number: u8) -> Uuid {
    Uuid::from_bytes([number; 16])
}

pub(super) fn stream(number: u8) -> StreamId {
    StreamId::new(Uuid::from_bytes([number; 16]))
}

pub(super) fn replied(reply: &'static [u8]) -> Answer {
    Answer::Replied { reply: Bytes::from_static(reply), replayed: false }
}

pub(super) fn refused(reason: &str) -> Answer {
    let refusal = Refusal {
        code: Code::FailedPrecondition,
        reason: reason.to_owned(),
        fields: vec![],
        message: "a message".to_owned(),
        details: Bytes::copy_from_slice(reason.as_bytes()),
    };
    Answer::Refused { refusal, replayed: false }
}

pub(super) fn attempt(command: u8, purpose: Purpose, answer: Answer) -> Attempt {
    Attempt {
        client: 0,
        method: Method::GrantFunds,
        key: Some(key(command)),
        command: Some(CommandId::new(key(command))),
        request: Bytes::new(),
        purpose,
        expected: Expected::Applied,
        invoked_us: 0,
        settled_us: 1_000,
        answer,
        position: vec![],
    }
}

/// The `ordinal`-th event of a command, owned by the player whose id is the stream's.
pub(super) fn event(seq: i64, stream_id: StreamId, version: u64, command: u8, ordinal: u32) -> StoredEvent {
    let data = Data::WalletOpened(WalletOpened { player_id: stream_id.bytes().to_vec().into(), ..WalletOpened::default() });
    event_of(seq, stream_id, version, command, ordinal, data)
}

pub(super) fn event_of(seq: i64, stream_id: StreamId, version: u64, command: u8, ordinal: u32, data: Data) -> StoredEvent {
    let command_id = CommandId::new(key(command));
    let event_id = EventId::of(command_id, ordinal);
    let decoded = EventEnvelope {
        event_id: event_id.bytes().to_vec().into(),
        stream_id: stream_id.bytes().to_vec().into(),
        version,
        partition_key: stream_id.bytes().to_vec().into(),
        decided_at: Some(prost_types::Timestamp { seconds: 1_700_000_000 + seq, nanos: 0 }),
        command_id: command_id.bytes().to_vec().into(),
        correlation_id: command_id.bytes().to_vec().into(),
        causation_id: Bytes::new(),
        traceparent: String::new(),
        data: Some(data),
    };
    StoredEvent { xid: u64::from(command), seq, stream_id, version, event_id, envelope: decoded.encode_to_vec().into(), decoded }
}

/// A store whose stream rows fit its events.
pub(super) fn store(events: Vec<StoredEvent>) -> Store {
    let mut streams: Vec<StreamRow> = Vec::new();
    for event in &events {
        match streams.iter_mut().find(|row| row.stream_id == event.stream_id) {
            Some(row) => row.version = row.version.max(event.version),
            None => {
                streams.push(StreamRow { stream_id: event.stream_id, partition_key: event.partition_key(), version: event.version });
            }
        }
    }
    Store { name: "sample_db", events, streams }
}

pub(super) fn record(event: &StoredEvent) -> Record {
    let key = Bytes::from(event.partition_key().to_string());
    Record { partition: 0, offset: event.seq, produced_ms: None, key, value: event.envelope.clone() }
}

pub(super) const fn topic(records: Vec<Record>) -> Topic {
    Topic { partitions: 1, records }
}
