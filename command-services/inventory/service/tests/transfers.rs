use idempo_proto::inventory::v1::StackQuantity;
use idempo_proto::inventory::v1::transfer_item_request::What;
use idempo_rpc::position;
use jiff::SignedDuration;
use tonic::Code;

use crate::support::{World, arrows, at, invalid, refused, stream_of};

#[tokio::test]
async fn an_item_changes_hands_with_both_legs_in_one_transaction() {
    let world = World::new().await.with_types().await;
    let (ann, bob) = (world.player(), world.player());
    let item = world.grant(&ann, "sword").await;
    let given = world.client().transfer_item(world.transfer(&ann, &bob, What::Item(item.clone()))).await.expect("given").into_inner();
    assert_eq!(given.item, at(&bob, &item));
    assert!(!given.transfer_id.is_empty());
    assert_eq!(position::decode(&given.position), Some(vec![(stream_of(&ann), 2), (stream_of(&bob), 1)]));
    assert!(!world.is_free(&item).await);
    assert!(world.is_free(&at(&bob, &item)).await);
    let legs = "SELECT count(*) FROM es.events WHERE event_type IN (205, 206) GROUP BY xid";
    assert_eq!(world.count(legs).await, 2);
    world.stop().await;
}

#[tokio::test]
async fn an_item_goes_from_hand_to_hand_and_a_new_process_knows_whose_it_is() {
    let world = World::new().await.with_types().await;
    let (ann, bob) = (world.player(), world.player());
    let item = world.grant(&ann, "sword").await;
    world.client().transfer_item(world.transfer(&ann, &bob, What::Item(item.clone()))).await.expect("given");
    let world = world.restart(SignedDuration::ZERO).await;
    let back = world.transfer(&bob, &ann, What::Item(at(&bob, &item)));
    assert_eq!(world.client().transfer_item(back).await.expect("given back").into_inner().item, item);
    assert!(world.is_free(&item).await);
    world.stop().await;
}

#[tokio::test]
async fn a_quantity_is_taken_here_and_added_there() {
    let world = World::new().await.with_types().await;
    let (ann, bob) = (world.player(), world.player());
    world.grant_stack(&ann, 10).await;
    world.grant_stack(&bob, 1).await;
    let given = world.client().transfer_item(world.transfer(&ann, &bob, What::Stack(arrows(7)))).await.expect("given").into_inner();
    assert_eq!(given.item, "");
    assert_eq!((world.arrows(&ann).await, world.arrows(&bob).await), (3, 8));
    let metadata = refused(
        world.client().transfer_item(world.transfer(&ann, &bob, What::Stack(arrows(4)))).await,
        Code::FailedPrecondition,
        "INSUFFICIENT_QUANTITY",
    );
    assert_eq!(metadata.get("available").map(String::as_str), Some("3"));
    assert_eq!((world.arrows(&ann).await, world.arrows(&bob).await), (3, 8));
    world.stop().await;
}

#[tokio::test]
async fn a_transfer_of_a_reservation_takes_all_that_it_holds() {
    let world = World::new().await.with_types().await;
    let (ann, bob) = (world.player(), world.player());
    world.grant_stack(&ann, 10).await;
    let reserved = world.client().reserve_item(world.reserve_stack(&ann, 4, 60_000)).await.expect("reserved").into_inner();
    let name = reserved.reservation.expect("a reservation").name;
    let stolen = world.transfer(&bob, &ann, What::Reservation(name.clone()));
    refused(world.client().transfer_item(stolen).await, Code::PermissionDenied, "NOT_RESOURCE_OWNER");
    world.client().transfer_item(world.transfer(&ann, &bob, What::Reservation(name))).await.expect("given");
    assert_eq!((world.arrows(&ann).await, world.arrows(&bob).await), (6, 4));
    assert_eq!(world.count("SELECT count(*) FROM inventory.reservations WHERE state = 3 AND ended_at IS NOT NULL").await, 1);
    world.stop().await;
}

