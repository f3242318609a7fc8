//! What processes use, by /proc.

use std::fs;

use anyhow::Context as _;
use tokio_postgres::Client;

use crate::report::Cost;

/// How many ticks of /proc are a second, on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;
/// Written to `clear_refs`, it sets the peak back to what is in use.
const RESET_PEAK: &str = "5";

/// The memory of a process, in MiB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// All that is resident.
    pub(crate) resident: f64,
    /// Of that, what is its own: heap and stacks. The rest is mostly the program's text, which the kernel can drop.
    pub(crate) anonymous: f64,
    /// The most that ever was resident.
    pub(crate) peak: f64,
}

/// How much memory a process has.
pub(crate) fn memory(pid: u32) -> anyhow::Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let mib = |name: &str| {
        let line =
            status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).with_context(|| format!("no {name} in /proc"))?;
        let kib: u32 = line.trim().trim_end_matches("kB").trim().parse()?;
        anyhow::Ok(f64::from(kib) / 1_024.0)
    };
    Ok(Memory { resident: mib("VmRSS")?, anonymous: mib("RssAnon")?, peak: mib("VmHWM")? })
}

/// Forgets how much memory a process once had.
pub(crate) fn reset_peak(pid: u32) -> anyhow::Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), RESET_PEAK).context("resetting the peak of a process' memory")
}

/// CPU seconds of a process so far.
pub(crate) fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    Ok(Stat::of(pid)?.own_seconds())
}

/// The PostgreSQL server behind a session, where it runs on this machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Postgres {
    postmaster: Option<u32>,
}

impl Postgres {
    /// Finds the server of a session.
    pub(crate) async fn of(client: &Client) -> anyhow::Result<Self> {
        let backend: i32 = client.query_one(include_str!("sql/backend.sql"), &[]).await?.try_get(0)?;
        let backend = u32::try_from(backend)?;
        let here = fs::read_to_string(format!("/proc/{backend}/comm")).is_ok_and(|name| name.trim() == "postgres");
        Ok(Self { postmaster: if here { Some(Stat::of(backend)?.parent) } else { None } })
    }

    /// CPU seconds of the server so far: its parent process, the children that it has had, and those that it has.
    pub(crate) fn cpu_seconds(self) -> anyhow::Result<Option<f64>> {
        let Some(postmaster) = self.postmaster else { return Ok(None) };
        let mut seconds = Stat::of(postmaster)?.with_reaped_seconds();
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            // One that has ended meanwhile is counted by its parent.
            if let Ok(stat) = Stat::of(pid)
                && stat.parent == postmaster
            {
                seconds += stat.own_seconds();
            }
        }
        Ok(Some(seconds))
    }
}

/// Follows what a measurement uses, from now on.
#[derive(Debug)]
pub(crate) struct Watch {
    pid: Option<u32>,
    cpu: f64,
    postgres: Postgres,
    postgres_cpu: Option<f64>,
}

impl Watch {
    /// Watches a process of ours (`None`: only the server), and sets its peak back.
    pub(crate) fn begin(pid: Option<u32>, postgres: Postgres) -> anyhow::Result<Self> {
        if let Some(pid) = pid {
            reset_peak(pid)?;
        }
        let cpu = pid.map_or(Ok(0.0), cpu_seconds)?;
        Ok(Self { pid, cpu, postgres, postgres_cpu: postgres.cpu_seconds()? })
    }

    /// What was used since then for so many events or commands.
    pub(crate) fn cost(&self, events: u64) -> anyhow::Result<Cost> {
        let million = |seconds: f64| seconds * 1_000_000.0 / float(events.max(1));
        let postgres = match (self.postgres_cpu, self.postgres.cpu_seconds()?) {
            (Some(before), Some(after)) => Some(million(after - before)),
            _ => None,
        };
        let Some(pid) = self.pid else { return Ok(Cost { postgres_cpu_s_per_million: postgres, ..Cost::default() }) };
        Ok(Cost {
            cpu_s_per_million: Some(million(cpu_seconds(pid)? - self.cpu)),
            postgres_cpu_s_per_million: postgres,
            peak_mib: Some(memory(pid)?.peak),
        })
    }
}

/// A count as a number to divide by; exact up to 2³².
pub(crate) fn float(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

struct Stat {
    parent: u32,
    /// User, system, and both of the children that were waited for.
    ticks: [u32; 4],
}

impl Stat {
    fn of(pid: u32) -> anyhow::Result<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
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
