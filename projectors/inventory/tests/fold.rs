//! The fold does not depend on the order of streams, nor on how events are cut into batches, and says what is true.

use idempo_inventory_projector::{ItemState, Rows, StackKey, fold};
use idempo_projection::Event;
use idempo_projection::memory::Model as _;
use proptest::prelude::*;

use crate::support::{interleaved, writes};
use crate::world::{World, moves, player};

/// The rows of events that come in batches of these sizes.
fn batched(events: &[Event], sizes: &[usize]) -> Rows {
    let mut rows = Rows::default();
    let mut rest = events;
    let mut sizes = sizes.iter().cycle();
    while !rest.is_empty() {
        let (batch, more) = rest.split_at((*sizes.next().expect("at least one size")).min(rest.len()));
        rows.merge(&writes(batch)).expect("it can be added");
        rest = more;
    }
    rows
}

fn picks() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(0..5_usize, 1..200)
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(1..20_usize, 1..10)
}

/// As many events of each stream as its share says.
fn cut_short(events: &[Event], shares: &[usize]) -> Vec<Event> {
    let mut streams: Vec<_> = events.iter().map(|event| event.stream_id).collect();
    streams.sort();
    streams.dedup();
    let keep = |event: &Event| {
        let at = streams.iter().position(|stream| *stream == event.stream_id).expect("it is there");
        usize::try_from(event.version).expect("small") <= shares[at % shares.len()]
    };
    events.iter().filter(|event| keep(event)).cloned().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_order_of_streams_and_every_cut_into_batches_gives_the_same_rows(moves in moves(), picks in picks(), sizes in sizes()) {
        let events = World::play(&moves).events();
        let expected = fold(&events).expect("it folds");
        let other = interleaved(&events, &picks);
        prop_assert_eq!(&fold(&other).expect("it folds"), &expected);
        prop_assert_eq!(&batched(&other, &sizes), &expected);
    }

    #[test]
    fn while_some_streams_are_behind_the_rows_are_still_the_same_in_every_order(
        moves in moves(), picks in picks(), sizes in sizes(), shares in proptest::collection::vec(0..20_usize, 5),
    ) {
        let events = cut_short(&World::play(&moves).events(), &shares);
        let expected = fold(&events).expect("it folds");
        prop_assert_eq!(&batched(&interleaved(&events, &picks), &sizes), &expected);
    }

    #[test]
    fn the_rows_say_who_has_what(moves in moves()) {
        let world = World::play(&moves);
        let rows = fold(&world.events()).expect("it folds");
        prop_assert_eq!(rows.items.len(), world.items.len());
        for (at, item) in world.items.iter().enumerate() {
            let row = &rows.items[&item.id];
            let state = match (item.destroyed, item.reserved_by) {
                (true, _) => ItemState::Destroyed,
                (false, Some(reservation)) => ItemState::Reserved(idempo_ids::ReservationId::new(reservation)),
                (false, None) => ItemState::Owned,
            };
            prop_assert_eq!((row.owner, row.state, row.hop), (player(item.owner), state, i64::try_from(item.hop).expect("small")));
            let equipped = rows.loadouts.get(&(row.owner, item.id)).is_some_and(|loadout| loadout.equipped);
            prop_assert_eq!(equipped, world.equipped.get(&item.owner) == Some(&at));
        }
        for (who, (quantity, reserved)) in &world.stacks {
            let row = rows.stacks.get(&StackKey { player: player(*who), item_type: "arrow".to_owned() });
            prop_assert_eq!(row.map(|row| (row.quantity, row.reserved)), Some((*quantity, *reserved)));
        }
        let unique_events = world.envelopes.iter().filter(|envelope| is_of_a_unique_item(envelope)).count();
        prop_assert_eq!(rows.item_events.len(), unique_events);
    }
}

fn is_of_a_unique_item(envelope: &idempo_proto::event::v1::EventEnvelope) -> bool {
    use idempo_proto::event::v1::event_envelope::Data;
    use idempo_proto::event::v1::item_portion::What;
    let portion = match envelope.data.as_ref().expect("data") {
        Data::ItemEquipped(_) | Data::ItemUnequipped(_) => return true,
        Data::ItemGranted(event) => &event.portion,
        Data::ItemReserved(event) => &event.portion,
        Data::ReservationReleased(event) => &event.portion,
        Data::ReservationExpired(event) => &event.portion,
        Data::ItemSent(event) => &event.portion,
        Data::ItemReceived(event) => &event.portion,
        Data::ItemConsumed(event) => &event.portion,
        _ => return false,
    };
    matches!(portion.as_ref().expect("a portion").what, Some(What::Unique(_)))
}
