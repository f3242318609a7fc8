//! Running one task, and doing what it declares about its end.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use anyhow::anyhow;
use backon::{BackoffBuilder as _, ExponentialBuilder};
use futures_util::FutureExt as _;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, debug, info_span, warn};

use super::{OnEnd, Restart, Task, Tasks};

/// Times a task ended by itself and was started again.
const RESTARTS: &str = "idempo_task_restarts_total";

/// Runs a task once.
pub(super) async fn once<Run>(tasks: Tasks, task: Task, cancel: CancellationToken, run: Run)
where
    Run: Future<Output = anyhow::Result<()>> + Send,
{
    let end = end_of(&task, run).await;
    if cancel.is_cancelled() {
        return log_stopped(&task, end);
    }
    match (task.on_end, end) {
        (OnEnd::Finite | OnEnd::Optional, Ok(())) => debug!(task = %task.name, "task ended"),
        (OnEnd::Optional, Err(error)) => warn!(task = %task.name, error = format!("{error:#}"), "task failed"),
        // The edge has let go of it while the process stops: its turn would have come.
        (OnEnd::Critical | OnEnd::Restart(_), Ok(())) if tasks.is_stopping() => log_stopped(&task, Ok(())),
        (OnEnd::Critical | OnEnd::Restart(_), Ok(())) => tasks.fail(&task.name, anyhow!("it ended by itself")),
        (OnEnd::Critical | OnEnd::Finite | OnEnd::Restart(_), Err(error)) => tasks.fail(&task.name, error),
    }
}

/// Runs a task until it is time to stop, starting it again as `restart` says.
pub(super) async fn again<F, Run>(tasks: Tasks, task: Task, restart: Restart, cancel: CancellationToken, mut run: F)
where
    F: FnMut(CancellationToken) -> Run + Send,
    Run: Future<Output = anyhow::Result<()>> + Send,
{
    let mut delays = delays(restart);
    let mut attempts = 0_u32;
    while !cancel.is_cancelled() {
        let started = Instant::now();
        let end = end_of(&task, run(cancel.child_token())).await;
        if cancel.is_cancelled() || tasks.is_stopping() {
            return log_stopped(&task, end);
        }
        if started.elapsed() >= Duration::from_millis(restart.steady_ms) {
            delays = self::delays(restart);
            attempts = 0;
        }
        let error = end.err().unwrap_or_else(|| anyhow!("it ended by itself"));
        if restart.attempts_max > 0 && attempts >= restart.attempts_max {
            return tasks.fail(&task.name, error.context(format!("started again {attempts} times in a row")));
        }
        attempts = attempts.saturating_add(1);
        metrics::describe_counter!(RESTARTS, "Times a task ended by itself and was started again.");
        metrics::counter!(RESTARTS, "task" => task.name.clone()).increment(1);
        let delay = delays.next().unwrap_or(Duration::from_millis(restart.max_delay_ms));
        warn!(task = %task.name, error = format!("{error:#}"), attempts, ?delay, "task ended; starting it again");
        let _ = cancel.run_until_cancelled(sleep(delay)).await;
    }
}

/// The delays before each start: exponential, jittered, without an end.
fn delays(restart: Restart) -> impl Iterator<Item = Duration> + Send + use<> {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(restart.min_delay_ms))
        .with_max_delay(Duration::from_millis(restart.max_delay_ms))
        .without_max_times()
        .with_jitter()
        .build()
}

/// How `run` ends; a panic in it is an error like any other.
async fn end_of(task: &Task, run: impl Future<Output = anyhow::Result<()>> + Send) -> anyhow::Result<()> {
    let span = info_span!(target: "idempo_runtime::task", parent: None, "task", task = %task.name);
    match AssertUnwindSafe(run.instrument(span)).catch_unwind().await {
        Ok(end) => end,
        Err(panic) => Err(anyhow!("it panicked: {}", panic_text(panic.as_ref()))),
    }
}

fn log_stopped(task: &Task, end: anyhow::Result<()>) {
    match end {
        Ok(()) => debug!(task = %task.name, "task stopped"),
        Err(error) => warn!(task = %task.name, error = format!("{error:#}"), "task failed while stopping"),
    }
}

/// What a panic said.
fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
