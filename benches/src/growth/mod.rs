//! `growth`: append, relay and projection when there is much already, beside themselves when there is little.

mod append;

use anyhow::Context as _;
use serde_json::json;

use crate::report::{Bar, Measured, Report};
use crate::{Size, project, relay};

/// Events of the small side.
const SMALL: u32 = 100_000;
/// Events of the large side, in a short run and in a full one.
const LARGE: (u32, u32) = (1_000_000, 10_000_000);
/// What is left of the rate, at least.
const BAR: Bar = Bar::RatioAtLeast(0.9);

/// Measures the small and the large side in turn.
pub(crate) async fn run(size: Size, report: &mut Report) -> anyhow::Result<()> {
    let (default, full) = LARGE;
    let large = if size.full { full } else { default };
    let sides = if size.rows < SMALL { [size.rows / 10, size.rows] } else { [SMALL, large] };
    report.parameter("events", json!(sides));
    append::run(sides, size, report).await?;
    for round in 1..=size.rounds {
        let mut rates = Vec::new();
        for events in sides {
            rates.push(relay::drain::drain_alone(events).await?);
        }
        let mut beside: Option<f64> = None;
        for (events, drained) in sides.into_iter().zip(rates) {
            let measured = Measured::new(format!("relay-drain of {events} rows"), drained.rate, "events/s").cost(drained.cost);
            report.add(round, barred(measured, beside));
            beside.get_or_insert(drained.rate);
        }
    }
    let [_, large] = sides;
    for round in 1..=size.rounds {
        // One run is both sides: its read model has nothing at first, and most of the events near the end.
        let rows = project::run(large, 1).await?;
        let rate = |name| rows.iter().find(|row| row.name == name).map(|row| row.value).context("the projection gave no rate");
        let (early, late) = (rate(project::EARLY)?, rate(project::LATE)?);
        report.add(round, Measured::new(project::EARLY, early, "events/s"));
        report.add(round, barred(Measured::new(format!("{}, of {large} events", project::LATE), late, "events/s"), Some(early)));
    }
    Ok(())
}

/// The large side stands beside the small one.
fn barred(measured: Measured, beside: Option<f64>) -> Measured {
    match beside {
        Some(small) => measured.beside(small).bar(BAR),
        None => measured,
    }
}
