//! Steps that take their time: what is done, that it goes on, how long it took.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// How often a step that goes on says so.
const STILL: Duration = Duration::from_secs(15);
/// How many lines of a failed step's output are shown.
const LINES_SHOWN: usize = 20;

/// Tells people something, on standard error.
pub(crate) fn tell(line: &str) {
    // Nobody to tell is no reason to stop.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Runs a command with its output in `log`, and tells what it does and how long it took.
///
/// # Errors
/// Where it can't be run, or fails.
pub(crate) fn run(what: &str, command: &mut Command, log: &Path) -> Result<()> {
    let status = status(what, command, log)?;
    if status.success() {
        return Ok(());
    }
    let text = std::fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let end: Vec<&str> = lines.iter().skip(lines.len().saturating_sub(LINES_SHOWN)).copied().collect();
    bail!("{what}: failed ({status}); the end of its output:\n{}", end.join("\n"));
}

/// As [`run`], for a command whose failure is an answer.
///
/// # Errors
/// Where it can't be run.
pub(crate) fn status(what: &str, command: &mut Command, log: &Path) -> Result<ExitStatus> {
    tell(&format!("{what} …"));
    let began = Instant::now();
    let output = File::create(log).with_context(|| format!("writing {}", log.display()))?;
    command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
    let mut child = command.spawn().with_context(|| format!("running {}", command.get_program().display()))?;
    // The child is waited for by this thread, because it may be bound to the thread that made it.
    let (done, waiting) = channel::<()>();
    let what_again = what.to_owned();
    let teller = std::thread::spawn(move || {
        while waiting.recv_timeout(STILL) == Err(RecvTimeoutError::Timeout) {
            tell(&format!("{what_again}: still at it after {} s", began.elapsed().as_secs()));
        }
    });
    let status = child.wait().with_context(|| format!("waiting for {}", command.get_program().display()));
    drop(done);
    let _ = teller.join();
    let status = status?;
    let end = if status.success() { "done in" } else { "failed after" };
    tell(&format!("{what}: {end} {:.1} s", began.elapsed().as_secs_f64()));
    Ok(status)
}
