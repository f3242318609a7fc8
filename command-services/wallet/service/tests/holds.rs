//! The life of a hold, and how it ends by itself.

use idempo_devstack::testing::eventually;
use idempo_proto::wallet::v1 as api;
use idempo_proto::wallet::v1::HoldState;
use jiff::SignedDuration;
use tonic::Code;

use crate::support::*;

#[tokio::test]
async fn a_placed_hold_is_answered_and_read_alike() {
    let world = World::new().await;
    let wallet = world.wallet(10).await;
    let placed = world.wallets.clone().place_hold(world.place(&wallet, 4, 60_000)).await.unwrap().into_inner();
    let hold = placed.hold.unwrap();
    assert_eq!((hold.amount, hold.captured_amount, hold.state(), hold.reason.as_str()), (4, 0, HoldState::Pending, "a match"));
    assert_eq!(hold.expire_time.unwrap().seconds - hold.create_time.unwrap().seconds, 60);
    let balance = placed.wallet.unwrap().balances[0];
    assert_eq!((balance.posted, balance.held, balance.available), (10, 4, 6));
    let request = api::GetHoldRequest { name: hold.name.clone(), min_position: placed.position };
    assert_eq!(world.wallets.clone().get_hold(request).await.unwrap().into_inner().hold.unwrap(), hold);
}

#[tokio::test]
async fn a_hold_is_captured_in_part_to_a_player_or_to_fees() {
    let world = World::new().await;
    let (wallet, other) = (world.wallet(10).await, world.wallet(0).await);
    for (to, others) in [(other.as_str(), 3), ("systemAccounts/fees", 3)] {
        let hold = world.hold(&wallet, 5).await;
        let before = world.coins(&wallet).await.0;
        let captured = world.wallets.clone().capture_hold(world.capture(&hold, 3, to)).await.unwrap().into_inner();
        let answered = captured.hold.unwrap();
        assert_eq!((answered.amount, answered.captured_amount, answered.state()), (5, 3, HoldState::Captured));
        let read = world.wallets.clone().get_hold(api::GetHoldRequest { name: hold, ..Default::default() }).await.unwrap().into_inner();
        assert_eq!(read.hold.unwrap(), answered);
        assert_eq!(world.coins(&wallet).await, (before - 3, 0));
        assert_eq!(world.coins(&other).await, (others, 0));
        assert!(!captured.transaction_id.is_empty());
    }
}

#[tokio::test]
async fn all_of_a_hold_is_captured_where_no_amount_is_given_and_never_more() {
    let world = World::new().await;
    let wallet = world.wallet(10).await;
    let hold = world.hold(&wallet, 5).await;
    let (code, reason, metadata) = refused(world.wallets.clone().capture_hold(world.capture(&hold, 6, "systemAccounts/burn")).await);
    assert_eq!((code, reason.as_str()), (Code::FailedPrecondition, "CAPTURE_EXCEEDS_HOLD"));
    assert_eq!((metadata["held"].as_str(), metadata["requested"].as_str()), ("5", "6"));
    world.wallets.clone().capture_hold(world.capture(&hold, 0, "systemAccounts/burn")).await.unwrap();
    assert_eq!(world.coins(&wallet).await, (5, 0));
}

#[tokio::test]
async fn a_second_resolution_says_which_came_first() {
    let world = World::new().await;
    let wallet = world.wallet(100).await;
    let mut client = world.wallets.clone();
    let (captured, released, expired) = (world.hold(&wallet, 1).await, world.hold(&wallet, 2).await, world.hold(&wallet, 3).await);
    client.capture_hold(world.capture(&captured, 0, "systemAccounts/fees")).await.unwrap();
    let answer = client.release_hold(world.release(&released)).await.unwrap().into_inner().hold.unwrap();
    assert_eq!((answer.state(), answer.captured_amount), (HoldState::Released, 0));
    world.clock.advance(SignedDuration::from_secs(60));
    eventually(PATIENCE, "the third hold expires", async || world.hold_state(&expired).await == HoldState::Expired).await;
    for (hold, reason) in [(captured, "HOLD_ALREADY_CAPTURED"), (released, "HOLD_ALREADY_RELEASED"), (expired, "HOLD_EXPIRED")] {
        assert_refused(client.release_hold(world.release(&hold)).await, Code::FailedPrecondition, reason);
        let capture = world.capture(&hold, 0, "systemAccounts/fees");
        assert_refused(client.capture_hold(capture).await, Code::FailedPrecondition, reason);
    }
    assert_eq!(world.coins(&wallet).await, (99, 0));
}

