//! The rows of an outbox, and the same as records for a bare loop: what each is follows from its number.

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use idempo_event_store::headers;
use idempo_ids::{Uuid, derive};
use tokio_postgres::Client;

use super::broker::PARTITIONS;

/// Keys that the rows are spread over, in turn. Divisible by writers × rows of a transaction, so that a key has one writer.
pub(super) const KEYS: u32 = 16_000;
/// Rows of one transaction when an outbox is filled.
const ROWS_PER_TRANSACTION: u32 = 10_000;
/// The bytes of one payload, about an envelope's.
pub(super) const PAYLOAD_BYTES: usize = 304;
/// Of these, the ones that do not compress: about as many as an envelope's ids have.
const NOISE_BYTES: usize = 144;
/// What stands in the rest.
const TEXT: &[u8] = b"a reason of usual length, ";
/// The trace context of a traced command.
pub(super) const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

/// Which headers every row has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Headers {
    /// None: what untraced commands write.
    None,
    /// The trace context: what traced ones write.
    Traceparent,
}

impl Headers {
    /// For the table.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::None => "no headers",
            Self::Traceparent => "traceparent",
        }
    }

    /// As they stand in an outbox row.
    fn stored(self) -> Option<Bytes> {
        (self == Self::Traceparent).then(|| headers::encode([(headers::TRACEPARENT, TRACEPARENT)]))
    }
}

/// One key and what its rows are made of.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) id: Uuid,
    pub(super) text: String,
    pub(super) partition: i32,
    /// A payload without its number.
    pub(super) tail: Vec<u8>,
}

/// What every row is made of.
#[derive(Debug)]
pub(super) struct Rows {
    keys: Vec<Key>,
}

impl Rows {
    /// The same each time.
    pub(super) fn new() -> Self {
        let key = |n| {
            let id = derive(Uuid::nil(), "bench-key", n);
            let text = id.to_string();
            let partition = idempo_kafka::partition_of(text.as_bytes(), PARTITIONS);
            let noise = (0_u32..).flat_map(|part| derive(id, "bench-payload", part).into_bytes().into_iter().skip(8));
            let tail = noise.take(NOISE_BYTES).chain(TEXT.iter().copied().cycle()).take(PAYLOAD_BYTES - size_of::<u32>()).collect();
            Key { id, text, partition, tail }
        };
        Self { keys: (0..KEYS).map(key).collect() }
    }

    /// The key of the `number`-th row.
    pub(super) fn key(&self, number: u32) -> anyhow::Result<&Key> {
        let at = usize::try_from(number % KEYS)?;
        self.keys.get(at).context("a key for each remainder")
    }

    /// Writes the `number`-th payload over `buffer`.
    pub(super) fn payload(&self, number: u32, buffer: &mut Vec<u8>) -> anyhow::Result<()> {
        buffer.clear();
        buffer.extend_from_slice(&number.to_be_bytes());
        buffer.extend_from_slice(&self.key(number)?.tail);
        Ok(())
    }

    /// Lets a session fill and write.
    pub(super) async fn prepare(&self, client: &Client) -> anyhow::Result<()> {
        client.batch_execute(include_str!("../sql/relay_keys.sql")).await?;
        let keys: Vec<Uuid> = self.keys.iter().map(|key| key.id).collect();
        let tails: Vec<&[u8]> = self.keys.iter().map(|key| key.tail.as_slice()).collect();
        client.execute(include_str!("../sql/relay_put_keys.sql"), &[&keys, &tails]).await?;
        Ok(())
    }

    /// Puts the rows `0..rows` into the outbox, in transactions of 10,000.
    pub(super) async fn fill(client: &Client, rows: u32, headers: Headers) -> anyhow::Result<()> {
        let statement = client.prepare(include_str!("../sql/relay_fill.sql")).await?;
        let headers = headers.stored();
        let (headers, keys) = (headers.as_deref(), i32::try_from(KEYS)?);
        let mut next = 0;
        while next < rows {
            let until = (next + ROWS_PER_TRANSACTION).min(rows);
            let (from, to) = (i32::try_from(next)?, i32::try_from(until - 1)?);
            let inserted = client.execute(&statement, &[&from, &to, &headers, &keys]).await?;
            ensure!(inserted == u64::from(until - next), "{inserted} rows of {}", until - next);
            next = until;
        }
        Ok(())
    }
}

/// The number of the row with this payload.
pub(super) fn number_of(payload: &[u8]) -> anyhow::Result<u32> {
    payload.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes)).context("a payload of no row of ours")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_tells_its_row() {
        let rows = Rows::new();
        let mut payload = Vec::new();
        rows.payload(70_001, &mut payload).expect("a key for each remainder");
        assert_eq!(payload.len(), PAYLOAD_BYTES);
        assert_eq!(number_of(&payload).expect("a number"), 70_001);
        assert_eq!(rows.key(70_001).expect("a key").id, rows.key(70_001 + KEYS).expect("a key").id);
    }
}
