//! `relay-drain`: emptying a backlog, beside a bare rdkafka loop that sends the same records, and a COPY that reads the same rows.

use std::pin::pin;
use std::time::Instant;

use anyhow::ensure;
use futures_util::TryStreamExt as _;
use idempo_kafka::ProducerConfig;

use super::broker::{self, BareProducer};
use super::order::{Order, Seen, check_exact};
use super::place::Place;
use super::rows::{Headers, PAYLOAD_BYTES, Rows, number_of};
use crate::Size;
use crate::report::{Bar, Cost, Measured, Report};
use crate::usage::{Watch, float};
use rdkafka::message::Message as _;

/// What a bare producer waits for others to share its request.
const BARE_LINGER_MS: u32 = 5;
/// How often the relay is killed in one drain.
const KILLS: u32 = 3;
/// The most records that may come twice for each kill.
const DUPLICATES_PER_KILL_MAX: f64 = 1_000.0;
/// The most memory beyond the producer's queue, in MiB.
const MEMORY_BAR_MIB: f64 = 64.0;
/// The most CPU for a million events, in seconds.
const CPU_BAR_S: f64 = 6.0;

/// One drain.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Drained {
    /// Events a second, from the first to the last append on the broker's clock.
    pub(crate) rate: f64,
    /// What it cost, from the start of the process.
    pub(crate) cost: Cost,
}

/// Measures in turn, and kills the relay.
pub(crate) async fn run(size: Size, report: &mut Report) -> anyhow::Result<()> {
    let rows = Rows::new();
    report.parameter("payload_bytes", PAYLOAD_BYTES);
    for round in 1..=size.rounds {
        for headers in [Headers::None, Headers::Traceparent] {
            beside_references(&rows, size.rows, headers, round, report).await?;
        }
    }
    for round in 1..=size.rounds {
        killed(&rows, size.rows, round, report).await?;
    }
    Ok(())
}

async fn beside_references(rows: &Rows, count: u32, headers: Headers, round: u32, report: &mut Report) -> anyhow::Result<()> {
    let place = Place::new(rows).await?;
    let bare = bare_rate(&place, rows, count, headers).await?;
    report.add(round, Measured::new(format!("bare rdkafka loop, {}", headers.name()), bare, "events/s"));
    place.fill(count, headers).await?;
    if headers == Headers::None {
        report.add(round, Measured::new("COPY of the rows, binary", copy_rate(&place, count).await?, "events/s"));
    }
    let drained = drain(&place, rows, count, &[]).await?;
    let name = |what: &str| format!("relay-drain, {}{what}", headers.name());
    report.add(round, Measured::new(name(""), drained.rate, "events/s").beside(bare).bar(Bar::RatioAtLeast(0.5)).cost(drained.cost));
    if let Some(cpu) = drained.cost.cpu_s_per_million {
        report.add(round, Measured::new(name(": CPU"), cpu, "s/million").bar(Bar::AtMost(CPU_BAR_S)));
    }
    if let Some(peak) = drained.cost.peak_mib {
        report.add(round, Measured::new(name(": peak memory"), peak, "MiB").bar(Bar::AtMost(MEMORY_BAR_MIB + queue_mib()?)));
    }
    Ok(())
}

/// What the producer's queue can hold of these records, in MiB: it is full in a drain.
fn queue_mib() -> anyhow::Result<f64> {
    let config = ProducerConfig::default();
    let record_bytes = f64::from(u32::try_from(PAYLOAD_BYTES)?) + 36.0;
    let records_mib = f64::from(config.queue_records_max) * record_bytes / 1_048_576.0;
    Ok(records_mib.min(f64::from(config.queue_kib_max) / 1_024.0))
}

async fn bare_rate(place: &Place, rows: &Rows, count: u32, headers: Headers) -> anyhow::Result<f64> {
    let topic = place.other_topic("bare").await?;
    tokio::task::block_in_place(|| {
        let mut producer = BareProducer::new(&place.brokers, BARE_LINGER_MS)?;
        for number in 0..count {
            producer.send(rows, &topic, number, headers)?;
        }
        producer.flush()?;
        let found = broker::count(&place.consumer, &topic)?;
        ensure!(found == u64::from(count), "the bare loop left {found} records of {count}");
        Ok(f64::from(count) / broker::span(&place.consumer, &topic)?.as_secs_f64())
    })
}

/// Rows a second that a client can read at most.
async fn copy_rate(place: &Place, count: u32) -> anyhow::Result<f64> {
    let began = Instant::now();
    let mut out = pin!(place.client.copy_out(include_str!("../sql/relay_copy.sql")).await?);
    let mut bytes = 0_usize;
    while let Some(part) = out.try_next().await? {
        bytes += part.len();
    }
    ensure!(bytes > PAYLOAD_BYTES * usize::try_from(count)?, "the COPY gave {bytes} bytes");
    Ok(f64::from(count) / began.elapsed().as_secs_f64())
}

