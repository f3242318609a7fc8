//! Runs the dev stack: for people (`up`), or around a command that needs the servers (`run`).

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use idempo_devstack::{Command, Options, Platform, Progress, Servers, default_root, profile};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The pause between two looks at whether every process still runs.
const LOOK_PAUSE: Duration = Duration::from_millis(250);

/// Where the command line finds the platform that `up` has started.
const CLI_PROFILE: &str = "cli.toml";

/// PostgreSQL, Kafka, Redis and the platform, on this machine.
#[derive(Parser)]
#[command(name = "idempo-devstack", version)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Start the servers and the platform, print their addresses, and stay until Ctrl-C.
    Up,
    /// Start the servers, run a command with DATABASE_URL, KAFKA_BROKERS and REDIS_URL set, and end as it does.
    Run {
        /// The command and its arguments.
        #[arg(trailing_var_arg = true, required = true, allow_hyphen_values = true)]
        command: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    start().unwrap_or_else(|error| {
        // Causes, and no backtrace: what fails here is the machine, not the code.
        let _ = writeln!(std::io::stderr(), "idempo-devstack: {error:#}");
        ExitCode::FAILURE
    })
}

fn start() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("starting the runtime")?;
    runtime.block_on(async {
        let mut stop = Stop::new()?;
        match arguments.task {
            Task::Up => up(&mut stop).await,
            Task::Run { command } => run(command, &mut stop).await,
        }
    })
}

/// Waits for someone who wants this process to end.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn new() -> Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Cancel safe.
    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

async fn up(stop: &mut Stop) -> Result<ExitCode> {
    let start = async {
        let servers = Servers::start(Options::lasting(Progress::to_stderr())).await?;
        servers.prepare().await?;
        let platform = Platform::start(&servers).await?;
        anyhow::Ok((servers, platform))
    };
    let (servers, mut platform) = tokio::select! {
        started = start => started?,
        // What was started so far is dropped with the future, and killed by that.
        () = stop.asked() => return Ok(ExitCode::SUCCESS),
    };
    let root = default_root();
    std::fs::create_dir_all(&root).with_context(|| format!("making {}", root.display()))?;
    let file = root.join(CLI_PROFILE);
    std::fs::write(&file, profile(&servers, &platform)?).with_context(|| format!("writing {}", file.display()))?;
    write!(std::io::stdout(), "{}", addresses(&servers, &platform))?;
    let fallen = loop {
        tokio::select! {
            () = stop.asked() => break None,
            () = tokio::time::sleep(LOOK_PAUSE) => {}
        }
        if let Some(fallen) = platform.fallen()? {
            break Some(fallen);
        }
    };
    let drained = platform.stop().await;
    servers.stop().await?;
    if let Some(fallen) = fallen {
        anyhow::bail!(fallen);
    }
    drained.map(|()| ExitCode::SUCCESS)
}

fn addresses(servers: &Servers, platform: &Platform) -> String {
    let mut text = format!(
        "\nPostgreSQL  {}\nKafka       {}\nRedis       {}\n\n",
        servers.database_url(),
        servers.kafka_brokers(),
        servers.redis_url()
    );
    for (name, service) in platform.services() {
        let grpc = format!("gRPC {}", service.grpc());
        text.push_str(&format!("{name:<20}  {grpc:<20}  admin http://{}\n", service.admin()));
    }
    text.push_str("\nThe command line knows all this: target/debug/idempo relay status\n");
    text.push_str("\nEverything runs; Ctrl-C ends it. What was written is there the next time.\n");
    text
}

async fn run(command: Vec<OsString>, stop: &mut Stop) -> Result<ExitCode> {
    let servers = tokio::select! {
        servers = Servers::start(Options::throwaway(Progress::to_stderr())) => servers?,
        () = stop.asked() => return Ok(ExitCode::from(130)),
    };
    let mut command = Command::start(command, &servers)?;
    let code = tokio::select! {
        code = command.ended() => code?,
        // In a terminal the command has had the signal too; now it may end in order.
        () = stop.asked() => command.stop().await?,
    };
    servers.stop().await?;
    Ok(ExitCode::from(code))
}
