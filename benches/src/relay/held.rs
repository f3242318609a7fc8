//! `relay-held`: the relay with a transaction held open for the whole run, beside itself without it.
//!
//! The held transaction has its number from the beginning, so no snapshot's horizon moves on. In the run over time it has also written a row, which
//! keeps its table from being emptied; the row must come when the transaction commits at the end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use super::drain::drain;
use super::place::Place;
use super::rows::{Headers, Rows};
use super::steady::Run;
use super::writers::Offered;
use crate::Size;
use crate::report::{Bar, Measured, Report};

/// The load over time.
const LOAD: Offered = Offered { per_second: Some(5_000), per_transaction: 10, seconds: 0 };
/// Small tables that take turns often, so that a short run shows many turns.
const TABLE_BYTES_MAX: u32 = 4 << 20;
/// How many tables of that size the outbox may have: three, each half as large again with its index and what comes before it is noticed.
const TABLES_OF_BYTES_MAX: f64 = 4.5;
/// How often the relay looks whether it is time.
const CHECK_INTERVAL_MS: u32 = 100;
/// How often the tables are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How long statistics may take to reach the tables' counters.
const STATISTICS_WAIT: Duration = Duration::from_secs(2);

/// Whether a transaction is held open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transaction {
    Held,
    None,
}

impl Transaction {
    const fn name(self) -> &'static str {
        match self {
            Self::Held => "with a transaction held open",
            Self::None => "without",
        }
    }

    fn of_load(self, what: &str) -> String {
        format!("5,000/s {}: {what}", self.name())
    }
}

/// Drains in turn, then writes at a rate for a while, with the transaction and without.
pub(crate) async fn run(size: Size, report: &mut Report) -> anyhow::Result<()> {
    let rows = Arc::new(Rows::new());
    for round in 1..=size.rounds {
        // Whoever comes second finds warm files.
        let turns = if round % 2 == 1 { [Transaction::None, Transaction::Held] } else { [Transaction::Held, Transaction::None] };
        let mut rates = Vec::new();
        for transaction in turns {
            rates.push((transaction, drained(&rows, size.rows, transaction).await?));
        }
        let rate = |which| rates.iter().find(|(transaction, _)| *transaction == which).map_or(f64::NAN, |(_, rate)| *rate);
        report.add(round, Measured::new("drain without", rate(Transaction::None), "events/s"));
        let held = Measured::new("drain with a transaction held open", rate(Transaction::Held), "events/s");
        report.add(round, held.beside(rate(Transaction::None)).bar(Bar::RatioAtLeast(0.95)));
    }
    let seconds = if size.full { 600 } else { 2 * size.seconds };
    for transaction in [Transaction::None, Transaction::Held] {
        over_time(&rows, seconds, transaction, report).await?;
    }
    Ok(())
}

async fn drained(rows: &Arc<Rows>, count: u32, transaction: Transaction) -> anyhow::Result<f64> {
    let place = Place::new(rows).await?;
    let holder = place.session().await?;
    if transaction == Transaction::Held {
        holder.batch_execute(include_str!("../sql/relay_begin.sql")).await?;
    }
    place.fill(count, Headers::None).await?;
    let drained = drain(&place, rows, count, &[]).await?;
    if transaction == Transaction::Held {
        holder.batch_execute("COMMIT").await?;
    }
    Ok(drained.rate)
}

