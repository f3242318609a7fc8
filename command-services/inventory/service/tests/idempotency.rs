//! One key, one effect, one answer.

use idempo_proto::inventory::v1::{ConsumeItemRequest, GrantItemRequest, consume_item_request, transfer_item_request};
use jiff::SignedDuration;
use tonic::Code;

use crate::support::{MINUTE_MS, World, arrows, from_caller, is_replayed, refused};

#[tokio::test]
async fn a_command_that_is_sent_again_gets_its_first_answer() {
    let world = World::new().await.with_types().await;
    let (ann, bob) = (world.player(), world.player());
    let grant = world.grant_request(&ann, "sword", 1);
    let first = world.client().grant_item(grant.clone()).await;
    assert!(!is_replayed(&first));
    let item = first.expect("granted").into_inner();
    let give = world.transfer(&ann, &bob, transfer_item_request::What::Item(item.item.clone()));
    let given = world.client().transfer_item(give.clone()).await.expect("given").into_inner();

    let world = world.restart(SignedDuration::from_mins(1)).await;
    for _ in 0..2 {
        let again = world.client().grant_item(grant.clone()).await;
        assert!(is_replayed(&again));
        assert_eq!(again.expect("granted").into_inner(), item, "though it is somebody else's by now");
        let again = world.client().transfer_item(give.clone()).await;
        assert!(is_replayed(&again));
        assert_eq!(again.expect("given").into_inner(), given);
    }
    assert_eq!(world.count("SELECT count(*) FROM es.events WHERE event_type <> 200").await, 3);
    world.stop().await;
}

#[tokio::test]
async fn a_refused_command_that_is_sent_again_stays_refused() {
    let world = World::new().await.with_types().await;
    let player = world.player();
    let consume = world.consume_stack(&player, 5);
    let first = world.client().consume_item(consume.clone()).await;
    refused(first, Code::FailedPrecondition, "INSUFFICIENT_QUANTITY");
    world.grant_stack(&player, 10).await;
    let again = world.client().consume_item(consume).await;
    assert!(is_replayed(&again));
    let metadata = refused(again, Code::FailedPrecondition, "INSUFFICIENT_QUANTITY");
    assert_eq!(metadata.get("available").map(String::as_str), Some("0"), "as it was then");
    assert_eq!(world.arrows(&player).await, 10);
    world.stop().await;
}

#[tokio::test]
async fn a_key_that_is_used_for_another_request_names_what_differs() {
    let world = World::new().await.with_types().await;
    let player = world.player();
    let grant = world.grant_request(&player, "arrow", 5);
    world.client().grant_item(grant.clone()).await.expect("granted");
    let more = GrantItemRequest { quantity: 6, ..grant.clone() };
    let why = GrantItemRequest { player: world.player(), reason: "why".to_owned(), ..grant };
    for (request, fields) in [(more, "quantity"), (why, "player,reason")] {
        let metadata = refused(world.client().grant_item(request).await, Code::AlreadyExists, "REQUEST_ID_PAYLOAD_MISMATCH");
        assert_eq!(metadata.get("field").map(String::as_str), Some(fields));
    }
    let consume = world.consume_stack(&player, 1);
    world.client().consume_item(consume.clone()).await.expect("consumed");
    let what = Some(consume_item_request::What::Stack(arrows(2)));
    let answer = world.client().consume_item(ConsumeItemRequest { what, ..consume }).await;
    let metadata = refused(answer, Code::AlreadyExists, "REQUEST_ID_PAYLOAD_MISMATCH");
    assert_eq!(metadata.get("field").map(String::as_str), Some("stack"));
    assert_eq!(world.arrows(&player).await, 4);
    world.stop().await;
}

#[tokio::test]
async fn one_key_of_two_callers_or_two_methods_is_two_commands() {
    let world = World::new().await.with_types().await;
    let player = world.player();
    let grant = world.grant_request(&player, "arrow", 5);
    world.client().grant_item(from_caller(grant.clone(), "a")).await.expect("granted");
    world.client().grant_item(from_caller(grant.clone(), "b")).await.expect("granted");
    let consume = ConsumeItemRequest { request_id: grant.request_id, ..world.consume_stack(&player, 1) };
    world.client().consume_item(from_caller(consume, "a")).await.expect("consumed");
    assert_eq!(world.arrows(&player).await, 9);
    world.stop().await;
}

#[tokio::test]
async fn racing_sends_of_one_command_have_one_effect_and_equal_answers() {
    let world = World::new().await.with_types().await;
    let player = world.player();
    world.grant_stack(&player, 1).await;
    let request = world.reserve_stack(&player, 1, MINUTE_MS);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (mut client, request) = (world.client(), request.clone());
        tasks.spawn(async move { client.reserve_item(request).await });
    }
    let mut answers = Vec::new();
    while let Some(answer) = tasks.join_next().await {
        answers.push(answer.expect("no panic"));
    }
    assert_eq!(answers.iter().filter(|answer| !is_replayed(answer)).count(), 1);
    let mut answers: Vec<_> = answers.into_iter().map(|answer| answer.expect("reserved").into_inner()).collect();
    answers.dedup();
    assert_eq!(answers.len(), 1);
    assert_eq!(world.count("SELECT count(*) FROM inventory.reservations").await, 1);
    world.stop().await;
}

#[tokio::test]
async fn an_old_key_that_was_never_seen_is_refused() {
    let world = World::new().await.with_types().await;
    let player = world.player();
    let request_id = world.id_of(world.now() - SignedDuration::from_hours(25)).to_string();
    let grant = GrantItemRequest { request_id, ..world.grant_request(&player, "arrow", 5) };
    refused(world.client().grant_item(grant).await, Code::FailedPrecondition, "REQUEST_ID_EXPIRED");
    assert_eq!(world.arrows(&player).await, 0);
    world.stop().await;
}

#[tokio::test]
async fn a_key_that_was_seen_is_answered_days_later() {
    let world = World::new().await.with_types().await;
    let player = world.player();
    let grant = world.grant_request(&player, "arrow", 5);
    world.client().grant_item(grant.clone()).await.expect("granted");
    let world = world.restart(SignedDuration::from_hours(30)).await;
    let again = world.client().grant_item(grant).await;
    assert!(is_replayed(&again));
    assert_eq!(again.expect("granted").into_inner().quantity, 5);
    world.stop().await;
}
