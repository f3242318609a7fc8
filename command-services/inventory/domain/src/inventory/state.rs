//! What the events of an inventory's stream add up to.

use std::collections::BTreeMap;

use idempo_decider::Timestamp;
use idempo_ids::{ItemId, ReservationId};

use super::event::Event;
use super::recent::Recent;
use crate::item_type::ItemTypeId;
use crate::portion::Portion;

/// An inventory's state. The default is that of a player who never had anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    version: u64,
    items: BTreeMap<ItemId, OwnedItem>,
    /// How many of `items` are of a type. A type without one has no entry.
    unique_quantities: BTreeMap<ItemTypeId, u32>,
    /// A type of which nothing is left has no entry.
    stacks: BTreeMap<ItemTypeId, Stack>,
    reservations: BTreeMap<ReservationId, Reservation>,
    last_ended: Option<(ReservationId, Reservation)>,
    pub(super) endings: Recent<ReservationId, Ending>,
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
    pub const fn items(&self) -> &BTreeMap<ItemId, OwnedItem> {
        &self.items
    }

    /// The stacks, by type.
    #[must_use]
    pub const fn stacks(&self) -> &BTreeMap<ItemTypeId, Stack> {
        &self.stacks
    }

    /// The open reservations, by id.
    #[must_use]
    pub const fn reservations(&self) -> &BTreeMap<ReservationId, Reservation> {
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
                self.reservations.insert(*reservation, Reservation { portion: portion.clone(), expires_at: *expires_at });
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
        let count = match portion {
            Portion::Unique { item_type, item, hop } => {
                self.items.insert(*item, OwnedItem { item_type: item_type.clone(), hop: *hop, reserved_by: None });
                self.unique_quantities.entry(item_type.clone()).or_default()
            }
            Portion::Stack { item_type, .. } => &mut self.stacks.entry(item_type.clone()).or_default().quantity,
        };
        *count = count.saturating_add(portion.quantity());
    }

    fn remove(&mut self, portion: &Portion) {
        let item_type = portion.item_type();
        match portion {
            Portion::Unique { item, .. } => {
                self.items.remove(item);
                let left = self.quantity(item_type).saturating_sub(1);
                if left == 0 {
                    self.unique_quantities.remove(item_type);
                } else {
                    self.unique_quantities.insert(item_type.clone(), left);
                }
            }
            Portion::Stack { quantity, .. } => {
                let stack = self.stack(item_type);
                let left = stack.quantity.saturating_sub(*quantity);
                if left == 0 {
                    self.stacks.remove(item_type);
                } else {
                    self.stacks.insert(item_type.clone(), Stack { quantity: left, ..stack });
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
        let Some(was) = self.reservations.remove(&reservation) else { return };
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
