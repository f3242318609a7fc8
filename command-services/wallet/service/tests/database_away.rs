//! The database goes away and comes back: calls say so, no key is bound, and the service is back to work by itself.

use std::sync::Arc;

use idempo_clock::ManualClock;
use idempo_devstack::testing::{self, Proxy, eventually};
use idempo_ids::{Uuid, derive};
use idempo_proto::wallet::v1 as api;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::support::*;

#[tokio::test]
async fn while_the_database_is_away_calls_are_unavailable_and_later_they_work_with_the_same_keys() {
    let database = testing::database("wallet_db").await;
    let mut proxy = Proxy::shut(testing::cluster().address()).await;
    let through = database.config_through(&proxy, "idempo_wallet");
    let config = idempo_pg::Config { connect_timeout_ms: 1_000, acquire_timeout_ms: 1_000, ..through };
    let clock = ManualClock::new(START.parse().unwrap());
    // The database is not there yet when the service starts.
    let (service, client) = replica(config, &clock).await;
    let player_id = Uuid::from_u128(7).to_string();
    let open = api::OpenWalletRequest { request_id: key(&clock, 1), player_id: player_id.clone(), validate_only: false };
    assert_away(client.clone().open_wallet(open.clone()).await);
    assert!(!service.platform.readiness.is_ready());

    proxy.open().await;
    tokio::time::timeout(PATIENCE, service.platform.readiness.wait_ready()).await.unwrap();
    let first = client.clone().open_wallet(open).await.unwrap();
    assert!(!is_replay(first.metadata()));

    let name = format!("wallets/{player_id}");
    let grant = api::GrantFundsRequest { request_id: key(&clock, 2), wallet: name.clone(), asset: 1, amount: 5, ..Default::default() };
    proxy.cut().await;
    assert_away(client.clone().grant_funds(grant.clone()).await);
    assert_away(client.clone().get_wallet(api::GetWalletRequest { name: name.clone(), ..Default::default() }).await);
    // A refusal that needs no state can't bind its key now, so it is not told: the mended request under the same key would be applied later.
    let malformed = api::GrantFundsRequest { request_id: key(&clock, 3), amount: 0, ..grant.clone() };
    assert_away(client.clone().grant_funds(malformed.clone()).await);
    eventually(PATIENCE, "the service sees that its database is away", async || !service.platform.readiness.is_ready()).await;

    proxy.open().await;
    tokio::time::timeout(PATIENCE, service.platform.readiness.wait_ready()).await.unwrap();
    client.clone().grant_funds(grant.clone()).await.unwrap();
    assert!(is_replay(client.clone().grant_funds(grant).await.unwrap().metadata()));
    let refused = client.clone().grant_funds(malformed.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    let mended = api::GrantFundsRequest { amount: 5, ..malformed };
    assert_eq!(client.clone().grant_funds(mended).await.unwrap_err().code(), Code::AlreadyExists);
    let wallet =
        client.clone().get_wallet(api::GetWalletRequest { name, ..Default::default() }).await.unwrap().into_inner().wallet.unwrap();
    assert_eq!(wallet.balances[0].posted, 5);
    service.stop(PATIENCE).await.unwrap();
    proxy.cut().await;
}

fn key(clock: &Arc<ManualClock>, number: u32) -> String {
    use idempo_clock::Clock as _;
    derive(Uuid::from_u128(u128::from(clock.now().as_millisecond().unsigned_abs()) << 80), "key", number).to_string()
}

#[track_caller]
fn assert_away<T: std::fmt::Debug>(answer: Result<tonic::Response<T>, tonic::Status>) {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.get_details_retry_info().is_some(), "{status:?}");
}
