//! The database goes away and comes back: calls say so, no key is bound, and the service is back to work by itself.

use idempo_clock::ManualClock;
use idempo_devstack::testing::{self, Proxy, eventually};
use idempo_ids::{Uuid, derive};
use idempo_proto::inventory::v1::{CreateItemTypeRequest, GetItemTypeRequest, GrantItemRequest};
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

use crate::support::{PATIENCE, START, is_replayed, ready, replica, stackable};

#[track_caller]
fn assert_away<T: std::fmt::Debug>(answer: Result<Response<T>, Status>) {
    let status = answer.expect_err("the database is away");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.get_details_retry_info().is_some(), "{status:?}");
}

#[tokio::test]
async fn while_the_database_is_away_calls_are_unavailable_and_later_they_work_with_the_same_keys() {
    let database = testing::database("inventory_db").await;
    let mut proxy = Proxy::shut(testing::cluster().address()).await;
    let through = database.config_through(&proxy, "idempo_inventory");
    let config = idempo_pg::Config { connect_timeout_ms: 1_000, acquire_timeout_ms: 1_000, ..through };
    let clock = ManualClock::new(START.parse().expect("a time"));
    let start: jiff::Timestamp = START.parse().expect("a time");
    let time = Uuid::from_u128(u128::from(start.as_millisecond().unsigned_abs()) << 80);
    let key = |n| derive(time, "key", n).to_string();

    // The database is not there yet when the service starts.
    let (service, client) = replica(config, &clock).await;
    let create = CreateItemTypeRequest { request_id: key(1), item_type: Some(stackable("arrow")), ..Default::default() };
    assert_away(client.clone().create_item_type(create.clone()).await);
    assert!(!service.platform.readiness.is_ready());

    proxy.open().await;
    ready(&service).await;
    assert!(!is_replayed(&client.clone().create_item_type(create).await));

    let item_type = "itemTypes/arrow".to_owned();
    let player = format!("players/{}", Uuid::from_u128(7));
    let grant = |n| GrantItemRequest {
        request_id: key(n),
        player: player.clone(),
        item_type: item_type.clone(),
        quantity: 5,
        ..Default::default()
    };
    client.clone().grant_item(grant(2)).await.expect("granted");
    proxy.cut().await;
    // This one is stopped at the append, since the item type is remembered; the read before that.
    assert_away(client.clone().grant_item(grant(3)).await);
    assert_away(client.clone().get_item_type(GetItemTypeRequest { name: item_type.clone() }).await);
    eventually(PATIENCE, "the service sees that its database is away", async || !service.platform.readiness.is_ready()).await;

    proxy.open().await;
    ready(&service).await;
    let granted = client.clone().grant_item(grant(3)).await;
    assert!(!is_replayed(&granted));
    assert_eq!(granted.expect("granted").into_inner().quantity, 10);
    assert!(is_replayed(&client.clone().grant_item(grant(3)).await));
    service.stop(PATIENCE).await.expect("stopped in order");
    proxy.cut().await;
}