/// Drains what was filled, with a relay that has these settings, and checks what came of it.
pub(super) async fn drain(place: &Place, rows: &Rows, count: u32, settings: &[(&str, String)]) -> anyhow::Result<Drained> {
    let watch = Watch::begin(None, place.postgres)?;
    let mut relay = place.relay(settings).await?;
    place.wait_for(count.into()).await?;
    let process = relay.pid().map_or(Ok(Cost::default()), |pid| process_cost(pid, count))?;
    let cost = Cost { postgres_cpu_s_per_million: watch.cost(count.into())?.postgres_cpu_s_per_million, ..process };
    relay.stop().await?;
    let span = tokio::task::block_in_place(|| {
        check_exact(&place.consumer, &place.topic(), rows, count)?;
        broker::span(&place.consumer, &place.topic())
    })?;
    Ok(Drained { rate: f64::from(count) / span.as_secs_f64(), cost })
}

/// What a process has used since it began.
fn process_cost(pid: u32, count: u32) -> anyhow::Result<Cost> {
    let cpu = crate::usage::cpu_seconds(pid)? * 1_000_000.0 / f64::from(count);
    Ok(Cost { cpu_s_per_million: Some(cpu), peak_mib: Some(crate::usage::memory(pid)?.peak), ..Cost::default() })
}

/// Drains a backlog whose size is `count`, beside nothing.
pub(crate) async fn drain_alone(count: u32) -> anyhow::Result<Drained> {
    let rows = Rows::new();
    let place = Place::new(&rows).await?;
    place.fill(count, Headers::None).await?;
    drain(&place, &rows, count, &[]).await
}

/// Kills the relay with SIGKILL at a quarter, at half and at three quarters of a drain, and starts it again each time.
async fn killed(rows: &Rows, count: u32, round: u32, report: &mut Report) -> anyhow::Result<()> {
    let place = Place::new(rows).await?;
    place.fill(count, Headers::None).await?;
    let mut relay = place.relay(&[]).await?;
    let mut killed_at = Vec::new();
    for kill in 1..=KILLS {
        place.wait_for(u64::from(count / (KILLS + 1) * kill)).await?;
        relay.kill()?;
        // The broker may still be appending what was on its way: it is the dead relay's.
        killed_at.push(settled_ends(&place).await?);
        relay.start_again().await?;
    }
    let last = killed_at.last().map(|ends| ends.iter().sum::<i64>()).unwrap_or_default();
    ensure!(u64::try_from(last)? < u64::from(count), "the drain was over before the last kill: take more rows");
    place.wait_for(count.into()).await?;
    wait_acked(&place).await?;
    relay.stop().await?;
    let found = tokio::task::block_in_place(|| count_all(&place, rows, count, &killed_at))?;
    ensure!(found.lost == 0 && found.inverted == 0, "{} rows lost, {} inverted by kills", found.lost, found.inverted);
    report.add(round, Measured::new("kill -9: lost", float(found.lost), "rows").bar(Bar::AtMost(0.0)));
    report.add(round, Measured::new("kill -9: inverted", float(found.inverted), "rows").bar(Bar::AtMost(0.0)));
    let worst = found.again.iter().copied().max().unwrap_or(0);
    let worst = Measured::new("kill -9: duplicates, the worst kill", float(worst), "records");
    report.add(round, worst.bar(Bar::AtMost(DUPLICATES_PER_KILL_MAX)));
    report.sample(format!("duplicates of each kill, round {round}"), found.again);
    Ok(())
}

/// The ends of the topic when they have not moved for a look.
async fn settled_ends(place: &Place) -> anyhow::Result<Vec<i64>> {
    let look = || tokio::task::block_in_place(|| broker::ends(&place.consumer, &place.topic()));
    let mut ends = look()?;
    loop {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        let now = look()?;
        if now == ends {
            return Ok(ends);
        }
        ends = now;
    }
}

/// Waits until the cursor has passed everything: with duplicates, the number of records does not say when the drain is over.
async fn wait_acked(place: &Place) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let pending: i64 = place.client.query_one(include_str!("../sql/relay_pending.sql"), &[]).await?.try_get(0)?;
        if pending == 0 {
            return Ok(());
        }
        ensure!(began.elapsed().as_secs() < 60, "{pending} rows are not acknowledged");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

struct Found {
    lost: u64,
    inverted: u64,
    /// Records that came again after each kill.
    again: Vec<u64>,
}

fn count_all(place: &Place, rows: &Rows, count: u32, killed_at: &[Vec<i64>]) -> anyhow::Result<Found> {
    let mut order = Order::new(rows, 0, count)?;
    let mut again = vec![0_u64; killed_at.len()];
    let from = vec![0; usize::try_from(broker::PARTITIONS)?];
    let mut before_any = 0_u64;
    broker::read(&place.consumer, &place.topic(), &from, |record| {
        let number = number_of(record.payload().unwrap_or_default())?;
        if order.take(record.key().unwrap_or_default(), record.partition(), number)? == Seen::Again {
            let partition = usize::try_from(record.partition())?;
            let after = killed_at.iter().filter(|ends| ends.get(partition).is_some_and(|end| record.offset() >= *end)).count();
            match after.checked_sub(1).and_then(|kill| again.get_mut(kill)) {
                Some(again) => *again += 1,
                None => before_any += 1,
            }
        }
        Ok(())
    })?;
    ensure!(before_any == 0, "{before_any} records came twice before the first kill");
    Ok(Found { lost: order.lost()?, inverted: order.inverted, again })
}
