//! `idempo-chaos`: what `cargo xtask chaos` runs.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use idempo_chaos::faults::Family;
use idempo_chaos::run::{self, Plan};
use idempo_chaos::schedule::SHORTEST;
use idempo_chaos::stage::Instances;
use idempo_clock::{Clock as _, SystemClock};
use idempo_devstack::Brokers;
use tokio::signal::unix::{SignalKind, signal};

/// Breaks the platform under load by a seeded schedule of faults, lets it heal and drain, and checks that nothing is off.
#[derive(Parser)]
#[command(name = "idempo-chaos", version)]
struct Arguments {
    /// What everything random comes from; a new one each time where it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// How long the load plays: seconds, or with a unit such as 60s or 5m. The last fault ends after four fifths of it.
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = length)]
    length: Duration,
    /// The families of faults to choose from.
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = Family::ALL)]
    faults: Vec<Family>,
    /// How many brokers: three are a quorum of which one can be lost.
    #[arg(long, default_value = "3", value_parser = brokers)]
    brokers: Brokers,
    /// How many instances each command service has, 1 or 2.
    #[arg(long, default_value = "1", value_parser = instances)]
    services: Instances,
    /// How many players.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(8..=100_000))]
    players: u32,
    /// How many clients at a time.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=512))]
    clients: u16,
    /// How long a client thinks between two commands, on average, in milliseconds.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    think_ms: u64,
    /// The folder for histories, dumps, the timeline and the logs; by default target/chaos/<seed>.
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

fn length(text: &str) -> Result<Duration, String> {
    let (number, unit_s) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    let number: u64 = number.parse().map_err(|_| format!("{text} is no time such as 60s or 5m"))?;
    let length = Duration::from_secs(number.saturating_mul(unit_s));
    if length < SHORTEST { Err(format!("it must be {} s at least", SHORTEST.as_secs())) } else { Ok(length) }
}

fn brokers(text: &str) -> Result<Brokers, String> {
    match text {
        "1" => Ok(Brokers::OneBehindProxy),
        "3" => Ok(Brokers::ThreeBehindProxies),
        _ => Err("1 or 3".to_owned()),
    }
}

fn instances(text: &str) -> Result<Instances, String> {
    match text {
        "1" => Ok(Instances::One),
        "2" => Ok(Instances::Two),
        _ => Err("1 or 2".to_owned()),
    }
}

fn main() -> ExitCode {
    start(Arguments::parse()).unwrap_or_else(|error| {
        // Nobody to tell is no reason to end otherwise.
        let _ = writeln!(std::io::stderr(), "\nThe run could not be brought to its end: {error:#}");
        ExitCode::FAILURE
    })
}

fn start(arguments: Arguments) -> Result<ExitCode> {
    let plan = arguments.plan()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("starting the runtime")?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let account = tokio::select! {
            account = run::run(&plan) => account.with_context(|| format!("seed {}", plan.seed))?,
            // What was started is dropped with the future, and killed by that.
            _ = interrupt.recv() => return Ok(ExitCode::from(130)),
            _ = terminate.recv() => return Ok(ExitCode::from(143)),
        };
        writeln!(std::io::stdout(), "{account}\nHistories, dumps, timeline and logs are in {}.", plan.folder.display())?;
        Ok(if account.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

impl Arguments {
    fn plan(self) -> Result<Plan> {
        anyhow::ensure!(self.players >= 2 * u32::from(self.clients), "--players: each client needs two");
        let now = u64::try_from(SystemClock.now().as_microsecond())?;
        let seed = self.seed.unwrap_or(now % 1_000_000);
        let folder = match self.out {
            Some(folder) => folder,
            None => run::folder(seed)?,
        };
        Ok(Plan {
            seed,
            length: self.length,
            families: self.faults,
            brokers: self.brokers,
            instances: self.services,
            players: usize::try_from(self.players)?,
            clients: self.clients,
            think: Duration::from_millis(self.think_ms),
            folder,
        })
    }
}
