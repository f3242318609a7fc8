//! Reversing transactions through the service.

use idempo_proto::wallet::v1 as api;
use idempo_proto::wallet::v1::ShortfallPolicy;
use tonic::Code;

use crate::support::*;

#[tokio::test]
async fn a_mint_a_burn_a_transfer_and_captures_are_posted_the_other_way() {
    let world = World::new().await;
    let (wallet, other) = (world.wallet(100).await, world.wallet(100).await);
    let mut client = world.wallets.clone();
    let hold = [world.hold(&wallet, 5).await, world.hold(&wallet, 5).await];
    let mut made = Vec::new();
    made.push(client.grant_funds(world.grant(&wallet, 7)).await.unwrap().into_inner().transaction_id);
    made.push(client.burn_funds(world.burn(&wallet, 8)).await.unwrap().into_inner().transaction_id);
    made.push(client.transfer_funds(world.transfer(&wallet, &other, 9)).await.unwrap().into_inner().transaction_id);
    made.push(client.capture_hold(world.capture(&hold[0], 3, &other)).await.unwrap().into_inner().transaction_id);
    made.push(client.capture_hold(world.capture(&hold[1], 4, "systemAccounts/fees")).await.unwrap().into_inner().transaction_id);
    assert_eq!((world.coins(&wallet).await, world.coins(&other).await), ((83, 0), (112, 0)));
    let mut reversals = Vec::new();
    for (transaction, amount) in made.iter().zip([7, 8, 9, 3, 4]) {
        let answer = client.reverse_transaction(world.reverse(transaction)).await.unwrap().into_inner();
        assert_eq!((answer.reversed_amount, answer.shortfall_amount), (amount, 0));
        reversals.push(answer.transaction_id);
    }
    assert_eq!((world.coins(&wallet).await, world.coins(&other).await), ((100, 0), (100, 0)));
    for transaction in made {
        let again = client.reverse_transaction(world.reverse(&transaction)).await;
        assert_refused(again, Code::FailedPrecondition, "TRANSACTION_ALREADY_REVERSED");
    }
    for reversal in reversals {
        let back = client.reverse_transaction(world.reverse(&reversal)).await;
        assert_refused(back, Code::FailedPrecondition, "TRANSACTION_NOT_REVERSIBLE");
    }
}

#[tokio::test]
async fn funds_that_are_gone_are_refused_or_taken_back_in_part() {
    let world = World::new().await;
    let (wallet, other) = (world.wallet(10).await, world.wallet(0).await);
    let mut client = world.wallets.clone();
    let transaction = client.transfer_funds(world.transfer(&wallet, &other, 10)).await.unwrap().into_inner().transaction_id;
    world.hold(&other, 4).await;
    let refuse = client.reverse_transaction(world.reverse(&transaction)).await;
    let (code, reason, metadata) = refused(refuse);
    assert_eq!((code, reason.as_str(), metadata["available"].as_str()), (Code::FailedPrecondition, "INSUFFICIENT_FUNDS", "6"));
    let partial = api::ReverseTransactionRequest { shortfall_policy: ShortfallPolicy::Partial.into(), ..world.reverse(&transaction) };
    let answer = client.reverse_transaction(partial).await.unwrap().into_inner();
    assert_eq!((answer.reversed_amount, answer.shortfall_amount), (6, 4));
    assert_eq!((world.coins(&wallet).await, world.coins(&other).await), ((6, 0), (4, 4)));
}

#[tokio::test]
async fn racing_reversals_of_one_transaction_through_two_replicas_take_it_back_once() {
    let world = World::new().await;
    let (wallet, other) = (world.wallet(1_000).await, world.wallet(1_000).await);
    let (second, second_client) = world.replica().await;
    let transaction = world.wallets.clone().transfer_funds(world.transfer(&wallet, &other, 10)).await.unwrap().into_inner().transaction_id;
    let reversals = (0..32).map(|number| {
        let mut client = if number % 2 == 0 { world.wallets.clone() } else { second_client.clone() };
        let request = world.reverse(&transaction);
        async move { client.reverse_transaction(request).await }
    });
    let answers = futures_util::future::join_all(reversals).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    for refused in answers.into_iter().filter(Result::is_err) {
        assert_refused(refused, Code::FailedPrecondition, "TRANSACTION_ALREADY_REVERSED");
    }
    assert_eq!((world.coins(&wallet).await, world.coins(&other).await), ((1_000, 0), (1_000, 0)));
    second.stop(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_transaction_that_is_unknown_stays_refused_under_its_key() {
    let world = World::new().await;
    let wallet = world.wallet(10).await;
    let grant = world.grant(&wallet, 5);
    let dry = api::GrantFundsRequest { validate_only: true, ..grant.clone() };
    let transaction = world.wallets.clone().grant_funds(dry).await.unwrap().into_inner().transaction_id;
    let early = world.reverse(&transaction);
    assert_refused(world.wallets.clone().reverse_transaction(early.clone()).await, Code::NotFound, "TRANSACTION_NOT_FOUND");
    let made = world.wallets.clone().grant_funds(grant).await.unwrap().into_inner().transaction_id;
    assert_eq!(made, transaction);
    assert_refused(world.wallets.clone().reverse_transaction(early).await, Code::NotFound, "TRANSACTION_NOT_FOUND");
    world.wallets.clone().reverse_transaction(world.reverse(&transaction)).await.unwrap();
    assert_eq!(world.coins(&wallet).await, (10, 0));
}
