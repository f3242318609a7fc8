//! `append-one`: one command at a time, beside the same transaction of one pgbench client.

use crate::accounts::account;
use crate::append::warm;
use crate::database::settle;
use crate::report::{Bar, Measured, Report};
use crate::store::{Load, LoadedStore, Spread};
use crate::{Size, pgbench};

/// Measures in turn.
pub(crate) async fn run(size: Size, report: &mut Report) -> anyhow::Result<()> {
    let mut store = LoadedStore::open(account).await?;
    let bytes = warm(&mut store).await?;
    report.parameter("envelope_bytes", bytes);
    for round in 1..=size.rounds {
        settle(&store.client).await?;
        let reference = pgbench::run(&store.url()?, 1, size.seconds, bytes).await?;
        report.add(round, Measured::new("pgbench, 1 client: p50", reference.p50_ms, "ms"));
        settle(&store.client).await?;
        let driven = store.drive(Load { drivers: 1, streams: 1, spread: Spread::Own }, size.seconds).await?;
        let p50 = Measured::new("append-one: p50", driven.latencies.ms(0.5), "ms");
        report.add(round, p50.beside(reference.p50_ms).bar(Bar::RatioAtMost(1.2)).cost(driven.cost));
        let p99 = driven.latencies.ms(0.99);
        report.add(round, Measured::new("append-one: p99", p99, "ms"));
        report.distribution(format!("append-one, µs, round {round}"), &driven.latencies);
    }
    store.close(0).await
}
