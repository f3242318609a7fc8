//! `append`: commands through the event store, beside pgbench in the same run on the same database.

use crate::accounts::account;
use crate::database::settle;
use crate::report::{Bar, Measured, Report};
use crate::store::{Load, LoadedStore, Spread};
use crate::{Size, pgbench};

/// Streams that are written at the same time.
const STREAMS: u32 = 64;
/// Commands that one stream has under way at once, in the run with many.
const COMMANDS_UNDER_WAY: u32 = 8;
/// Clients of the reference; the better rate counts.
const REFERENCE_CLIENTS: [u32; 2] = [16, 64];

/// What is measured, and over the reference at least.
const LOADS: [(&str, Load, Option<f64>); 3] = [
    (
        "append, 64 streams, 8 commands under way each",
        Load { drivers: STREAMS * COMMANDS_UNDER_WAY, streams: STREAMS, spread: Spread::Own },
        Some(2.5),
    ),
    ("append, 64 streams, 1 command under way each", Load { drivers: STREAMS, streams: STREAMS, spread: Spread::Own }, None),
    (
        "append, one hot stream, 512 commands under way",
        Load { drivers: STREAMS * COMMANDS_UNDER_WAY, streams: 1, spread: Spread::Own },
        Some(1.0),
    ),
];

/// Measures in turn.
pub(crate) async fn run(size: Size, report: &mut Report) -> anyhow::Result<()> {
    let mut store = LoadedStore::open(account).await?;
    let bytes = warm(&mut store).await?;
    report.parameter("envelope_bytes", bytes);
    for round in 1..=size.rounds {
        let mut best = 0.0;
        for clients in REFERENCE_CLIENTS {
            settle(&store.client).await?;
            let watch = store.watch_server()?;
            let measured = pgbench::run(&store.url()?, clients, size.seconds, bytes).await?;
            let cost = watch.cost(measured.transactions)?;
            report.add(round, Measured::new(format!("pgbench, {clients} clients"), measured.rate, "tx/s").cost(cost));
            best = f64::max(best, measured.rate);
        }
        for (name, load, bar) in LOADS {
            settle(&store.client).await?;
            let driven = store.drive(load, size.seconds).await?;
            let measured = Measured::new(name, driven.rate, "commands/s").beside(best).bar(bar.map(Bar::RatioAtLeast));
            report.add(round, measured.cost(driven.cost));
        }
    }
    store.close(0).await
}

/// Appends for a second, and tells how large the events are that it has written: the reference writes as many bytes.
pub(crate) async fn warm(store: &mut LoadedStore) -> anyhow::Result<usize> {
    store.drive(Load { drivers: STREAMS, streams: STREAMS, spread: Spread::Own }, 1).await?;
    let row = store.client.query_one(include_str!("sql/envelope_bytes.sql"), &[]).await?;
    Ok(usize::try_from(row.try_get::<_, i32>(0)?)?)
}
