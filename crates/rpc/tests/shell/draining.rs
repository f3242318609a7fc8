use idempo_rpc::{Error, ServerConfig};
use tokio_stream::StreamExt as _;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::support::{PATIENCE, spawn_get, start, within};

#[tokio::test]
async fn open_calls_are_answered_and_new_connections_refused() {
    let server = start(ServerConfig::default()).await;
    let client = server.client().await;
    let open = spawn_get(&client, "gate");
    server.inside(1).await;

    server.shutdown.cancel();
    let begun = tokio::time::Instant::now();
    while tokio::net::TcpStream::connect(server.address).await.is_ok() {
        assert!(begun.elapsed() < PATIENCE, "it still listens");
        tokio::task::yield_now().await;
    }
    assert!(!server.served.is_finished());

    server.gate.open.add_permits(1);
    assert!(within(open).await.expect("no panic").is_ok());
    assert!(within(server.served).await.expect("no panic").is_ok());
}

#[tokio::test]
async fn calls_that_do_not_end_are_cut_off() {
    let server = start(ServerConfig { drain_ms: 50, request_timeout_ms: 60_000, ..Default::default() }).await;
    let client = server.client().await;
    let open = spawn_get(&client, "gate");
    server.inside(1).await;

    server.shutdown.cancel();
    let served = within(server.served).await.expect("no panic");
    assert!(matches!(served, Err(Error::NotDrained { drain_ms: 50 })), "{served:?}");
    assert!(within(open).await.expect("no panic").is_err());
    within(server.gate.inside.subscribe().wait_for(|inside| *inside == 0)).await.expect("the gate lives");
}

#[tokio::test]
async fn those_who_watch_the_health_hear_the_end_and_do_not_delay_it() {
    let server = start(ServerConfig::default()).await;
    let mut health = HealthClient::new(server.channel().await);
    let mut watched = within(health.watch(HealthCheckRequest::default())).await.expect("a stream").into_inner();
    let mut next = async || within(watched.next()).await.transpose().expect("no error").map(|answer| answer.status());
    assert_eq!(next().await, Some(ServingStatus::Serving));

    server.shutdown.cancel();
    assert_eq!(next().await, Some(ServingStatus::NotServing));
    assert_eq!(next().await, None);
    assert!(within(server.served).await.expect("no panic").is_ok());
}

#[tokio::test]
async fn an_idle_connection_does_not_delay_the_end() {
    let server = start(ServerConfig::default()).await;
    let _idle = server.channel().await;
    server.shutdown.cancel();
    assert!(within(server.served).await.expect("no panic").is_ok());
}
