//! Item types as they are stored, sent, shown and kept.

use bytes::Bytes;
use idempo_event_store::{Applied, DecodeError};
use idempo_inventory_domain::item_type::{Event, ItemKind, ItemType, ItemTypeId, Rarity, WEAPON_BONUS_MAX, Weapon};
use idempo_proto::event::v1 as event;
use idempo_proto::event::v1::event_envelope::Data;
use idempo_proto::inventory::v1 as inventory;
use prost::Message as _;
use tokio_postgres::Row;

use super::ItemTypeDomain;
use super::names::item_type_name;
use crate::inline::{CatalogueRows, CreatedItemTypeRow};

/// The event as it is stored.
pub(super) fn encode(event: &Event) -> Data {
    let Event::Created(item_type) = event;
    let (weapon_bonus, equippable) = weapon(item_type.kind);
    Data::ItemTypeCreated(event::ItemTypeCreated {
        item_type: item_type.id.as_str().to_owned(),
        display_name: item_type.display_name.clone(),
        kind: kind(item_type.kind).into(),
        rarity: rarity(item_type.rarity).into(),
        weapon_bonus: i32::from(weapon_bonus),
        equippable,
    })
}

/// A stored event.
pub(super) fn decode(data: Data) -> Result<Event, DecodeError> {
    let refused = |problem| DecodeError { event_type: "ItemTypeCreated", problem };
    let Data::ItemTypeCreated(created) = data else {
        return Err(DecodeError { event_type: "EventEnvelope", problem: "it is no event of an item type" });
    };
    let (kind, rarity) = (created.kind(), created.rarity());
    Ok(Event::Created(ItemType {
        id: ItemTypeId::parse(&created.item_type).ok_or_else(|| refused("its item type is no slug"))?,
        display_name: created.display_name,
        kind: kind_of(kind, created.equippable, created.weapon_bonus).map_err(refused)?,
        rarity: rarity_of(rarity).ok_or_else(|| refused("its rarity is unknown"))?,
    }))
}

/// The encoded response.
pub(super) fn reply(applied: &Applied<'_, ItemTypeDomain>) -> Bytes {
    let item_type = applied.streams.first().and_then(|stream| stream.state.as_ref()).map(message);
    inventory::CreateItemTypeResponse { item_type, position: applied.position.to_owned() }.encode_to_vec().into()
}

/// The inline rows.
pub(super) fn project(applied: &Applied<'_, ItemTypeDomain>, rows: &mut CatalogueRows) {
    for applied in applied.events {
        let Event::Created(item_type) = applied.event;
        let (weapon_bonus, equippable) = weapon(item_type.kind);
        rows.created_item_type(CreatedItemTypeRow {
            item_type: item_type.id.as_str().to_owned(),
            display_name: item_type.display_name.clone(),
            kind: number(kind(item_type.kind).into()),
            rarity: number(rarity(item_type.rarity).into()),
            weapon_bonus: i16::from(weapon_bonus),
            equippable,
        });
    }
}

/// The item type as the API shows it.
pub(crate) fn message(item_type: &ItemType) -> inventory::ItemType {
    let (weapon_bonus, equippable) = weapon(item_type.kind);
    inventory::ItemType {
        name: item_type_name(&item_type.id),
        display_name: item_type.display_name.clone(),
        kind: kind(item_type.kind).into(),
        rarity: rarity(item_type.rarity).into(),
        weapon_bonus: i32::from(weapon_bonus),
        equippable,
    }
}

/// The item type in a row of `inventory.item_types`; `None` where the row holds none, which its constraints rule out.
pub(crate) fn from_row(row: &Row) -> Result<Option<ItemType>, tokio_postgres::Error> {
    let kind = event::ItemKind::try_from(i32::from(row.try_get::<_, i16>("kind")?)).unwrap_or_default();
    let rarity = event::Rarity::try_from(i32::from(row.try_get::<_, i16>("rarity")?)).unwrap_or_default();
    let weapon_bonus = i32::from(row.try_get::<_, i16>("weapon_bonus")?);
    let parts =
        (ItemTypeId::parse(row.try_get("item_type")?), kind_of(kind, row.try_get("equippable")?, weapon_bonus).ok(), rarity_of(rarity));
    let (Some(id), Some(kind), Some(rarity)) = parts else { return Ok(None) };
    Ok(Some(ItemType { id, display_name: row.try_get("display_name")?, kind, rarity }))
}

