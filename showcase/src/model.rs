//! The inventory read model as the projector's fold makes it from events, as text, to be compared with what is in the tables and with what
//! the API shows.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use idempo_inventory_projector::Rows as Model;
use idempo_projection::Event;
use idempo_proto::event::v1::ItemKind;
use idempo_proto::inventory::v1::{Item, ItemState};
use jiff::Timestamp;

use crate::facts::{Rows, Tables};
use crate::ledger::or_dash;

/// Folds envelopes, those of one stream in the order of their versions.
///
/// # Errors
/// When an envelope is no event, or an event can't be applied.
pub fn fold<'a>(envelopes: impl IntoIterator<Item = &'a Bytes>) -> Result<Model> {
    let events: Vec<Event> = envelopes.into_iter().map(Event::decode).collect::<Result<_, _>>().context("decoding a stored event")?;
    idempo_inventory_projector::fold(&events).map_err(|malformed| anyhow::anyhow!("the fold refuses an event: {malformed:?}"))
}

/// The rows of every table, as text.
#[must_use]
pub fn tables(rows: &Model) -> Tables {
    let items = rows.items.iter().map(|(id, row)| {
        let reservation = or_dash(row.state.reservation());
        let (state, at) = (row.state.number(), micros(row.updated_at));
        let text = format!(
            "type {} owner {} state {state} reservation {reservation} hop {} revision {} at {at}",
            row.item_type, row.owner, row.hop, row.revision
        );
        (id.to_string(), text)
    });
    let stacks = rows.stacks.iter().map(|(key, row)| {
        let text = format!("quantity {} reserved {} at {}", row.quantity, row.reserved, micros(row.updated_at));
        (format!("{} {}", key.player, key.item_type), text)
    });
    let loadouts = rows
        .loadouts
        .iter()
        .map(|((player, item), row)| (format!("{player} {item}"), format!("equipped {} at {}", row.equipped, micros(row.changed_at))));
    let item_events = rows.item_events.iter().map(|(key, row)| {
        let text = format!(
            "event {} type {} player {} counterparty {} at {}",
            row.event_id,
            row.event_type,
            row.player,
            or_dash(row.counterparty),
            micros(row.decided_at)
        );
        (format!("{} {} {}", key.item, key.hop, key.ordinal), text)
    });
    Tables::from([
        ("items", items.collect()),
        ("stacks", stacks.collect()),
        ("loadouts", loadouts.collect()),
        ("item_events", item_events.collect()),
    ])
}

/// What `ListItems` has to show of all players together: unique items that are not destroyed, and stacks that are not empty.
#[must_use]
pub fn listed(rows: &Model) -> Rows {
    let mut listed = Rows::new();
    for (id, row) in rows.items.iter().filter(|(_, row)| row.state.number() != 3) {
        let (state, reserved) = if row.state.reservation().is_some() { (ItemState::Reserved, 1) } else { (ItemState::Owned, 0) };
        let item = Item {
            name: format!("players/{}/items/{id}", row.owner),
            item_type: format!("itemTypes/{}", row.item_type),
            kind: ItemKind::Unique.into(),
            quantity: 1,
            reserved_quantity: reserved,
            state: state.into(),
            equipped: rows.loadouts.get(&(row.owner, *id)).is_some_and(|loadout| loadout.equipped),
            hop: row.hop,
            update_time: None,
        };
        listed.insert(item.name.clone(), item_text(&item));
    }
    for (key, row) in rows.stacks.iter().filter(|(_, row)| row.quantity > 0) {
        let item = Item {
            name: format!("players/{}/stacks/{}", key.player, key.item_type),
            item_type: format!("itemTypes/{}", key.item_type),
            kind: ItemKind::Stackable.into(),
            quantity: row.quantity,
            reserved_quantity: row.reserved,
            state: ItemState::Owned.into(),
            equipped: false,
            hop: 0,
            update_time: None,
        };
        listed.insert(item.name.clone(), item_text(&item));
    }
    listed
}

/// An item of the API as text, without the time of its last change.
#[must_use]
pub fn item_text(item: &Item) -> String {
    format!(
        "type {} kind {} quantity {} reserved {} state {} equipped {} hop {}",
        item.item_type,
        item.kind().as_str_name(),
        item.quantity,
        item.reserved_quantity,
        item.state().as_str_name(),
        item.equipped,
        item.hop
    )
}

fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}
