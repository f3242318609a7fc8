//! Filling a generation that is built anew: what whole streams add, copied into tables without indexes.
//!
//! A stack, a loadout and the entries of a history follow from one stream each, so what a part of the event store says of them is all that there is to
//! say. A unique item passes through the streams of its owners: what each part says of it goes to `items_found`, and when all are in, the greatest
//! is taken, by the same order as [`crate::ItemRow::order`]. An event that equips names no hop; with the whole stream at hand, the writes tell it.

use idempo_ids::Uuid;
use idempo_pg::{Error, Transaction};
use idempo_projection::{CopyRows, Rebuildable};

use crate::store::{InventoryTables, copy_item_events};
use crate::writes::{HistoryEntry, Writes};

/// About how many bytes a row has in a COPY: of `items_found`, `stacks` and `loadouts`.
const ITEM_BYTES: usize = 140;
const STACK_BYTES: usize = 90;
const LOADOUT_BYTES: usize = 60;

impl Rebuildable for InventoryTables {
    async fn copy(&self, transaction: &Transaction<'_>, writes: &Writes) -> Result<(), Error> {
        copy_items(transaction, writes).await?;
        copy_stacks(transaction, writes).await?;
        copy_loadouts(transaction, writes).await?;
        let mut history: Vec<&HistoryEntry> = writes.history.iter().collect();
        history.sort_unstable_by_key(|entry| (entry.item, entry.hop, entry.ordinal));
        copy_item_events(transaction, &history).await
    }
}

async fn copy_items(transaction: &Transaction<'_>, writes: &Writes) -> Result<(), Error> {
    let mut rows = CopyRows::new(8, writes.items.len().saturating_mul(ITEM_BYTES));
    for (item, row) in &writes.items {
        rows.row();
        rows.uuid(item.uuid());
        rows.text(&row.item_type);
        rows.uuid(row.owner.uuid());
        rows.smallint(row.state.number());
        rows.optional_uuid(row.state.reservation().map(Uuid::from));
        rows.bigint(row.hop);
        rows.bigint(row.revision);
        rows.timestamp(row.updated_at);
    }
    rows.send(transaction, include_str!("sql/copy_items_found.sql")).await?;
    Ok(())
}

async fn copy_stacks(transaction: &Transaction<'_>, writes: &Writes) -> Result<(), Error> {
    let mut rows = CopyRows::new(5, writes.stacks.len().saturating_mul(STACK_BYTES));
    for (key, change) in &writes.stacks {
        rows.row();
        rows.uuid(key.player.uuid());
        rows.text(&key.item_type);
        rows.bigint(change.quantity);
        rows.bigint(change.reserved);
        rows.timestamp(change.updated_at);
    }
    rows.send(transaction, include_str!("sql/copy_stacks.sql")).await?;
    Ok(())
}

async fn copy_loadouts(transaction: &Transaction<'_>, writes: &Writes) -> Result<(), Error> {
    let mut rows = CopyRows::new(4, writes.loadouts.len().saturating_mul(LOADOUT_BYTES));
    for (player, change) in &writes.loadouts {
        for (item, (equipped, since)) in &change.items {
            rows.row();
            rows.uuid(player.uuid());
            rows.uuid(item.uuid());
            rows.boolean(*equipped);
            rows.timestamp(*since);
        }
    }
    rows.send(transaction, include_str!("sql/copy_loadouts.sql")).await?;
    Ok(())
}
