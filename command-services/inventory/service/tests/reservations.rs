use idempo_devstack::testing::eventually;
use idempo_proto::inventory::v1::{Reservation, transfer_item_request};
use jiff::SignedDuration;
use tonic::Code;

use crate::support::{MINUTE_MS, PATIENCE, World, at, owner, refused};

const MINUTE: SignedDuration = SignedDuration::from_millis(MINUTE_MS);

#[tokio::test]
async fn a_reservation_says_what_it_holds_and_until_when() {
    let world = World::new().await.with_types().await;
    let player = world.player();
    let item = world.grant(&player, "sword").await;
    let reserved = world.client().reserve_item(world.reserve_item(&item, MINUTE_MS)).await.expect("reserved").into_inner();
    let reservation = reserved.reservation.expect("a reservation");
    let expire_time = Some(idempo_rpc::timestamp::to_proto(world.now() + MINUTE));
    let expected = Reservation {
        name: reservation.name.clone(),
        item: item.clone(),
        item_type: "itemTypes/sword".to_owned(),
        quantity: 1,
        expire_time,
    };
    assert_eq!(reservation, expected);
    assert_eq!(owner(&reservation.name), player);

    let released = world.client().release_reservation(world.release(&reservation.name)).await.expect("released").into_inner();
    assert_eq!(released.reservation, Some(reservation));
    assert!(world.is_free(&item).await);
    world.stop().await;
}

#[tokio::test]
async fn a_reserved_quantity_is_not_available() {
    let world = World::new().await.with_types().await;
    let player = world.player();
    world.grant_stack(&player, 10).await;
    let reserved = world.client().reserve_item(world.reserve_stack(&player, 4, MINUTE_MS)).await.expect("reserved").into_inner();
    let reservation = reserved.reservation.expect("a reservation");
    assert_eq!((reservation.item.as_str(), reservation.item_type.as_str(), reservation.quantity), ("", "itemTypes/arrow", 4));
    let metadata =
        refused(world.client().consume_item(world.consume_stack(&player, 7)).await, Code::FailedPrecondition, "INSUFFICIENT_QUANTITY");
    let value = |key: &str| metadata.get(key).map(String::as_str);
    assert_eq!((value("item_type"), value("available"), value("required")), (Some("itemTypes/arrow"), Some("6"), Some("7")));
    world.client().release_reservation(world.release(&reservation.name)).await.expect("released");
    world.client().consume_item(world.consume_stack(&player, 10)).await.expect("all is free");
    world.stop().await;
}

#[tokio::test]
async fn a_reserved_item_can_not_be_used_given_or_reserved_again() {
    let world = World::new().await.with_types().await;
    let (player, other) = (world.player(), world.player());
    let item = world.grant(&player, "sword").await;
    let reservation = world.reserve(&item).await;
    let mut client = world.client();
    let give = world.transfer(&player, &other, transfer_item_request::What::Item(item.clone()));
    for metadata in [
        refused(client.reserve_item(world.reserve_item(&item, MINUTE_MS)).await, Code::FailedPrecondition, "ITEM_RESERVED"),
        refused(client.consume_item(world.consume_item(&item)).await, Code::FailedPrecondition, "ITEM_RESERVED"),
        refused(client.equip_item(world.equip(&item)).await, Code::FailedPrecondition, "ITEM_RESERVED"),
        refused(client.transfer_item(give).await, Code::FailedPrecondition, "ITEM_RESERVED"),
    ] {
        assert_eq!((metadata.get("item"), metadata.get("reservation")), (Some(&item), Some(&reservation)));
    }
    world.stop().await;
}

#[tokio::test]
async fn a_reservation_ends_once_and_whoever_comes_later_is_told_how() {
    let world = World::new().await.with_types().await;
    let (player, other) = (world.player(), world.player());
    let mut client = world.client();
    let item = world.grant(&player, "sword").await;

    let released = world.reserve(&item).await;
    client.release_reservation(world.release(&released)).await.expect("released");
    let fulfilled = world.reserve(&item).await;
    let give = || world.transfer(&player, &other, transfer_item_request::What::Reservation(fulfilled.clone()));
    client.transfer_item(give()).await.expect("transferred");

    let answer = client.release_reservation(world.release(&released)).await;
    refused(answer, Code::FailedPrecondition, "RESERVATION_ALREADY_RELEASED");
    let answer = client.release_reservation(world.release(&fulfilled)).await;
    refused(answer, Code::FailedPrecondition, "RESERVATION_ALREADY_FULFILLED");
    refused(client.transfer_item(give()).await, Code::FailedPrecondition, "RESERVATION_ALREADY_FULFILLED");

    let unknown = format!("{player}/reservations/{}", world.id());
    refused(client.release_reservation(world.release(&unknown)).await, Code::NotFound, "RESERVATION_NOT_FOUND");
    let elsewhere = released.replace(&player, &other);
    refused(client.release_reservation(world.release(&elsewhere)).await, Code::NotFound, "RESERVATION_NOT_FOUND");
    world.stop().await;
}

