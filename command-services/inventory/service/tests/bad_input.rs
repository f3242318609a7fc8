//! Every field has bounds, and what is out of them is named. Nothing of it reaches the database.

use idempo_proto::inventory::v1::{
    ConsumeItemRequest, EquipItemRequest, GrantItemRequest, ReleaseReservationRequest, ReserveItemRequest, StackQuantity,
    TransferItemRequest, UnequipItemRequest, consume_item_request, reserve_item_request, transfer_item_request,
};
use jiff::SignedDuration;

use crate::support::{MINUTE_MS, World, from_caller, invalid};

const BAD_PLAYERS: [&str; 6] = [
    "",
    "players/",
    "players/me",
    "wallets/01890a5d-ac96-774b-bcce-b302099a8057",
    "players/01890a5dac96774bbcceb302099a8057",
    "players/01890a5d-ac96-774b-bcce-b302099a8057/items/x",
];

#[tokio::test]
async fn a_key_that_is_none_is_refused_by_every_mutation() {
    let world = World::new().await.with_types().await;
    let player = world.player();
    let version_4 = "9b2d5d6e-2f0f-4c39-8e6c-0a6a1b6f3a11".to_owned();
    let from_the_future = world.id_of(world.now() + SignedDuration::from_mins(6)).to_string();
    let item = format!("{player}/items/{}", world.id());
    for request_id in [String::new(), "key".to_owned(), world.key().replace('-', ""), version_4, from_the_future] {
        let mut client = world.client();
        let fields = &["request_id"];
        let id = || request_id.clone();
        invalid(client.grant_item(GrantItemRequest { request_id: id(), ..world.grant_request(&player, "arrow", 1) }).await, fields);
        invalid(client.reserve_item(ReserveItemRequest { request_id: id(), ..world.reserve_item(&item, MINUTE_MS) }).await, fields);
        let release = world.release(&format!("{player}/reservations/{}", world.id()));
        invalid(client.release_reservation(ReleaseReservationRequest { request_id: id(), ..release }).await, fields);
        let transfer = world.transfer(&player, &world.player(), transfer_item_request::What::Item(item.clone()));
        invalid(client.transfer_item(TransferItemRequest { request_id: id(), ..transfer }).await, fields);
        invalid(client.consume_item(ConsumeItemRequest { request_id: id(), ..world.consume_item(&item) }).await, fields);
        invalid(client.equip_item(EquipItemRequest { request_id: id(), ..world.equip(&item) }).await, fields);
        invalid(client.unequip_item(UnequipItemRequest { request_id: id(), ..world.unequip(&player) }).await, fields);
    }
    assert_eq!(world.count("SELECT count(*) FROM es.command_dedup").await, 3, "the item types'");
    world.stop().await;
}

#[tokio::test]
async fn a_caller_that_is_none_is_refused() {
    let world = World::new().await.with_types().await;
    let request = world.grant_request(&world.player(), "arrow", 1);
    invalid(world.client().grant_item(from_caller(request, "not a caller")).await, &["idempo-caller"]);
    world.stop().await;
}

#[tokio::test]
async fn every_bad_field_of_a_grant_is_named() {
    let world = World::new().await.with_types().await;
    let good = world.grant_request(&world.player(), "arrow", 1);
    let mut client = world.client();
    for player in BAD_PLAYERS {
        invalid(
            client.grant_item(GrantItemRequest { player: player.to_owned(), request_id: world.key(), ..good.clone() }).await,
            &["player"],
        );
    }
    for item_type in ["", "arrow", "itemTypes/", "itemTypes/Arrow", "itemTypes/a/b"] {
        invalid(
            client.grant_item(GrantItemRequest { item_type: item_type.to_owned(), request_id: world.key(), ..good.clone() }).await,
            &["item_type"],
        );
    }
    for quantity in [-1, i64::MIN, 1_000_000_001, i64::MAX] {
        invalid(client.grant_item(GrantItemRequest { quantity, request_id: world.key(), ..good.clone() }).await, &["quantity"]);
    }
    invalid(client.grant_item(GrantItemRequest { reason: "x".repeat(129), request_id: world.key(), ..good.clone() }).await, &["reason"]);
    let all = GrantItemRequest { quantity: -1, reason: "\0".to_owned(), ..Default::default() };
    invalid(client.grant_item(all).await, &["request_id", "player", "item_type", "quantity", "reason"]);
    client.grant_item(good).await.expect("the good one is good");
    world.stop().await;
}

