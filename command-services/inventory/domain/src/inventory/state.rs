//! What the events of an inventory's stream add up to.

use idempo_decider::{Recent, Timestamp};
use idempo_ids::{ItemId, ReservationId};
use rpds::RedBlackTreeMapSync;

use super::RECENT_MAX;
use super::event::Event;
use crate::item_type::ItemTypeId;
use crate::portion::Portion;

/// A map in the order of its keys. Its clones share what they have in common: a state is cloned for every command, and one with 10,000 items
/// in a `BTreeMap` would cost a millisecond each time.
pub type Shared<K, V> = RedBlackTreeMapSync<K, V>;

/// An inventory's state. The default is that of a player who never had anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    version: u64,
    items: Shared<ItemId, OwnedItem>,
    /// How many of `items` are of a type. A type without one has no entry.
    unique_quantities: Shared<ItemTypeId, u32>,
    /// A type of which nothing is left has no entry.
    stacks: Shared<ItemTypeId, Stack>,
    reservations: Shared<ReservationId, Reservation>,
    last_ended: Option<(ReservationId, Reservation)>,
    pub(super) endings: Recent<ReservationId, Ending, RECENT_MAX>,
    equipped: Option<ItemId>,
}

/// A unique item in its owner's hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedItem {
    /// Its type.
    pub item_type: ItemTypeId,
    /// How often its ownership has changed; 1 after the mint.
    pub hop: u64,
    /// The reservation that holds it.
    pub reserved_by: Option<ReservationId>,
}

/// What there is of a stackable type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stack {
    /// How many, reserved ones included, up to [`crate::portion::QUANTITY_MAX`].
    pub quantity: u32,
    /// How many of them are reserved.
    pub reserved: u32,
}

impl Stack {
    /// How many are there and not reserved.
    #[must_use]
    pub const fn available(self) -> u32 {
        self.quantity.saturating_sub(self.reserved)
    }
}

/// An open reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// What it holds.
    pub portion: Portion,
    /// When it ends by itself. From then on it can only expire.
    pub expires_at: Timestamp,
}

/// How a reservation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Released: what it held is free again.
    Released,
    /// A transfer took what it held.
    Fulfilled,
    /// Reached the end of its life: what it held is free again.
    Expired,
}

impl Inventory {
    /// How many events the state stands for: the version of the stream.
    #[must_use]
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The unique items, by id.
    #[must_use]
    pub const fn items(&self) -> &Shared<ItemId, OwnedItem> {
        &self.items
    }

    /// The stacks, by type.
    #[must_use]
    pub const fn stacks(&self) -> &Shared<ItemTypeId, Stack> {
        &self.stacks
    }

    /// The open reservations, by id.
    #[must_use]
    pub const fn reservations(&self) -> &Shared<ReservationId, Reservation> {
        &self.reservations
    }

    /// The equipped weapon.
    #[must_use]
    pub const fn equipped(&self) -> Option<ItemId> {
        self.equipped
    }

    /// The reservation that ended last, as it was before, for the answer to the command that ended it.
    #[must_use]
    pub const fn last_ended(&self) -> Option<&(ReservationId, Reservation)> {
        self.last_ended.as_ref()
    }

    /// What there is of a stackable type.
    #[must_use]
    pub fn stack(&self, item_type: &ItemTypeId) -> Stack {
        self.stacks.get(item_type).copied().unwrap_or_default()
    }

    /// How many pieces of a type there are, whatever its kind, reserved ones included.
    #[must_use]
    pub fn quantity(&self, item_type: &ItemTypeId) -> u32 {
        self.unique_quantities.get(item_type).copied().unwrap_or_else(|| self.stack(item_type).quantity)
    }

    /// Applies an event. Decisions check first, so that stored events never saturate or miss what they name.
    pub(super) fn apply(&mut self, event: &Event) {
        self.version = self.version.saturating_add(1);
        match event {
            Event::Granted { portion, .. } | Event::Received { portion, .. } => self.add(portion),
            Event::Reserved { reservation, portion, expires_at, .. } => {
                self.hold(portion, *reservation);
                self.reservations.insert_mut(*reservation, Reservation { portion: portion.clone(), expires_at: *expires_at });
            }
            Event::Released { reservation, .. } => self.end(*reservation, Ending::Released),
            Event::Expired { reservation, .. } => self.end(*reservation, Ending::Expired),
            Event::Sent { portion, reservation, .. } => {
                if let Some(reservation) = reservation {
                    self.end(*reservation, Ending::Fulfilled);
                }
                self.remove(portion);
            }
            Event::Consumed { portion, .. } => self.remove(portion),
            Event::Equipped { item, .. } => self.equipped = Some(*item),
            Event::Unequipped { .. } => self.equipped = None,
        }
    }

    fn add(&mut self, portion: &Portion) {
        let item_type = portion.item_type();
        match portion {
            Portion::Unique { item, hop, .. } => {
                let owned = OwnedItem { item_type: item_type.clone(), hop: *hop, reserved_by: None };
                self.items.insert_mut(*item, owned);
                let count = self.quantity(item_type).saturating_add(1);
                self.unique_quantities.insert_mut(item_type.clone(), count);
            }
            Portion::Stack { quantity, .. } => {
                let stack = self.stack(item_type);
                let quantity = stack.quantity.saturating_add(*quantity);
                self.stacks.insert_mut(item_type.clone(), Stack { quantity, ..stack });
            }
        }
    }

    fn remove(&mut self, portion: &Portion) {
        let item_type = portion.item_type();
        match portion {
            Portion::Unique { item, .. } => {
                self.items.remove_mut(item);
                let left = self.quantity(item_type).saturating_sub(1);
                self.unique_quantities.insert_mut(item_type.clone(), left);
                if left == 0 {
                    self.unique_quantities.remove_mut(item_type);
                }
            }
            Portion::Stack { quantity, .. } => {
                let stack = self.stack(item_type);
                let left = stack.quantity.saturating_sub(*quantity);
                self.stacks.insert_mut(item_type.clone(), Stack { quantity: left, ..stack });
                if left == 0 {
                    self.stacks.remove_mut(item_type);
                }
            }
        }
    }

    fn hold(&mut self, portion: &Portion, reservation: ReservationId) {
        match portion {
            Portion::Unique { item, .. } => {
                if let Some(item) = self.items.get_mut(item) {
                    item.reserved_by = Some(reservation);
                }
            }
            Portion::Stack { item_type, quantity } => {
                if let Some(stack) = self.stacks.get_mut(item_type) {
                    stack.reserved = stack.reserved.saturating_add(*quantity);
                }
            }
        }
    }

    fn end(&mut self, reservation: ReservationId, ending: Ending) {
        self.endings.remember(self.version, reservation, ending);
        let Some(was) = self.reservations.get(&reservation).cloned() else { return };
        self.reservations.remove_mut(&reservation);
        match &was.portion {
            Portion::Unique { item, .. } => {
                if let Some(item) = self.items.get_mut(item) {
                    item.reserved_by = None;
                }
            }
            Portion::Stack { item_type, quantity } => {
                if let Some(stack) = self.stacks.get_mut(item_type) {
                    stack.reserved = stack.reserved.saturating_sub(*quantity);
                }
            }
        }
        self.last_ended = Some((reservation, was));
    }
}
