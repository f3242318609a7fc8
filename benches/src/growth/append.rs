//! The append, on streams from all over a store that has many.

use anyhow::{Context as _, ensure};
use idempo_event_store::StreamTarget;
use idempo_ids::{Uuid, derive};

use super::barred;
use crate::Size;
use crate::accounts::ACCOUNTS;
use crate::database::settle;
use crate::report::{Measured, Report};
use crate::store::{Load, LoadedStore, Spread};

/// Streams that are written: as many on both sides, so that only what lies around them differs.
const ACTIVE: u32 = 1_024;
/// Events of each stream that is filled in.
const EVENTS_PER_STREAM: u32 = 10;
/// The load: as in `append`, on more streams.
const LOAD: Load = Load { drivers: 512, streams: ACTIVE, spread: Spread::Everywhere };
/// How long every stream has a chance to be loaded before anything counts.
const WARM_UP_SECONDS: u32 = 2;

/// Measures two stores in turn, filled to different heights.
pub(super) async fn run(sides: [u32; 2], size: Size, report: &mut Report) -> anyhow::Result<()> {
    let mut stores = Vec::new();
    for events in sides {
        let mut store = LoadedStore::open(account).await?;
        fill(&store, events).await?;
        store.drive(LOAD, WARM_UP_SECONDS).await?;
        stores.push((events, store));
    }
    for round in 1..=size.rounds {
        let mut beside = None;
        for (events, store) in &mut stores {
            settle(&store.client).await?;
            let driven = store.drive(LOAD, size.seconds).await?;
            let measured = Measured::new(format!("append to a store of {events} events"), driven.rate, "commands/s").cost(driven.cost);
            report.add(round, barred(measured, beside));
            beside.get_or_insert(driven.rate);
        }
    }
    for (events, store) in stores {
        store.close(events).await?;
    }
    Ok(())
}

/// The `n`-th account. Its stream is anywhere in the index: the derived id has the first bytes of the owner's.
fn account(n: u32) -> StreamTarget {
    let id = derive(Uuid::nil(), "growth-owner", n);
    ACCOUNTS.stream(Uuid::from_u128(id.as_u128().reverse_bits()))
}

async fn fill(store: &LoadedStore, events: u32) -> anyhow::Result<()> {
    let streams = events / EVENTS_PER_STREAM;
    ensure!(events.is_multiple_of(EVENTS_PER_STREAM) && streams >= ACTIVE, "{events} events are too few for {ACTIVE} streams");
    let active: Vec<StreamTarget> = (0..ACTIVE).map(account).collect();
    let ids: Vec<Uuid> = active.iter().map(|target| target.stream_id.uuid()).collect();
    let keys: Vec<Uuid> = active.iter().map(|target| target.partition_key).collect();
    let client = &store.client;
    client.query_one(include_str!("../sql/growth_partitions.sql"), &[]).await?;
    client.execute(include_str!("../sql/growth_streams.sql"), &[&i32::try_from(streams)?, &ids, &keys]).await?;
    let envelope = crate::accounts::envelope();
    let inserted = client.execute(include_str!("../sql/growth_events.sql"), &[&envelope]).await?;
    ensure!(inserted == u64::from(events), "{inserted} events of {events}");
    client.execute(include_str!("../sql/growth_keys.sql"), &[&i32::try_from(events)?]).await?;
    client.batch_execute("VACUUM ANALYZE").await.context("after the store was filled")?;
    settle(client).await
}
