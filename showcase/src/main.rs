//! `idempo-showcase demo`: what `cargo xtask demo` runs.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use idempo_clock::{Clock as _, SystemClock};
use idempo_showcase::demo::{self, Plan};
use idempo_showcase::load::Size;
use tokio::signal::unix::{SignalKind, signal};

/// Plays with the platform through its public API, kills a relay and poisons a topic on the way, and checks that nothing is off.
#[derive(Parser)]
#[command(name = "idempo-showcase", version)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Start the servers and the platform, play, check, print the account, and end: 0 where every claim holds, 1 where one does not.
    Demo(Demo),
}

#[derive(Args)]
struct Demo {
    /// What everything random comes from; a new one each time where it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// How many players.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(8..=100_000))]
    players: u32,
    /// How many clients at a time.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=512))]
    clients: u16,
    /// How many commands, each with a key of its own.
    #[arg(long, default_value_t = 20_500, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    commands: u32,
    /// Writes the client history there, one JSON object a line.
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
}

fn main() -> ExitCode {
    let Task::Demo(demo) = Arguments::parse().task;
    run(demo).unwrap_or_else(|error| {
        // Nobody to tell is no reason to end otherwise.
        let _ = writeln!(std::io::stderr(), "\nThe demo could not be run to its end: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(demo: Demo) -> Result<ExitCode> {
    let plan = demo.plan()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("starting the runtime")?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let account = tokio::select! {
            account = demo::run(&plan) => account?,
            // What was started is dropped with the future, and killed by that.
            _ = interrupt.recv() => return Ok(ExitCode::from(130)),
            _ = terminate.recv() => return Ok(ExitCode::from(143)),
        };
        write!(std::io::stdout(), "{account}")?;
        Ok(if account.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

impl Demo {
    fn plan(self) -> Result<Plan> {
        anyhow::ensure!(self.players >= 2 * u32::from(self.clients), "--players: each client needs two");
        let now = u64::try_from(SystemClock.now().as_microsecond())?;
        let size = Size {
            players: usize::try_from(self.players)?,
            clients: self.clients,
            commands: usize::try_from(self.commands)?,
            think: Duration::ZERO,
            seed: self.seed.unwrap_or(now % 1_000_000),
        };
        Ok(Plan { size, history: self.history })
    }
}
