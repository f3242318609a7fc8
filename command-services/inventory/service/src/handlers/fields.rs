//! Checks of the fields that the inventory's requests have in common.

use idempo_ids::{ItemId, PlayerId, ReservationId};
use idempo_inventory_domain::Reason;
use idempo_inventory_domain::item_type::ItemTypeId;
use idempo_inventory_domain::portion::QUANTITY_MAX;
use idempo_proto::inventory::v1::StackQuantity;
use idempo_rpc::{REASON_CHARS_MAX, Violations};

use crate::codec::{ITEM, ITEM_TYPE, PLAYER, RESERVATION};

/// A unique item or a quantity, as a request names it.
pub(super) enum Item {
    /// A unique item, and whose it is by its name.
    Unique { owner: PlayerId, item: ItemId },
    /// A quantity of a type.
    Stack { item_type: ItemTypeId, quantity: u32 },
}

/// A player's name.
pub(super) fn player(violations: &mut Violations, field: &str, text: &str) -> Option<PlayerId> {
    violations.name(field, PLAYER, text).map(|[player]| PlayerId::new(player))
}

/// Another player's name than `own`.
pub(super) fn other_player(violations: &mut Violations, field: &str, text: &str, own: Option<PlayerId>) -> Option<PlayerId> {
    let other = player(violations, field, text)?;
    violations.check(own != Some(other), field, || "must be another player than the one that gives".to_owned()).then_some(other)
}

/// The name of a player's unique item.
pub(super) fn item(violations: &mut Violations, field: &str, text: &str) -> Option<(PlayerId, ItemId)> {
    violations.name(field, ITEM, text).map(|[player, item]| (PlayerId::new(player), ItemId::new(item)))
}

/// The name of a player's reservation.
pub(super) fn reservation(violations: &mut Violations, field: &str, text: &str) -> Option<(PlayerId, ReservationId)> {
    let ids = violations.name(field, RESERVATION, text);
    ids.map(|[player, reservation]| (PlayerId::new(player), ReservationId::new(reservation)))
}

/// The name of an item type.
pub(super) fn item_type(violations: &mut Violations, field: &str, text: &str) -> Option<ItemTypeId> {
    violations.slug_name(field, ITEM_TYPE, text).and_then(|slug| ItemTypeId::parse(&slug))
}

/// How many, at least `least`.
pub(super) fn quantity(violations: &mut Violations, field: &str, value: i64, least: u32) -> Option<u32> {
    let value = violations.int(field, value, i64::from(least)..=i64::from(QUANTITY_MAX))?;
    u32::try_from(value).ok()
}

/// The unique item of a choice between an item and a quantity.
pub(super) fn unique(violations: &mut Violations, text: &str) -> Option<Item> {
    item(violations, "item", text).map(|(owner, item)| Item::Unique { owner, item })
}

/// The quantity of a choice between an item and a quantity.
pub(super) fn stack(violations: &mut Violations, stack: &StackQuantity) -> Option<Item> {
    let item_type = item_type(violations, "stack.item_type", &stack.item_type);
    let quantity = quantity(violations, "stack.quantity", stack.quantity, 1);
    Some(Item::Stack { item_type: item_type?, quantity: quantity? })
}

/// Says that a choice was not made; `choices` are its fields.
pub(super) fn required<T>(violations: &mut Violations, choices: &str) -> Option<T> {
    violations.add("what", format!("is required: one of {choices}"));
    None
}

/// A reason, which may be empty.
pub(super) fn reason(violations: &mut Violations, text: &str) -> Option<Reason> {
    violations.text("reason", text, 0..=REASON_CHARS_MAX).and_then(Reason::new)
}
