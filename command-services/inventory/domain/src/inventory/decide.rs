//! The decider of inventories.
//!
//! An equipped item can't be reserved, sent or consumed until it is put away: otherwise a player's weapon would vanish, or be promised to
//! somebody else, under a match that counts on it.

use idempo_decider::{Context, Decider, Decision, Memory, Reason, States, Timestamp};
use idempo_ids::{ItemId, PlayerId, ReservationId, TransferId};

use super::command::{Action, Command, ItemSelection, ReservationLookup, StackSelection, TransferSelection};
use super::event::Event;
use super::rejection::{Capacity, Rejection, Resource};
use super::state::{Ending, Inventory, OwnedItem, Reservation};
use super::{RESERVATION_TTL_MAX_MS, RESERVATION_TTL_MIN_MS};
use crate::item_type::{ItemKind, ItemTypeId};
use crate::portion::{Portion, QUANTITY_MAX};

/// The rules of inventories.
#[derive(Debug)]
pub struct Rules;

impl Decider for Rules {
    type State = Inventory;
    type Command = Command;
    type Event = Event;
    type Rejection = Rejection;

    fn decide(states: States<'_, Inventory>, command: &Command, context: &Context) -> Result<Decision<Event>, Rejection> {
        let own = states.primary();
        let player = command.player;
        match &command.action {
            Action::Grant { item_type, kind, quantity, reason } => {
                let portion = minted(item_type, *kind, *quantity, context)?;
                room(own, player, &portion)?;
                Ok(Decision::one(Event::Granted { portion, reason: reason.clone() }))
            }
            Action::Reserve { what, ttl_ms, reason } => reserve(own, player, what, *ttl_ms, reason, context),
            Action::Release { reservation, lookup } => {
                let found = usable(own, *reservation, *lookup, context.now)?;
                Ok(Decision::one(Event::Released { reservation: *reservation, portion: found.portion.clone() }))
            }
            Action::Expire { reservation, seen_at, lookup } => {
                let found = open(own, *reservation, *lookup)?;
                if *seen_at < found.expires_at {
                    return Err(Rejection::ReservationNotDue);
                }
                Ok(Decision::one(Event::Expired { reservation: *reservation, portion: found.portion.clone() }))
            }
            Action::Transfer { to, what } => transfer(states, (player, *to), what, context),
            Action::Consume { what, reason } => {
                let portion = free(own, player, what)?.after_hop();
                Ok(Decision::one(Event::Consumed { portion, reason: reason.clone() }))
            }
            Action::Equip { item, kind } => equip(own, player, *item, *kind),
            Action::Unequip => match own.equipped() {
                Some(item) => Ok(Decision::one(Event::Unequipped { item })),
                None => Err(Rejection::NothingEquipped),
            },
        }
    }

    fn evolve(state: &mut Inventory, event: &Event) {
        state.apply(event);
    }
}

/// What a grant mints.
fn minted(item_type: &ItemTypeId, kind: Option<ItemKind>, quantity: u32, context: &Context) -> Result<Portion, Rejection> {
    let item_type = item_type.clone();
    match (kind, quantity) {
        (None, _) => Err(Rejection::ItemTypeNotFound { item_type }),
        (Some(ItemKind::Unique { .. }), 0 | 1) => Ok(Portion::Unique { item_type, item: ItemId::new(context.derive("item", 0)), hop: 1 }),
        (Some(ItemKind::Unique { .. }), _) => Err(Rejection::QuantityNotOne { item_type, quantity }),
        (Some(ItemKind::Stackable), 0) => Err(Rejection::QuantityRequired { item_type }),
        (Some(ItemKind::Stackable), _) => Ok(Portion::Stack { item_type, quantity }),
    }
}

fn reserve(
    own: &Inventory,
    player: PlayerId,
    what: &ItemSelection,
    ttl_ms: i64,
    reason: &Reason,
    context: &Context,
) -> Result<Decision<Event>, Rejection> {
    let portion = free(own, player, what)?;
    below(own.reservations().size(), player, Capacity::OpenReservations)?;
    if !(RESERVATION_TTL_MIN_MS..=RESERVATION_TTL_MAX_MS).contains(&ttl_ms) {
        return Err(Rejection::TtlOutOfRange);
    }
    let ttl = jiff::SignedDuration::from_millis(ttl_ms);
    let expires_at = context.now.checked_add(ttl).map_err(|_| Rejection::TtlOutOfRange)?;
    let reservation = ReservationId::new(context.derive("reservation", 0));
    Ok(Decision::one(Event::Reserved { reservation, portion, expires_at, reason: reason.clone() }))
}

fn transfer(
    states: States<'_, Inventory>,
    (from, to): (PlayerId, PlayerId),
    what: &TransferSelection,
    context: &Context,
) -> Result<Decision<Event>, Rejection> {
    let own = states.primary();
    let peer = states.peer().filter(|_| from != to).ok_or(Rejection::SelfTransfer)?;
    let (portion, reservation) = match what {
        TransferSelection::Free(what) => (free(own, from, what)?, None),
        TransferSelection::Reserved { owner, reservation, .. } if *owner != from => {
            return Err(Rejection::NotResourceOwner { player: from, resource: Resource::Reservation(*reservation) });
        }
        TransferSelection::Reserved { reservation, lookup, .. } => {
            (usable(own, *reservation, *lookup, context.now)?.portion.clone(), Some(*reservation))
        }
    };
    room(peer, to, &portion)?;
    let portion = portion.after_hop();
    let transfer = TransferId::new(context.derive("transfer", 0));
    Ok(Decision::both(Event::Sent { transfer, portion: portion.clone(), to, reservation }, Event::Received { transfer, portion, from }))
}