#[tokio::test]
async fn a_transfer_to_oneself_is_refused() {
    let world = World::new().await.with_types().await;
    let ann = world.player();
    let item = world.grant(&ann, "sword").await;
    invalid(world.client().transfer_item(world.transfer(&ann, &ann, What::Item(item))).await, &["to_player"]);
    world.stop().await;
}

#[tokio::test]
async fn what_is_not_the_senders_can_not_be_sent() {
    let world = World::new().await.with_types().await;
    let (ann, bob) = (world.player(), world.player());
    let item = world.grant(&ann, "sword").await;
    for name in [item.clone(), at(&bob, &item), format!("{bob}/items/{}", world.id())] {
        let answer = world.client().transfer_item(world.transfer(&bob, &ann, What::Item(name))).await;
        refused(answer, Code::PermissionDenied, "NOT_RESOURCE_OWNER");
    }
    assert!(world.is_free(&item).await);
    world.stop().await;
}

#[tokio::test]
async fn an_equipped_item_can_not_be_sent_until_it_is_put_away() {
    let world = World::new().await.with_types().await;
    let (ann, bob) = (world.player(), world.player());
    let item = world.grant(&ann, "sword").await;
    world.client().equip_item(world.equip(&item)).await.expect("equipped");
    let give = || world.transfer(&ann, &bob, What::Item(item.clone()));
    let metadata = refused(world.client().transfer_item(give()).await, Code::FailedPrecondition, "ITEM_EQUIPPED");
    assert_eq!(metadata.get("item"), Some(&item));
    world.client().unequip_item(world.unequip(&ann)).await.expect("put away");
    world.client().transfer_item(give()).await.expect("given");
    world.stop().await;
}

#[tokio::test]
async fn a_quantity_of_an_unknown_or_a_unique_type_can_not_be_sent() {
    let world = World::new().await.with_types().await;
    let (ann, bob) = (world.player(), world.player());
    world.grant(&ann, "sword").await;
    let of = |item_type: &str| What::Stack(StackQuantity { item_type: format!("itemTypes/{item_type}"), quantity: 1 });
    let answer = world.client().transfer_item(world.transfer(&ann, &bob, of("nothing"))).await;
    refused(answer, Code::NotFound, "ITEM_TYPE_NOT_FOUND");
    let answer = world.client().transfer_item(world.transfer(&ann, &bob, of("sword"))).await;
    refused(answer, Code::FailedPrecondition, "ITEM_TYPE_NOT_STACKABLE");
    world.stop().await;
}

#[tokio::test]
async fn a_receiver_whose_stack_is_full_gets_nothing() {
    let world = World::new().await.with_types().await;
    let (ann, bob) = (world.player(), world.player());
    world.grant_stack(&ann, 1).await;
    world.grant_stack(&bob, 1_000_000_000).await;
    let metadata = refused(
        world.client().transfer_item(world.transfer(&ann, &bob, What::Stack(arrows(1)))).await,
        Code::FailedPrecondition,
        "QUANTITY_LIMIT",
    );
    assert_eq!(metadata.get("player"), Some(&bob));
    assert_eq!(world.arrows(&ann).await, 1);
    world.stop().await;
}

#[tokio::test]
async fn opposite_transfers_at_the_same_moment_keep_every_arrow() {
    let world = World::new().await.with_types().await;
    let (ann, bob) = (world.player(), world.player());
    world.grant_stack(&ann, 500).await;
    world.grant_stack(&bob, 500).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..64 {
        let (from, to) = if n % 2 == 0 { (&ann, &bob) } else { (&bob, &ann) };
        let (mut client, request) = (world.client(), world.transfer(from, to, What::Stack(arrows(n + 1))));
        tasks.spawn(async move { client.transfer_item(request).await });
    }
    while let Some(answer) = tasks.join_next().await {
        answer.expect("no panic").expect("given");
    }
    let (ann, bob) = (world.arrows(&ann).await, world.arrows(&bob).await);
    assert_eq!((ann + bob, ann), (1_000, 532));
    world.stop().await;
}
