//! A command that needs the servers.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use crate::process::{Launch, Process};
use crate::servers::Servers;

/// How long it may take to end when it is asked to.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// Longer than any command.
const FOREVER: Duration = Duration::from_secs(7 * 24 * 3600);

/// A command that runs with `DATABASE_URL`, `KAFKA_BROKERS` and `REDIS_URL` set, on our terminal. It is killed when this is dropped.
#[derive(Debug)]
pub struct Command(Process);

impl Command {
    /// Starts `words`, a program and its arguments, in the current folder.
    ///
    /// # Errors
    /// When there is no such program.
    pub fn start(words: Vec<OsString>, servers: &Servers) -> Result<Self> {
        let mut words = words.into_iter();
        let program = words.next().context("no command")?;
        let name = program.to_string_lossy().into_owned();
        let variables =
            [("DATABASE_URL", servers.database_url()), ("KAFKA_BROKERS", servers.kafka_brokers()), ("REDIS_URL", servers.redis_url())];
        let launch = Launch {
            variables: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            ..Launch::new(&name, program, std::env::current_dir()?).arguments(words)
        };
        Ok(Self(launch.spawn()?))
    }

    /// Waits for its end; returns its exit code, or 128 and the signal that ended it.
    ///
    /// # Errors
    /// When it can't be waited for.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn ended(&mut self) -> Result<u8> {
        let status = self.0.wait(FOREVER).await?.context("a command that runs for a week")?;
        Ok(code(status))
    }

    /// Asks it to end, by SIGTERM, and kills it when it does not.
    ///
    /// # Errors
    /// When it can't be waited for.
    pub async fn stop(&mut self) -> Result<u8> {
        self.0.stop(Signal::TERM, STOP_LIMIT).await.map(code)
    }
}

fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
