//! What the state of a wallet refuses, with which code, reason and details.

use idempo_proto::event::v1::Asset;
use idempo_proto::wallet::v1 as api;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::support::*;

#[tokio::test]
async fn a_wallet_is_opened_once() {
    let world = World::new().await;
    let player_id = world.id().to_string();
    let open = |request_id| api::OpenWalletRequest { request_id, player_id: player_id.clone(), validate_only: false };
    let opened = world.wallets.clone().open_wallet(open(world.request_id())).await.unwrap().into_inner();
    let wallet = opened.wallet.unwrap();
    assert_eq!(wallet.name, format!("wallets/{player_id}"));
    assert_eq!(wallet.etag, "1");
    let balances: Vec<_> =
        wallet.balances.iter().map(|balance| (balance.asset(), balance.posted, balance.held, balance.available)).collect();
    assert_eq!(balances, [(Asset::Coin, 0, 0, 0), (Asset::Stamp, 0, 0, 0)]);
    assert_eq!(wallet, world.get(&wallet.name).await);
    assert_refused(world.wallets.clone().open_wallet(open(world.request_id())).await, Code::AlreadyExists, "WALLET_ALREADY_OPEN");
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let world = World::new().await;
    let (wallet, nowhere) = (world.wallet(10).await, format!("wallets/{}", world.id()));
    let mut client = world.wallets.clone();
    assert_refused(client.grant_funds(world.grant(&nowhere, 1)).await, Code::NotFound, "WALLET_NOT_FOUND");
    assert_refused(client.burn_funds(world.burn(&nowhere, 1)).await, Code::NotFound, "WALLET_NOT_FOUND");
    assert_refused(client.place_hold(world.place(&nowhere, 1, 1_000)).await, Code::NotFound, "WALLET_NOT_FOUND");
    assert_refused(client.transfer_funds(world.transfer(&nowhere, &wallet, 1)).await, Code::NotFound, "WALLET_NOT_FOUND");
    let (code, reason, metadata) = refused(client.transfer_funds(world.transfer(&wallet, &nowhere, 1)).await);
    assert_eq!((code, reason.as_str(), metadata["name"].as_str()), (Code::NotFound, "WALLET_NOT_FOUND", nowhere.as_str()));
    let hold = format!("{wallet}/holds/{}", world.id());
    assert_refused(client.release_hold(world.release(&hold)).await, Code::NotFound, "HOLD_NOT_FOUND");
    assert_refused(client.capture_hold(world.capture(&hold, 0, "systemAccounts/fees")).await, Code::NotFound, "HOLD_NOT_FOUND");
    let elsewhere = world.wallet(10).await;
    let theirs = world.hold(&elsewhere, 5).await.replace(&elsewhere, &wallet);
    assert_refused(client.release_hold(world.release(&theirs)).await, Code::NotFound, "HOLD_NOT_FOUND");
    assert_refused(client.reverse_transaction(world.reverse(&world.request_id())).await, Code::NotFound, "TRANSACTION_NOT_FOUND");
    let get = |name: &str| api::GetWalletRequest { name: name.to_owned(), ..Default::default() };
    assert_refused(client.get_wallet(get(&nowhere)).await, Code::NotFound, "WALLET_NOT_FOUND");
    assert_refused(client.get_hold(api::GetHoldRequest { name: hold, ..Default::default() }).await, Code::NotFound, "HOLD_NOT_FOUND");
    assert_refused(client.get_hold(api::GetHoldRequest { name: theirs, ..Default::default() }).await, Code::NotFound, "HOLD_NOT_FOUND");
    let list = api::ListEntriesRequest { parent: nowhere, ..Default::default() };
    assert_refused(client.list_entries(list).await, Code::NotFound, "WALLET_NOT_FOUND");
}

