//! `growth`: append, relay and projection when there is much already, beside themselves when there is little.

mod append;

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
    for round in 1..=size.rounds {
        let mut beside: Option<f64> = None;
        for events in sides {
            let rows = project::run(events, 1).await?;
            let Some(row) = rows.iter().find(|row| row.name == "project") else { anyhow::bail!("the projection gave no rate") };
            report.add(round, barred(Measured::new(format!("project, {events} events"), row.value, row.unit), beside));
            beside.get_or_insert(row.value);
        }
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
