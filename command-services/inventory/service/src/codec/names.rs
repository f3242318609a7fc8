//! Resource names: `players/…`, `itemTypes/…` and what belongs to a player.

use idempo_ids::{ItemId, PlayerId, ReservationId};
use idempo_inventory_domain::item_type::ItemTypeId;
use idempo_inventory_domain::portion::Portion;

/// The form of a player's name.
pub(crate) const PLAYER: &str = "players/{player}";
/// The form of a unique item's name.
pub(crate) const ITEM: &str = "players/{player}/items/{item}";
/// The form of a reservation's name.
pub(crate) const RESERVATION: &str = "players/{player}/reservations/{reservation}";
/// The form of an item type's name.
pub(crate) const ITEM_TYPE: &str = "itemTypes/{item_type}";

/// A player's name.
pub(super) fn player_name(player: PlayerId) -> String {
    format!("players/{player}")
}

/// The name of a unique item of a player's.
pub(super) fn item_name(player: PlayerId, item: ItemId) -> String {
    format!("players/{player}/items/{item}")
}

/// The name of the unique item that a portion is; empty for a quantity.
pub(super) fn portion_name(player: PlayerId, portion: &Portion) -> String {
    portion.item().map_or_else(String::new, |item| item_name(player, item))
}

/// The name of a player's reservation.
pub(super) fn reservation_name(player: PlayerId, reservation: ReservationId) -> String {
    format!("players/{player}/reservations/{reservation}")
}

/// The name of an item type.
pub(crate) fn item_type_name(item_type: &ItemTypeId) -> String {
    format!("itemTypes/{item_type}")
}
