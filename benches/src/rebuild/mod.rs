//! `rebuild`: a generation of the inventory read model built anew from the event store, by the projector's own process, while the live one goes on.
//!
//! The references have the same rows on the same machine in the same run: psql, which copies the events that a rebuild reads out of the store and in
//! again, and upserts row by row, which is how a read model is filled where nothing else is at hand.

mod live;
mod reads;
mod reference;
mod stage;
mod switch;

use std::time::Instant;

use serde_json::json;

use crate::Size;
use crate::database::settle;
use crate::project::world::{self, Record};
use crate::project::{PARTITIONS, SEED};
use crate::report::{Bar, Measured, Report};
use crate::usage::{Watch, float};
use stage::Stage;

/// What a rebuild is to be, beside psql and beside upserts.
const PSQL_RATIO_MIN: f64 = 0.5;
const UPSERTS_RATIO_MIN: f64 = 10.0;
/// What it may have in memory, in MiB.
const PEAK_MIB_MAX: f64 = 500.0;
/// Up to so many events the rows are compared with the fold of all records here; beyond, with those of the live generation alone.
const FOLD_EVENTS_MAX: u32 = 1_000_000;
/// Of the events, one in so many is in the backlog that the live generation drains, and this at most. What is under way of the rebuild when the backlog
/// comes should be little beside it.
const BACKLOG_PART: u32 = 2;
const BACKLOG_MAX: u32 = 500_000;

/// Fills an event store and a topic, and rebuilds.
pub(crate) async fn run(size: Size, report: &mut Report) -> anyhow::Result<()> {
    let backlog = (size.events / BACKLOG_PART).min(BACKLOG_MAX);
    let all = u64::from(size.events) + 2 * u64::from(size.rounds) * u64::from(backlog);
    report.parameter("backlog", json!(backlog));
    let records = world::history(usize::try_from(all)?, PARTITIONS, SEED);
    let (first, rest) = records.split_at(usize::try_from(size.events)?);
    let mut stage = Stage::start(first).await?;
    for round in 1..=size.rounds {
        rebuilt(&stage, first, round, report).await?;
    }
    let readers = reads::Readers::of(&stage, first).await?;
    live::reads(&stage, &readers, size, report).await?;
    switch::run(&stage, &readers, size, report).await?;
    live::drains(&mut stage, rest, usize::try_from(backlog)?, report).await?;
    stage.stop().await
}

/// One rebuild, beside its references.
async fn rebuilt(stage: &Stage, records: &[Record], round: u32, report: &mut Report) -> anyhow::Result<()> {
    let events = u64::try_from(records.len())?;
    settle(&stage.store).await?;
    let text = reference::psql(stage, "text", events).await?;
    let binary = reference::psql(stage, "binary", events).await?;
    report.add(round, Measured::new("psql, out and in again, as text", text, "events/s"));
    report.add(round, Measured::new("psql, out and in again, binary", binary, "events/s"));
    settle(&stage.view).await?;
    let upserts = reference::upserts(stage, records).await?;
    report.add(round, Measured::new("upserts row by row, 100 events in a transaction", upserts, "events/s"));
    settle(&stage.view).await?;

    let watch = Watch::begin(stage.pid(), stage.postgres)?;
    let began = Instant::now();
    let number = stage.start_rebuild().await?;
    stage.ready(number).await?;
    let rate = float(events) / began.elapsed().as_secs_f64();
    let cost = watch.cost(events)?;
    let rebuilt = |name| Measured::new(name, rate, "events/s");
    report.add(round, rebuilt("rebuild, beside psql as text").beside(text).bar(Bar::RatioAtLeast(PSQL_RATIO_MIN)).cost(cost));
    report.add(round, rebuilt("rebuild, beside psql binary").beside(binary).bar(Bar::RatioAtLeast(PSQL_RATIO_MIN)));
    report.add(round, Measured::new("rebuild, beside upserts", rate, "events/s").beside(upserts).bar(Bar::RatioAtLeast(UPSERTS_RATIO_MIN)));
    if let Some(peak) = cost.peak_mib {
        report.add(round, Measured::new("rebuild: peak memory of the projector", peak, "MiB").bar(Bar::AtMost(PEAK_MIB_MAX)));
    }
    let began = Instant::now();
    let rows = stage.verify(number).await?;
    report.add(round, Measured::new("comparison with the live generation", float(rows) / began.elapsed().as_secs_f64(), "rows/s"));
    if events <= u64::from(FOLD_EVENTS_MAX) && round == 1 {
        stage.check_fold(number, records).await?;
    }
    stage.remove(number).await
}
