//! Every field has bounds, and a violation names it.

use idempo_proto::wallet::v1 as api;
use prost_types::Timestamp;

use crate::support::*;

const UPPER: &str = "wallets/00000000-0000-7000-8000-00000000000A";
const BAD_NAMES: [&str; 6] = [
    "",
    "wallets/",
    "wallets/1",
    "players/00000000-0000-7000-8000-000000000001",
    "wallets/00000000000070008000000000000001",
    "wallets/a/holds/b",
];

#[tokio::test]
async fn a_mutation_without_a_good_request_id_is_refused() {
    let world = World::new().await;
    let wallet = world.wallet(10).await;
    let now_ms = world.now().as_millisecond();
    let at = |ms: i64| format!("{:08x}-{:04x}-7000-8000-000000000001", ms >> 16, ms & 0xffff);
    for bad in ["", "no", "00000000-0000-4000-8000-000000000001", &at(now_ms).replace('-', ""), &at(now_ms + 360_000)] {
        let request = api::GrantFundsRequest { request_id: bad.to_owned(), ..world.grant(&wallet, 1) };
        assert_eq!(violations(world.wallets.clone().grant_funds(request).await), ["request_id"], "{bad}");
    }
    let hold = world.hold(&wallet, 1).await;
    let mut client = world.wallets.clone();
    let none = String::new();
    let player_id = world.id().to_string();
    let other = world.wallet(0).await;
    let answers = [
        violations(client.open_wallet(api::OpenWalletRequest { player_id, ..Default::default() }).await),
        violations(client.burn_funds(api::BurnFundsRequest { request_id: none.clone(), ..world.burn(&wallet, 1) }).await),
        violations(
            client.transfer_funds(api::TransferFundsRequest { request_id: none.clone(), ..world.transfer(&wallet, &other, 1) }).await,
        ),
        violations(client.place_hold(api::PlaceHoldRequest { request_id: none.clone(), ..world.place(&wallet, 1, 1_000) }).await),
        violations(client.capture_hold(api::CaptureHoldRequest { request_id: none.clone(), ..world.capture(&hold, 0, &other) }).await),
        violations(client.release_hold(api::ReleaseHoldRequest { request_id: none.clone(), ..world.release(&hold) }).await),
        violations(
            client.reverse_transaction(api::ReverseTransactionRequest { request_id: none, ..world.reverse(&world.request_id()) }).await,
        ),
    ];
    assert!(answers.iter().all(|fields| fields == &["request_id"]), "{answers:?}");
    assert_eq!(world.coins(&wallet).await, (10, 1));
}

#[tokio::test]
async fn an_amount_is_from_one_to_ten_to_the_fifteenth_everywhere() {
    let world = World::new().await;
    let (wallet, other) = (world.wallet(10).await, world.wallet(0).await);
    let hold = world.hold(&wallet, 5).await;
    let mut client = world.wallets.clone();
    for bad in [0, -1, i64::MIN, 1_000_000_000_000_001, i64::MAX] {
        assert_eq!(violations(client.grant_funds(world.grant(&wallet, bad)).await), ["amount"]);
        assert_eq!(violations(client.burn_funds(world.burn(&wallet, bad)).await), ["amount"]);
        assert_eq!(violations(client.transfer_funds(world.transfer(&wallet, &other, bad)).await), ["amount"]);
        assert_eq!(violations(client.place_hold(world.place(&wallet, bad, 1_000)).await), ["amount"]);
        if bad != 0 {
            assert_eq!(violations(client.capture_hold(world.capture(&hold, bad, &other)).await), ["amount"]);
        }
    }
    assert_eq!(world.coins(&wallet).await, (10, 5));
}

#[tokio::test]
async fn payer_and_payee_are_two() {
    let world = World::new().await;
    let wallet = world.wallet(10).await;
    let hold = world.hold(&wallet, 5).await;
    let mut client = world.wallets.clone();
    assert_eq!(violations(client.transfer_funds(world.transfer(&wallet, &wallet, 1)).await), ["to_wallet"]);
    assert_eq!(violations(client.transfer_funds(world.transfer(UPPER, &UPPER.to_lowercase(), 1)).await), ["to_wallet"]);
    assert_eq!(violations(client.capture_hold(world.capture(&hold, 1, &wallet)).await), ["to"]);
}

