//! The boot path: from `main` to the exit code.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::convert::Infallible;
use std::future::pending;
use std::io::{Write as _, stderr, stdout};
use std::panic::PanicHookInfo;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use idempo_clock::SystemClock;
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;
use tracing::{error, info};

use crate::admin::Admin;
use crate::cli::Flags;
use crate::config::{PlatformConfig, Settings, load};
use crate::exit::Exit;
use crate::signals::Signals;
use crate::{Condition, Platform, Role, launch};

/// Threads for blocking work at most, such as name resolution. Each costs memory while it lives.
const BLOCKING_THREADS_MAX: usize = 16;

/// How long blocking work left at the end may keep the process.
const BLOCKING_LIMIT: Duration = Duration::from_millis(200);

/// Runs role `R` as this process: reads the command line and the settings, sets up signals, the async runtime and telemetry, starts the role, and stops
/// it in order when a signal or the failure of a task says so. Returns the exit code (see the crate's documentation).
#[must_use]
pub fn run<R: Role>() -> ExitCode {
    boot::<R>()
        .unwrap_or_else(|(exit, message)| {
            // There is no one left to tell when this fails.
            let _ = writeln!(stderr().lock(), "{}: {message}", R::NAME);
            exit
        })
        .into()
}

/// What is synchronous: everything before the first task and after the last.
fn boot<R: Role>() -> Result<Exit, (Exit, String)> {
    let flags = match Flags::parse::<R>(std::env::args_os()) {
        Ok(flags) => flags,
        Err(usage) => {
            let _ = usage.print();
            return Ok(if usage.use_stderr() { Exit::Usage } else { Exit::Done });
        }
    };
    let sources = flags.sources(std::env::vars_os().collect());
    let settings = load::<R>(sources).map_err(|refused| (Exit::Usage, refused.to_string()))?;
    if flags.dump_config {
        let dump = settings.dump().map_err(|refused| (Exit::Failure, refused.to_string()))?;
        return match stdout().lock().write_all(dump.as_bytes()) {
            Ok(()) => Ok(Exit::Done),
            Err(error) => Err((Exit::Failure, format!("cannot print the settings: {error}"))),
        };
    }
    #[cfg(feature = "failpoints")]
    let _armed = crate::failpoint::arm().map_err(|refused| (Exit::Usage, refused))?;
    supervised::<R>(settings).map_err(|error| {
        let exit = if error.is::<idempo_telemetry::Error>() { Exit::Usage } else { Exit::Failure };
        (exit, format!("{error:#}"))
    })
}

/// The process' async life.
fn supervised<R: Role>(settings: Settings<R::Config>) -> anyhow::Result<Exit> {
    let signals = Signals::install().context("cannot listen to signals")?;
    let runtime = runtime(R::NAME, &settings.platform).context("cannot start the async runtime")?;
    let telemetry = {
        // The exporter of traces starts tasks of its own.
        let _inside = runtime.enter();
        idempo_telemetry::init(&settings.platform.log, R::NAME)?
    };
    std::panic::set_hook(Box::new(log_panic));
    let exit = runtime.block_on(serve::<R>(settings, &signals));
    telemetry.shut_down();
    runtime.shutdown_timeout(BLOCKING_LIMIT);
    Ok(exit)
}

fn runtime(name: &'static str, config: &PlatformConfig) -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(config.worker_threads)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name(name)
        .enable_all()
        .build()
}

/// Why a process stops.
enum Stop {
    /// It was asked to.
    Asked(&'static str),
    /// It failed; the failure has been logged.
    Failed,
}

async fn serve<R: Role>(settings: Settings<R::Config>, signals: &Signals) -> Exit {
    let Settings { platform: config, role } = settings;
    let platform = Platform::new(R::NAME, SystemClock::shared());
    info!(role = R::NAME, version = env!("CARGO_PKG_VERSION"), instance = %platform.instance, "starting");
    let started = platform.readiness.condition(launch::STARTED);
    let admin = match Admin::start(config.admin_listen, &platform).await {
        Ok(admin) => admin,
        Err(error) => {
            error!(error = format!("{error:#}"), "cannot start");
            return Exit::Failure;
        }
    };
    let stop = stop_of::<R>(role, &platform, started, signals).await;
    let begun = Instant::now();
    platform.readiness.stop();
    let by = match stop {
        Stop::Asked(by) => by,
        Stop::Failed => "a failure",
    };
    info!(role = R::NAME, by, "stopping");
    let drained = platform.tasks.shut_down(config.grace()).await;
    admin.stop().await;
    if let Err(overrun) = &drained {
        error!(tasks = overrun.tasks.join(", "), grace_ms = config.grace_ms, "tasks were still running at the end of the grace period");
    }
    info!(role = R::NAME, took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX), "stopped");
    match (stop, drained) {
        (Stop::Failed, _) => Exit::Failure,
        // What failed while others drained has lost their work.
        (Stop::Asked(_), _) if platform.tasks.failed().is_some() => Exit::Failure,
        (Stop::Asked(_), Err(_)) => Exit::Overrun,
        (Stop::Asked(_), Ok(())) => Exit::Done,
    }
}

/// Starts the role and waits until there is a reason to stop, which may come before the role has started.
async fn stop_of<R: Role>(config: R::Config, platform: &Platform, started: Condition, signals: &Signals) -> Stop {
    let asked = platform.tasks.stop_requested();
    let life = async {
        launch::start::<R>(config, platform, started).await?;
        pending::<anyhow::Result<Infallible>>().await
    };
    tokio::select! {
        biased;
        signal = signals.first() => match signal {
            Ok(signal) => Stop::Asked(signal),
            Err(error) => {
                error!(%error, "cannot listen to signals");
                Stop::Failed
            }
        },
        () = asked.cancelled() => Stop::Asked("the role itself"),
        _ = platform.tasks.failure() => Stop::Failed,
        Err(error) = life => {
            error!(error = format!("{error:#}"), "cannot start");
            Stop::Failed
        }
    }
}

/// A panic is one log line like any other failure, with a backtrace when `RUST_BACKTRACE` asks for it.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("no message");
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        error!(panic = message, location, %backtrace, "panicked");
    } else {
        error!(panic = message, location, "panicked");
    }
}
