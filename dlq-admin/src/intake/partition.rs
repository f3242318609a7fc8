//! One partition of a dead-letter topic, from its records to rows.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use idempo_clock::SharedClock;
use idempo_kafka::{PartitionStream, Record, TopicPartition};
use idempo_pg::Pool;
use tokio_util::sync::CancellationToken;

use super::chain;
use crate::letter::Letter;

/// The most records that are written at once.
const BATCH_RECORDS_MAX: usize = 256;
/// About the most bytes that are written at once, unless one record is larger.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// How long a database that is away is left alone, at first and at most.
const RETRY_DELAY_MIN: Duration = Duration::from_millis(20);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(2);

/// Why a partition's task has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// It was told to, or its stream has ended.
    Told,
    /// Another process has the partition.
    Fenced,
}

/// The database, as the reader of the topics uses it.
pub(super) struct Store {
    pub(super) pool: Pool,
    /// Who this process is, in the audit.
    pub(super) instance: String,
    pub(super) clock: SharedClock,
}

impl Store {
    /// Takes a partition: its new epoch, and the offset to read on from.
    pub(super) async fn take(&self, partition: &TopicPartition) -> (i64, i64) {
        patiently(partition, || async {
            let client = self.pool.get().await?;
            let statement = client.prepare_cached(include_str!("../sql/take_partition.sql")).await?;
            let row = client.query_one(&statement, &[&partition.topic.as_ref(), &partition.partition]).await?;
            Ok((row.try_get(0)?, row.try_get(1)?))
        })
        .await
    }

    /// Moves a position; one that was moved by somebody else stays where it is.
    pub(super) async fn reposition(&self, partition: &TopicPartition, epoch: i64, from: i64, to: i64) {
        const REASON: &str = "the log does not have the offset";
        patiently(partition, || async {
            let client = self.pool.get().await?;
            let statement = client.prepare_cached(include_str!("../sql/reposition.sql")).await?;
            let topic = partition.topic.as_ref();
            client.query_one(&statement, &[&topic, &partition.partition, &epoch, &from, &to, &self.instance, &REASON]).await?;
            Ok(())
        })
        .await;
    }

    /// Writes letters and the offset behind them. False where another process has the partition.
    async fn take_in(&self, partition: &TopicPartition, epoch: i64, (from, to): (i64, i64), letters: &str) -> bool {
        patiently(partition, || async {
            let client = self.pool.get().await?;
            let statement = client.prepare_cached(include_str!("../sql/take_in.sql")).await?;
            let topic = partition.topic.as_ref();
            let row = client.query_one(&statement, &[&topic, &partition.partition, &epoch, &from, &to, &letters]).await?;
            Ok(row.try_get(0)?)
        })
        .await
    }
}

/// Reads a partition into the database until it is told to stop, or another process has it.
pub(super) async fn run(store: &Store, mut stream: PartitionStream, (epoch, mut next): (i64, i64), cancel: CancellationToken) -> Ended {
    let partition = stream.partition().clone();
    let mut records = Vec::with_capacity(BATCH_RECORDS_MAX);
    loop {
        let received = cancel.run_until_cancelled(stream.recv_many(&mut records, BATCH_RECORDS_MAX)).await;
        if received.is_none_or(|received| received == 0) {
            return Ended::Told;
        }
        let batches = batches(store, &partition, records.drain(..));
        fail::fail_point!(crate::failpoint::DLQ_BEFORE_TAKE_IN);
        for Batch { letters, behind } in batches {
            // Letters are texts and numbers: there is nothing in them that JSON does not have.
            let json = serde_json::to_string(&letters).unwrap_or_default();
            match cancel.run_until_cancelled(store.take_in(&partition, epoch, (next, behind), &json)).await {
                None => return Ended::Told,
                // An answer that was lost reads like another process too: what was written stands at another offset. It is taken anew then.
                Some(false) => return Ended::Fenced,
                Some(true) => next = behind,
            }
            fail::fail_point!(crate::failpoint::DLQ_TAKEN_IN);
            stream.hint(next);
            crate::metrics::taken_in(&partition.topic, letters.len());
        }
    }
}

/// Letters that are written together, each once, and the offset behind their records.
struct Batch {
    letters: Vec<Letter>,
    behind: i64,
}

/// Cuts records into batches: none much larger than the limit, unless one record is.
fn batches(store: &Store, partition: &TopicPartition, records: impl Iterator<Item = Record>) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    let mut places: HashMap<(String, String, i32, i64), usize> = HashMap::new();
    let mut bytes = BATCH_BYTES_MAX;
    for record in records {
        let behind = record.offset + 1;
        let letter = Letter::of_record(partition, record, store.clock.now());
        if bytes >= BATCH_BYTES_MAX {
            batches.push(Batch { letters: Vec::new(), behind });
            places.clear();
            bytes = 0;
        }
        let Some(batch) = batches.last_mut() else { continue };
        bytes += letter.weight();
        batch.behind = behind;
        let (group, topic, number, offset) = letter.id();
        let place = places.entry((group.to_owned(), topic.to_owned(), number, offset)).or_insert(batch.letters.len());
        match batch.letters.get_mut(*place) {
            Some(known) => known.absorb(letter),
            None => batch.letters.push(letter),
        }
    }
    batches
}

/// Makes a call of the database until it is answered. What keeps it from being answered is told of once.
///
/// Also where the database refuses the statement, which is a defect of ours: nothing may pass a dead letter.
async fn patiently<T, C: Future<Output = Result<T, idempo_pg::Error>>>(partition: &TopicPartition, call: impl FnMut() -> C) -> T {
    let away = AtomicBool::new(false);
    let delays =
        ExponentialBuilder::new().with_min_delay(RETRY_DELAY_MIN).with_max_delay(RETRY_DELAY_MAX).with_jitter().without_max_times();
    let mut call = call;
    loop {
        let answer = (&mut call)
            .retry(delays)
            .notify(|error: &idempo_pg::Error, _| {
                if !away.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%partition, error = chain(error), "dead letters can't be written, the partition waits");
                }
            })
            .await;
        if let Ok(answer) = answer {
            if away.load(Ordering::Relaxed) {
                tracing::info!(%partition, "dead letters can be written again");
            }
            return answer;
        }
    }
}
