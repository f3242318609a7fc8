//! A rejection as the answer that is stored under the command's key. CONVENTIONS: the code says what a caller can do, the reason what it was.

use idempo_ids::{ItemId, PlayerId, ReservationId};
use idempo_inventory_domain::inventory::{Capacity, Command, Ending, Rejection, Resource};
use idempo_inventory_domain::item_type::{self, ItemTypeId};
use idempo_inventory_domain::portion::QUANTITY_MAX;
use idempo_rpc::refusal::not_found;
use idempo_rpc::status::{StatusBuilder, refusal as begin};
use tonic::Code;

use super::DOMAIN;
use super::names::{item_name, item_type_name, player_name, reservation_name};

/// The answer to a refused command on an item type.
pub(super) fn item_type_refusal(command: &item_type::Command, rejection: &item_type::Rejection) -> StatusBuilder {
    let (item_type::Command::Create(item_type), item_type::Rejection::AlreadyExists) = (command, rejection);
    let name = item_type_name(&item_type.id);
    begin(Code::AlreadyExists, "ITEM_TYPE_ALREADY_EXISTS", DOMAIN, "there is an item type of this name, and none ever changes")
        .metadata("name", &name)
        .resource("item type", name, "it was created before")
}

/// The answer to a refused command on an inventory.
pub(super) fn refusal(command: &Command, rejection: &Rejection) -> StatusBuilder {
    let own = command.player;
    match rejection {
        Rejection::ItemTypeNotFound { item_type } => not_found(DOMAIN, "ITEM_TYPE_NOT_FOUND", "item type", &item_type_name(item_type)),
        Rejection::ItemTypeNotStackable { item_type } => {
            let text = "the pieces of this type are told apart: name an item";
            stack_failed(own, item_type, "ITEM_TYPE_NOT_STACKABLE", text)
        }
        Rejection::QuantityNotOne { item_type, quantity } => {
            quantity_invalid(item_type, "QUANTITY_NOT_ONE", "must be 0 or 1 for a unique type").metadata("quantity", quantity)
        }
        Rejection::QuantityRequired { item_type } => {
            quantity_invalid(item_type, "QUANTITY_REQUIRED", "must be at least 1 for a stackable type")
        }
        Rejection::QuantityLimit { player, item_type, quantity, added } => {
            stack_failed(*player, item_type, "QUANTITY_LIMIT", &format!("a stack holds at most {QUANTITY_MAX}"))
                .metadata("player", player_name(*player))
                .metadata("quantity", quantity)
                .metadata("added", added)
                .metadata("limit", QUANTITY_MAX)
        }
        Rejection::InsufficientQuantity { item_type, available, required } => {
            stack_failed(own, item_type, "INSUFFICIENT_QUANTITY", &format!("{available} of {required} are available"))
                .metadata("available", available)
                .metadata("required", required)
        }
        Rejection::NotResourceOwner { player, resource } => not_owner(*player, *resource),
        Rejection::ItemReserved { item, reservation } => {
            item_failed(own, *item, "ITEM_RESERVED", "the item is reserved").metadata("reservation", reservation_name(own, *reservation))
        }
        Rejection::ItemEquipped { item } => item_failed(own, *item, "ITEM_EQUIPPED", "the item is equipped"),
        Rejection::ItemNotEquippable { item, item_type } => {
            item_failed(own, *item, "ITEM_NOT_EQUIPPABLE", "an item of this type can't be equipped")
                .metadata("item_type", item_type_name(item_type))
        }
        Rejection::NothingEquipped => failed("player", player_name(own), "NOTHING_EQUIPPED", "EQUIPMENT", "nothing is equipped"),
        Rejection::ReservationNotFound { reservation } => {
            not_found(DOMAIN, "RESERVATION_NOT_FOUND", "reservation", &reservation_name(own, *reservation))
        }
        Rejection::ReservationEnded { reservation, ending } => ended(own, *reservation, *ending),
        Rejection::ReservationNotDue => {
            begin(Code::FailedPrecondition, "RESERVATION_NOT_DUE", DOMAIN, "the reservation has not reached the end of its life")
        }
        Rejection::InventoryFull { player, capacity } => full(*player, *capacity),
        Rejection::SelfTransfer => begin(Code::InvalidArgument, "SELF_TRANSFER", DOMAIN, "sender and receiver are the same player")
            .metadata("player", player_name(own)),
        Rejection::TtlOutOfRange => {
            let text = "is out of bounds";
            begin(Code::InvalidArgument, "INVALID_FIELD", DOMAIN, format!("ttl_ms {text}")).violation("ttl_ms", text)
        }
        Rejection::Outpaced => {
            begin(Code::Aborted, "INVENTORY_CHANGED", DOMAIN, "the inventory changed too often meanwhile; ask again with a new request_id")
                .metadata("player", player_name(own))
        }
    }
}

/// Something about the resource `name`, kept in the metadata as `key`, does not allow it.
fn failed(key: &str, name: String, reason: &str, kind: &str, text: &str) -> StatusBuilder {
    begin(Code::FailedPrecondition, reason, DOMAIN, text).metadata(key, &name).precondition(kind, name, text)
}

fn stack_failed(player: PlayerId, item_type: &ItemTypeId, reason: &str, text: &str) -> StatusBuilder {
    begin(Code::FailedPrecondition, reason, DOMAIN, text).metadata("item_type", item_type_name(item_type)).precondition(
        "QUANTITY",
        format!("{}/stacks/{item_type}", player_name(player)),
        text,
    )
}

fn item_failed(player: PlayerId, item: ItemId, reason: &str, text: &str) -> StatusBuilder {
    failed("item", item_name(player, item), reason, "ITEM", text)
}

fn quantity_invalid(item_type: &ItemTypeId, reason: &str, text: &str) -> StatusBuilder {
    begin(Code::InvalidArgument, reason, DOMAIN, format!("quantity {text}"))
        .metadata("item_type", item_type_name(item_type))
        .violation("quantity", text)
}

fn not_owner(player: PlayerId, resource: Resource) -> StatusBuilder {
    let name = match resource {
        Resource::Item(item) => item_name(player, item),
        Resource::Reservation(reservation) => reservation_name(player, reservation),
    };
    begin(Code::PermissionDenied, "NOT_RESOURCE_OWNER", DOMAIN, "the player is not the owner")
        .metadata("player", player_name(player))
        .metadata("resource", name)
}

fn ended(player: PlayerId, reservation: ReservationId, ending: Ending) -> StatusBuilder {
    let (reason, text) = match ending {
        Ending::Released => ("RESERVATION_ALREADY_RELEASED", "the reservation was released before"),
        Ending::Fulfilled => ("RESERVATION_ALREADY_FULFILLED", "a transfer took what the reservation held"),
        Ending::Expired => ("RESERVATION_EXPIRED", "the reservation has expired"),
    };
    failed("reservation", reservation_name(player, reservation), reason, "RESERVATION", text)
}

fn full(player: PlayerId, capacity: Capacity) -> StatusBuilder {
    let limit = capacity.limit();
    let (reason, kind, of) = match capacity {
        Capacity::UniqueItems => ("INVENTORY_FULL", "UNIQUE_ITEMS", "unique items"),
        Capacity::Stacks => ("INVENTORY_FULL", "STACKS", "stacks"),
        Capacity::OpenReservations => ("TOO_MANY_RESERVATIONS", "RESERVATIONS", "open reservations"),
    };
    failed("player", player_name(player), reason, kind, &format!("a player has at most {limit} {of}")).metadata("limit", limit)
}
