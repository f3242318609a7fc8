//! The way from commit to the broker's append, at a rate that does not follow how fast the relay is.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use idempo_ids::Uuid;
use tokio::time::{Instant, MissedTickBehavior};

use super::{Bench, STOP_MAX, broker, fill, wait_for};

/// Rows before the measured ones: the relay is warm then.
const WARM_UP_SECONDS: u32 = 2;
/// Connections that write in turn.
const WRITERS: usize = 8;

/// Latencies in microseconds. The commit lies between the two moments, so these are the bounds of what "commit to append" can be.
pub(super) struct Latencies {
    /// From when the insert was sent: with its execution and its fsync.
    pub(super) from_sending: Histogram<u64>,
    /// From when its writer knew of the commit. The relay may be faster than that answer: then it is 0.
    pub(super) from_answer: Histogram<u64>,
}

/// When a row was written, since 1970.
#[derive(Debug, Clone, Copy)]
struct Written {
    sent: Duration,
    answered: Duration,
}

/// Writes `per_second` rows a second, each in a transaction of its own, for `seconds`.
///
/// The broker's clock has milliseconds, cut off; one is added to each latency so that none is reported too small.
pub(super) async fn run(bench: &Bench, per_second: u32, seconds: u32) -> anyhow::Result<Latencies> {
    let consumer = broker::consumer(&bench.brokers)?;
    let before = tokio::task::block_in_place(|| broker::count(&consumer, &bench.topic()))?;
    let relay = bench.start_relay().await?;
    relay.platform.readiness.wait_ready().await;
    let rows = per_second * (seconds + WARM_UP_SECONDS);
    let written = write(bench, per_second, rows).await?;
    wait_for(&consumer, &bench.topic(), before + u64::from(rows)).await?;
    relay.stop(STOP_MAX).await.map_err(|overrun| anyhow::anyhow!("{overrun:?}"))?;

    let mut latencies = Latencies { from_sending: Histogram::new(3)?, from_answer: Histogram::new(3)? };
    let mut seen = 0_u32;
    tokio::task::block_in_place(|| {
        broker::read_all(&consumer, &bench.topic(), |record| {
            let number = record.payload.first_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes));
            let Some(written) = written.get(&number) else { return };
            seen += 1;
            if number - NUMBERS_FROM >= per_second * WARM_UP_SECONDS {
                let appended = Duration::from_millis(u64::try_from(record.at_ms + 1).unwrap_or(0));
                let since = |moment| u64::try_from(appended.saturating_sub(moment).as_micros()).unwrap_or(u64::MAX);
                latencies.from_sending.saturating_record(since(written.sent));
                latencies.from_answer.saturating_record(since(written.answered));
            }
        })
    })?;
    ensure!(seen == rows, "{seen} records for {rows} rows");
    Ok(latencies)
}

/// The numbers of the steady rows begin here, beyond those of the drained ones.
const NUMBERS_FROM: u32 = 1_000_000_000;

async fn write(bench: &Bench, per_second: u32, rows: u32) -> anyhow::Result<HashMap<u32, Written>> {
    let period = Duration::from_secs(1) / per_second;
    let began = Instant::now() + period;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let client = bench.client().await?;
        writers.spawn(async move {
            let statement = client.prepare(include_str!("../sql/fill_outbox.sql")).await?;
            let mut written = HashMap::new();
            let mut due = tokio::time::interval_at(began + period * u32::try_from(writer)?, period * u32::try_from(WRITERS)?);
            due.set_missed_tick_behavior(MissedTickBehavior::Burst);
            for n in (u32::try_from(writer)?..rows).step_by(WRITERS) {
                due.tick().await;
                let number = NUMBERS_FROM + n;
                let (keys, payloads): (Vec<Uuid>, Vec<Vec<u8>>) = (vec![fill::key(number)], vec![fill::payload(number)]);
                let sent = since_1970()?;
                client.execute(&statement, &[&keys, &payloads]).await?;
                written.insert(number, Written { sent, answered: since_1970()? });
            }
            anyhow::Ok(written)
        });
    }
    let mut all = HashMap::new();
    while let Some(written) = writers.join_next().await {
        all.extend(written??);
    }
    Ok(all)
}

#[expect(clippy::disallowed_methods, reason = "compared with the broker's clock, which is this machine's")]
fn since_1970() -> anyhow::Result<Duration> {
    SystemTime::now().duration_since(UNIX_EPOCH).context("the clock shows a time before 1970")
}