#[tokio::test]
async fn names_assets_reasons_etags_and_times_to_live_are_checked() {
    let world = World::new().await;
    let wallet = world.wallet(10).await;
    let mut client = world.wallets.clone();
    for bad in BAD_NAMES {
        assert_eq!(violations(client.grant_funds(world.grant(bad, 1)).await), ["wallet"], "{bad}");
        assert_eq!(violations(client.transfer_funds(world.transfer(bad, &wallet, 1)).await), ["from_wallet"], "{bad}");
        assert_eq!(violations(client.transfer_funds(world.transfer(&wallet, bad, 1)).await), ["to_wallet"], "{bad}");
        assert_eq!(violations(client.release_hold(world.release(bad)).await), ["hold"], "{bad}");
        let to_hold = format!("{wallet}/holds/{}", world.id());
        assert_eq!(violations(client.capture_hold(world.capture(&to_hold, 1, bad)).await), ["to"], "{bad}");
    }
    let to_hold = format!("{wallet}/holds/{}", world.id());
    for bad in ["systemAccounts/mint", "systemAccounts/", "systemAccounts/other"] {
        assert_eq!(violations(client.capture_hold(world.capture(&to_hold, 1, bad)).await), ["to"], "{bad}");
    }
    for bad in [0, 3, -1] {
        assert_eq!(violations(client.grant_funds(api::GrantFundsRequest { asset: bad, ..world.grant(&wallet, 1) }).await), ["asset"]);
    }
    for bad in ["x".repeat(129), "a\nb".to_owned()] {
        assert_eq!(violations(client.grant_funds(api::GrantFundsRequest { reason: bad, ..world.grant(&wallet, 1) }).await), ["reason"]);
    }
    for bad in ["x", "-1", "01", "1.0"] {
        let request = api::GrantFundsRequest { etag: bad.to_owned(), ..world.grant(&wallet, 1) };
        assert_eq!(violations(client.grant_funds(request).await), ["etag"], "{bad}");
    }
    for bad in [0, 999, -1, 2_592_000_001, i64::MAX] {
        assert_eq!(violations(client.place_hold(world.place(&wallet, 1, bad)).await), ["ttl_ms"]);
    }
    let request = api::ReverseTransactionRequest { shortfall_policy: 9, ..world.reverse(&world.request_id()) };
    assert_eq!(violations(client.reverse_transaction(request).await), ["shortfall_policy"]);
    assert_eq!(violations(client.reverse_transaction(world.reverse("x")).await), ["transaction_id"]);
}

#[tokio::test]
async fn every_violation_of_a_request_is_named_at_once() {
    let world = World::new().await;
    let answer = world.wallets.clone().transfer_funds(api::TransferFundsRequest::default()).await;
    assert_eq!(violations(answer), ["request_id", "from_wallet", "to_wallet", "asset", "amount"]);
}

#[tokio::test]
async fn a_caller_has_a_short_plain_name() {
    let world = World::new().await;
    let wallet = world.wallet(0).await;
    let mut request = tonic::Request::new(world.grant(&wallet, 1));
    request.metadata_mut().insert("idempo-caller", "not a name".parse().unwrap());
    assert_eq!(violations(world.wallets.clone().grant_funds(request).await), ["idempo-caller"]);
}

#[tokio::test]
async fn reads_check_their_fields() {
    let world = World::new().await;
    let wallet = world.wallet(0).await;
    let mut client = world.wallets.clone();
    let time = |seconds| Some(Timestamp { seconds, nanos: 0 });
    for bad in BAD_NAMES {
        assert_eq!(violations(client.get_wallet(api::GetWalletRequest { name: bad.to_owned(), ..Default::default() }).await), ["name"]);
        assert_eq!(violations(client.get_hold(api::GetHoldRequest { name: bad.to_owned(), ..Default::default() }).await), ["name"]);
        let request = api::ListEntriesRequest { parent: bad.to_owned(), ..Default::default() };
        assert_eq!(violations(client.list_entries(request).await), ["parent"]);
    }
    let request = api::GetWalletRequest { name: wallet.clone(), min_position: "?".to_owned(), ..Default::default() };
    assert_eq!(violations(client.get_wallet(request).await), ["min_position"]);
    let request = api::GetWalletRequest { name: wallet.clone(), as_of: time(i64::MAX), ..Default::default() };
    assert_eq!(violations(client.get_wallet(request).await), ["as_of"]);
    let list = |page_size, page_token: &str, filter| api::ListEntriesRequest {
        parent: wallet.clone(),
        page_size,
        page_token: page_token.to_owned(),
        filter,
        ..Default::default()
    };
    assert_eq!(violations(client.list_entries(list(-1, "", None)).await), ["page_size"]);
    assert_eq!(violations(client.list_entries(list(1_001, "", None)).await), ["page_size"]);
    assert_eq!(violations(client.list_entries(list(0, "abc", None)).await), ["page_token"]);
    let filter = api::EntryFilter { asset: 7, kind: 77, start_time: time(9), end_time: time(9) };
    assert_eq!(violations(client.list_entries(list(0, "", Some(filter))).await), ["filter.asset", "filter.kind"]);
    let filter = api::EntryFilter { start_time: time(9), end_time: time(9), ..Default::default() };
    assert_eq!(violations(client.list_entries(list(0, "", Some(filter))).await), ["filter.end_time"]);
    let statement = |asset, start_time, end_time| api::GetStatementRequest {
        wallet: wallet.clone(),
        asset,
        start_time,
        end_time,
        ..Default::default()
    };
    assert_eq!(violations(client.get_statement(statement(0, None, None)).await), ["asset", "start_time", "end_time"]);
    assert_eq!(violations(client.get_statement(statement(1, time(5), time(5))).await), ["end_time"]);
    assert_eq!(violations(client.get_statement(statement(1, time(0), time(366 * 86_400 + 1))).await), ["end_time"]);
}