#[tokio::test]
async fn a_resolution_that_the_folded_state_has_forgotten_is_still_told() {
    let world = World::new().await;
    let wallet = world.wallet(300).await;
    let first = world.hold(&wallet, 1).await;
    world.wallets.clone().release_hold(world.release(&first)).await.unwrap();
    let later = futures_util::future::join_all((0..257).map(|_| world.hold(&wallet, 1))).await;
    let captures = later.iter().map(|hold| {
        let (mut client, request) = (world.wallets.clone(), world.capture(hold, 0, "systemAccounts/fees"));
        async move { client.capture_hold(request).await }
    });
    assert!(futures_util::future::join_all(captures).await.iter().all(Result::is_ok));
    assert_refused(world.wallets.clone().release_hold(world.release(&first)).await, Code::FailedPrecondition, "HOLD_ALREADY_RELEASED");
}

#[tokio::test]
async fn a_hold_expires_once_whoever_looks_and_its_funds_are_available_again() {
    let world = World::new().await;
    let wallet = world.wallet(1_000).await;
    let (second, _) = world.replica().await;
    let holds = futures_util::future::join_all((0..300).map(|_| world.hold(&wallet, 1))).await;
    assert_eq!(world.coins(&wallet).await, (1_000, 300));
    world.clock.advance(SignedDuration::from_millis(59_999));
    assert_eq!(world.hold_state(&holds[0]).await, HoldState::Pending);
    world.clock.advance(SignedDuration::from_millis(1));
    eventually(PATIENCE, "all holds expire", async || world.coins(&wallet).await == (1_000, 0)).await;
    let expired = api::EntryFilter { kind: api::EntryKind::Expiry.into(), ..Default::default() };
    let request = api::ListEntriesRequest { parent: wallet, page_size: 1_000, filter: Some(expired), ..Default::default() };
    let entries = world.wallets.clone().list_entries(request).await.unwrap().into_inner().entries;
    assert_eq!(entries.len(), 300);
    second.stop(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_hold_that_became_due_while_the_service_was_down_expires_when_it_is_back() {
    for days in [1, 40] {
        let world = World::new().await;
        let wallet = world.wallet(10).await;
        let hold = world.hold(&wallet, 4).await;
        let clock = world.clock.clone();
        let count = world.stop().await;
        clock.advance(SignedDuration::from_hours(24 * days));
        let (service, client) = replica(count.config("idempo_wallet"), &clock).await;
        let state = async || {
            let request = api::GetHoldRequest { name: hold.clone(), ..Default::default() };
            client.clone().get_hold(request).await.is_ok_and(|answer| answer.into_inner().hold.unwrap().state() == HoldState::Expired)
        };
        eventually(PATIENCE, "the hold expires after the restart", state).await;
        service.stop(PATIENCE).await.unwrap();
    }
}

#[tokio::test]
async fn a_due_hold_can_neither_be_captured_nor_released_also_before_the_timer_has_come_to_it() {
    let world = World::new().await;
    let wallet = world.wallet(10).await;
    let hold = world.hold(&wallet, 4).await;
    world.clock.advance(SignedDuration::from_secs(60));
    let mut client = world.wallets.clone();
    assert_refused(client.release_hold(world.release(&hold)).await, Code::FailedPrecondition, "HOLD_EXPIRED");
    let capture = world.capture(&hold, 0, "systemAccounts/fees");
    assert_refused(client.capture_hold(capture).await, Code::FailedPrecondition, "HOLD_EXPIRED");
    eventually(PATIENCE, "the hold expires", async || world.coins(&wallet).await == (10, 0)).await;
}

#[tokio::test]
async fn a_wallet_has_a_thousand_open_holds_at_most() {
    let world = World::new().await;
    let wallet = world.wallet(2_000).await;
    futures_util::future::join_all((0..1_000).map(|_| world.hold(&wallet, 1))).await;
    let mut client = world.wallets.clone();
    assert_refused(client.place_hold(world.place(&wallet, 1, 60_000)).await, Code::FailedPrecondition, "TOO_MANY_HOLDS");
}
