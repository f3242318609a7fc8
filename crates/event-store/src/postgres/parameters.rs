//! A batch as the parameters of `es.append`: one array for each column, so that one call appends them all.

use std::collections::BTreeMap;

use bytes::Bytes;
use idempo_ids::{StreamId, Uuid};

use crate::inline::Parameter;
use crate::store::{CommandAppend, NewEvent, Touch};

/// The parameters `$1` to `$22`, column by column. Commands are numbered from 1.
#[derive(Debug, Default)]
pub(super) struct Columns {
    scopes: Vec<Vec<u8>>,
    keys: Vec<Uuid>,
    fingerprints: Vec<Octets>,
    outcomes: Vec<i16>,
    replies: Vec<Octets>,
    streams: BTreeMap<StreamId, Span>,
    touch_commands: Vec<i32>,
    touch_streams: Vec<Uuid>,
    touch_added: Vec<i32>,
    event_commands: Vec<i32>,
    event_streams: Vec<Uuid>,
    event_versions: Vec<i64>,
    event_ids: Vec<Uuid>,
    event_types: Vec<i16>,
    event_topics: Vec<i16>,
    event_keys: Vec<Uuid>,
    event_headers: Vec<Option<Octets>>,
    event_envelopes: Vec<Octets>,
}

/// Shared bytes as a `bytea` parameter, without a copy of their own.
#[derive(Debug)]
struct Octets(Bytes);

impl tokio_postgres::types::ToSql for Octets {
    fn to_sql(
        &self,
        ty: &tokio_postgres::types::Type,
        out: &mut bytes::BytesMut,
    ) -> Result<tokio_postgres::types::IsNull, Box<dyn std::error::Error + Sync + Send>> {
        (&*self.0).to_sql(ty, out)
    }

    fn accepts(ty: &tokio_postgres::types::Type) -> bool {
        *ty == tokio_postgres::types::Type::BYTEA
    }

    tokio_postgres::types::to_sql_checked!();
}

/// What a batch does to one stream: from the version its first command expects to the one its last leaves.
#[derive(Debug)]
struct Span {
    category: i16,
    partition_key: Uuid,
    expected: i64,
    last: i64,
}

impl Columns {
    pub(super) fn push(&mut self, number: i32, command: CommandAppend) {
        self.scopes.push(command.key.scope.to_vec());
        self.keys.push(command.key.key);
        self.fingerprints.push(Octets(command.settled.fingerprint));
        self.outcomes.push(command.settled.verdict.number());
        self.replies.push(Octets(command.settled.reply));
        for touch in &command.touches {
            self.push_touch(number, touch);
        }
        for event in command.events {
            self.push_event(number, event);
        }
    }

    fn push_touch(&mut self, number: i32, touch: &Touch) {
        let (expected, added) = (stored_version(touch.expected), i64::from(touch.added));
        self.touch_commands.push(number);
        self.touch_streams.push(touch.target.stream_id.uuid());
        self.touch_added.push(i32::try_from(touch.added).unwrap_or(i32::MAX));
        self.streams.entry(touch.target.stream_id).and_modify(|span| span.last += added).or_insert(Span {
            category: touch.category,
            partition_key: touch.target.partition_key,
            expected,
            last: expected + added,
        });
    }

    fn push_event(&mut self, number: i32, event: NewEvent) {
        self.event_commands.push(number);
        self.event_streams.push(event.target.stream_id.uuid());
        self.event_versions.push(stored_version(event.version));
        self.event_ids.push(event.event_id.uuid());
        self.event_types.push(event.event_type);
        self.event_topics.push(event.topic);
        self.event_keys.push(event.target.partition_key);
        self.event_headers.push(event.headers.map(Octets));
        self.event_envelopes.push(Octets(event.envelope));
    }

    pub(super) fn into_parameters(self) -> Vec<Parameter> {
        // A BTreeMap over ids gives the streams in the order in which PostgreSQL compares UUIDs: byte by byte.
        let spans = || self.streams.values();
        let stream_ids: Vec<Uuid> = self.streams.keys().map(|stream| stream.uuid()).collect();
        vec![
            Box::new(self.scopes),
            Box::new(self.keys),
            Box::new(self.fingerprints),
            Box::new(self.outcomes),
            Box::new(self.replies),
            Box::new(stream_ids),
            Box::new(spans().map(|span| span.category).collect::<Vec<_>>()),
            Box::new(spans().map(|span| span.partition_key).collect::<Vec<_>>()),
            Box::new(spans().map(|span| span.expected).collect::<Vec<_>>()),
            Box::new(spans().map(|span| span.last).collect::<Vec<_>>()),
            Box::new(self.touch_commands),
            Box::new(self.touch_streams),
            Box::new(self.touch_added),
            Box::new(self.event_commands),
            Box::new(self.event_streams),
            Box::new(self.event_versions),
            Box::new(self.event_ids),
            Box::new(self.event_types),
            Box::new(self.event_topics),
            Box::new(self.event_keys),
            Box::new(self.event_headers),
            Box::new(self.event_envelopes),
        ]
    }
}

/// A version as the database keeps it. Versions stay far below 2^63: each is an event that was written.
pub(super) fn stored_version(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}
