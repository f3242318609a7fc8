//! Where a figure was measured: without it, it says nothing.

use std::process::Command;

use anyhow::{Context as _, ensure};
use idempo_clock::{Clock as _, SystemClock};
use idempo_devstack::testing;
use serde::Serialize;

use crate::database::session;

/// The settings that must be as in production, or every figure is too good.
const DURABLE: [&str; 3] = ["fsync", "synchronous_commit", "full_page_writes"];

/// The machine, the servers and the code.
#[derive(Debug, Serialize)]
pub(crate) struct Environment {
    cores: usize,
    memory_mib: u32,
    processor: String,
    kernel: String,
    postgres: String,
    kafka: String,
    /// The commit, and how many files differ from it.
    commit: String,
    changed_files: usize,
    /// `debug` figures say nothing.
    build: &'static str,
    began: String,
    /// Over 1, 5 and 15 minutes, when the bench began. Above the number of cores, others had work too.
    load_average: [f64; 3],
}

impl Environment {
    /// Looks around. Fails where the database does not commit durably.
    pub(crate) async fn look() -> anyhow::Result<Self> {
        let client = session(&testing::cluster().superuser("postgres")).await?;
        for setting in DURABLE {
            let value: String = client.query_one(include_str!("../sql/setting.sql"), &[&setting]).await?.try_get(0)?;
            ensure!(value == "on", "{setting} is {value}: figures of a database that can lose commits say nothing");
        }
        let postgres = client.query_one(include_str!("../sql/setting.sql"), &[&"server_version"]).await?.try_get(0)?;
        Ok(Self {
            cores: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            memory_mib: memory_mib().unwrap_or(0),
            processor: line_of("/proc/cpuinfo", "model name").unwrap_or_default(),
            kernel: std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            postgres,
            kafka: kafka_version().unwrap_or_else(|| "unknown".to_owned()),
            commit: git(&["rev-parse", "HEAD"]).unwrap_or_else(|| "unknown".to_owned()),
            changed_files: git(&["status", "--porcelain"]).map_or(0, |changed| changed.lines().count()),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            began: SystemClock.now().to_string(),
            load_average: load_average()?,
        })
    }

    /// What a reader must know before the figures, in a line or two.
    pub(crate) fn summary(&self) -> String {
        let [one, ..] = self.load_average;
        let mut text = format!(
            "{} cores, {} MiB, Linux {}, PostgreSQL {}, Kafka {}, commit {:.12}, load average {one:.1}",
            self.cores, self.memory_mib, self.kernel, self.postgres, self.kafka, self.commit
        );
        if self.build != "release" {
            text.push_str("\nA DEBUG BUILD: these figures say nothing.");
        }
        if u32::try_from(self.cores).is_ok_and(|cores| one > f64::from(cores)) {
            text.push_str("\nThe machine had other work when this began: ratios are a first reading, latencies are too long.");
        }
        text
    }
}

/// The load averages over 1, 5 and 15 minutes.
pub(crate) fn load_average() -> anyhow::Result<[f64; 3]> {
    let text = std::fs::read_to_string("/proc/loadavg")?;
    let mut parts = text.split(' ').map(str::parse::<f64>);
    let mut next = || parts.next().context("an unreadable /proc/loadavg")?.context("an unreadable /proc/loadavg");
    Ok([next()?, next()?, next()?])
}

fn memory_mib() -> Option<u32> {
    let kib: u64 = line_of("/proc/meminfo", "MemTotal")?.trim_end_matches("kB").trim().parse().ok()?;
    u32::try_from(kib / 1_024).ok()
}

/// What stands behind `name:` in a file.
fn line_of(file: &str, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.trim_start().strip_prefix(':')?.trim().to_owned()))
}

/// The version of our own broker, by the name of its jar: no client can ask a broker for it.
fn kafka_version() -> Option<String> {
    let jars = std::fs::read_dir(idempo_devstack::default_root().join("kafka/libs")).ok()?;
    jars.flatten().find_map(|jar| Some(jar.file_name().to_str()?.strip_prefix("kafka-clients-")?.strip_suffix(".jar")?.to_owned()))
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
