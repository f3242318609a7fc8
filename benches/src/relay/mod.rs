//! `relay`: what the relay costs, beside a bare rdkafka loop with the same keys and bytes and no more headers.

mod broker;
mod fill;
mod steady;

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use idempo_clock::SystemClock;
use idempo_devstack::testing;
use idempo_kafka::Copies;
use idempo_outbox_relay::{Config, OutboxConfig, Relay, Topics};
use idempo_runtime::{Launched, Platform};
use rdkafka::consumer::BaseConsumer;

use crate::report::Row;

/// How long the relay may take to drain everything.
const DRAIN_MAX: Duration = Duration::from_secs(300);
/// How long it may take to stop.
const STOP_MAX: Duration = Duration::from_secs(10);

/// Commands a second of the steady run.
const STEADY_PER_SECOND: u32 = 1_000;

/// Measures, `rounds` times each in turn, and returns the rows of the table.
pub(crate) async fn run(rows: u32, seconds: u32, rounds: u32) -> anyhow::Result<Vec<Row>> {
    let mut report = Vec::new();
    let records = fill::records(rows);
    for round in 1..=rounds {
        let bench = Bench::new().await?;
        drain(&bench, &records, round, &mut report).await?;
        let latencies = steady::run(&bench, STEADY_PER_SECOND, seconds).await?;
        for (from, histogram) in [("insert sent", &latencies.from_sending), ("commit known", &latencies.from_answer)] {
            for (name, quantile) in [("p50", 0.5), ("p99", 0.99)] {
                let name = format!("relay-steady, {STEADY_PER_SECOND}/s: {from} to append, {name}");
                report.push(Row::reference(round, &name, crate::micros_to_ms(histogram.value_at_quantile(quantile)), "ms"));
            }
        }
    }
    Ok(report)
}

/// One database, and the names of what belongs to it.
pub(crate) struct Bench {
    database: testing::TestDatabase,
    brokers: String,
    prefix: String,
}

impl Bench {
    async fn new() -> anyhow::Result<Self> {
        let bench =
            Self { database: testing::database("wallet_db").await, brokers: testing::kafka_brokers(), prefix: testing::topic_prefix() };
        broker::make_topic(&bench.brokers, &bench.topic()).await?;
        Ok(bench)
    }

    fn topic(&self) -> String {
        format!("{}economy-events", self.prefix)
    }

    /// Starts a relay in this process. Whatever else it makes topics of has the same prefix.
    async fn start_relay(&self) -> anyhow::Result<Launched> {
        let mut config = Config::default();
        config.kafka.brokers.clone_from(&self.brokers);
        config.topics = Topics { copies: Copies::Local, prefix: self.prefix.clone() };
        config.outboxes = vec![OutboxConfig { name: "bench".to_owned(), database: self.database.config("idempo_relay") }];
        idempo_runtime::launch::<Relay>(config, Platform::new("bench", SystemClock::shared()), None).await
    }

    async fn client(&self) -> anyhow::Result<tokio_postgres::Client> {
        let (client, connection) = idempo_pg::connect(&self.database.superuser()).await?;
        tokio::spawn(connection);
        Ok(client)
    }
}

async fn drain(bench: &Bench, records: &[fill::Record], round: u32, report: &mut Vec<Row>) -> anyhow::Result<()> {
    let rows = u32::try_from(records.len())?;
    let bare_topic = format!("{}bare", bench.prefix);
    broker::make_topic(&bench.brokers, &bare_topic).await?;
    let consumer = broker::consumer(&bench.brokers)?;
    tokio::task::block_in_place(|| broker::send_bare(&bench.brokers, &bare_topic, records))?;
    let bare = f64::from(rows) / tokio::task::block_in_place(|| broker::span(&consumer, &bare_topic))?.as_secs_f64();
    report.push(Row::reference(round, "bare rdkafka loop", bare, "events/s"));

    fill::insert(&bench.client().await?, 0, rows).await?;
    let cpu = cpu_seconds()?;
    let relay = bench.start_relay().await?;
    wait_for(&consumer, &bench.topic(), u64::from(rows)).await?;
    let cpu = cpu_seconds()? - cpu;
    relay.stop(STOP_MAX).await.map_err(|overrun| anyhow::anyhow!("{overrun:?}"))?;
    let span = tokio::task::block_in_place(|| broker::span(&consumer, &bench.topic()))?;
    let rate = f64::from(rows) / span.as_secs_f64();
    tokio::task::block_in_place(|| check_drained(&consumer, &bench.topic(), rows))?;
    report.push(Row::measured(round, "relay-drain", rate, "events/s", rate / bare));
    report.push(Row::reference(round, "relay-drain: CPU of the relay", cpu * 1_000_000.0 / f64::from(rows), "s/million"));
    Ok(())
}

async fn wait_for(consumer: &BaseConsumer, topic: &str, records: u64) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        let count = tokio::task::block_in_place(|| broker::count(consumer, topic))?;
        if count >= records {
            return Ok(());
        }
        ensure!(began.elapsed() < DRAIN_MAX, "{count} of {records} records after {} s", DRAIN_MAX.as_secs());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Each row once, in its partition, and each key's rows in their order.
fn check_drained(consumer: &BaseConsumer, topic: &str, rows: u32) -> anyhow::Result<()> {
    let mut last = std::collections::HashMap::new();
    let count = broker::read_all(consumer, topic, |record| {
        let number = record.payload.first_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        let expected = idempo_kafka::partition_of(&record.key, broker::PARTITIONS);
        let before = last.insert(record.key.clone(), number);
        if before.is_some_and(|before| before >= number) || expected != record.partition {
            last.insert(Vec::new(), number);
        }
    })?;
    ensure!(count == u64::from(rows), "{count} records for {rows} rows");
    ensure!(!last.contains_key(&Vec::new()), "a key is out of order, or in another partition");
    Ok(())
}

/// The CPU time of this process so far: the relay runs in it, and between two looks nothing else does.
fn cpu_seconds() -> anyhow::Result<f64> {
    let ticks_per_second = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().context("an unreadable /proc/self/stat")?.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u32>().ok()).context("an unreadable /proc/self/stat");
    Ok((f64::from(ticks(11)?) + f64::from(ticks(12)?)) / ticks_per_second)
}