/// The kind that these three fields say together.
pub(crate) fn kind_of(kind: event::ItemKind, equippable: bool, weapon_bonus: i32) -> Result<ItemKind, &'static str> {
    let bonus = u8::try_from(weapon_bonus).ok().filter(|bonus| *bonus <= WEAPON_BONUS_MAX).ok_or("its weapon bonus is out of bounds")?;
    match (kind, equippable) {
        (event::ItemKind::Unspecified, _) => Err("its kind is unknown"),
        (event::ItemKind::Stackable, true) => Err("it is stackable and equippable"),
        (event::ItemKind::Unique, true) => Ok(ItemKind::Unique { weapon: Some(Weapon { bonus }) }),
        (_, false) if bonus > 0 => Err("it has a weapon bonus and is not equippable"),
        (event::ItemKind::Unique, false) => Ok(ItemKind::Unique { weapon: None }),
        (event::ItemKind::Stackable, false) => Ok(ItemKind::Stackable),
    }
}

/// The rarity, or `None` where it is unspecified.
pub(crate) const fn rarity_of(rarity: event::Rarity) -> Option<Rarity> {
    match rarity {
        event::Rarity::Unspecified => None,
        event::Rarity::Common => Some(Rarity::Common),
        event::Rarity::Uncommon => Some(Rarity::Uncommon),
        event::Rarity::Rare => Some(Rarity::Rare),
    }
}

const fn kind(kind: ItemKind) -> event::ItemKind {
    match kind {
        ItemKind::Unique { .. } => event::ItemKind::Unique,
        ItemKind::Stackable => event::ItemKind::Stackable,
    }
}

const fn rarity(rarity: Rarity) -> event::Rarity {
    match rarity {
        Rarity::Common => event::Rarity::Common,
        Rarity::Uncommon => event::Rarity::Uncommon,
        Rarity::Rare => event::Rarity::Rare,
    }
}

/// Weapon bonus, and whether it can be equipped.
const fn weapon(kind: ItemKind) -> (u8, bool) {
    match kind {
        ItemKind::Unique { weapon: Some(Weapon { bonus }) } => (bonus, true),
        ItemKind::Unique { weapon: None } | ItemKind::Stackable => (0, false),
    }
}

/// A protobuf enum's number as a column keeps it.
fn number(number: i32) -> i16 {
    i16::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item_types() -> Vec<ItemType> {
        let id = ItemTypeId::parse("thing").expect("a slug");
        let kinds = [
            ItemKind::Stackable,
            ItemKind::Unique { weapon: None },
            ItemKind::Unique { weapon: Some(Weapon { bonus: 0 }) },
            ItemKind::Unique { weapon: Some(Weapon { bonus: WEAPON_BONUS_MAX }) },
        ];
        let rarities = [Rarity::Common, Rarity::Uncommon, Rarity::Rare];
        let of = |kind| rarities.map(|rarity| ItemType { id: id.clone(), display_name: "Thing".to_owned(), kind, rarity });
        kinds.into_iter().flat_map(of).collect()
    }

    #[test]
    fn every_item_type_survives_the_round_trip() {
        for item_type in item_types() {
            let event = Event::Created(item_type);
            assert_eq!(decode(encode(&event)), Ok(event));
        }
    }

    #[test]
    fn parts_that_contradict_each_other_are_no_kind() {
        for (kind, equippable, bonus) in [
            (event::ItemKind::Unspecified, false, 0),
            (event::ItemKind::Stackable, true, 0),
            (event::ItemKind::Stackable, false, 1),
            (event::ItemKind::Unique, false, 1),
            (event::ItemKind::Unique, true, 21),
            (event::ItemKind::Unique, true, -1),
        ] {
            assert!(kind_of(kind, equippable, bonus).is_err(), "{kind:?} {equippable} {bonus}");
        }
    }
}
