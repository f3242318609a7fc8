//! How much memory each process holds. In a dev build it is told, in a release build it is also bounded.

use std::io::Write as _;

use anyhow::{Context as _, Result};
use idempo_tests::{World, probe};

/// What a service may hold at rest, in KiB.
const AT_REST_KIB_MAX: u64 = 30 * 1_024;
/// What it may hold after it has worked a little.
const AFTER_WORK_KIB_MAX: u64 = 64 * 1_024;

pub(crate) async fn every_process_is_small_at_rest(world: &mut World) -> Result<()> {
    measure(world, "at rest", AT_REST_KIB_MAX)
}

pub(crate) async fn every_process_is_still_small_after_the_work(world: &mut World) -> Result<()> {
    measure(world, "after the work", AFTER_WORK_KIB_MAX)
}

fn measure(world: &World, when: &str, max_kib: u64) -> Result<()> {
    let mut measured = Vec::new();
    for (name, service) in world.platform.services() {
        measured.push((name, probe::resident_kib(service.pid().context("a process that runs")?)?));
    }
    let told: Vec<String> = measured.iter().map(|(name, kib)| format!("{name} {}.{} MiB", kib / 1_024, kib % 1_024 * 10 / 1_024)).collect();
    writeln!(std::io::stderr(), "resident {when}: {}", told.join(", "))?;
    for (name, kib) in measured {
        assert!(cfg!(debug_assertions) || kib <= max_kib, "{name} holds {kib} KiB {when}");
    }
    Ok(())
}
