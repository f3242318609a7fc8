//! What named points of the code do when they are reached: for tests that kill a process exactly there.
//!
//! Crates name their points in a module `failpoint` of their own. What `fail` offers (sleep, pause, panic, counts, percentages) comes with
//! the variable `FAILPOINTS`; a kill is none of it, since a panic unwinds, closes connections and is logged, and a killed process does nothing more.

use std::sync::atomic::{AtomicU32, Ordering};

use fail::FailScenario;
use signal_hook::consts::SIGKILL;
use signal_hook::low_level::raise;

/// The variable that says where this process kills itself: a point's name, and after a colon how often it must have been reached.
pub(crate) const KILL_AT: &str = "IDEMPO_KILL_AT";

/// Gives the points their actions for as long as the value lives: those of `FAILPOINTS`, and the kill that `IDEMPO_KILL_AT` asks for.
///
/// # Errors
/// When `IDEMPO_KILL_AT` can't be read.
///
/// # Panics
/// When `FAILPOINTS` can't be read, says `fail`.
pub(crate) fn arm() -> Result<FailScenario<'static>, String> {
    let scenario = FailScenario::setup();
    if let Some(kill_at) = std::env::var_os(KILL_AT) {
        let (name, times) = place(&kill_at.to_string_lossy())?;
        let left = AtomicU32::new(times);
        fail::cfg_callback(name, move || {
            if left.fetch_sub(1, Ordering::Relaxed) == 1 {
                kill();
            }
        })?;
    }
    Ok(scenario)
}

/// The point, and how often it is reached until the kill.
fn place(text: &str) -> Result<(String, u32), String> {
    let (name, times) = text.split_once(':').unwrap_or((text, "1"));
    match times.parse() {
        Ok(times) if times > 0 && !name.is_empty() => Ok((name.to_owned(), times)),
        _ => Err(format!("{KILL_AT}={text}: expected a point's name, or a name, a colon, and a number from 1")),
    }
}

/// Ends the process at once, as the kernel or a power cut would: nothing is unwound, flushed or closed in order.
fn kill() {
    // To a process's own thread the signal is delivered before the call returns.
    let _unreachable = raise(SIGKILL);
    std::process::abort();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_name_and_a_count_from_one() {
        assert_eq!(place("append.answered"), Ok(("append.answered".to_owned(), 1)));
        assert_eq!(place("append.answered:17"), Ok(("append.answered".to_owned(), 17)));
        for text in ["", ":3", "append.answered:", "append.answered:0", "append.answered:x", "append.answered:1:2"] {
            assert!(place(text).is_err_and(|refused| refused.starts_with(KILL_AT)), "{text}");
        }
    }
}
