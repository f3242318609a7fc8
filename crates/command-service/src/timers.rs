//! What happens by itself: its settings and its tasks.

use std::time::Duration;

use idempo_event_store::Handle;
use idempo_event_store::timer::{DueWork, Timer};
use idempo_pg::Pool;
use idempo_runtime::{Invalid, Platform, Stage, Task};
use serde::{Deserialize, Serialize};

/// The shortest wait between two looks at the work that is due, in milliseconds.
const POLL_INTERVAL_MIN_MS: u64 = 10;
/// The longest wait between two looks at the work that is due, in milliseconds.
const POLL_INTERVAL_MAX_MS: u64 = 60_000;

/// What happens by itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timers {
    /// How long what came to wait meanwhile may stay unseen, in milliseconds, 10 to 60,000: work is done at most this late.
    pub poll_interval_ms: u64,
}

impl Default for Timers {
    fn default() -> Self {
        Self { poll_interval_ms: 500 }
    }
}

impl Timers {
    /// Checks what the types can't say. The settings are those of the key `timers`.
    ///
    /// # Errors
    /// The setting that can't be used.
    pub fn validate(&self) -> Result<(), Invalid> {
        if !(POLL_INTERVAL_MIN_MS..=POLL_INTERVAL_MAX_MS).contains(&self.poll_interval_ms) {
            let bounds = format!("must be {POLL_INTERVAL_MIN_MS} to {POLL_INTERVAL_MAX_MS}");
            return Err(Invalid::new("timers.poll_interval_ms", bounds));
        }
        Ok(())
    }
}

/// Starts doing one kind of work as it falls due. It takes in new work, so it ends before what decides and appends.
///
/// # Panics
/// Outside a tokio runtime.
pub fn start_timer<W: DueWork>(commands: Handle<W::Domain>, timers: &Timers, pool: &Pool, platform: &Platform) {
    let interval = Duration::from_millis(timers.poll_interval_ms);
    let timer = Timer::<W>::new(commands, pool.clone(), platform.clock.clone(), interval);
    platform.tasks.spawn(Task::critical(format!("{}-timer", W::NAME)).stage(Stage::Edge), |cancel| async move {
        timer.run(cancel).await;
        Ok(())
    });
}
