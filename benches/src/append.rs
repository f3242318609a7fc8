//! `append`: commands through the event store, beside pgbench in the same run on the same database.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use idempo_clock::{Clock as _, SystemClock};
use idempo_devstack::testing;
use idempo_event_store::postgres::{PostgresStore, maintain_key_partitions};
use idempo_event_store::{Config, Executor, Handle, NoInline, Outcome};
use tokio_util::sync::CancellationToken;

use crate::accounts::{Accounts, account, command};
use crate::{micros_to_ms, pgbench, report::Row};

/// Commands that one stream has under way at once, in the run with many.
const COMMANDS_UNDER_WAY: u32 = 8;
/// Streams that are written at the same time.
const STREAMS: u32 = 64;

/// How one run loads the store.
#[derive(Debug, Clone, Copy)]
struct Load {
    streams: u32,
    under_way: u32,
}

/// Measures, `rounds` times each in turn, and returns the rows of the table.
pub(crate) async fn run(seconds: u32, rounds: u32) -> anyhow::Result<Vec<Row>> {
    let database = testing::database("wallet_db").await;
    let superuser = database.superuser();
    let pool = idempo_pg::Pool::open(&database.config("idempo_wallet"))?;
    let clock = SystemClock::shared();
    maintain_key_partitions(&pool, &clock).await?;
    let store = Arc::new(PostgresStore::<NoInline>::new(pool.clone()));
    let (handle, executor) = Executor::new(Arc::new(Accounts), Arc::clone(&store), clock, Config::default());
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(executor.run(shutdown.clone()));

    let mut bench = Bench {
        handle,
        next: 0,
        url: database_url(database.name())?,
        seconds,
        envelope_bytes: 0,
        began: SystemClock.now().as_millisecond(),
    };
    bench.drive(Load { streams: STREAMS, under_way: 1 }, 1).await?;
    bench.envelope_bytes = envelope_bytes(&superuser).await?;
    let mut rows = Vec::new();
    for round in 1..=rounds {
        bench.round(round, &mut rows).await?;
    }
    check(&superuser, bench.next).await?;
    shutdown.cancel();
    running.await?;
    Ok(rows)
}

struct Bench {
    handle: Handle<Accounts>,
    next: u32,
    url: String,
    seconds: u32,
    envelope_bytes: usize,
    began: i64,
}

impl Bench {
    async fn round(&mut self, round: u32, rows: &mut Vec<Row>) -> anyhow::Result<()> {
        let reference = |clients| {
            let (url, seconds, bytes) = (self.url.clone(), self.seconds, self.envelope_bytes);
            tokio::task::spawn_blocking(move || pgbench::run(&url, clients, seconds, bytes))
        };
        let (few, many, one) = (reference(16).await??, reference(64).await??, reference(1).await??);
        let best = few.rate.max(many.rate);
        rows.push(Row::reference(round, "pgbench, best of 16 and 64 clients", best, "tx/s"));
        rows.push(Row::reference(round, "pgbench, 1 client: p50", one.p50_ms, "ms"));
        for (name, load) in [
            ("append, 64 streams, 8 commands under way each", Load { streams: STREAMS, under_way: COMMANDS_UNDER_WAY }),
            ("append, 64 streams, 1 command under way each", Load { streams: STREAMS, under_way: 1 }),
            ("append, one hot stream, 512 commands under way", Load { streams: 1, under_way: STREAMS * COMMANDS_UNDER_WAY }),
        ] {
            let (rate, _) = self.drive(load, self.seconds).await?;
            rows.push(Row::measured(round, name, rate, "commands/s", rate / best));
        }
        let (_, latency) = self.drive(Load { streams: 1, under_way: 1 }, self.seconds).await?;
        let p50_ms = micros_to_ms(latency.value_at_quantile(0.5));
        rows.push(Row::measured(round, "append-one: p50", p50_ms, "ms", p50_ms / one.p50_ms));
        Ok(())
    }

    /// Keeps `under_way` commands on each stream for `seconds`; returns commands a second and their latencies in microseconds.
    async fn drive(&mut self, load: Load, seconds: u32) -> anyhow::Result<(f64, Histogram<u64>)> {
        let next = Arc::new(std::sync::atomic::AtomicU32::new(self.next));
        let began = Instant::now();
        let until = began + Duration::from_secs(seconds.into());
        let mut drivers = tokio::task::JoinSet::new();
        for stream in 0..load.streams {
            for _ in 0..load.under_way {
                let (handle, next, millis) = (self.handle.clone(), Arc::clone(&next), self.began);
                drivers.spawn(async move {
                    let mut latencies = Histogram::<u64>::new(3)?;
                    while Instant::now() < until {
                        let n = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        let sent = Instant::now();
                        let outcome = handle.execute(command(millis, n, account(stream))).await?;
                        ensure!(matches!(outcome, Outcome::Replied { replayed: false, .. }), "{outcome:?}");
                        latencies.record(u64::try_from(sent.elapsed().as_micros())?)?;
                    }
                    anyhow::Ok(latencies)
                });
            }
        }
        let mut all = Histogram::<u64>::new(3)?;
        while let Some(latencies) = drivers.join_next().await {
            all.add(latencies??)?;
        }
        let elapsed = began.elapsed().as_secs_f64();
        self.next = next.load(std::sync::atomic::Ordering::Relaxed);
        let commands = u32::try_from(all.len()).context("more commands than fit")?;
        Ok((f64::from(commands) / elapsed, all))
    }
}

/// The superuser's address of a test database: that of `DATABASE_URL`, with the name put in.
fn database_url(name: &str) -> anyhow::Result<String> {
    let server = std::env::var("DATABASE_URL").context("run it through `cargo xtask bench`")?;
    let (server, _) = server.rsplit_once('/').context("DATABASE_URL names no database")?;
    Ok(format!("{server}/{name}"))
}

/// The size that the reference writes too: the average of what the store has written.
async fn envelope_bytes(superuser: &idempo_pg::Config) -> anyhow::Result<usize> {
    let row = query_one(superuser, include_str!("sql/envelope_bytes.sql")).await?;
    Ok(usize::try_from(row.try_get::<_, i32>(0)?)?)
}

/// A fast run that lost or doubled something is a failed run.
async fn check(superuser: &idempo_pg::Config, commands: u32) -> anyhow::Result<()> {
    let row = query_one(superuser, include_str!("sql/check_append.sql")).await?;
    let (events, answers, gaps): (i64, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    ensure!(events == i64::from(commands), "{commands} commands were answered, {events} events are stored");
    ensure!(answers == i64::from(commands), "{commands} commands were answered, {answers} answers are stored");
    ensure!(gaps == 0, "{gaps} streams have gaps");
    Ok(())
}

async fn query_one(superuser: &idempo_pg::Config, sql: &str) -> anyhow::Result<tokio_postgres::Row> {
    let (client, connection) = idempo_pg::connect(superuser).await?;
    let connection = tokio::spawn(connection);
    let row = client.query_one(sql, &[]).await?;
    connection.abort();
    Ok(row)
}
