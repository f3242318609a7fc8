//! What is in the outbox before it is drained, and the same as records for the bare loop.

use anyhow::ensure;
use idempo_ids::{Uuid, derive};
use tokio_postgres::Client;

/// Keys that the rows are spread over.
const KEYS: u32 = 10_000;
/// Rows of one transaction.
const ROWS_PER_TRANSACTION: u32 = 10_000;
/// The bytes of one payload, about an envelope's.
pub(crate) const PAYLOAD_BYTES: usize = 304;

/// A row as a Kafka record.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) key: String,
    pub(crate) partition: i32,
    pub(crate) payload: Vec<u8>,
}

/// The `n`-th row's payload: its number, and bytes that do not compress to nothing.
pub(crate) fn payload(n: u32) -> Vec<u8> {
    let noise = derive(Uuid::nil(), "bench-payload", n);
    let mut payload = n.to_be_bytes().to_vec();
    payload.extend(noise.as_bytes().iter().cycle().take(PAYLOAD_BYTES / 2));
    payload.resize(PAYLOAD_BYTES, 0x20);
    payload
}

/// The `n`-th row's key.
pub(crate) fn key(n: u32) -> Uuid {
    derive(Uuid::nil(), "bench-key", n % KEYS)
}

/// The rows as records.
pub(crate) fn records(rows: u32) -> Vec<Record> {
    let record = |n| {
        let key = key(n).to_string();
        let partition = idempo_kafka::partition_of(key.as_bytes(), super::broker::PARTITIONS);
        Record { key, partition, payload: payload(n) }
    };
    (0..rows).map(record).collect()
}

/// Puts the rows numbered `from..to` into the outbox, in transactions of their own.
pub(crate) async fn insert(client: &Client, from: u32, to: u32) -> anyhow::Result<()> {
    let statement = client.prepare(include_str!("../sql/fill_outbox.sql")).await?;
    let mut next = from;
    while next < to {
        let until = (next + ROWS_PER_TRANSACTION).min(to);
        let keys: Vec<Uuid> = (next..until).map(key).collect();
        let payloads: Vec<Vec<u8>> = (next..until).map(payload).collect();
        let inserted = client.execute(&statement, &[&keys, &payloads]).await?;
        ensure!(inserted == u64::from(until - next));
        next = until;
    }
    Ok(())
}
