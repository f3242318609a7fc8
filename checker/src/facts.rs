//! What is looked at: the event stores, the topics, and the tables that are derived from the events.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use idempo_proto::event::v1::EventEnvelope;
use idempo_proto::event::v1::event_envelope::Data;
use prost::Message as _;
use uuid::Uuid;

use crate::ids;

/// An event as a store has it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredEvent {
    /// The transaction that wrote it.
    pub xid: u64,
    /// Its place in the store's sequence.
    pub seq: i64,
    /// Its stream, as the row says.
    pub stream_id: Uuid,
    /// Its version, as the row says.
    pub version: u64,
    /// Its id, as the row says.
    pub event_id: Uuid,
    /// The stored bytes.
    pub envelope: Bytes,
    /// What they say.
    pub decoded: EventEnvelope,
}

impl StoredEvent {
    /// The command that caused it; the nil id where the envelope has none.
    #[must_use]
    pub fn command_id(&self) -> Uuid {
        ids::of_bytes(&self.decoded.command_id).unwrap_or_default()
    }

    /// The key of the client's command that its chain began with; the nil id where the envelope has none.
    #[must_use]
    pub fn correlation_id(&self) -> Uuid {
        ids::of_bytes(&self.decoded.correlation_id).unwrap_or_default()
    }

    /// The owner of its stream; the nil id where the envelope has none.
    #[must_use]
    pub fn partition_key(&self) -> Uuid {
        ids::of_bytes(&self.decoded.partition_key).unwrap_or_default()
    }

    /// What happened.
    #[must_use]
    pub const fn data(&self) -> Option<&Data> {
        self.decoded.data.as_ref()
    }

    /// When it was decided, in microseconds since 1970.
    #[must_use]
    pub fn decided_us(&self) -> i64 {
        self.decoded.decided_at.as_ref().map_or(0, micros)
    }
}

/// A time in microseconds since 1970.
pub(crate) fn micros(at: &prost_types::Timestamp) -> i64 {
    at.seconds.saturating_mul(1_000_000).saturating_add(i64::from(at.nanos / 1_000))
}

/// A stream's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamRow {
    /// The stream.
    pub stream_id: Uuid,
    /// Who owns it.
    pub partition_key: Uuid,
    /// The version of its last event.
    pub version: u64,
}

/// What a store remembers of an idempotency key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// The key.
    pub key: Uuid,
    /// What it is unique within; see [`ids::scope`].
    pub scope: Uuid,
    /// Whether the command was refused; else it was applied.
    pub is_refused: bool,
    /// The encoded reply, or the encoded `google.rpc.Status` of the refusal.
    pub reply: Bytes,
}

/// One event store.
#[derive(Debug, Clone, Default)]
pub struct Store {
    /// The database's name.
    pub name: String,
    /// Every event, in the order of `seq`.
    pub events: Vec<StoredEvent>,
    /// Every stream.
    pub streams: Vec<StreamRow>,
    /// Every idempotency key.
    pub keys: Vec<KeyRow>,
}

/// A record of a topic.
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
    /// Its headers, in their order.
    pub headers: Vec<(String, Bytes)>,
}

impl Record {
    /// The event in it; `None` where there is none that has ids.
    #[must_use]
    pub fn event(&self) -> Option<RecordedEvent> {
        let envelope = EventEnvelope::decode(self.value.clone()).ok()?;
        Some(RecordedEvent {
            event_id: ids::of_bytes(&envelope.event_id)?,
            stream_id: ids::of_bytes(&envelope.stream_id)?,
            version: envelope.version,
            partition_key: ids::of_bytes(&envelope.partition_key)?,
        })
    }
}

/// What a record says of its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordedEvent {
    /// The event.
    pub event_id: Uuid,
    /// Its stream.
    pub stream_id: Uuid,
    /// Its version there.
    pub version: u64,
    /// The owner of the stream.
    pub partition_key: Uuid,
}

/// A topic as it was at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// How many partitions it has.
    pub partitions: i32,
    /// Every record, each partition's in the order of their offsets.
    pub records: Vec<Record>,
}

