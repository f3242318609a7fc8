//! What can be asked of an inventory.

use idempo_decider::Reason;
use idempo_ids::{ItemId, PlayerId, ReservationId};

use super::state::Ending;
use crate::item_type::{ItemKind, ItemTypeId};

/// A command, addressed to one inventory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Whose inventory it is addressed to: the first stream the command names.
    pub player: PlayerId,
    /// What is asked.
    pub action: Action,
}

/// What is asked of an inventory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Mints one unique item, or a quantity of a stackable type.
    Grant {
        /// The type.
        item_type: ItemTypeId,
        /// What was looked up of the type; `None` where there is none.
        kind: Option<ItemKind>,
        /// How many of a stackable type, up to [`crate::portion::QUANTITY_MAX`]; 0 or 1 for a unique one.
        quantity: u32,
        /// Why.
        reason: Reason,
    },
    /// Reserves an item or a quantity: its owner keeps it but can't use or give it.
    Reserve {
        /// What to reserve.
        what: ItemSelection,
        /// How long the reservation lives, in milliseconds, [`super::RESERVATION_TTL_MIN_MS`] to [`super::RESERVATION_TTL_MAX_MS`].
        ttl_ms: i64,
        /// Why.
        reason: Reason,
    },
    /// Ends a reservation.
    Release {
        /// The reservation.
        reservation: ReservationId,
        /// What was looked up of the reservation.
        lookup: ReservationLookup,
    },
    /// Ends a reservation that has reached the end of its life.
    Expire {
        /// The reservation.
        reservation: ReservationId,
        /// What the clock showed when the reservation was seen to be due. It comes with the command, and is not the time of the decision, so
        /// that a clock that steps back in between can't make a refusal of it, which would stay bound to the reservation's one expiry key.
        seen_at: idempo_decider::Timestamp,
        /// What was looked up of the reservation.
        lookup: ReservationLookup,
    },
    /// Moves an item, a quantity, or what a reservation holds, to another player's inventory, the second stream.
    Transfer {
        /// The receiver.
        to: PlayerId,
        /// What to transfer.
        what: TransferSelection,
    },
    /// Destroys an item or a quantity by use.
    Consume {
        /// What to consume.
        what: ItemSelection,
        /// Why.
        reason: Reason,
    },
    /// Equips a weapon, in place of what was equipped before.
    Equip {
        /// The weapon.
        item: ItemId,
        /// What was looked up of its type; `None` where the item was not found in the inventory. An item's type never changes.
        kind: Option<ItemKind>,
    },
    /// Puts the equipped weapon away.
    Unequip,
}

/// One unique item, or a quantity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemSelection {
    /// One unique item.
    Item {
        /// Whose it is by its name.
        owner: PlayerId,
        /// The item.
        item: ItemId,
    },
    /// A quantity.
    Stack(StackSelection),
}

/// A quantity of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StackSelection {
    /// The type.
    pub item_type: ItemTypeId,
    /// What was looked up of the type; `None` where there is none. A type never changes, so an answer that names one is true for good.
    pub kind: Option<ItemKind>,
    /// How many, 1 to [`crate::portion::QUANTITY_MAX`].
    pub quantity: u32,
}

/// What can be transferred.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransferSelection {
    /// What is not reserved.
    Free(ItemSelection),
    /// All that a reservation holds.
    Reserved {
        /// Whose it is by its name.
        owner: PlayerId,
        /// The reservation.
        reservation: ReservationId,
        /// What was looked up of the reservation.
        lookup: ReservationLookup,
    },
}

/// What the inventory's tables said about a reservation when a command for it was made.
///
/// A state remembers how the last [`super::RECENT_MAX`] reservations ended; how older ones did, the command brings along. That is as good as
/// asking at the time of the decision: an ending never changes, so a late answer that names one is still true. And an answer that names none
/// is of a known `version`, read in one snapshot with it: an ending up to it would have been seen, one after it is in the state's memory
/// unless that has forgotten something newer than `version`, which it knows of and which is then said ([`super::Rejection::Outpaced`]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReservationLookup {
    /// The version the inventory's stream had.
    pub version: u64,
    /// How the reservation had ended.
    pub ending: Option<Ending>,
}

impl Command {
    /// The other inventory that the command names: its second stream. `None` also where sender and receiver are one.
    #[must_use]
    pub fn peer(&self) -> Option<PlayerId> {
        match &self.action {
            Action::Transfer { to, .. } => (*to != self.player).then_some(*to),
            _ => None,
        }
    }
}
