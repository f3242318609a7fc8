//! What a batch of events adds to the read model, and how what it says about one row is coalesced.

use std::collections::BTreeMap;

use idempo_ids::{EventId, ItemId, PlayerId, ReservationId};
use jiff::Timestamp;

/// What a batch adds. Every map is in the order of its keys, so that two batches lock the rows they share in the same order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Writes {
    /// Unique items, as of the newest event of the batch.
    pub items: BTreeMap<ItemId, ItemRow>,
    /// What is added to stacks.
    pub stacks: BTreeMap<StackKey, StackChange>,
    /// What players equipped and put away.
    pub loadouts: BTreeMap<PlayerId, LoadoutChange>,
    /// The histories' new entries, in the order of the events.
    pub history: Vec<HistoryEntry>,
    /// The hop of each item in the hands of each player, as far as the batch tells.
    pub hops: BTreeMap<(PlayerId, ItemId), i64>,
}

/// Where a unique item is in its life. The numbers are at rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ItemState {
    /// Its owner can use and give it.
    Owned,
    /// A reservation holds it.
    Reserved(ReservationId),
    /// It is no more; its owner is the last one.
    Destroyed,
}

impl ItemState {
    /// The number at rest.
    #[must_use]
    pub const fn number(self) -> i16 {
        match self {
            Self::Owned => 1,
            Self::Reserved(_) => 2,
            Self::Destroyed => 3,
        }
    }

    /// The reservation that holds the item.
    #[must_use]
    pub const fn reservation(self) -> Option<ReservationId> {
        match self {
            Self::Reserved(reservation) => Some(reservation),
            Self::Owned | Self::Destroyed => None,
        }
    }
}

/// A unique item as of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemRow {
    /// Its type.
    pub item_type: String,
    /// Who has it, or had it last.
    pub owner: PlayerId,
    /// Where it is in its life.
    pub state: ItemState,
    /// How often its ownership has changed, from 1.
    pub hop: i64,
    /// 0 for an event that changes the owner, which two streams tell of; for others the event's version in the owner's stream.
    pub revision: i64,
    /// When the event was decided.
    pub updated_at: Timestamp,
}

impl ItemRow {
    /// Which of two rows of one item is the newer one. The hops of an item are in order, and within a hop only the owner's stream speaks; so the
    /// greatest wins in whichever order the rows come. The time decides nothing but between the two legs of a transfer, which say the same.
    #[must_use]
    pub const fn order(&self) -> (i64, i64, Timestamp) {
        (self.hop, self.revision, self.updated_at)
    }
}

/// Which stack.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StackKey {
    /// Whose.
    pub player: PlayerId,
    /// Of which type.
    pub item_type: String,
}

/// What is added to a stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StackChange {
    /// To the quantity; below zero where more left than came.
    pub quantity: i64,
    /// To what of it is reserved.
    pub reserved: i64,
    /// When the newest of the events was decided.
    pub updated_at: Timestamp,
}

/// What a player equipped and put away in a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadoutChange {
    /// When something was first equipped: whatever was equipped before the batch was put away then.
    pub replaced_at: Option<Timestamp>,
    /// The items that the batch knows about: equipped or not now, and since when.
    pub items: BTreeMap<ItemId, (bool, Timestamp)>,
}

/// An entry of an item's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The item.
    pub item: ItemId,
    /// The hop; `None` where neither the event nor the batch tells it: it is the hop of the player's last entry then.
    pub hop: Option<i64>,
    /// The place within the hop: 0 for the sender's leg of a transfer, else the version in the stream of the hop's owner.
    pub ordinal: i64,
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

impl Writes {
    /// Says what an item is as of an event.
    pub fn item(&mut self, item: ItemId, row: ItemRow) {
        match self.items.get_mut(&item) {
            Some(known) if known.order() >= row.order() => {}
            Some(known) => *known = row,
            None => {
                self.items.insert(item, row);
            }
        }
    }

    /// Adds to a stack. `None` where the sums leave the range of integers.
    #[must_use]
    pub fn stack(&mut self, key: StackKey, change: StackChange) -> Option<()> {
        let sum = self.stacks.entry(key).or_insert(StackChange { quantity: 0, reserved: 0, updated_at: change.updated_at });
        sum.quantity = sum.quantity.checked_add(change.quantity)?;
        sum.reserved = sum.reserved.checked_add(change.reserved)?;
        sum.updated_at = sum.updated_at.max(change.updated_at);
        Some(())
    }

    /// Adds what a batch of another partition adds. `None` where both tell of the same player: a player's stream is in one partition.
    #[must_use]
    pub fn add(&mut self, other: &Self) -> Option<()> {
        for (key, change) in &other.stacks {
            self.stacks.insert(key.clone(), *change).is_none().then_some(())?;
        }
        for (player, change) in &other.loadouts {
            self.loadouts.insert(*player, change.clone()).is_none().then_some(())?;
        }
        // Two partitions can have the two legs of one transfer.
        for (item, row) in &other.items {
            self.item(*item, row.clone());
        }
        self.history.extend_from_slice(&other.history);
        self.hops.extend(&other.hops);
        Some(())
    }

    /// Equips an item, in place of what the player had equipped.
    pub fn equip(&mut self, player: PlayerId, item: ItemId, at: Timestamp) {
        let loadout = self.loadouts.entry(player).or_default();
        for (equipped, since) in loadout.items.values_mut().filter(|(equipped, _)| *equipped) {
            (*equipped, *since) = (false, at);
        }
        loadout.replaced_at.get_or_insert(at);
        loadout.items.insert(item, (true, at));
    }

    /// Puts an item away that the player had equipped.
    pub fn unequip(&mut self, player: PlayerId, item: ItemId, at: Timestamp) {
        self.loadouts.entry(player).or_default().items.insert(item, (false, at));
    }
}