/// Writes at a fixed rate while the tables are watched.
async fn over_time(rows: &Arc<Rows>, seconds: u32, transaction: Transaction, report: &mut Report) -> anyhow::Result<()> {
    let place = Place::new(rows).await?;
    let holder = place.session().await?;
    if transaction == Transaction::Held {
        rows.prepare(&holder).await?;
        holder.batch_execute(include_str!("../sql/relay_begin.sql")).await?;
        holder.batch_execute(include_str!("../sql/relay_hold.sql")).await?;
    }
    let settings = [
        ("IDEMPO_ROTATION__TABLE_BYTES_MAX", TABLE_BYTES_MAX.to_string()),
        ("IDEMPO_ROTATION__CHECK_INTERVAL_MS", CHECK_INTERVAL_MS.to_string()),
    ];
    let stop = CancellationToken::new();
    let looks = tokio::spawn(look_again_and_again(place.session().await?, stop.clone()));
    // Behind the number of the held row.
    let mut run = Run::after(&place, rows, 1);
    let (latencies, cost) = run.load(LOAD, seconds, &settings).await?;
    tokio::time::sleep(STATISTICS_WAIT).await;
    stop.cancel();
    let looks = looks.await??;
    judge(&looks, transaction, report)?;
    let p99 = latencies.sent_to_append.ms(0.99);
    report.add(1, Measured::new(transaction.of_load("COMMIT sent to append, p99"), p99, "ms").cost(cost));
    if transaction == Transaction::Held {
        holder.batch_execute("COMMIT").await?;
        let before = place.count()?;
        let mut relay = place.relay(&settings).await?;
        place.wait_for(before + 1).await?;
        relay.stop().await?;
        ensure!(place.count()? == before + 1, "the held row came more than once");
    }
    Ok(())
}

/// What the outbox's tables took at a moment.
struct Look {
    at: Duration,
    bytes: i64,
    dead: i64,
    changed: i64,
    cursor_bytes: i64,
    cursor_dead: i64,
}

async fn look_again_and_again(client: Client, stop: CancellationToken) -> anyhow::Result<Vec<Look>> {
    let (began, mut looks) = (Instant::now(), Vec::new());
    loop {
        let row = client.query_one(include_str!("../sql/relay_tables.sql"), &[]).await?;
        looks.push(Look {
            at: began.elapsed(),
            bytes: row.try_get(0)?,
            dead: row.try_get(1)?,
            changed: row.try_get(2)?,
            cursor_bytes: row.try_get(3)?,
            cursor_dead: row.try_get(4)?,
        });
        if stop.run_until_cancelled(tokio::time::sleep(LOOK_INTERVAL)).await.is_none() {
            return Ok(looks);
        }
    }
}

/// Reports what the tables took over time. Rows of the outbox are never updated or deleted; the relay's own two rows are, many times a second.
fn judge(looks: &[Look], transaction: Transaction, report: &mut Report) -> anyhow::Result<()> {
    let last = looks.last().context("the tables were never looked at")?;
    ensure!(last.changed == 0, "{} outbox rows were updated or deleted", last.changed);
    let mib = |bytes: i64| f64::from(u32::try_from(bytes / 1_024).unwrap_or(u32::MAX)) / 1_024.0;
    let rows = |rows: i64| f64::from(u32::try_from(rows).unwrap_or(u32::MAX));
    let largest = looks.iter().map(|look| look.bytes).max().unwrap_or(0);
    let bar = Bar::AtMost(TABLES_OF_BYTES_MAX * mib(TABLE_BYTES_MAX.into()));
    report.add(1, Measured::new(transaction.of_load("largest size of the outbox"), mib(largest), "MiB").bar(bar));
    report.add(1, Measured::new(transaction.of_load("dead rows in the outbox"), rows(last.dead), "rows").bar(Bar::AtMost(0.0)));
    report.add(1, Measured::new(transaction.of_load("dead rows of cursor and lease"), rows(last.cursor_dead), "rows"));
    report.add(1, Measured::new(transaction.of_load("size of cursor and lease"), mib(last.cursor_bytes), "MiB"));
    let over_time: Vec<Value> = looks
        .iter()
        .map(|look| {
            json!({
                "ms": u64::try_from(look.at.as_millis()).unwrap_or(u64::MAX),
                "outbox_bytes": look.bytes, "outbox_dead_rows": look.dead,
                "cursor_and_lease_bytes": look.cursor_bytes, "cursor_and_lease_dead_rows": look.cursor_dead,
            })
        })
        .collect();
    report.sample(transaction.of_load("tables over time"), over_time);
    Ok(())
}
