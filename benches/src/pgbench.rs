//! The reference for the append: pgbench writing only the event and outbox rows, one statement and one transaction each.

use std::process::Command;

use anyhow::{Context as _, bail};

/// What one pgbench run measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    /// Transactions a second.
    pub(crate) rate: f64,
    /// The median of its transactions' latencies, in milliseconds.
    pub(crate) p50_ms: f64,
    /// How many transactions there were.
    pub(crate) transactions: u64,
}

/// Runs the insert with `clients` for `seconds` against the database at `url`.
pub(crate) async fn run(url: &str, clients: u32, seconds: u32, envelope_bytes: usize) -> anyhow::Result<Measured> {
    let url = url.to_owned();
    tokio::task::spawn_blocking(move || run_blocking(&url, clients, seconds, envelope_bytes)).await?
}

fn run_blocking(url: &str, clients: u32, seconds: u32, envelope_bytes: usize) -> anyhow::Result<Measured> {
    let folder = std::env::temp_dir().join(format!("idempo-pgbench-{}-{clients}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let script = folder.join("insert.sql");
    std::fs::write(&script, include_str!("sql/reference_insert.sql").replace("ENVELOPE_BYTES", &envelope_bytes.to_string()))?;
    let threads = clients.min(2).to_string();
    let output = Command::new("pgbench")
        .current_dir(&folder)
        .args([
            "-n",
            "-M",
            "prepared",
            "-l",
            "--log-prefix=log",
            "-c",
            &clients.to_string(),
            "-j",
            &threads,
            "-T",
            &seconds.to_string(),
            "-f",
        ])
        .arg(&script)
        .arg(url)
        .output()
        .context("pgbench can't be run")?;
    if !output.status.success() {
        bail!("pgbench failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let rate =
        text.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok()).context("pgbench printed no tps")?;
    let (p50_ms, transactions) = median_ms(&folder)?;
    std::fs::remove_dir_all(&folder)?;
    Ok(Measured { rate, p50_ms, transactions })
}

/// The median of the third column (microseconds) of pgbench's transaction logs, and how many lines they have.
fn median_ms(folder: &std::path::Path) -> anyhow::Result<(f64, u64)> {
    let mut latencies = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("log.")) {
            let text = std::fs::read_to_string(path)?;
            latencies.extend(text.lines().filter_map(|line| line.split(' ').nth(2)?.parse::<u32>().ok()));
        }
    }
    latencies.sort_unstable();
    let median = latencies.get(latencies.len() / 2).context("pgbench logged no transaction")?;
    Ok((f64::from(*median) / 1_000.0, u64::try_from(latencies.len())?))
}