#[tokio::test]
async fn how_a_reservation_ended_is_known_long_after() {
    let world = World::new().await.with_types().await;
    let player = world.player();
    let item = world.grant(&player, "sword").await;
    let first = world.reserve(&item).await;
    world.client().release_reservation(world.release(&first)).await.expect("released");
    world.grant_stack(&player, 300).await;
    for reservation in world.reserve_each(&player, 300).await {
        world.client().release_reservation(world.release(&reservation)).await.expect("released");
    }
    let answer = world.client().release_reservation(world.release(&first)).await;
    refused(answer, Code::FailedPrecondition, "RESERVATION_ALREADY_RELEASED");
    let unknown = format!("{player}/reservations/{}", world.id());
    refused(world.client().release_reservation(world.release(&unknown)).await, Code::NotFound, "RESERVATION_NOT_FOUND");
    world.stop().await;
}

#[tokio::test]
async fn a_reservation_expires_by_itself_when_its_time_has_come() {
    let world = World::new().await.with_types().await;
    let player = world.player();
    let item = world.grant(&player, "sword").await;
    let reservation = world.reserve(&item).await;
    world.clock.advance(MINUTE - SignedDuration::from_millis(1));
    assert!(!world.is_free(&item).await, "it is reserved until its time has come");
    world.clock.advance(SignedDuration::from_millis(1));
    eventually(PATIENCE, "the item is free again", async || world.is_free(&item).await).await;
    let answer = world.client().release_reservation(world.release(&reservation)).await;
    refused(answer, Code::FailedPrecondition, "RESERVATION_EXPIRED");
    assert_eq!(world.count("SELECT count(*) FROM es.events WHERE event_type = 204").await, 1);
    assert_eq!(world.count("SELECT count(*) FROM inventory.reservations WHERE state = 4").await, 1);
    world.stop().await;
}

#[tokio::test]
async fn from_its_end_on_a_reservation_can_not_be_used() {
    let world = World::new().await.with_types().await;
    let (player, other) = (world.player(), world.player());
    let item = world.grant(&player, "sword").await;
    let reservation = world.reserve(&item).await;
    world.clock.advance(MINUTE);
    let give = world.transfer(&player, &other, transfer_item_request::What::Reservation(reservation.clone()));
    refused(world.client().transfer_item(give).await, Code::FailedPrecondition, "RESERVATION_EXPIRED");
    let answer = world.client().release_reservation(world.release(&reservation)).await;
    refused(answer, Code::FailedPrecondition, "RESERVATION_EXPIRED");
    world.stop().await;
}

#[tokio::test]
async fn a_reservation_that_was_due_while_the_service_was_down_expires_when_it_is_up_again() {
    let world = World::new().await.with_types().await;
    let player = world.player();
    let items = [world.grant(&player, "sword").await, world.grant(&player, "sword").await];
    for item in &items {
        world.reserve(item).await;
    }
    let world = world.restart(SignedDuration::from_hours(24 * 60)).await;
    for item in &items {
        eventually(PATIENCE, "the item is free again", async || world.is_free(item).await).await;
    }
    assert_eq!(world.count("SELECT count(*) FROM es.events WHERE event_type = 204").await, 2);
    world.stop().await;
}

#[tokio::test]
async fn many_reservations_that_are_due_at_once_all_expire() {
    let world = World::new().await.with_types().await;
    let player = world.player();
    world.grant_stack(&player, 600).await;
    world.reserve_each(&player, 600).await;
    world.clock.advance(MINUTE);
    let open = async || world.count("SELECT count(*) FROM inventory.reservations WHERE state = 1").await;
    eventually(PATIENCE, "none is open", async || open().await == 0).await;
    world.client().consume_item(world.consume_stack(&player, 600)).await.expect("all is free");
    world.stop().await;
}

#[tokio::test]
async fn what_is_not_the_players_can_not_be_reserved() {
    let world = World::new().await.with_types().await;
    let (player, other) = (world.player(), world.player());
    let item = world.grant(&player, "sword").await;
    let mut client = world.client();
    let foreign = at(&other, &item);
    let metadata =
        refused(client.reserve_item(world.reserve_item(&foreign, MINUTE_MS)).await, Code::PermissionDenied, "NOT_RESOURCE_OWNER");
    assert_eq!((metadata.get("player"), metadata.get("resource")), (Some(&other), Some(&foreign)));
    let named = idempo_proto::inventory::v1::ReserveItemRequest { player: other, ..world.reserve_item(&item, MINUTE_MS) };
    refused(client.reserve_item(named).await, Code::PermissionDenied, "NOT_RESOURCE_OWNER");
    let unknown = format!("{player}/items/{}", world.id());
    refused(client.reserve_item(world.reserve_item(&unknown, MINUTE_MS)).await, Code::PermissionDenied, "NOT_RESOURCE_OWNER");
    world.stop().await;
}
