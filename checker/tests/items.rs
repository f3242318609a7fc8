//! I9, wrong on purpose.

use idempo_checker::method::Method;
use idempo_proto::event::v1::event_envelope::Data;
use uuid::Uuid;

use crate::good::{arrows, consumed, good_world, granted, moved, reserved, sword};
use crate::world::{At, flagged};

/// The good run with one more command on items. The read model follows whatever the events say.
fn with(events: Vec<(Uuid, Data)>) -> idempo_checker::Evidence {
    let (mut world, _) = good_world();
    world.apply(Method::TransferItem, At::Inventory, events);
    world.finish()
}

#[test]
fn an_item_with_two_owners_is_flagged() {
    // Player 2 gave it back, and gives it again.
    flagged(&with(moved(2, 1, 80, None, &sword(7, 4))), &["I9"], "should be Owned");
}

#[test]
fn an_item_that_is_minted_twice_is_flagged() {
    let evidence = with(vec![granted(2, sword(7, 9))]);
    flagged(&evidence, &["I9"], "is minted a second time");
}

#[test]
fn an_item_in_two_reservations_is_flagged() {
    let (mut world, _) = good_world();
    world.apply(Method::ReserveItem, At::Inventory, vec![reserved(1, 81, sword(7, 3))]);
    world.apply(Method::ReserveItem, At::Inventory, vec![reserved(1, 82, sword(7, 3))]);
    flagged(&world.finish(), &["I9"], "and is Reserved");
}

#[test]
fn a_reserved_item_that_is_given_without_its_reservation_is_flagged() {
    let (mut world, _) = good_world();
    world.apply(Method::ReserveItem, At::Inventory, vec![reserved(1, 81, sword(7, 3))]);
    world.apply(Method::TransferItem, At::Inventory, moved(1, 2, 80, None, &sword(7, 4)));
    flagged(&world.finish(), &["I9"], "and is Reserved");
}

#[test]
fn a_hop_that_is_left_out_is_flagged() {
    flagged(&with(moved(1, 2, 80, None, &sword(7, 5))), &["I9"], "is at hop 5, it should be at 4");
}

#[test]
fn an_item_that_comes_back_from_destruction_is_flagged() {
    flagged(&with(moved(1, 2, 80, None, &sword(8, 3))), &["I9"], "is Destroyed");
}

#[test]
fn an_item_that_is_sent_and_never_received_is_flagged() {
    let mut legs = moved(1, 2, 80, None, &sword(7, 4));
    legs.pop();
    flagged(&with(legs), &["I3", "I9"], "sent and never received");
}

#[test]
fn an_item_that_is_received_by_another_than_it_was_sent_to_is_flagged() {
    let mut legs = moved(1, 2, 80, None, &sword(7, 4));
    legs[1].0 = crate::world::player(3);
    flagged(&with(legs), &["I3", "I9"], "is UnderWay");
}

#[test]
fn more_of_a_stack_than_there_is_is_flagged() {
    let (mut world, _) = good_world();
    world.apply(Method::ReserveItem, At::Inventory, vec![reserved(1, 81, arrows(10))]);
    let mut evidence = world.finish();
    evidence.view = None;
    crate::world::passes(&evidence);
    let (mut world, _) = good_world();
    world.apply(Method::ReserveItem, At::Inventory, vec![reserved(1, 81, arrows(10))]);
    world.apply(Method::ReserveItem, At::Inventory, vec![reserved(1, 82, arrows(10))]);
    // The read model's own bounds refuse it as well, so it is left out.
    let mut evidence = finish_without_view(world);
    evidence.view = None;
    flagged(&evidence, &["I9"], "15 of arrow are there, 20 of them reserved");
}

#[test]
fn a_reservation_that_ends_twice_is_flagged() {
    let (mut world, _) = good_world();
    world.apply(Method::TransferItem, At::Inventory, moved(1, 2, 80, Some(73), &arrows(5)));
    let evidence = finish_without_view(world);
    flagged(&evidence, &["I9"], "should hold 5 of arrow and holds None");
}

#[test]
fn a_destroyed_item_that_is_destroyed_again_is_flagged() {
    flagged(&with(vec![consumed(1, sword(8, 3))]), &["I9"], "is Destroyed");
}

fn finish_without_view(mut world: crate::world::World) -> idempo_checker::Evidence {
    let stores = world.stores.clone();
    // The read model is made from the wallet's events alone, and taken away.
    let events = std::mem::take(&mut world.stores[1].events);
    let mut evidence = world.finish();
    evidence.stores = stores.to_vec();
    assert_eq!(evidence.stores[1].events.len(), events.len());
    evidence.topics = vec![crate::world::topic_of(&stores)];
    evidence.view = None;
    evidence
}
