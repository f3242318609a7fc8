//! Reads of the inventory's tables. Each function is a statement of its name in `sql/`.

use idempo_decider::Timestamp;
use idempo_ids::{ItemId, PlayerId, ReservationId, Uuid};
use idempo_inventory_domain::inventory::ReservationLookup;
use idempo_inventory_domain::item_type::{ItemType, ItemTypeId};
use idempo_pg::{Client, Error};

use crate::codec::{INVENTORIES, ending_from_number, item_type_from_row};

/// An item type; `None` where there is none of this id.
pub(crate) async fn item_type(client: &Client, item_type: &ItemTypeId) -> Result<Option<ItemType>, Error> {
    let statement = client.prepare_cached(include_str!("sql/item_type.sql")).await?;
    let row = client.query_opt(&statement, &[&item_type.as_str()]).await?;
    Ok(row.as_ref().map(item_type_from_row).transpose()?.flatten())
}

/// The item types after an id, in the order of their ids.
pub(crate) async fn item_types(client: &Client, after: &str, limit: i64) -> Result<Vec<ItemType>, Error> {
    let statement = client.prepare_cached(include_str!("sql/item_types.sql")).await?;
    let rows = client.query(&statement, &[&after, &limit]).await?;
    Ok(rows.iter().filter_map(|row| item_type_from_row(row).transpose()).collect::<Result<_, _>>()?)
}

/// The type of a unique item, whoever has it; `None` where there never was such an item.
pub(crate) async fn item_type_of(client: &Client, item: ItemId) -> Result<Option<ItemType>, Error> {
    let statement = client.prepare_cached(include_str!("sql/item_type_of.sql")).await?;
    let row = client.query_opt(&statement, &[&item.uuid()]).await?;
    Ok(row.as_ref().map(item_type_from_row).transpose()?.flatten())
}

/// How a reservation ended, and up to which version of its inventory that is known.
pub(crate) async fn reservation_lookup(client: &Client, player: PlayerId, reservation: ReservationId) -> Result<ReservationLookup, Error> {
    let statement = client.prepare_cached(include_str!("sql/reservation_lookup.sql")).await?;
    let stream = INVENTORIES.stream(player.uuid()).stream_id;
    let row = client.query_one(&statement, &[&player.uuid(), &reservation.uuid(), &stream.uuid()]).await?;
    let version: i64 = row.try_get("version")?;
    let state: Option<i16> = row.try_get("state")?;
    Ok(ReservationLookup { version: u64::try_from(version).unwrap_or(0), ending: state.and_then(ending_from_number) })
}

/// A reservation that waits for its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OpenReservation {
    /// Which.
    pub(crate) reservation: ReservationId,
    /// Whose.
    pub(crate) player: PlayerId,
    /// When it ends by itself.
    pub(crate) expires_at: Timestamp,
}

/// The open reservations that expire next, beyond one that expires at `after`.
pub(crate) async fn open_reservations(client: &Client, after: (Timestamp, Uuid), limit: i64) -> Result<Vec<OpenReservation>, Error> {
    let statement = client.prepare_cached(include_str!("sql/open_reservations.sql")).await?;
    let rows = client.query(&statement, &[&after.0, &after.1, &limit]).await?;
    let open = rows.iter().map(|row| {
        Ok(OpenReservation {
            reservation: ReservationId::new(row.try_get("reservation_id")?),
            player: PlayerId::new(row.try_get("player_id")?),
            expires_at: row.try_get("expires_at")?,
        })
    });
    open.collect()
}
