//! Why a command on an inventory is refused.

use idempo_ids::{ItemId, PlayerId, ReservationId};

use super::state::Ending;
use crate::item_type::ItemTypeId;

/// A refusal. It is definite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// There is no such item type.
    ItemTypeNotFound {
        /// The type.
        item_type: ItemTypeId,
    },
    /// A quantity of a type whose pieces are told apart.
    ItemTypeNotStackable {
        /// The type.
        item_type: ItemTypeId,
    },
    /// More than one piece of a unique type at once.
    QuantityNotOne {
        /// The type.
        item_type: ItemTypeId,
        /// What was asked for.
        quantity: u32,
    },
    /// No quantity of a stackable type.
    QuantityRequired {
        /// The type.
        item_type: ItemTypeId,
    },
    /// A stack would hold more than [`crate::portion::QUANTITY_MAX`].
    QuantityLimit {
        /// Whose stack.
        player: PlayerId,
        /// The type.
        item_type: ItemTypeId,
        /// What the stack holds.
        quantity: u32,
        /// What was to be added.
        added: u32,
    },
    /// Too little of a stack is there and not reserved.
    InsufficientQuantity {
        /// The type.
        item_type: ItemTypeId,
        /// What is there and not reserved.
        available: u32,
        /// What was asked for.
        required: u32,
    },
    /// The player has no such item: it is somebody else's, was destroyed, or never was. Which of them is not revealed.
    NotResourceOwner {
        /// Who is not the owner.
        player: PlayerId,
        /// Of what.
        resource: Resource,
    },
    /// The item is reserved.
    ItemReserved {
        /// The item.
        item: ItemId,
        /// By which reservation.
        reservation: ReservationId,
    },
    /// The item is equipped: it must be put away first.
    ItemEquipped {
        /// The item.
        item: ItemId,
    },
    /// The item can't be equipped.
    ItemNotEquippable {
        /// The item.
        item: ItemId,
        /// Its type.
        item_type: ItemTypeId,
    },
    /// Nothing is equipped.
    NothingEquipped,
    /// The player never had such a reservation.
    ReservationNotFound {
        /// The reservation.
        reservation: ReservationId,
    },
    /// The reservation has ended: this came first. Also said, as [`Ending::Expired`], of a reservation that has reached the end of its life
    /// and waits for its expiry, the only thing that can still happen to it.
    ReservationEnded {
        /// The reservation.
        reservation: ReservationId,
        /// How.
        ending: Ending,
    },
    /// The reservation has not reached the end of its life.
    ReservationNotDue,
    /// The inventory holds as many as it can.
    InventoryFull {
        /// Whose inventory.
        player: PlayerId,
        /// As many of what.
        capacity: Capacity,
    },
    /// Sender and receiver are one.
    SelfTransfer,
    /// The life of a reservation is outside of its bounds.
    TtlOutOfRange,
    /// More than [`super::RECENT_MAX`] reservations ended between the look-up and the decision, so that neither knows whether this one was
    /// among them. To be asked again, with a new look-up.
    Outpaced,
}

/// What somebody is not the owner of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// A unique item.
    Item(ItemId),
    /// A reservation.
    Reservation(ReservationId),
}

/// What an inventory holds only so many of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capacity {
    /// [`super::UNIQUE_ITEMS_MAX`].
    UniqueItems,
    /// [`super::STACKS_MAX`].
    Stacks,
    /// [`super::OPEN_RESERVATIONS_MAX`].
    OpenReservations,
}

impl Capacity {
    /// How many.
    #[must_use]
    pub const fn limit(self) -> usize {
        match self {
            Self::UniqueItems => super::UNIQUE_ITEMS_MAX,
            Self::Stacks => super::STACKS_MAX,
            Self::OpenReservations => super::OPEN_RESERVATIONS_MAX,
        }
    }
}
