//! The inline rows that follow from an applied command.

use idempo_event_store::Applied;
use idempo_ids::ReservationId;
use idempo_inventory_domain::inventory::{Ending, Event};
use idempo_inventory_domain::portion::Portion;

use super::InventoryDomain;
use crate::inline::{EndedReservationRow, MadeReservationRow, MintedItemRow, StockRows};

/// Adds the rows.
pub(super) fn project(applied: &Applied<'_, InventoryDomain>, rows: &mut StockRows) {
    let mut ended = |reservation: ReservationId, ending| {
        let state = number(ending);
        rows.ended_reservation(EndedReservationRow { reservation: reservation.uuid(), state, ended_at: applied.decided_at });
    };
    for event in applied.events {
        match event.event {
            Event::Released { reservation, .. } => ended(*reservation, Ending::Released),
            Event::Expired { reservation, .. } => ended(*reservation, Ending::Expired),
            Event::Sent { reservation: Some(reservation), .. } => ended(*reservation, Ending::Fulfilled),
            _ => {}
        }
    }
    for event in applied.events {
        match event.event {
            Event::Granted { portion: Portion::Unique { item_type, item, .. }, .. } => {
                rows.minted_item(MintedItemRow { item: item.uuid(), item_type: item_type.as_str().to_owned() });
            }
            Event::Reserved { reservation, expires_at, .. } => rows.made_reservation(MadeReservationRow {
                reservation: reservation.uuid(),
                player: applied.command.player.uuid(),
                expires_at: *expires_at,
            }),
            _ => {}
        }
    }
}

/// An ending as a number at rest.
const fn number(ending: Ending) -> i16 {
    match ending {
        Ending::Released => 2,
        Ending::Fulfilled => 3,
        Ending::Expired => 4,
    }
}

/// The ending that a number at rest stands for; `None` for an open reservation.
pub(crate) const fn ending_from_number(state: i16) -> Option<Ending> {
    match state {
        2 => Some(Ending::Released),
        3 => Some(Ending::Fulfilled),
        4 => Some(Ending::Expired),
        _ => None,
    }
}
