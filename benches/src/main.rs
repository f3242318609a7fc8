//! Measures idempo beside its references, in one run on one machine; `docs/benchmarks.md` explains the figures.
//!
//! Run through `cargo xtask bench [name…]`, which builds for release and starts the servers. Every bench checks what it wrote before it reports: a
//! fast run that lost or doubled something is a failed run.

mod accounts;
mod append;
mod append_one;
mod database;
mod dead_letters;
mod e2e;
mod growth;
mod idle;
mod latency;
mod pgbench;
mod platform;
mod project;
mod rebuild;
mod relay;
mod report;
mod store;
mod usage;

use std::io::Write as _;
use std::process::{Command, ExitCode};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use serde::Serialize;

use report::{Bar, Measured, Report};

/// The benches, in the order in which all of them run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Bench {
    /// Every binary at rest.
    Idle,
    /// Commands through the event store, beside pgbench.
    Append,
    /// One command at a time, beside pgbench.
    AppendOne,
    /// The relay emptying a backlog, beside a bare rdkafka loop, and killed three times.
    RelayDrain,
    /// From commit to the broker's append, at steady rates.
    RelaySteady,
    /// The relay with a transaction held open, beside itself without.
    RelayHeld,
    /// The inventory projector, from Kafka into PostgreSQL, beside a bare rdkafka consumer loop.
    Project,
    /// From a command until it is visible in the read model, through every process.
    E2e,
    /// A generation built anew from the event store, beside psql and row-by-row upserts, under live load, and switched to.
    Rebuild,
    /// Many dead letters: grouped, planned, replayed through the projector.
    DeadLetters,
    /// Append, relay and projection when there is much, beside themselves when there is little.
    Growth,
}

/// How much is measured.
#[derive(Debug, Clone, Copy, Serialize)]
struct Size {
    /// How long each rate is measured, in seconds.
    seconds: u32,
    /// How often all figures are measured, in turn.
    rounds: u32,
    /// How many rows are drained, or events projected.
    rows: u32,
    /// Commands a second where each is followed until it is visible.
    rate: u32,
    /// How many events a rebuild reads.
    events: u32,
    /// How many reads a second come beside a rebuild.
    reads: u32,
    /// How many dead letters there are.
    letters: u32,
    /// Whether everything may take an hour.
    full: bool,
}

#[derive(Debug, Parser)]
#[command(about = "Measures idempo beside its references")]
struct Arguments {
    /// Which benches; all of them if none is named.
    benches: Vec<Bench>,
    /// Take up to an hour: a million rows, 10^7 events, ten minutes with a transaction held open.
    #[arg(long)]
    full: bool,
    /// How long each rate is measured, in seconds; 4, with --full 20.
    #[arg(long)]
    seconds: Option<u32>,
    /// How often all figures are measured, in turn; 2, with --full 5.
    #[arg(long)]
    rounds: Option<u32>,
    /// How many rows are drained, or events projected; 300,000, with --full a million.
    #[arg(long)]
    rows: Option<u32>,
    /// Commands a second where each is followed until it is visible; the bar is about 1,000.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// How many events a rebuild reads; a million, with --full 10^7.
    #[arg(long, value_parser = clap::value_parser!(u32).range(5_000..))]
    events: Option<u32>,
    /// Reads a second beside a rebuild; twice as many over a switch.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(10..=5_000))]
    reads: u32,
    /// How many dead letters are replayed; the bars are about 100,000.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    letters: u32,
}

impl Arguments {
    fn size(&self) -> Size {
        let default = |full, short| if self.full { full } else { short };
        Size {
            seconds: self.seconds.unwrap_or_else(|| default(20, 4)),
            rounds: self.rounds.unwrap_or_else(|| default(5, 2)),
            rows: self.rows.unwrap_or_else(|| default(1_000_000, 300_000)),
            rate: self.rate,
            events: self.events.unwrap_or_else(|| default(10_000_000, 1_000_000)),
            reads: self.reads,
            letters: self.letters,
            full: self.full,
        }
    }
}

/// The time that other processes of this machine know too.
#[expect(clippy::disallowed_methods, reason = "compared with the broker's clock, which is this machine's")]
fn since_1970() -> anyhow::Result<Duration> {
    SystemTime::now().duration_since(UNIX_EPOCH).context("the clock shows a time before 1970")
}

fn main() -> ExitCode {
    start().unwrap_or_else(|error| {
        // Causes, and no backtrace: it is for whoever reads figures.
        let _ = writeln!(std::io::stderr(), "idempo-bench: {error:#}");
        ExitCode::FAILURE
    })
}

fn start() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    match *arguments.benches.as_slice() {
        [bench] => {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            runtime.block_on(run(bench, arguments.size()))?;
            Ok(ExitCode::SUCCESS)
        }
        [] => each(Bench::value_variants()),
        ref several => each(several),
    }
}

/// Runs benches one after the other, each in a process of its own: what one has left in memory is not measured with the next, and where one fails the
/// others still run.
fn each(benches: &[Bench]) -> anyhow::Result<ExitCode> {
    let own = std::env::current_exe()?;
    let options = std::env::args_os().skip(1).filter(|word| word.to_str().is_none_or(|word| Bench::from_str(word, false).is_err()));
    let options: Vec<_> = options.collect();
    let mut failed = false;
    for bench in benches {
        let name = bench.to_possible_value().context("every bench has a name")?;
        // The main thread starts it and waits, so the death of this process is the death of that one.
        let status = Command::new("setpriv").arg("--pdeathsig=KILL").arg("--").arg(&own).arg(name.get_name()).args(&options).status()?;
        failed |= !status.success();
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

#[expect(clippy::print_stdout, reason = "the table is what the program is for")]
async fn run(bench: Bench, size: Size) -> anyhow::Result<()> {
    let name = bench.to_possible_value().context("every bench has a name")?;
    let mut report = Report::begin(name.get_name(), &size).await?;
    let result = match bench {
        Bench::Idle => idle::run(size, &mut report).await,
        Bench::Append => append::run(size, &mut report).await,
        Bench::AppendOne => append_one::run(size, &mut report).await,
        Bench::RelayDrain => relay::drain::run(size, &mut report).await,
        Bench::RelaySteady => relay::steady::run(size, &mut report).await,
        Bench::RelayHeld => relay::held::run(size, &mut report).await,
        Bench::Project => projected(size, &mut report).await,
        Bench::E2e => e2e::run(size, &mut report).await,
        Bench::Rebuild => rebuild::run(size, &mut report).await,
        Bench::DeadLetters => dead_letters::run(size, &mut report).await,
        Bench::Growth => growth::run(size, &mut report).await,
    };
    result.with_context(|| format!("{} is not reported", name.get_name()))?;
    println!("{}\n", report.finish()?);
    Ok(())
}

/// The projection's figures, with the bars beside them.
async fn projected(size: Size, report: &mut Report) -> anyhow::Result<()> {
    for row in project::run(size.rows, size.rounds).await? {
        let mut measured =
            Measured::new(row.name.clone(), row.value, row.unit).bar((row.name == "project").then_some(Bar::AtLeast(60_000.0)));
        if let Some(ratio) = row.ratio {
            measured = measured.beside(row.value / ratio);
        }
        report.add(row.round, measured);
    }
    Ok(())
}