#[tokio::test]
async fn an_overdraft_says_what_is_there_and_what_is_needed() {
    let world = World::new().await;
    let (wallet, other) = (world.wallet(10).await, world.wallet(0).await);
    world.hold(&wallet, 4).await;
    let mut client = world.wallets.clone();
    let status = client.burn_funds(world.burn(&wallet, 7)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!(info.reason, "INSUFFICIENT_FUNDS");
    assert_eq!(
        (info.metadata["asset"].as_str(), info.metadata["available"].as_str(), info.metadata["required"].as_str()),
        ("ASSET_COIN", "6", "7")
    );
    let precondition = &details.precondition_failure().unwrap().violations[0];
    assert_eq!((precondition.r#type.as_str(), precondition.subject.as_str()), ("BALANCE", wallet.as_str()));
    let code = Code::FailedPrecondition;
    assert_refused(client.transfer_funds(world.transfer(&wallet, &other, 7)).await, code, "INSUFFICIENT_FUNDS");
    assert_refused(client.place_hold(world.place(&wallet, 7, 1_000)).await, code, "INSUFFICIENT_FUNDS");
    let stamps = api::BurnFundsRequest { asset: Asset::Stamp.into(), ..world.burn(&wallet, 1) };
    assert_refused(client.burn_funds(stamps).await, code, "INSUFFICIENT_FUNDS");
    assert_eq!((world.coins(&wallet).await, world.coins(&other).await), ((10, 4), (0, 0)));
}

#[tokio::test]
async fn a_balance_has_a_limit() {
    const MOST: i64 = 1_000_000_000_000_000;
    let world = World::new().await;
    let (full, rich) = (world.wallet(0).await, world.wallet(MOST).await);
    // Straight to just below the limit: 9,223 grants would be the honest way.
    let mut client = world.wallets.clone();
    let grants = futures_util::future::join_all((0..9_223).map(|_| {
        let (mut client, request) = (client.clone(), world.grant(&full, MOST));
        async move { client.grant_funds(request).await.map(drop) }
    }));
    assert!(grants.await.into_iter().all(|granted| granted.is_ok()));
    let posted = world.coins(&full).await.0;
    assert_eq!(posted, 9_223 * MOST);
    let (code, reason, metadata) = refused(client.grant_funds(world.grant(&full, MOST)).await);
    assert_eq!((code, reason.as_str(), metadata["wallet"].as_str()), (Code::FailedPrecondition, "BALANCE_LIMIT", full.as_str()));
    assert_refused(client.transfer_funds(world.transfer(&rich, &full, MOST)).await, Code::FailedPrecondition, "BALANCE_LIMIT");
    assert_eq!(world.coins(&rich).await, (MOST, 0));
    client.grant_funds(world.grant(&full, i64::MAX - posted)).await.unwrap();
    assert_eq!(world.coins(&full).await, (i64::MAX, 0));
    client.burn_funds(world.burn(&full, MOST)).await.unwrap();
    client.grant_funds(world.grant(&full, MOST)).await.unwrap();
    let now = idempo_rpc::timestamp::to_proto(world.now());
    let statement = api::GetStatementRequest {
        wallet: full,
        asset: Asset::Coin.into(),
        start_time: Some(now),
        end_time: Some(prost_types::Timestamp { seconds: now.seconds + 1, ..now }),
        ..Default::default()
    };
    assert_refused(client.get_statement(statement).await, Code::OutOfRange, "STATEMENT_TOO_LARGE");
}

#[tokio::test]
async fn an_etag_that_is_not_current_is_refused_with_the_current_one() {
    let world = World::new().await;
    let wallet = world.wallet(10).await;
    let etag = world.get(&wallet).await.etag;
    let with = |etag: &str| api::GrantFundsRequest { etag: etag.to_owned(), ..world.grant(&wallet, 1) };
    world.wallets.clone().grant_funds(with(&etag)).await.unwrap();
    let (code, reason, metadata) = refused(world.wallets.clone().grant_funds(with(&etag)).await);
    assert_eq!((code, reason.as_str()), (Code::Aborted, "ETAG_MISMATCH"));
    world.wallets.clone().grant_funds(with(&metadata["current_etag"])).await.unwrap();
    assert_eq!(world.coins(&wallet).await, (12, 0));
}
