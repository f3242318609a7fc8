//! The encoded response of an applied command: what was decided, not what is read afterwards.

use bytes::Bytes;
use idempo_event_store::Applied;
use idempo_ids::{PlayerId, ReservationId};
use idempo_inventory_domain::inventory::{Action, Event, Reservation};
use idempo_inventory_domain::portion::Portion;
use idempo_proto::inventory::v1 as message;
use idempo_rpc::timestamp;
use prost::Message as _;

use super::InventoryDomain;
use super::names::{item_type_name, portion_name, reservation_name};

/// The response of a command that was applied.
pub(super) fn reply(applied: &Applied<'_, InventoryDomain>) -> Bytes {
    let player = applied.command.player;
    let position = applied.position.to_owned();
    let encoded = match &applied.command.action {
        Action::Grant { .. } => {
            let item = portion(applied).map_or_else(String::new, |portion| portion_name(player, portion));
            message::GrantItemResponse { item, quantity: quantity(applied), position }.encode_to_vec()
        }
        Action::Reserve { .. } => message::ReserveItemResponse { reservation: made(applied), position }.encode_to_vec(),
        Action::Release { .. } => message::ReleaseReservationResponse { reservation: ended(applied), position }.encode_to_vec(),
        // The timer reads no response.
        Action::Expire { .. } => Vec::new(),
        Action::Transfer { to, .. } => {
            let transfer_id = transfer(applied).unwrap_or_default();
            let item = portion(applied).map_or_else(String::new, |portion| portion_name(*to, portion));
            message::TransferItemResponse { transfer_id, item, position }.encode_to_vec()
        }
        Action::Consume { .. } => message::ConsumeItemResponse { quantity: quantity(applied), position }.encode_to_vec(),
        Action::Equip { .. } => message::EquipItemResponse { position }.encode_to_vec(),
        Action::Unequip => message::UnequipItemResponse { position }.encode_to_vec(),
    };
    encoded.into()
}

/// What the command's first event is about.
fn portion<'a>(applied: &Applied<'a, InventoryDomain>) -> Option<&'a Portion> {
    match applied.events.first()?.event {
        Event::Granted { portion, .. }
        | Event::Reserved { portion, .. }
        | Event::Released { portion, .. }
        | Event::Expired { portion, .. }
        | Event::Sent { portion, .. }
        | Event::Received { portion, .. }
        | Event::Consumed { portion, .. } => Some(portion),
        Event::Equipped { .. } | Event::Unequipped { .. } => None,
    }
}

/// How many the player has of the type that the command was about, after it.
fn quantity(applied: &Applied<'_, InventoryDomain>) -> i64 {
    let quantity = || Some(applied.streams.first()?.state.quantity(portion(applied)?.item_type()));
    quantity().map_or(0, i64::from)
}

fn transfer(applied: &Applied<'_, InventoryDomain>) -> Option<String> {
    let Event::Sent { transfer, .. } = applied.events.first()?.event else { return None };
    Some(transfer.to_string())
}

fn made(applied: &Applied<'_, InventoryDomain>) -> Option<message::Reservation> {
    let Event::Reserved { reservation, .. } = applied.events.first()?.event else { return None };
    let made = applied.streams.first()?.state.reservations().get(reservation)?;
    Some(reservation_message(applied.command.player, *reservation, made))
}

fn ended(applied: &Applied<'_, InventoryDomain>) -> Option<message::Reservation> {
    let (reservation, was) = applied.streams.first()?.state.last_ended()?;
    Some(reservation_message(applied.command.player, *reservation, was))
}

fn reservation_message(player: PlayerId, id: ReservationId, reservation: &Reservation) -> message::Reservation {
    message::Reservation {
        name: reservation_name(player, id),
        item: portion_name(player, &reservation.portion),
        item_type: item_type_name(reservation.portion.item_type()),
        quantity: i64::from(reservation.portion.quantity()),
        expire_time: Some(timestamp::to_proto(reservation.expires_at)),
    }
}
