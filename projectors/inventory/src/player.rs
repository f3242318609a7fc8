//! The rows of one player: which follow from the player's stream alone, and which from those of all who had an item.

use std::collections::BTreeSet;

use idempo_ids::{ItemId, PlayerId, StreamId, Uuid};
use idempo_projection::{Event, PlayerRows, SampledRows};
use idempo_proto::event::v1::ItemPortion;
use idempo_proto::event::v1::event_envelope::Data;
use idempo_proto::event::v1::item_portion::What;

use crate::store::InventoryTables;
use crate::writes::Writes;

/// The category of players' streams.
const CATEGORY: &str = "inventory";

/// Unique items pass from player to player; stacks and loadouts are a player's own.
impl PlayerRows for InventoryTables {
    fn stream_of(player: PlayerId) -> StreamId {
        StreamId::of(CATEGORY, player.uuid())
    }

    fn thing_of(event: &Event) -> Option<(Uuid, Option<PlayerId>)> {
        let unique = |portion: &Option<ItemPortion>| match portion.as_ref()?.what.as_ref()? {
            What::Unique(unique) => item(&unique.item_id),
            What::Quantity(_) => None,
        };
        let player = |bytes: &[u8]| PlayerId::from_slice(bytes).ok();
        match &event.data {
            Data::ItemGranted(granted) => Some((unique(&granted.portion)?, None)),
            Data::ItemReceived(received) => Some((unique(&received.portion)?, player(&received.from_player_id))),
            Data::ItemSent(sent) => Some((unique(&sent.portion)?, player(&sent.to_player_id))),
            Data::ItemConsumed(consumed) => Some((unique(&consumed.portion)?, None)),
            Data::ItemReserved(reserved) => Some((unique(&reserved.portion)?, None)),
            Data::ReservationReleased(ended) => Some((unique(&ended.portion)?, None)),
            Data::ReservationExpired(ended) => Some((unique(&ended.portion)?, None)),
            Data::ItemEquipped(equipped) => Some((item(&equipped.item_id)?, None)),
            Data::ItemUnequipped(unequipped) => Some((item(&unequipped.item_id)?, None)),
            _ => None,
        }
    }

    fn restrict(writes: &mut Writes, player: PlayerId, things: &BTreeSet<Uuid>) {
        writes.items.retain(|item, _| things.contains(&item.uuid()));
        writes.stacks.retain(|key, _| key.player == player);
        writes.loadouts.retain(|of, _| *of == player);
        writes.history.retain(|entry| things.contains(&entry.item.uuid()));
    }
}

impl SampledRows for InventoryTables {
    const HELD: &'static str = include_str!("sql/held_items.sql");
    const FOLDED: &'static str = include_str!("sql/folded_rows.sql");
}

fn item(bytes: &[u8]) -> Option<Uuid> {
    ItemId::from_slice(bytes).ok().map(ItemId::uuid)
}
