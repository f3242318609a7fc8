//! The read model's tables: how a batch's writes become rows.

use std::collections::BTreeSet;

use idempo_ids::{PlayerId, Uuid};
use idempo_pg::{Error, Transaction};
use idempo_projection::{CopyRows, Micros, Tables, TouchedRow};
use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::queries;
use crate::writes::{HistoryEntry, Writes};

/// From how many rows on a COPY is worth its further round trip.
const COPY_ROWS_MIN: usize = 200;
/// The bytes of a row of `item_events` in a COPY.
const ITEM_EVENT_BYTES: usize = 126;

/// The tables of `inventory_view_db`, in the schema that the connection's search path names.
#[derive(Debug, Clone, Copy)]
pub struct InventoryTables;

impl Tables for InventoryTables {
    type Writes = Writes;

    const READS: &'static [&'static str] = &queries::READS;

    /// The statements are sent one behind the other before the first is answered. Those on items come last, because these are the only rows that
    /// another partition's batch can wait for.
    async fn write(&self, transaction: &Transaction<'_>, writes: &Writes) -> Result<(), Error> {
        tokio::try_join!(
            biased;
            write_item_events(transaction, writes),
            write_stacks(transaction, writes),
            write_loadouts(transaction, writes),
            write_items(transaction, writes),
        )?;
        Ok(())
    }

    fn together(writes: &[&Writes]) -> Option<Writes> {
        let mut together = Writes::default();
        for writes in writes {
            together.add(writes)?;
        }
        Some(together)
    }

    /// Of the items, stacks, loadouts and histories that the writes name, all rows: what one event changes is told by those of its player and item.
    async fn touched(&self, transaction: &Transaction<'_>, writes: &Writes, limit: i64) -> Result<Vec<TouchedRow>, Error> {
        let told = writes.history.iter().map(|entry| entry.item).chain(writes.items.keys().copied());
        let items: BTreeSet<Uuid> = told.map(|item| item.uuid()).collect();
        let players: BTreeSet<Uuid> =
            writes.stacks.keys().map(|key| key.player).chain(writes.loadouts.keys().copied()).map(|player| player.uuid()).collect();
        let (items, players): (Vec<Uuid>, Vec<Uuid>) = (items.into_iter().collect(), players.into_iter().collect());
        let statement = transaction.prepare_cached(include_str!("sql/touched_rows.sql")).await?;
        let rows = transaction.query(&statement, &[&items, &players, &limit]).await?;
        let touched = |row: &Row| Ok(TouchedRow { table: row.try_get(0)?, key: row.try_get(1)?, row: row.try_get(2)? });
        Ok(rows.iter().map(touched).collect::<Result<_, tokio_postgres::Error>>()?)
    }
}

type Parameter<'a> = &'a (dyn ToSql + Sync);

async fn execute(transaction: &Transaction<'_>, sql: &str, parameters: &[Parameter<'_>]) -> Result<(), Error> {
    let statement = transaction.prepare_cached(sql).await?;
    transaction.execute(&statement, parameters).await?;
    Ok(())
}

