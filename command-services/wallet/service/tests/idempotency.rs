//! One key, one effect, one answer.

use std::collections::HashSet;

use idempo_proto::wallet::v1 as api;
use jiff::SignedDuration;
use tonic::Code;

use crate::support::*;

#[tokio::test]
async fn a_second_send_gets_the_first_answer_and_changes_nothing() {
    let world = World::new().await;
    let wallet = world.wallet(0).await;
    let request = world.grant(&wallet, 5);
    let first = world.wallets.clone().grant_funds(request.clone()).await.unwrap();
    assert!(!is_replay(first.metadata()));
    world.wallets.clone().grant_funds(world.grant(&wallet, 1)).await.unwrap();
    let second = world.wallets.clone().grant_funds(request).await.unwrap();
    assert!(is_replay(second.metadata()));
    assert_eq!(first.into_inner(), second.into_inner());
    assert_eq!(world.coins(&wallet).await, (6, 0));
}

#[tokio::test]
async fn a_refusal_is_replayed_also_when_the_funds_have_come_meanwhile_and_the_service_has_restarted() {
    let world = World::new().await;
    let wallet = world.wallet(1).await;
    let request = world.burn(&wallet, 5);
    let first = world.wallets.clone().burn_funds(request.clone()).await.unwrap_err();
    world.wallets.clone().grant_funds(world.grant(&wallet, 100)).await.unwrap();
    let second = world.wallets.clone().burn_funds(request.clone()).await.unwrap_err();
    let world = world.restart().await;
    let third = world.wallets.clone().burn_funds(request).await.unwrap_err();
    for later in [&second, &third] {
        assert!(is_replay(later.metadata()));
        assert_eq!((first.code(), first.message(), first.details()), (later.code(), later.message(), later.details()));
    }
    assert_eq!(world.coins(&wallet).await, (101, 0));
}

#[tokio::test]
async fn a_key_with_another_payload_is_refused_and_the_field_is_named() {
    let world = World::new().await;
    let (wallet, other) = (world.wallet(10).await, world.wallet(10).await);
    let request = world.transfer(&wallet, &other, 3);
    world.wallets.clone().transfer_funds(request.clone()).await.unwrap();
    let changed = [
        (api::TransferFundsRequest { amount: 4, ..request.clone() }, "amount"),
        (api::TransferFundsRequest { from_wallet: other.clone(), to_wallet: wallet.clone(), ..request.clone() }, "from_wallet,to_wallet"),
        (api::TransferFundsRequest { reason: "why".to_owned(), ..request.clone() }, "reason"),
    ];
    for (changed, field) in changed {
        let (code, reason, metadata) = refused(world.wallets.clone().transfer_funds(changed).await);
        assert_eq!((code, reason.as_str(), metadata["field"].as_str()), (Code::AlreadyExists, "REQUEST_ID_PAYLOAD_MISMATCH", field));
    }
    assert_eq!((world.coins(&wallet).await, world.coins(&other).await), ((7, 0), (13, 0)));
}

#[tokio::test]
async fn keys_of_different_callers_and_methods_are_different_keys() {
    let world = World::new().await;
    let wallet = world.wallet(10).await;
    let grant = world.grant(&wallet, 1);
    let burn = api::BurnFundsRequest { request_id: grant.request_id.clone(), ..world.burn(&wallet, 2) };
    world.wallets.clone().grant_funds(grant.clone()).await.unwrap();
    world.wallets.clone().burn_funds(burn).await.unwrap();
    let mut as_other = tonic::Request::new(grant);
    as_other.metadata_mut().insert("idempo-caller", "game-server:1".parse().unwrap());
    let answer = world.wallets.clone().grant_funds(as_other).await.unwrap();
    assert!(!is_replay(answer.metadata()));
    assert_eq!(world.coins(&wallet).await, (10, 0));
}

#[tokio::test]
async fn validating_changes_nothing_and_binds_no_key() {
    let world = World::new().await;
    let wallet = world.wallet(10).await;
    let request = api::BurnFundsRequest { validate_only: true, ..world.burn(&wallet, 4) };
    let answer = world.wallets.clone().burn_funds(request.clone()).await.unwrap().into_inner();
    assert_eq!(answer.wallet.unwrap().balances[0].posted, 6);
    assert_eq!(world.coins(&wallet).await, (10, 0));
    let too_much = api::BurnFundsRequest { amount: 11, ..request.clone() };
    assert_refused(world.wallets.clone().burn_funds(too_much).await, Code::FailedPrecondition, "INSUFFICIENT_FUNDS");
    world.wallets.clone().burn_funds(api::BurnFundsRequest { validate_only: false, ..request }).await.unwrap();
    assert_eq!(world.coins(&wallet).await, (6, 0));
}

