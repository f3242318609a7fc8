//! The operator: runs `idempo`, the command line, as a person would.

use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use idempo_devstack::{Platform, Servers};
use serde_json::Value;
use tokio::process::Command;

/// The pause between two looks at what is awaited.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// The name that stands in every audit.
const CALLER: &str = "showcase-operator";

/// A person at a shell.
#[derive(Debug, Clone)]
pub struct Operator {
    program: PathBuf,
    profile: PathBuf,
}

/// What a command printed, and how it ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// The exit code; -1 where a signal ended it.
    pub code: i32,
    /// What it printed as data.
    pub stdout: String,
    /// What it said beside.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Operator {
    /// An operator of this platform.
    ///
    /// # Errors
    /// Where the command line is not built, or its profile can't be written.
    pub fn of(servers: &Servers, platform: &Platform) -> Result<Self> {
        let program = idempo_devstack::binaries()?.join("idempo");
        ensure!(program.is_file(), "{} is not built: `cargo build --workspace` makes it", program.display());
        let profile = platform.service("wallet")?.log().with_file_name("idempo-cli.toml");
        std::fs::write(&profile, idempo_devstack::profile(servers, platform)?).with_context(|| format!("writing {}", profile.display()))?;
        Ok(Self { program, profile })
    }

    /// Runs `idempo` with these words.
    ///
    /// # Errors
    /// Where it can't be started, or prints what is no text.
    pub async fn run(&self, words: &[&str]) -> Result<Ended> {
        let began = Instant::now();
        let mut command = Command::new(&self.program);
        command.args(words).stdin(Stdio::null()).kill_on_drop(true);
        command.env("IDEMPO_CLI_CONFIG", &self.profile).env("IDEMPO_CLI_CALLER", CALLER).env("NO_COLOR", "1");
        let Output { status, stdout, stderr } = command.output().await.with_context(|| format!("running {}", self.program.display()))?;
        let code = status.code().unwrap_or(-1);
        Ok(Ended { code, stdout: String::from_utf8(stdout)?, stderr: String::from_utf8(stderr)?, took: began.elapsed() })
    }

    /// Runs it, and fails where it does not end with 0.
    ///
    /// # Errors
    /// As [`Operator::run`], and with what it said.
    pub async fn done(&self, words: &[&str]) -> Result<Ended> {
        let ended = self.run(words).await?;
        ensure!(ended.code == 0, "`idempo {}` ended with {}: {}{}", words.join(" "), ended.code, ended.stdout, ended.stderr);
        Ok(ended)
    }

    /// Runs it, and reads the JSON that it prints.
    ///
    /// # Errors
    /// As [`Operator::done`], and where it prints no JSON.
    pub async fn json(&self, words: &[&str]) -> Result<Value> {
        let words = [words, &["-o", "json"]].concat();
        let ended = self.done(&words).await?;
        serde_json::from_str(&ended.stdout).with_context(|| format!("`idempo {}` printed {}", words.join(" "), ended.stdout))
    }

    /// Runs it again and again until what it prints is what is awaited; gives that, and how long it took.
    ///
    /// # Errors
    /// Where it does not come to that within `limit`; the message has what was printed last.
    pub async fn until(&self, words: &[&str], limit: Duration, is_there: impl Fn(&Value) -> bool) -> Result<(Value, Duration)> {
        let began = Instant::now();
        loop {
            let found = self.json(words).await?;
            if is_there(&found) {
                return Ok((found, began.elapsed()));
            }
            ensure!(began.elapsed() < limit, "`idempo {}` still shows after {} s: {found}", words.join(" "), limit.as_secs());
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }
}
