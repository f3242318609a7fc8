use idempo_rpc::{ServerConfig, status};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;

use super::support::{get, spawn_get, start, within};

#[tokio::test]
async fn calls_above_the_limit_are_refused_with_a_time_to_try_again() {
    let server = start(ServerConfig { concurrency_limit: 2, ..Default::default() }).await;
    // Over two connections: the limit is the server's.
    let (one, other) = (server.client().await, server.client().await);
    let held = [spawn_get(&one, "gate"), spawn_get(&other, "gate")];
    server.inside(2).await;

    let refused = get(one.clone(), "fast").await.expect_err("the server is full");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(status::reason(&refused).as_deref(), Some("OVERLOADED"));
    assert!(refused.get_details_retry_info().is_some());

    server.gate.open.add_permits(2);
    for call in held {
        assert!(within(call).await.expect("no panic").is_ok());
    }
    assert!(get(other, "fast").await.is_ok());
}

#[tokio::test]
async fn health_answers_while_the_server_is_full() {
    let server = start(ServerConfig { concurrency_limit: 1, ..Default::default() }).await;
    let client = server.client().await;
    let held = spawn_get(&client, "gate");
    server.inside(1).await;

    let mut health = HealthClient::new(server.channel().await);
    assert!(within(health.check(HealthCheckRequest::default())).await.is_ok());
    held.abort();
}

#[tokio::test]
async fn a_caller_that_goes_away_frees_its_place() {
    let server = start(ServerConfig { concurrency_limit: 1, ..Default::default() }).await;
    let client = server.client().await;
    let held = spawn_get(&client, "gate");
    server.inside(1).await;

    held.abort();
    server.inside(0).await;
    assert!(get(client, "fast").await.is_ok());
}

#[tokio::test]
async fn a_connection_has_no_more_calls_open_than_its_limit() {
    let server = start(ServerConfig { streams_per_connection_limit: 2, ..Default::default() }).await;
    let client = server.client().await;
    // The client learns the limit with the server's first frame, which has arrived once a call was answered.
    get(client.clone(), "fast").await.expect("an answer");
    let calls: Vec<_> = (0..10).map(|_| spawn_get(&client, "gate")).collect();
    server.inside(2).await;
    server.gate.open.add_permits(10);
    for call in calls {
        assert!(within(call).await.expect("no panic").is_ok());
    }
    assert_eq!(*server.gate.peak.borrow(), 2);
}

#[tokio::test]
async fn a_request_above_the_size_limit_is_refused() {
    let server = start(ServerConfig { max_request_bytes: 1000, ..Default::default() }).await;
    let client = server.client().await;
    // Two bytes of key and length before the name's own.
    assert!(get(client.clone(), &"x".repeat(900)).await.is_ok());
    let refused = get(client.clone(), &"x".repeat(1100)).await.expect_err("too large");
    assert_eq!((refused.code(), status::reason(&refused).as_deref()), (Code::OutOfRange, Some("REQUEST_TOO_LARGE")));
    assert!(get(client, "fast").await.is_ok(), "the connection goes on");
}

#[tokio::test]
async fn headers_above_the_size_limit_are_refused() {
    let server = start(ServerConfig { max_header_list_bytes: 2000, ..Default::default() }).await;
    let mut client = server.client().await;
    let mut request = tonic::Request::new(Default::default());
    request.metadata_mut().insert("x-long", "x".repeat(3000).parse().expect("ASCII"));
    assert!(within(client.get_item(request)).await.is_err());
    assert!(get(client, "fast").await.is_ok(), "the connection goes on");
}

#[tokio::test]
async fn a_response_above_the_size_limit_is_not_sent() {
    let server = start(ServerConfig { max_response_bytes: 500, ..Default::default() }).await;
    let mut client = server.client().await;
    let refused =
        within(client.list_item_events(idempo_proto::inventory::v1::ListItemEventsRequest::default())).await.expect_err("too large");
    assert_eq!(refused.code(), Code::OutOfRange);
}
