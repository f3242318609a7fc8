//! Single lives of a process: begun with variables of their own, and ended by the process itself.

use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Platform, Service};

impl Platform {
    /// Starts a process that is not running, on the addresses it had, with variables beside its own for this life only. Does not wait: it may be told
    /// to end before it is ready.
    ///
    /// # Errors
    /// When there is none with this name, or it is running.
    pub fn begin_life(&mut self, name: &str, variables: &[(&str, &str)]) -> Result<()> {
        let service = self.service_mut(name)?;
        anyhow::ensure!(service.process.is_none(), "{name} is running");
        let mut launch = service.launch.clone();
        launch.variables.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        service.process = Some(launch.spawn()?);
        Ok(())
    }

    /// Waits until a process that was begun is ready.
    ///
    /// # Errors
    /// When it ends, or is not ready in time; the message has the end of its log.
    pub async fn wait_ready(&mut self, name: &str) -> Result<()> {
        self.service_mut(name)?.wait_ready().await
    }

    /// Asks a process to end by SIGTERM, and does not wait.
    ///
    /// # Errors
    /// As [`Platform::kill`].
    pub fn ask_to_stop(&mut self, name: &str) -> Result<()> {
        self.service_mut(name)?.running()?.signal(rustix::process::Signal::TERM)
    }

    /// Waits until a process ends without being killed from outside, and says how it did. It can be started again then.
    ///
    /// # Errors
    /// When it still runs after `limit`; the message has the end of its log.
    pub async fn wait_end(&mut self, name: &str, limit: Duration) -> Result<ExitStatus> {
        self.service_mut(name)?.wait_end(limit).await
    }
}

impl Service {
    /// Waits until it ends without being killed from outside, and says how it did. It can be started again then.
    ///
    /// # Errors
    /// When it still runs after `limit`; the message has the end of its log.
    pub async fn wait_end(&mut self, limit: Duration) -> Result<ExitStatus> {
        let name = self.launch.name.clone();
        let process = self.running()?;
        let ended = process.wait(limit).await?;
        let status = ended.with_context(|| format!("{name} still runs after {} s{}", limit.as_secs(), process.log_tail()))?;
        self.process = None;
        Ok(status)
    }
}
