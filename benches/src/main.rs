//! Measures idempo beside its references, in one run on one machine; `docs/benchmarks.md` explains the figures.
//!
//! Run through `cargo xtask bench <name>`, which builds for release and starts the servers.

mod accounts;
mod append;
mod pgbench;
mod project;
mod relay;
mod report;

use clap::{Parser, ValueEnum};

/// The benches.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Bench {
    /// Commands through the event store, beside pgbench.
    Append,
    /// The relay: draining a backlog beside a bare rdkafka loop, and the way from commit to append at a steady rate.
    Relay,
    /// The inventory projector, from Kafka into PostgreSQL, beside a bare rdkafka consumer loop.
    Project,
}

#[derive(Debug, Parser)]
#[command(about = "Measures idempo beside its references")]
struct Arguments {
    /// Which bench.
    bench: Bench,
    /// How long each figure is measured, in seconds.
    #[arg(long, default_value_t = 8)]
    seconds: u32,
    /// How often all figures are measured, in turn.
    #[arg(long, default_value_t = 2)]
    rounds: u32,
    /// How many rows are drained, or events projected.
    #[arg(long, default_value_t = 1_000_000)]
    rows: u32,
}

fn micros_to_ms(micros: u64) -> f64 {
    std::time::Duration::from_micros(micros).as_secs_f64() * 1_000.0
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::print_stdout, reason = "the table is what the program is for")]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let (name, rows) = match arguments.bench {
        Bench::Append => ("append", append::run(arguments.seconds, arguments.rounds).await?),
        Bench::Relay => ("relay", relay::run(arguments.rows, arguments.seconds, arguments.rounds).await?),
        Bench::Project => ("project", project::run(arguments.rows, arguments.rounds).await?),
    };
    println!("{}", report::table(&rows));
    println!("written to {}", report::write(name, &rows)?.display());
    Ok(())
}