/// Two partitions can have the two legs of one transfer at the same moment: rows of items are locked in the order of their ids.
async fn write_items(transaction: &Transaction<'_>, writes: &Writes) -> Result<(), Error> {
    if writes.items.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = writes.items.keys().map(|item| item.uuid()).collect();
    let types: Vec<&str> = writes.items.values().map(|row| row.item_type.as_str()).collect();
    let owners: Vec<Uuid> = writes.items.values().map(|row| row.owner.uuid()).collect();
    let states: Vec<i16> = writes.items.values().map(|row| row.state.number()).collect();
    let reservations: Vec<Option<Uuid>> = writes.items.values().map(|row| row.state.reservation().map(Uuid::from)).collect();
    let hops: Vec<i64> = writes.items.values().map(|row| row.hop).collect();
    let revisions: Vec<i64> = writes.items.values().map(|row| row.revision).collect();
    let times: Vec<Micros> = writes.items.values().map(|row| Micros(row.updated_at)).collect();
    let parameters: [Parameter<'_>; 8] = [&ids, &types, &owners, &states, &reservations, &hops, &revisions, &times];
    execute(transaction, include_str!("sql/write_items.sql"), &parameters).await
}

async fn write_stacks(transaction: &Transaction<'_>, writes: &Writes) -> Result<(), Error> {
    if writes.stacks.is_empty() {
        return Ok(());
    }
    let players: Vec<Uuid> = writes.stacks.keys().map(|key| key.player.uuid()).collect();
    let types: Vec<&str> = writes.stacks.keys().map(|key| key.item_type.as_str()).collect();
    let quantities: Vec<i64> = writes.stacks.values().map(|change| change.quantity).collect();
    let reserved: Vec<i64> = writes.stacks.values().map(|change| change.reserved).collect();
    let times: Vec<Micros> = writes.stacks.values().map(|change| Micros(change.updated_at)).collect();
    let parameters: [Parameter<'_>; 5] = [&players, &types, &quantities, &reserved, &times];
    execute(transaction, include_str!("sql/add_to_stacks.sql"), &parameters).await
}

async fn write_loadouts(transaction: &Transaction<'_>, writes: &Writes) -> Result<(), Error> {
    let replaced: Vec<(PlayerId, Timestamp)> =
        writes.loadouts.iter().filter_map(|(player, change)| Some((*player, change.replaced_at?))).collect();
    if !replaced.is_empty() {
        let players: Vec<Uuid> = replaced.iter().map(|(player, _)| player.uuid()).collect();
        let times: Vec<Micros> = replaced.iter().map(|(_, at)| Micros(*at)).collect();
        execute(transaction, include_str!("sql/put_away.sql"), &[&players, &times]).await?;
    }
    let rows = || writes.loadouts.iter().flat_map(|(player, change)| change.items.iter().map(move |(item, row)| (player, item, row)));
    let players: Vec<Uuid> = rows().map(|(player, ..)| player.uuid()).collect();
    if players.is_empty() {
        return Ok(());
    }
    let items: Vec<Uuid> = rows().map(|(_, item, _)| item.uuid()).collect();
    let equipped: Vec<bool> = rows().map(|(.., (equipped, _))| *equipped).collect();
    let times: Vec<Micros> = rows().map(|(.., (_, since))| Micros(*since)).collect();
    execute(transaction, include_str!("sql/write_loadouts.sql"), &[&players, &items, &equipped, &times]).await
}

/// In the order of their keys: neighbours in the index are written together.
async fn write_item_events(transaction: &Transaction<'_>, writes: &Writes) -> Result<(), Error> {
    let (mut told, untold): (Vec<_>, Vec<_>) = writes.history.iter().partition::<Vec<&HistoryEntry>, _>(|entry| entry.hop.is_some());
    // Before the others: what the batch does not tell is looked up in what was there before it.
    insert_item_events(transaction, &untold).await?;
    told.sort_unstable_by_key(|entry| (entry.item, entry.hop, entry.ordinal));
    if told.len() < COPY_ROWS_MIN { insert_item_events(transaction, &told).await } else { copy_item_events(transaction, &told).await }
}

async fn insert_item_events(transaction: &Transaction<'_>, history: &[&HistoryEntry]) -> Result<(), Error> {
    if history.is_empty() {
        return Ok(());
    }
    let items: Vec<Uuid> = history.iter().map(|entry| entry.item.uuid()).collect();
    let hops: Vec<Option<i64>> = history.iter().map(|entry| entry.hop).collect();
    let ordinals: Vec<i64> = history.iter().map(|entry| entry.ordinal).collect();
    let events: Vec<Uuid> = history.iter().map(|entry| entry.event_id.uuid()).collect();
    let types: Vec<i16> = history.iter().map(|entry| entry.event_type).collect();
    let players: Vec<Uuid> = history.iter().map(|entry| entry.player.uuid()).collect();
    let counterparties: Vec<Option<Uuid>> = history.iter().map(|entry| entry.counterparty.map(Uuid::from)).collect();
    let times: Vec<Micros> = history.iter().map(|entry| Micros(entry.decided_at)).collect();
    let parameters: [Parameter<'_>; 8] = [&items, &hops, &ordinals, &events, &types, &players, &counterparties, &times];
    execute(transaction, include_str!("sql/write_item_events.sql"), &parameters).await
}

/// The same, where every hop is known.
pub(crate) async fn copy_item_events(transaction: &Transaction<'_>, history: &[&HistoryEntry]) -> Result<(), Error> {
    let mut rows = CopyRows::new(8, history.len().saturating_mul(ITEM_EVENT_BYTES));
    for entry in history {
        rows.row();
        rows.uuid(entry.item.uuid());
        // What no hop is known for is refused by the table.
        rows.optional_bigint(entry.hop);
        rows.bigint(entry.ordinal);
        rows.uuid(entry.event_id.uuid());
        rows.smallint(entry.event_type);
        rows.uuid(entry.player.uuid());
        rows.optional_uuid(entry.counterparty.map(Uuid::from));
        rows.timestamp(entry.decided_at);
    }
    rows.send(transaction, include_str!("sql/copy_item_events.sql")).await?;
    Ok(())
}