/// The rows of one table as text, by key: to be compared row by row.
pub type Rows = BTreeMap<String, String>;

/// The rows of several tables, by table.
pub type Tables = BTreeMap<&'static str, Rows>;

/// How far a read model has read a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset at which it goes on.
    pub next_offset: i64,
}

/// Where a record is: topic, partition, offset.
pub type Place = (String, i32, i64);

/// A read model: its live generation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// Its rows.
    pub tables: Tables,
    /// How far it is.
    pub checkpoints: Vec<Checkpoint>,
    /// The last version of each stream in it.
    pub versions: BTreeMap<Uuid, u64>,
    /// Records below its checkpoints that it could not take, and those that wait behind them: they are not in its rows.
    pub parked: BTreeSet<Place>,
}

/// A record that a consumer could not take, as the service shows it that people settle dead letters with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Letter {
    /// The consumer group that could not take it.
    pub consumer_group: String,
    /// Where the record is.
    pub place: Place,
    /// The record's key, where it has one that is text.
    pub key: Option<String>,
    /// `open`, `replayed`, `discarded`, `gone` or `export_only`.
    pub state: String,
    /// Why it failed last.
    pub code: String,
    /// What jobs have come to with it, in the order of the jobs.
    pub members: Vec<Member>,
}

impl Letter {
    /// What audits call it.
    #[must_use]
    pub fn name(&self) -> String {
        let (topic, partition, offset) = &self.place;
        format!("deadLetters/{}.{topic}.{partition}.{offset}", self.consumer_group)
    }
}

/// A dead letter in a job.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    /// The job.
    pub job: i64,
    /// What the job has come to with it, such as `applied` or `failed_again`.
    pub state: String,
    /// How many records were applied with it.
    pub records: u64,
}

/// A job: dead letters with which one thing is done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Job {
    /// Its number.
    pub id: i64,
    /// Where it is, such as `done`.
    pub state: String,
    /// Whether it was ever begun.
    pub begun: bool,
}

/// A row of an audit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditRow {
    /// Who.
    pub caller: String,
    /// What.
    pub action: String,
    /// To what.
    pub target: String,
    /// `DONE`, or why not.
    pub outcome: String,
}

/// What has become of dead letters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLetters {
    /// Every dead letter that is known.
    pub letters: Vec<Letter>,
    /// Every job.
    pub jobs: Vec<Job>,
    /// What was done here, in order.
    pub audit: Vec<AuditRow>,
    /// What was asked of the consumer, in order.
    pub wishes: Vec<AuditRow>,
}

/// How one outbox is relayed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outbox {
    /// The database's name.
    pub name: String,
    /// Who holds the lease, as the relay calls itself.
    pub owner: Option<String>,
    /// The lease's epoch.
    pub lease_epoch: i64,
    /// Whether the lease has not run out.
    pub held: bool,
    /// How far it is in Kafka: to be told apart from others only.
    pub cursor: String,
    /// Rows that are not known to be in Kafka.
    pub backlog_rows: u64,
}

/// A move of an outbox's cursor, as its database has seen it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CursorMove {
    /// The database's name.
    pub outbox: String,
    /// Its place among the moves of that cursor.
    pub number: i64,
    /// The session that made it, as the database numbers them.
    pub session: i32,
    /// The lease's epoch at that moment.
    pub epoch: i64,
    /// Whether it was the session that the lease was held with.
    pub by_holder: bool,
    /// The snapshot of which everything is in Kafka.
    pub done: String,
    /// Its end: the first transaction id that it shows nothing of.
    pub done_xmax: i64,
    /// The snapshot that the batch which follows ends with; empty between batches.
    pub batch: String,
    /// The last row of that batch that is in Kafka.
    pub acked_seq: i64,
}

/// A session that is in a transaction and does nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdleTransaction {
    /// The database.
    pub database: String,
    /// Who.
    pub user: String,
    /// What it calls itself.
    pub application: String,
    /// For how long, in milliseconds.
    pub idle_ms: i64,
}
