//! Child processes that never outlive this one, however it ends.
//!
//! The kernel sends a child its parent-death signal when the *thread* that made it ends, so all children are made by one thread that lives as
//! long as the process. The signal is forgotten when a process changes its user, so that happens first: `setpriv` to the user, `setpriv` to
//! the signal, then the program. A parent that dies before the signal is set is noticed by the shell between them.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{Sender, SyncSender, channel, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::home::User;

/// The pause between two looks at whether a process has ended, in milliseconds.
const WAIT_PAUSE_MS: u64 = 5;
/// How many lines of a log are shown with an error.
const LOG_LINES_SHOWN: usize = 15;

/// What is run, and how.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    /// What people call it.
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    /// Variables beside the inherited ones; of those, none that begins with `IDEMPO_` is passed on.
    pub(crate) variables: Vec<(String, String)>,
    pub(crate) directory: PathBuf,
    /// Where its output goes; added to when it is there. `None`: to where ours goes, and it stays in our process group, so that Ctrl-C reaches
    /// it too.
    pub(crate) log: Option<PathBuf>,
    /// Who it runs as; `None` for our own user.
    pub(crate) user: Option<User>,
    /// The name (`KILL`) of the signal it gets when this process is gone.
    pub(crate) death_signal: &'static str,
}

/// A running child. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    log: Option<PathBuf>,
    child: Child,
}

type Order = (Command, SyncSender<io::Result<Child>>);

/// The thread that makes all children.
static SPAWNER: LazyLock<Option<Sender<Order>>> = LazyLock::new(|| {
    let (orders, incoming) = channel::<Order>();
    let work = move || {
        for (mut command, answer) in incoming {
            let _ = answer.send(command.spawn());
        }
    };
    std::thread::Builder::new().name("spawner".to_owned()).spawn(work).ok().map(|_| orders)
});

fn spawn(command: Command) -> Result<Child> {
    let (answer, answered) = sync_channel(1);
    let orders = SPAWNER.as_ref().context("no thread for making processes")?;
    orders.send((command, answer)).ok().context("the thread for making processes has ended")?;
    Ok(answered.recv().context("the thread for making processes has ended")??)
}

impl Launch {
    /// A program of ours under our own user, gone with us.
    pub(crate) fn new(name: &str, program: impl Into<PathBuf>, directory: impl Into<PathBuf>) -> Self {
        Self {
            name: name.to_owned(),
            program: program.into(),
            arguments: Vec::new(),
            variables: Vec::new(),
            directory: directory.into(),
            log: None,
            user: None,
            death_signal: "KILL",
        }
    }

    pub(crate) fn arguments<I: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = I>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Starts it.
    pub(crate) fn spawn(&self) -> Result<Process> {
        let child = spawn(self.command()?).with_context(|| format!("starting {} ({})", self.name, self.program.display()))?;
        Ok(Process { name: self.name.clone(), log: self.log.clone(), child })
    }

    /// Runs it to its end.
    ///
    /// Fails when it takes longer than `limit` (it is killed then) or does not exit with 0.
    pub(crate) async fn run(&self, limit: Duration) -> Result<()> {
        let mut process = self.spawn()?;
        let Some(status) = process.wait(limit).await? else {
            bail!("{} is not done after {} s{}", self.name, limit.as_secs(), process.log_tail());
        };
        anyhow::ensure!(status.success(), "{} failed ({status}){}", self.name, process.log_tail());
        Ok(())
    }

