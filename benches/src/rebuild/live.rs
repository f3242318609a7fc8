//! The live generation while another one is built: how fast it drains a backlog, and how long reads of it take.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::reads::{Readers, latencies};
use super::stage::{FIRST, Stage};
use crate::Size;
use crate::database::settle;
use crate::latency::Latencies;
use crate::project::world::Record;
use crate::report::{Bar, Measured, Report};

/// What is left of the live generation's rate, at least.
const RATE_RATIO_MIN: f64 = 0.8;
/// How much longer reads take, at most.
const READ_RATIO_MAX: f64 = 2.0;
/// How long reads go on before those that count.
const WARM_UP: Duration = Duration::from_secs(1);
/// How often it is looked how far the live generation is, and once in how many of these looks how far the rebuild: who looks takes the same cores.
const LOOK_PAUSE: Duration = Duration::from_millis(50);
const LOOKS_PER_SCAN_LOOK: u32 = 5;
/// How long a backlog may take.
const DRAIN_MAX: Duration = Duration::from_secs(900);

/// Whether something else is built meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nothing,
    Rebuild,
}

/// Has the live generation drain backlogs, beside a rebuild and beside nothing in turn. Each backlog has so many records.
pub(super) async fn drains(stage: &mut Stage, mut records: &[Record], backlog: usize, report: &mut Report) -> anyhow::Result<()> {
    let mut round = 0;
    while let Some((alone, rest)) = records.split_at_checked(backlog).filter(|_| records.len() >= 2 * backlog) {
        let (accompanied, rest) = rest.split_at(backlog);
        records = rest;
        round += 1;
        let alone = drain(stage, alone, Beside::Nothing).await?;
        report.add(round, Measured::new("the live generation drains a backlog", alone, "events/s"));
        let accompanied = drain(stage, accompanied, Beside::Rebuild).await?;
        let measured = Measured::new("the same while another one is built", accompanied, "events/s");
        report.add(round, measured.beside(alone).bar(Bar::RatioAtLeast(RATE_RATIO_MIN)));
    }
    Ok(())
}

/// Events a second, as long as both go on.
async fn drain(stage: &mut Stage, records: &[Record], beside: Beside) -> anyhow::Result<f64> {
    stage.pause().await?;
    stage.append(records).await?;
    settle(&stage.view).await?;
    let number = if beside == Beside::Rebuild {
        let number = stage.start_rebuild().await?;
        stage.scanning(number).await?;
        Some(number)
    } else {
        None
    };
    let start = stage.position(FIRST).await?;
    let goal = start + i64::try_from(records.len())?;
    stage.resume().await?;
    let asked = Instant::now();
    let (mut began, mut moved, mut ended) = (asked, 0, asked);
    let mut looks = 0_u32;
    while start + moved < goal {
        ensure!(asked.elapsed() < DRAIN_MAX, "the backlog is not drained after {} s", DRAIN_MAX.as_secs());
        looks += 1;
        if let Some(number) = number.filter(|_| looks.is_multiple_of(LOOKS_PER_SCAN_LOOK))
            && !stage.is_scanning(number).await?
        {
            break;
        }
        let position = stage.position(FIRST).await?;
        (moved, ended) = (position - start, Instant::now());
        if moved == 0 {
            began = ended;
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    let took = ended - began;
    ensure!(2 * moved >= goal - start, "the rebuild was over when {moved} of {} events were drained: take more --events", goal - start);
    stage.caught_up(FIRST).await?;
    if let Some(number) = number {
        stage.ready(number).await?;
        stage.verify(number).await?;
        stage.remove(number).await?;
    }
    Ok(f64::from(u32::try_from(moved)?) / took.as_secs_f64())
}

/// Has reads answered at a fixed rate, beside a rebuild and beside nothing in turn.
pub(super) async fn reads(stage: &Stage, readers: &Arc<Readers>, size: Size, report: &mut Report) -> anyhow::Result<()> {
    for round in 1..=size.rounds {
        settle(&stage.view).await?;
        let mut p99_alone: Option<f64> = None;
        for beside in [Beside::Nothing, Beside::Rebuild] {
            let latencies = read(stage, readers, size, beside).await?;
            let what = if beside == Beside::Nothing { "reads" } else { "reads while a generation is built" };
            let p99 = Measured::new(format!("{what}, p99"), latencies.ms(0.99), "ms");
            report.add(
                round,
                match p99_alone {
                    None => p99,
                    Some(alone) => p99.beside(alone).bar(Bar::RatioAtMost(READ_RATIO_MAX)),
                },
            );
            report.add(round, Measured::new(format!("{what}, p50"), latencies.ms(0.5), "ms"));
            report.distribution(format!("{what}, µs, round {round}"), &latencies);
            p99_alone.get_or_insert(latencies.ms(0.99));
        }
    }
    Ok(())
}

async fn read(stage: &Stage, readers: &Arc<Readers>, size: Size, beside: Beside) -> anyhow::Result<Latencies> {
    let number = if beside == Beside::Rebuild {
        let number = stage.start_rebuild().await?;
        stage.scanning(number).await?;
        Some(number)
    } else {
        None
    };
    let reading = readers.begin(size.reads);
    tokio::time::sleep(WARM_UP).await;
    let from = tokio::time::Instant::now();
    let until = from + Duration::from_secs(size.seconds.into());
    while tokio::time::Instant::now() < until {
        if let Some(number) = number
            && !stage.is_scanning(number).await?
        {
            break;
        }
        tokio::time::sleep(LOOK_PAUSE * LOOKS_PER_SCAN_LOOK).await;
    }
    let until = tokio::time::Instant::now();
    let mut reads = reading.end().await.context("reading")?;
    reads.retain(|read| read.due >= from && read.due < until);
    ensure!(!reads.is_empty(), "the rebuild was over before a read counted: take more --events");
    if let Some(number) = number {
        stage.ready(number).await?;
        stage.remove(number).await.context("after the reads")?;
    }
    latencies(&reads)
}
