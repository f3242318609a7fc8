//! Two replicas on one database: each has states in memory that the other makes stale.

use idempo_devstack::testing::eventually;
use idempo_proto::inventory::v1::transfer_item_request::What;
use jiff::SignedDuration;
use tonic::Code;

use crate::support::{MINUTE_MS, PATIENCE, World, at, is_replayed, refused};

#[tokio::test]
async fn an_item_that_two_replicas_give_away_at_once_goes_to_one_receiver() {
    let world = World::new().await.with_types().await;
    let (second, other_client) = world.replica().await;
    let ann = world.player();
    for _ in 0..8 {
        let item = world.grant(&ann, "sword").await;
        let (bob, eve) = (world.player(), world.player());
        let (mut one, mut two) = (world.client(), other_client.clone());
        let (to_bob, to_eve) = (world.transfer(&ann, &bob, What::Item(item.clone())), world.transfer(&ann, &eve, What::Item(item.clone())));
        let answers: [_; 2] = tokio::join!(one.transfer_item(to_bob), two.transfer_item(to_eve)).into();
        let given = answers.iter().filter(|answer| answer.is_ok()).count();
        assert_eq!(given, 1, "{answers:?}");
        for answer in answers.into_iter().filter(Result::is_err) {
            refused(answer, Code::PermissionDenied, "NOT_RESOURCE_OWNER");
        }
        let owners = [world.is_free(&at(&bob, &item)).await, world.is_free(&at(&eve, &item)).await, world.is_free(&item).await];
        assert_eq!(owners.iter().filter(|owns| **owns).count(), 1);
    }
    second.stop(PATIENCE).await.expect("stopped in order");
    world.stop().await;
}

#[tokio::test]
async fn one_command_that_is_sent_to_two_replicas_has_one_effect() {
    let world = World::new().await.with_types().await;
    let (second, other_client) = world.replica().await;
    let player = world.player();
    for _ in 0..8 {
        let request = world.grant_request(&player, "arrow", 1);
        let (mut one, mut two) = (world.client(), other_client.clone());
        let (first, second) = tokio::join!(one.grant_item(request.clone()), two.grant_item(request));
        assert_eq!(is_replayed(&first), !is_replayed(&second));
        assert_eq!(first.expect("granted").into_inner(), second.expect("granted").into_inner());
    }
    assert_eq!(world.arrows(&player).await, 8);
    second.stop(PATIENCE).await.expect("stopped in order");
    world.stop().await;
}

#[tokio::test]
async fn a_reservation_that_two_replicas_see_to_be_due_expires_once() {
    let world = World::new().await.with_types().await;
    let (second, _) = world.replica().await;
    let player = world.player();
    world.grant_stack(&player, 40).await;
    world.reserve_each(&player, 40).await;
    world.clock.advance(SignedDuration::from_millis(MINUTE_MS));
    let open = async || world.count("SELECT count(*) FROM inventory.reservations WHERE state = 1").await;
    eventually(PATIENCE, "none is open", async || open().await == 0).await;
    assert_eq!(world.count("SELECT count(*) FROM es.events WHERE event_type = 204").await, 40);
    second.stop(PATIENCE).await.expect("stopped in order");
    world.stop().await;
}
