//! Conditions that are looked at again and again.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use crate::{Platform, Task};

/// How often a watched condition is looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

impl Platform {
    /// Keeps the readiness condition `name` true to what `check` finds, once a second until the role stops: met on `Ok`, unmet for the error's
    /// text otherwise. For what a role can't work without and does not own, as its database. `check` is to bound its own time.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn watch<C, F, E>(&self, name: &'static str, check: C)
    where
        C: Fn() -> F + Send + 'static,
        F: Future<Output = Result<(), E>> + Send,
        E: Display + Send,
    {
        let condition = self.readiness.condition(name);
        self.tasks.spawn(Task::critical(format!("{name}-watch")), |cancel| async move {
            while let Some(checked) = cancel.run_until_cancelled(check()).await {
                match checked {
                    Ok(()) => condition.met(),
                    Err(error) => condition.unmet(error.to_string()),
                }
                if cancel.run_until_cancelled(tokio::time::sleep(WATCH_INTERVAL)).await.is_none() {
                    break;
                }
            }
            Ok(())
        });
    }
}
