//! The projector's process, and what it and the server behind it have used, by /proc.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use idempo_devstack::testing;

/// How many ticks of /proc are a second, on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;
/// How long the process may take to end.
const STOP_MAX: Duration = Duration::from_secs(20);

/// The projector's own binary, killed if it is dropped.
pub(super) struct Projector(Child);

impl Drop for Projector {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Projector {
    /// Starts the binary that was built beside this one.
    pub(super) fn start(database_url: &str, brokers: &str, topic: &str, partitions: i32, group: &str) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?.with_file_name("idempo-inventory-projector");
        let child = Command::new(&program)
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .env("IDEMPO_DATABASE__URL", database_url)
            .env("IDEMPO_KAFKA__BROKERS", brokers)
            .env("IDEMPO_CONSUMER__GROUP_ID", group)
            .env("IDEMPO_CONSUMER__TOPICS", format!("[\"{topic}\"]"))
            .env("IDEMPO_PARTITIONS", partitions.to_string())
            .env("IDEMPO_PLATFORM__LOG__FORMAT", "json")
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        Ok(Self(child))
    }

    /// CPU seconds so far.
    pub(super) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        Ok(Stat::of(self.0.id())?.own_seconds())
    }

    /// The most memory it has had, in MiB.
    pub(super) fn peak_mib(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM in /proc")?;
        let kib: u32 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(f64::from(kib) / 1_024.0)
    }

    /// Fails if the process has ended.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        match self.0.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the projector has ended: {status}"),
        }
    }

    /// Asks it to end, and waits until it has, with success.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        testing::signal(&self.0, testing::Signal::TERM);
        let began = Instant::now();
        loop {
            match self.0.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("the projector ended with {status}"),
                None if began.elapsed() > STOP_MAX => bail!("the projector does not end"),
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

/// CPU seconds so far of a PostgreSQL server that `backend` belongs to: of its parent, of what that has had as children, and of those it has.
pub(super) fn server_cpu_seconds(backend: u32) -> anyhow::Result<f64> {
    let server = Stat::of(backend)?.parent;
    let mut seconds = Stat::of(server)?.with_reaped_seconds();
    for entry in fs::read_dir("/proc")? {
        let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // One that has ended meanwhile is counted by its parent.
        if let Ok(stat) = Stat::of(id)
            && stat.parent == server
        {
            seconds += stat.own_seconds();
        }
    }
    Ok(seconds)
}

struct Stat {
    parent: u32,
    /// User, system, and both of the children that were waited for.
    ticks: [u32; 4],
}

impl Stat {
    fn of(process: u32) -> anyhow::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{process}/stat"))?;
        let fields: Vec<&str> = text.rsplit(')').next().context("an unreadable stat")?.split_whitespace().collect();
        let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u32>().ok()).context("an unreadable stat");
        Ok(Self { parent: number(1)?, ticks: [number(11)?, number(12)?, number(13)?, number(14)?] })
    }

    fn own_seconds(&self) -> f64 {
        let [user, system, ..] = self.ticks;
        (f64::from(user) + f64::from(system)) / TICKS_PER_SECOND
    }

    fn with_reaped_seconds(&self) -> f64 {
        self.ticks.iter().copied().map(f64::from).sum::<f64>() / TICKS_PER_SECOND
    }
}