#[tokio::test]
async fn every_bad_field_of_a_reservation_is_named() {
    let world = World::new().await.with_types().await;
    let player = world.player();
    let good = world.reserve_stack(&player, 1, MINUTE_MS);
    let mut client = world.client();
    for bad in BAD_PLAYERS {
        invalid(
            client.reserve_item(ReserveItemRequest { player: bad.to_owned(), request_id: world.key(), ..good.clone() }).await,
            &["player"],
        );
    }
    for ttl_ms in [0, -1, 999, 2_592_000_001, i64::MAX] {
        invalid(client.reserve_item(ReserveItemRequest { ttl_ms, request_id: world.key(), ..good.clone() }).await, &["ttl_ms"]);
    }
    invalid(client.reserve_item(ReserveItemRequest { what: None, request_id: world.key(), ..good.clone() }).await, &["what"]);
    let what = Some(reserve_item_request::What::Item(player.clone()));
    invalid(client.reserve_item(ReserveItemRequest { what, request_id: world.key(), ..good.clone() }).await, &["item"]);
    let what = Some(reserve_item_request::What::Stack(StackQuantity::default()));
    invalid(
        client.reserve_item(ReserveItemRequest { what, request_id: world.key(), ..good.clone() }).await,
        &["stack.item_type", "stack.quantity"],
    );
    invalid(client.reserve_item(ReserveItemRequest { reason: "x".repeat(129), request_id: world.key(), ..good }).await, &["reason"]);
    for reservation in ["", "reservations/x", &player, &format!("{player}/reservations/x")] {
        invalid(client.release_reservation(world.release(reservation)).await, &["reservation"]);
    }
    world.stop().await;
}

#[tokio::test]
async fn every_bad_field_of_a_transfer_is_named() {
    let world = World::new().await.with_types().await;
    let (ann, bob) = (world.player(), world.player());
    let stack = |quantity| transfer_item_request::What::Stack(crate::support::arrows(quantity));
    let good = world.transfer(&ann, &bob, stack(1));
    let mut client = world.client();
    for bad in BAD_PLAYERS {
        invalid(
            client.transfer_item(TransferItemRequest { from_player: bad.to_owned(), request_id: world.key(), ..good.clone() }).await,
            &["from_player"],
        );
        invalid(
            client.transfer_item(TransferItemRequest { to_player: bad.to_owned(), request_id: world.key(), ..good.clone() }).await,
            &["to_player"],
        );
    }
    invalid(client.transfer_item(TransferItemRequest { what: None, request_id: world.key(), ..good.clone() }).await, &["what"]);
    for (what, field) in [
        (stack(0), "stack.quantity"),
        (stack(-1), "stack.quantity"),
        (stack(1_000_000_001), "stack.quantity"),
        (transfer_item_request::What::Item(ann.clone()), "item"),
        (transfer_item_request::What::Reservation(ann.clone()), "reservation"),
    ] {
        invalid(client.transfer_item(TransferItemRequest { what: Some(what), request_id: world.key(), ..good.clone() }).await, &[field]);
    }
    world.stop().await;
}

#[tokio::test]
async fn every_bad_field_of_a_use_is_named() {
    let world = World::new().await.with_types().await;
    let player = world.player();
    let mut client = world.client();
    let good = world.consume_stack(&player, 1);
    for bad in BAD_PLAYERS {
        invalid(
            client.consume_item(ConsumeItemRequest { player: bad.to_owned(), request_id: world.key(), ..good.clone() }).await,
            &["player"],
        );
        invalid(client.unequip_item(world.unequip(bad)).await, &["player"]);
        invalid(client.equip_item(world.equip(bad)).await, &["item"]);
    }
    invalid(client.consume_item(ConsumeItemRequest { what: None, request_id: world.key(), ..good.clone() }).await, &["what"]);
    let what = Some(consume_item_request::What::Stack(StackQuantity { item_type: "arrow".to_owned(), quantity: -5 }));
    invalid(
        client.consume_item(ConsumeItemRequest { what, request_id: world.key(), ..good.clone() }).await,
        &["stack.item_type", "stack.quantity"],
    );
    invalid(client.consume_item(ConsumeItemRequest { reason: "ä".repeat(129), request_id: world.key(), ..good }).await, &["reason"]);
    world.stop().await;
}