    fn command(&self) -> Result<Command> {
        let mut command = Command::new("setpriv");
        if let Some(user) = &self.user {
            command.arg(format!("--reuid={}", user.uid)).arg(format!("--regid={}", user.gid)).args(["--clear-groups", "--", "setpriv"]);
            command.env("HOME", &self.directory);
        }
        command.arg(format!("--pdeathsig={}", self.death_signal));
        command.args(["--", "sh", "-c", r#"[ "$PPID" = "$0" ] && exec "$@""#]).arg(std::process::id().to_string());
        command.arg(&self.program).args(&self.arguments).current_dir(&self.directory).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("IDEMPO_") {
                command.env_remove(name);
            }
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        if let Some(log) = &self.log {
            let output = append(log).with_context(|| format!("opening {}", log.display()))?;
            // A group of its own: Ctrl-C is for us, and we stop our children in order.
            command.stdout(output.try_clone()?).stderr(output).process_group(0);
        }
        Ok(command)
    }
}

fn append(log: &PathBuf) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(log)
}

impl Process {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, or `None` while it runs.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("looking after {}", self.name))
    }

    /// Waits for its end; `None` when it still runs after `limit`.
    pub(crate) async fn wait(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                return Ok(Some(status));
            }
            if began.elapsed() >= limit {
                return Ok(None);
            }
            tokio::time::sleep(Duration::from_millis(WAIT_PAUSE_MS)).await;
        }
    }

    /// Sends it a signal; nothing happens when it has ended.
    pub(crate) fn signal(&mut self, signal: Signal) -> Result<()> {
        // Between this look and the signal its id can't become another's: it stays ours until we have waited for it.
        if self.ended()?.is_some() {
            return Ok(());
        }
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).context("a process id out of range")?;
        kill_process(pid, signal).with_context(|| format!("signalling {}", self.name))
    }

    /// Asks it to end by `signal`, and kills it when it has not ended within `grace`. Returns how it ended.
    pub(crate) async fn stop(&mut self, signal: Signal, grace: Duration) -> Result<ExitStatus> {
        self.signal(signal)?;
        if let Some(status) = self.wait(grace).await? {
            return Ok(status);
        }
        self.kill()
    }

    /// Kills it and waits until it is gone.
    pub(crate) fn kill(&mut self) -> Result<ExitStatus> {
        let _ = self.child.kill();
        self.child.wait().with_context(|| format!("waiting for the end of {}", self.name))
    }

    /// The last lines of its log, ready to be put after a message.
    pub(crate) fn log_tail(&self) -> String {
        let Some(log) = &self.log else { return String::new() };
        let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let shown = lines.iter().skip(lines.len().saturating_sub(LOG_LINES_SHOWN)).map(|line| format!("\n    {line}"));
        format!("; the end of {}:{}", log.display(), shown.collect::<String>())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn launch(program: &str) -> Launch {
        Launch::new(program, program, "/")
    }

    #[tokio::test]
    async fn a_child_outlives_the_thread_that_asked_for_it() {
        let sleeping = launch("sleep").arguments(["60"]);
        let asking = std::thread::spawn(move || sleeping.spawn());
        let mut process = asking.join().expect("the thread ends").expect("it starts");
        // The kernel would have ended it at once.
        assert_eq!(process.wait(Duration::from_millis(200)).await.expect("it is ours"), None);
    }

    #[tokio::test]
    async fn a_child_ends_when_its_handle_is_dropped() {
        let process = launch("sleep").arguments(["60"]).spawn().expect("it starts");
        let entry = PathBuf::from(format!("/proc/{}", process.pid()));
        assert!(entry.exists());
        drop(process);
        assert!(!entry.exists());
    }

    #[tokio::test]
    async fn a_failed_command_shows_the_end_of_its_log() {
        let log = std::env::temp_dir().join(format!("idempo-process-test-{}", std::process::id()));
        let failing = Launch { log: Some(log.clone()), ..launch("sh") }.arguments(["-c", "seq 100; echo what went wrong >&2; exit 3"]);
        let error = failing.run(LIMIT).await.expect_err("it exits with 3").to_string();
        let _ = fs::remove_file(log);
        assert!(error.contains("what went wrong") && error.contains("    99") && !error.contains("    12\n"), "{error}");
    }

    #[tokio::test]
    async fn a_child_that_ignores_the_signal_is_killed_after_its_grace() {
        let mut process = launch("sh").arguments(["-c", "trap '' TERM; while :; do sleep 0.01; done"]).spawn().expect("it starts");
        let status = process.stop(Signal::TERM, Duration::from_millis(300)).await.expect("it is ours");
        assert!(!status.success());
    }
}