#[tokio::test]
async fn an_old_key_is_refused_unless_it_was_seen() {
    let world = World::new().await;
    let wallet = world.wallet(10).await;
    let (seen, unseen) = (world.grant(&wallet, 1), world.grant(&wallet, 1));
    world.wallets.clone().grant_funds(seen.clone()).await.unwrap();
    world.clock.advance(SignedDuration::from_hours(25));
    assert_refused(world.wallets.clone().grant_funds(unseen).await, Code::FailedPrecondition, "REQUEST_ID_EXPIRED");
    assert!(is_replay(world.wallets.clone().grant_funds(seen).await.unwrap().metadata()));
    assert_eq!(world.coins(&wallet).await, (11, 0));
}

#[tokio::test]
async fn racing_sends_of_one_command_to_two_replicas_have_one_effect_and_equal_answers() {
    let world = World::new().await;
    let (wallet, other) = (world.wallet(100).await, world.wallet(0).await);
    let (second, second_client) = world.replica().await;
    let request = world.transfer(&wallet, &other, 7);
    let sends = (0..64).map(|number| {
        let (mut client, request) = (if number % 2 == 0 { world.wallets.clone() } else { second_client.clone() }, request.clone());
        async move { client.transfer_funds(request).await.unwrap() }
    });
    let answers = futures_util::future::join_all(sends).await;
    assert_eq!(answers.iter().filter(|answer| !is_replay(answer.metadata())).count(), 1);
    let distinct: HashSet<String> = answers.into_iter().map(|answer| format!("{:?}", answer.into_inner())).collect();
    assert_eq!(distinct.len(), 1);
    assert_eq!((world.coins(&wallet).await, world.coins(&other).await), ((93, 0), (7, 0)));
    second.stop(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn racing_spends_of_the_same_funds_through_two_replicas_never_overdraw() {
    let world = World::new().await;
    let wallet = world.wallet(10).await;
    let (second, second_client) = world.replica().await;
    let spends = (0..40).map(|number| {
        let mut client = if number % 2 == 0 { world.wallets.clone() } else { second_client.clone() };
        let request = world.burn(&wallet, 1);
        async move { client.burn_funds(request).await }
    });
    let answers = futures_util::future::join_all(spends).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 10);
    for refused in answers.into_iter().filter(Result::is_err) {
        assert_refused(refused, Code::FailedPrecondition, "INSUFFICIENT_FUNDS");
    }
    assert_eq!(world.coins(&wallet).await, (0, 0));
    second.stop(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_refusal_that_needs_no_state_binds_its_key_as_any_other() {
    let world = World::new().await;
    let wallet = world.wallet(10).await;
    let mut client = world.wallets.clone();
    for (bad, better, field) in [
        (world.transfer(&wallet, &wallet, 1), world.wallet(0).await, "to_wallet"),
        (world.transfer(&wallet, &world.wallet(0).await, 0), String::new(), "amount"),
        (world.transfer(&wallet, &world.wallet(0).await, -5), String::new(), "amount"),
        (world.transfer(&wallet, &world.wallet(0).await, i64::MAX), String::new(), "amount"),
    ] {
        let only_checked = api::TransferFundsRequest { validate_only: true, request_id: world.request_id(), ..bad.clone() };
        assert_eq!(violations(client.transfer_funds(only_checked.clone()).await), [field]);
        let first = client.transfer_funds(bad.clone()).await.unwrap_err();
        assert_eq!(first.code(), Code::InvalidArgument);
        let second = client.transfer_funds(bad.clone()).await.unwrap_err();
        assert!(is_replay(second.metadata()) && !is_replay(first.metadata()));
        assert_eq!((first.message(), first.details()), (second.message(), second.details()));
        let to_wallet = if better.is_empty() { bad.to_wallet.clone() } else { better };
        let mended = api::TransferFundsRequest { to_wallet, amount: 1, ..bad };
        let mismatch = refused(client.transfer_funds(mended.clone()).await);
        assert_eq!((mismatch.0, &*mismatch.1), (Code::AlreadyExists, "REQUEST_ID_PAYLOAD_MISMATCH"), "{field}");
        let with_a_checked_key = api::TransferFundsRequest { request_id: only_checked.request_id, ..mended };
        client.transfer_funds(with_a_checked_key).await.expect("checking binds no key");
    }
    assert_eq!(world.coins(&wallet).await, (6, 0));
}
