use tonic::Code;

use crate::support::{World, at, refused};

#[tokio::test]
async fn a_consumed_item_is_gone() {
    let world = World::new().await.with_types().await;
    let player = world.player();
    let items = [world.grant(&player, "sword").await, world.grant(&player, "sword").await];
    let consumed = world.client().consume_item(world.consume_item(&items[0])).await.expect("consumed").into_inner();
    assert_eq!(consumed.quantity, 1);
    let again = world.client().consume_item(world.consume_item(&items[0])).await;
    refused(again, Code::PermissionDenied, "NOT_RESOURCE_OWNER");
    world.stop().await;
}

#[tokio::test]
async fn a_consumed_quantity_is_taken_from_the_stack() {
    let world = World::new().await.with_types().await;
    let player = world.player();
    world.grant_stack(&player, 10).await;
    let consumed = world.client().consume_item(world.consume_stack(&player, 4)).await.expect("consumed").into_inner();
    assert_eq!(consumed.quantity, 6);
    let answer = world.client().consume_item(world.consume_stack(&player, 7)).await;
    refused(answer, Code::FailedPrecondition, "INSUFFICIENT_QUANTITY");
    let rest = world.client().consume_item(world.consume_stack(&player, 6)).await.expect("consumed").into_inner();
    assert_eq!(rest.quantity, 0);
    world.stop().await;
}

#[tokio::test]
async fn a_weapon_takes_the_place_of_the_one_that_was_equipped() {
    let world = World::new().await.with_types().await;
    let player = world.player();
    let items = [world.grant(&player, "sword").await, world.grant(&player, "sword").await];
    let mut client = world.client();
    client.equip_item(world.equip(&items[0])).await.expect("equipped");
    refused(client.equip_item(world.equip(&items[0])).await, Code::FailedPrecondition, "ITEM_EQUIPPED");
    refused(client.consume_item(world.consume_item(&items[0])).await, Code::FailedPrecondition, "ITEM_EQUIPPED");
    let reserve = world.reserve_item(&items[0], 60_000);
    refused(client.reserve_item(reserve).await, Code::FailedPrecondition, "ITEM_EQUIPPED");
    client.equip_item(world.equip(&items[1])).await.expect("equipped");
    client.consume_item(world.consume_item(&items[0])).await.expect("the first is free again");
    refused(client.consume_item(world.consume_item(&items[1])).await, Code::FailedPrecondition, "ITEM_EQUIPPED");
    world.stop().await;
}

#[tokio::test]
async fn only_a_weapon_of_ones_own_can_be_equipped() {
    let world = World::new().await.with_types().await;
    let (player, other) = (world.player(), world.player());
    let mut client = world.client();
    let gem = world.grant(&player, "gem").await;
    let metadata = refused(client.equip_item(world.equip(&gem)).await, Code::FailedPrecondition, "ITEM_NOT_EQUIPPABLE");
    assert_eq!(metadata.get("item_type").map(String::as_str), Some("itemTypes/gem"));
    let sword = world.grant(&player, "sword").await;
    for item in [at(&other, &sword), format!("{player}/items/{}", world.id())] {
        refused(client.equip_item(world.equip(&item)).await, Code::PermissionDenied, "NOT_RESOURCE_OWNER");
    }
    world.stop().await;
}

#[tokio::test]
async fn nothing_can_not_be_put_away() {
    let world = World::new().await.with_types().await;
    let player = world.player();
    let item = world.grant(&player, "sword").await;
    let mut client = world.client();
    refused(client.unequip_item(world.unequip(&player)).await, Code::FailedPrecondition, "NOTHING_EQUIPPED");
    client.equip_item(world.equip(&item)).await.expect("equipped");
    client.unequip_item(world.unequip(&player)).await.expect("put away");
    refused(client.unequip_item(world.unequip(&player)).await, Code::FailedPrecondition, "NOTHING_EQUIPPED");
    world.stop().await;
}
