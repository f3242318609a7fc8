//! The read model's tables: how a batch's writes become rows.

use idempo_ids::{PlayerId, Uuid};
use idempo_pg::{Error, Transaction};
use idempo_projection::Tables;
use jiff::Timestamp;
use tokio_postgres::types::ToSql;

use crate::writes::Writes;

/// The tables of `inventory_view_db`, in the schema that the connection's search path names.
#[derive(Debug, Clone, Copy)]
pub struct InventoryTables;

impl Tables for InventoryTables {
    type Writes = Writes;

    async fn write(&self, transaction: &Transaction<'_>, writes: &Writes) -> Result<(), Error> {
        write_items(transaction, writes).await?;
        write_stacks(transaction, writes).await?;
        write_loadouts(transaction, writes).await?;
        write_item_events(transaction, writes).await
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
    let times: Vec<Timestamp> = writes.items.values().map(|row| row.updated_at).collect();
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
    let times: Vec<Timestamp> = writes.stacks.values().map(|change| change.updated_at).collect();
    execute(transaction, include_str!("sql/open_stacks.sql"), &[&players, &types, &times]).await?;
    let parameters: [Parameter<'_>; 5] = [&players, &types, &quantities, &reserved, &times];
    execute(transaction, include_str!("sql/add_to_stacks.sql"), &parameters).await
}

async fn write_loadouts(transaction: &Transaction<'_>, writes: &Writes) -> Result<(), Error> {
    let replaced: Vec<(PlayerId, Timestamp)> =
        writes.loadouts.iter().filter_map(|(player, change)| Some((*player, change.replaced_at?))).collect();
    if !replaced.is_empty() {
        let players: Vec<Uuid> = replaced.iter().map(|(player, _)| player.uuid()).collect();
        let times: Vec<Timestamp> = replaced.iter().map(|(_, at)| *at).collect();
        execute(transaction, include_str!("sql/put_away.sql"), &[&players, &times]).await?;
    }
    let rows = || writes.loadouts.iter().flat_map(|(player, change)| change.items.iter().map(move |(item, row)| (player, item, row)));
    let players: Vec<Uuid> = rows().map(|(player, ..)| player.uuid()).collect();
    if players.is_empty() {
        return Ok(());
    }
    let items: Vec<Uuid> = rows().map(|(_, item, _)| item.uuid()).collect();
    let equipped: Vec<bool> = rows().map(|(.., (equipped, _))| *equipped).collect();
    let times: Vec<Timestamp> = rows().map(|(.., (_, since))| *since).collect();
    execute(transaction, include_str!("sql/write_loadouts.sql"), &[&players, &items, &equipped, &times]).await
}

async fn write_item_events(transaction: &Transaction<'_>, writes: &Writes) -> Result<(), Error> {
    let history = &writes.history;
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
    let times: Vec<Timestamp> = history.iter().map(|entry| entry.decided_at).collect();
    let parameters: [Parameter<'_>; 8] = [&items, &hops, &ordinals, &events, &types, &players, &counterparties, &times];
    execute(transaction, include_str!("sql/write_item_events.sql"), &parameters).await
}
