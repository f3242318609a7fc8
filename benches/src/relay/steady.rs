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

/// Writes `per_second` rows a second, each in a transaction of its own, for `seconds`; returns the latencies in microseconds.
///
/// The broker's clock has milliseconds, cut off; one is added to each latency so that none is reported too small.
pub(super) async fn run(bench: &Bench, per_second: u32, seconds: u32) -> anyhow::Result<Histogram<u64>> {
    let consumer = broker::consumer(&bench.brokers)?;
    let before = tokio::task::block_in_place(|| broker::count(&consumer, &bench.topic()))?;
    let relay = bench.start_relay().await?;
    relay.platform.readiness.wait_ready().await;
    let rows = per_second * (seconds + WARM_UP_SECONDS);
    let committed = write(bench, per_second, rows).await?;
    wait_for(&consumer, &bench.topic(), before + u64::from(rows)).await?;
    relay.stop(STOP_MAX).await.map_err(|overrun| anyhow::anyhow!("{overrun:?}"))?;

    let mut latencies = Histogram::<u64>::new(3)?;
    let mut seen = 0_u32;
    tokio::task::block_in_place(|| {
        broker::read_all(&consumer, &bench.topic(), |record| {
            let number = record.payload.first_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes));
            let Some(committed) = committed.get(&number) else { return };
            seen += 1;
            if number - NUMBERS_FROM >= per_second * WARM_UP_SECONDS {
                let appended = Duration::from_millis(u64::try_from(record.at_ms + 1).unwrap_or(0));
                let latency = appended.saturating_sub(*committed);
                latencies.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
            }
        })
    })?;
    ensure!(seen == rows, "{seen} records for {rows} rows");
    Ok(latencies)
}

/// The numbers of the steady rows begin here, beyond those of the drained ones.
const NUMBERS_FROM: u32 = 1_000_000_000;

/// When each row's commit was known, since 1970.
async fn write(bench: &Bench, per_second: u32, rows: u32) -> anyhow::Result<HashMap<u32, Duration>> {
    let period = Duration::from_secs(1) / per_second;
    let began = Instant::now() + period;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let client = bench.client().await?;
        writers.spawn(async move {
            let statement = client.prepare(include_str!("../sql/fill_outbox.sql")).await?;
            let mut committed = HashMap::new();
            let mut due = tokio::time::interval_at(began + period * u32::try_from(writer)?, period * u32::try_from(WRITERS)?);
            due.set_missed_tick_behavior(MissedTickBehavior::Burst);
            for n in (u32::try_from(writer)?..rows).step_by(WRITERS) {
                due.tick().await;
                let number = NUMBERS_FROM + n;
                let (keys, payloads): (Vec<Uuid>, Vec<Vec<u8>>) = (vec![fill::key(number)], vec![fill::payload(number)]);
                client.execute(&statement, &[&keys, &payloads]).await?;
                committed.insert(number, since_1970()?);
            }
            anyhow::Ok(committed)
        });
    }
    let mut all = HashMap::new();
    while let Some(committed) = writers.join_next().await {
        all.extend(committed??);
    }
    Ok(all)
}

#[expect(clippy::disallowed_methods, reason = "compared with the broker's clock, which is this machine's")]
fn since_1970() -> anyhow::Result<Duration> {
    SystemTime::now().duration_since(UNIX_EPOCH).context("the clock shows a time before 1970")
}
