//! The read model in memory: what the tables hold, as maps.

use std::collections::BTreeMap;

use idempo_ids::{EventId, ItemId, PlayerId};
use idempo_projection::memory::Model;
use idempo_projection::{Event, Malformed, Projector};
use jiff::Timestamp;

use crate::apply::InventoryProjector;
use crate::writes::{ItemRow, LoadoutChange, StackChange, StackKey, Writes};

/// Every row of the read model. Equal to what is in the tables, row by row, after the same events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// Table `items`.
    pub items: BTreeMap<ItemId, ItemRow>,
    /// Table `stacks`.
    pub stacks: BTreeMap<StackKey, StackRow>,
    /// Table `loadouts`.
    pub loadouts: BTreeMap<(PlayerId, ItemId), LoadoutRow>,
    /// Table `item_events`.
    pub item_events: BTreeMap<ItemEventKey, ItemEventRow>,
}

/// What a player has of a stackable type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StackRow {
    /// How many, reserved ones included.
    pub quantity: i64,
    /// How many of them are reserved.
    pub reserved: i64,
    /// When the newest of its events was decided.
    pub updated_at: Timestamp,
}

/// Whether a player has an item equipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadoutRow {
    /// Whether it is equipped.
    pub equipped: bool,
    /// Since when.
    pub changed_at: Timestamp,
}

/// The place of an event in the history of unique items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ItemEventKey {
    /// The item.
    pub item: ItemId,
    /// Its hop.
    pub hop: i64,
    /// The place within the hop.
    pub ordinal: i64,
}

/// An event in the history of a unique item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ItemEventRow {
    /// The event.
    pub event_id: EventId,
    /// Its type number.
    pub event_type: i16,
    /// In whose inventory it happened.
    pub player: PlayerId,
    /// The other player of a transfer.
    pub counterparty: Option<PlayerId>,
    /// When it was decided.
    pub decided_at: Timestamp,
}

/// The rows that follow from events, each given once: those of one stream in the order of their versions, streams in any order. Events that are
/// none of the projection's business are passed over.
///
/// # Errors
/// [`Malformed`], where an event can't be applied.
pub fn fold<'a>(events: impl IntoIterator<Item = &'a Event>) -> Result<Rows, Malformed> {
    let mut writes = Writes::default();
    for event in events {
        if InventoryProjector::interest(event.event_type) == idempo_projection::Interest::Consumed {
            InventoryProjector::apply(event, &mut writes)?;
        }
    }
    let mut rows = Rows::default();
    rows.merge(&writes).map_err(Malformed)?;
    Ok(rows)
}

impl Model for Rows {
    type Writes = Writes;

    fn merge(&mut self, writes: &Writes) -> Result<(), &'static str> {
        let mut merged = self.clone();
        for (item, row) in &writes.items {
            let known = merged.items.entry(*item).or_insert_with(|| row.clone());
            if known.order() < row.order() {
                known.clone_from(row);
            }
        }
        for (key, change) in &writes.stacks {
            merged.merge_stack(key, change)?;
        }
        for (player, change) in &writes.loadouts {
            merged.merge_loadout(*player, change);
        }
        merged.merge_history(writes)?;
        *self = merged;
        Ok(())
    }
}

impl Rows {
    fn merge_stack(&mut self, key: &StackKey, change: &StackChange) -> Result<(), &'static str> {
        let none = StackRow { quantity: 0, reserved: 0, updated_at: change.updated_at };
        let row = self.stacks.entry(key.clone()).or_insert(none);
        row.quantity = row.quantity.checked_add(change.quantity).ok_or("stacks.quantity")?;
        row.reserved = row.reserved.checked_add(change.reserved).ok_or("stacks.reserved")?;
        row.updated_at = row.updated_at.max(change.updated_at);
        if row.quantity < 0 || !(0..=row.quantity).contains(&row.reserved) {
            return Err("stacks: 0 <= reserved <= quantity");
        }
        Ok(())
    }

    fn merge_loadout(&mut self, player: PlayerId, change: &LoadoutChange) {
        if let Some(at) = change.replaced_at {
            let first = (player, ItemId::new(idempo_ids::Uuid::nil()));
            let last = (player, ItemId::new(idempo_ids::Uuid::max()));
            for row in self.loadouts.range_mut(first..=last).map(|(_, row)| row).filter(|row| row.equipped) {
                *row = LoadoutRow { equipped: false, changed_at: at };
            }
        }
        for (item, (equipped, since)) in &change.items {
            self.loadouts.insert((player, *item), LoadoutRow { equipped: *equipped, changed_at: *since });
        }
    }

    fn merge_history(&mut self, writes: &Writes) -> Result<(), &'static str> {
        // What the batch does not tell is looked up in what was there before it.
        let resolved: Option<Vec<i64>> =
            writes.history.iter().map(|entry| entry.hop.or_else(|| self.last_hop(entry.item, entry.player))).collect();
        for (entry, hop) in writes.history.iter().zip(resolved.ok_or("item_events.hop")?) {
            let key = ItemEventKey { item: entry.item, hop, ordinal: entry.ordinal };
            let row = ItemEventRow {
                event_id: entry.event_id,
                event_type: entry.event_type,
                player: entry.player,
                counterparty: entry.counterparty,
                decided_at: entry.decided_at,
            };
            if self.item_events.insert(key, row).is_some() {
                return Err("item_events: two events in one place");
            }
        }
        Ok(())
    }

    /// The hop of the last entry that a player's stream has in an item's history.
    fn last_hop(&self, item: ItemId, player: PlayerId) -> Option<i64> {
        let first = ItemEventKey { item, hop: i64::MIN, ordinal: i64::MIN };
        let last = ItemEventKey { item, hop: i64::MAX, ordinal: i64::MAX };
        self.item_events.range(first..=last).rev().find(|(_, row)| row.player == player).map(|(key, _)| key.hop)
    }
}
