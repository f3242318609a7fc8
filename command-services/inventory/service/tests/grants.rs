use idempo_proto::inventory::v1::{CreateItemTypeRequest, GrantItemRequest};
use idempo_rpc::position;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::support::{World, is_replayed, owner, refused, stackable, stream_of};

#[tokio::test]
async fn a_unique_grant_answers_with_the_minted_item() {
    let world = World::new().await.with_types().await;
    let player = world.player();
    let first = world.client().grant_item(world.grant_request(&player, "sword", 1)).await.expect("granted").into_inner();
    let second = world.client().grant_item(world.grant_request(&player, "sword", 0)).await.expect("granted").into_inner();
    assert_eq!((owner(&first.item), owner(&second.item)), (player.clone(), player.clone()));
    assert_ne!(first.item, second.item);
    assert_eq!((first.quantity, second.quantity), (1, 2));
    assert_eq!(position::decode(&second.position), Some(vec![(stream_of(&player), 2)]));
    world.stop().await;
}

#[tokio::test]
async fn a_stackable_grant_answers_with_the_quantity_there_is() {
    let world = World::new().await.with_types().await;
    let player = world.player();
    for (quantity, expected) in [(5, 5), (3, 8)] {
        let granted = world.client().grant_item(world.grant_request(&player, "arrow", quantity)).await.expect("granted").into_inner();
        assert_eq!((granted.item.as_str(), granted.quantity), ("", expected));
    }
    world.stop().await;
}

#[tokio::test]
async fn a_refused_type_stays_refused_under_its_key_when_it_is_created_later() {
    let world = World::new().await;
    let player = world.player();
    let request = world.grant_request(&player, "arrow", 5);
    let metadata = refused(world.client().grant_item(request.clone()).await, Code::NotFound, "ITEM_TYPE_NOT_FOUND");
    assert_eq!(metadata.get("name").map(String::as_str), Some("itemTypes/arrow"));
    let create = CreateItemTypeRequest { request_id: world.key(), item_type: Some(stackable("arrow")), ..Default::default() };
    world.client().create_item_type(create).await.expect("created");
    let again = world.client().grant_item(request.clone()).await;
    assert!(is_replayed(&again));
    refused(again, Code::NotFound, "ITEM_TYPE_NOT_FOUND");
    let anew = GrantItemRequest { request_id: world.key(), ..request };
    assert_eq!(world.client().grant_item(anew).await.expect("granted").into_inner().quantity, 5);
    world.stop().await;
}

#[tokio::test]
async fn a_quantity_that_does_not_fit_the_type_is_refused_and_binds_its_key() {
    let world = World::new().await.with_types().await;
    let player = world.player();
    for (item_type, quantity, reason) in [("sword", 2, "QUANTITY_NOT_ONE"), ("arrow", 0, "QUANTITY_REQUIRED")] {
        let request = world.grant_request(&player, item_type, quantity);
        let answer = world.client().grant_item(request.clone()).await;
        let violations = answer.as_ref().expect_err("refused").get_details_bad_request().expect("a BadRequest").field_violations;
        assert_eq!(violations.first().map(|violation| violation.field.as_str()), Some("quantity"));
        refused(answer, Code::InvalidArgument, reason);
        let again = world.client().grant_item(request).await;
        assert!(is_replayed(&again));
        refused(again, Code::InvalidArgument, reason);
    }
    world.stop().await;
}

#[tokio::test]
async fn a_stack_has_a_limit() {
    let world = World::new().await.with_types().await;
    let player = world.player();
    world.grant_stack(&player, 1_000_000_000).await;
    let metadata =
        refused(world.client().grant_item(world.grant_request(&player, "arrow", 1)).await, Code::FailedPrecondition, "QUANTITY_LIMIT");
    assert_eq!(metadata.get("limit").map(String::as_str), Some("1000000000"));
    assert_eq!(metadata.get("player"), Some(&player));
    world.stop().await;
}

#[tokio::test]
async fn a_grant_that_is_only_checked_grants_nothing() {
    let world = World::new().await.with_types().await;
    let player = world.player();
    let request = GrantItemRequest { validate_only: true, ..world.grant_request(&player, "arrow", 5) };
    assert_eq!(world.client().grant_item(request).await.expect("would be granted").into_inner().quantity, 5);
    assert_eq!(world.arrows(&player).await, 0);
    assert_eq!(world.count("SELECT count(*) FROM es.events WHERE event_type = 201").await, 0);
    world.stop().await;
}
