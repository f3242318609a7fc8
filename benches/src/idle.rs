//! `idle`: every binary of the platform at rest.

use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::report::{Bar, Measured, Report};
use crate::usage::{Memory, Postgres, cpu_seconds, memory};
use crate::{Size, database, platform};

/// How long everything may settle after it is ready.
const SETTLE: Duration = Duration::from_secs(5);
/// How long it is watched.
const WATCH: Duration = Duration::from_secs(20);
/// What each binary may have in memory.
const RESIDENT_MIB_MAX: f64 = 30.0;
/// What all may take together, in hundredths of a core.
const CPU_PERCENT_MAX: f64 = 2.0;

/// Starts everything, leaves it alone, and looks.
pub(crate) async fn run(_size: Size, report: &mut Report) -> anyhow::Result<()> {
    let (servers, mut running) = platform::start().await?;
    let client = database::session(&servers.cluster()?.superuser("postgres")).await?;
    let postgres = Postgres::of(&client).await?;
    tokio::time::sleep(SETTLE).await;
    let pids: Vec<(&str, u32)> = running.services().filter_map(|(name, service)| Some((name, service.pid()?))).collect();
    let cpu = |pids: &[(&str, u32)]| pids.iter().map(|(_, pid)| cpu_seconds(*pid)).collect::<anyhow::Result<Vec<f64>>>();
    let (before, server_before, began) = (cpu(&pids)?, postgres.cpu_seconds()?, Instant::now());
    tokio::time::sleep(WATCH).await;
    let (after, server_after, elapsed) = (cpu(&pids)?, postgres.cpu_seconds()?, began.elapsed().as_secs_f64());
    let mut together = 0.0;
    let mut parts = Map::new();
    for ((name, pid), (before, after)) in pids.iter().zip(before.iter().zip(&after)) {
        let Memory { resident, anonymous, peak } = memory(*pid)?;
        let percent = (after - before) * 100.0 / elapsed;
        together += percent;
        report.add(1, Measured::new(format!("{name}: resident"), resident, "MiB").bar(Bar::AtMost(RESIDENT_MIB_MAX)));
        parts.insert((*name).to_owned(), json!({ "anonymous_mib": anonymous, "peak_mib": peak, "cpu_percent": percent }));
    }
    report.add(1, Measured::new("CPU of all of them", together, "% of a core").bar(Bar::AtMost(CPU_PERCENT_MAX)));
    if let (Some(before), Some(after)) = (server_before, server_after) {
        report.add(1, Measured::new("CPU of PostgreSQL behind them", (after - before) * 100.0 / elapsed, "% of a core"));
    }
    report.sample("processes", Value::Object(parts));
    anyhow::ensure!(running.fallen()?.is_none(), "a process ended by itself");
    running.stop().await
}