fn equip(own: &Inventory, player: PlayerId, item: ItemId, kind: Option<ItemKind>) -> Result<Decision<Event>, Rejection> {
    let item_type = free_item(own, player, item)?.item_type.clone();
    match kind {
        Some(ItemKind::Unique { weapon: Some(_) }) => Ok(Decision::one(Event::Equipped { item, item_type })),
        Some(ItemKind::Unique { weapon: None } | ItemKind::Stackable) => Err(Rejection::ItemNotEquippable { item, item_type }),
        // It came after the look-up: while the command was on its way the item was not there, and that is the answer.
        None => Err(Rejection::NotResourceOwner { player, resource: Resource::Item(item) }),
    }
}

/// What a selection selects, where it is the player's and free: neither reserved nor equipped.
fn free(own: &Inventory, player: PlayerId, what: &ItemSelection) -> Result<Portion, Rejection> {
    match what {
        ItemSelection::Item { owner, item } if *owner != player => {
            Err(Rejection::NotResourceOwner { player, resource: Resource::Item(*item) })
        }
        ItemSelection::Item { item, .. } => {
            let found = free_item(own, player, *item)?;
            Ok(Portion::Unique { item_type: found.item_type.clone(), item: *item, hop: found.hop })
        }
        ItemSelection::Stack(stack) => free_quantity(own, stack),
    }
}

fn free_item(own: &Inventory, player: PlayerId, item: ItemId) -> Result<&OwnedItem, Rejection> {
    let found = own.items().get(&item).ok_or(Rejection::NotResourceOwner { player, resource: Resource::Item(item) })?;
    if let Some(reservation) = found.reserved_by {
        return Err(Rejection::ItemReserved { item, reservation });
    }
    if own.equipped() == Some(item) {
        return Err(Rejection::ItemEquipped { item });
    }
    Ok(found)
}

fn free_quantity(own: &Inventory, stack: &StackSelection) -> Result<Portion, Rejection> {
    let (item_type, required) = (stack.item_type.clone(), stack.quantity);
    match stack.kind {
        None => return Err(Rejection::ItemTypeNotFound { item_type }),
        Some(ItemKind::Unique { .. }) => return Err(Rejection::ItemTypeNotStackable { item_type }),
        Some(ItemKind::Stackable) => {}
    }
    if required == 0 {
        return Err(Rejection::QuantityRequired { item_type });
    }
    let available = own.stack(&item_type).available();
    if available < required {
        return Err(Rejection::InsufficientQuantity { item_type, available, required });
    }
    Ok(Portion::Stack { item_type, quantity: required })
}

/// The reservation, where it can still be released or fulfilled.
///
/// From the end of its life on a reservation can only expire, also while the timer has not come to it. Where two replicas' clocks differ, one
/// may say so while the other still transfers: that refusal had no effect, and the transfer is the one ending.
fn usable(own: &Inventory, reservation: ReservationId, lookup: ReservationLookup, now: Timestamp) -> Result<&Reservation, Rejection> {
    let found = open(own, reservation, lookup)?;
    if now >= found.expires_at { Err(Rejection::ReservationEnded { reservation, ending: Ending::Expired }) } else { Ok(found) }
}

/// The reservation, where it is open. [`ReservationLookup`] says why the refusal is right.
fn open(own: &Inventory, reservation: ReservationId, lookup: ReservationLookup) -> Result<&Reservation, Rejection> {
    if let Some(found) = own.reservations().get(&reservation) {
        return Ok(found);
    }
    Err(match (own.endings.find(reservation, lookup.version), lookup.ending) {
        (Memory::Happened(ending), _) | (_, Some(ending)) => Rejection::ReservationEnded { reservation, ending },
        (Memory::NotSince, None) => Rejection::ReservationNotFound { reservation },
        (Memory::Unknown, None) => Rejection::Outpaced,
    })
}

/// Refuses what an inventory can't take.
fn room(inventory: &Inventory, player: PlayerId, portion: &Portion) -> Result<(), Rejection> {
    let Portion::Stack { item_type, quantity: added } = portion else {
        return below(inventory.items().size(), player, Capacity::UniqueItems);
    };
    let quantity = inventory.stack(item_type).quantity;
    if quantity == 0 {
        below(inventory.stacks().size(), player, Capacity::Stacks)?;
    }
    match quantity.checked_add(*added) {
        Some(sum) if sum <= QUANTITY_MAX => Ok(()),
        _ => Err(Rejection::QuantityLimit { player, item_type: item_type.clone(), quantity, added: *added }),
    }
}

fn below(count: usize, player: PlayerId, capacity: Capacity) -> Result<(), Rejection> {
    if count < capacity.limit() { Ok(()) } else { Err(Rejection::InventoryFull { player, capacity }) }
}
