use std::time::Duration;

use idempo_rpc::ServerConfig;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_stream::StreamExt as _;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::support::{get, start, within};

#[tokio::test]
async fn a_connection_above_the_limit_waits_until_another_one_ends() {
    let server = start(ServerConfig { connections_limit: 1, ..Default::default() }).await;
    let first = server.client().await;
    get(first.clone(), "fast").await.expect("an answer");

    // The kernel takes it. The server would greet it while it answers the other one, and does not.
    let mut second = TcpStream::connect(server.address).await.expect("it listens");
    for _ in 0..50 {
        get(first.clone(), "fast").await.expect("an answer");
    }
    let mut greeting = [0; 9];
    assert_eq!(second.try_read(&mut greeting).map_err(|error| error.kind()), Err(std::io::ErrorKind::WouldBlock));

    drop(first);
    within(second.read_exact(&mut greeting)).await.expect("the server's settings");
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let server = start(ServerConfig { handshake_ms: 50, ..Default::default() }).await;
    let mut silent = TcpStream::connect(server.address).await.expect("it listens");
    // The server's own settings come first.
    let mut received = Vec::new();
    let _ended = within(silent.read_to_end(&mut received)).await;
    assert!(get(server.client().await, "fast").await.is_ok());
}

#[tokio::test]
async fn an_old_connection_is_asked_to_end() {
    let server = start(ServerConfig { handshake_ms: 10, connection_age_ms: 100, drain_ms: 60_000, ..Default::default() }).await;
    let socket = TcpStream::connect(server.address).await.expect("it listens");
    let (_requests, connection) = h2::client::handshake(socket).await.expect("HTTP/2");
    let begun = tokio::time::Instant::now();
    within(connection).await.expect("an orderly end");
    assert!(begun.elapsed() >= Duration::from_millis(95), "it ended before its age");
}

#[tokio::test]
async fn an_old_connection_that_does_not_end_is_cut() {
    let server = start(ServerConfig { connection_age_ms: 50, drain_ms: 50, ..Default::default() }).await;
    let mut health = HealthClient::new(server.channel().await);
    let mut watched = within(health.watch(HealthCheckRequest::default())).await.expect("a stream").into_inner();
    assert!(within(watched.next()).await.expect("the first answer").is_ok());
    assert!(within(watched.next()).await.expect("an error").is_err());
}

#[tokio::test]
async fn the_protocols_limits_are_told_to_the_client() {
    let server = start(ServerConfig { streams_per_connection_limit: 7, ..Default::default() }).await;
    let socket = TcpStream::connect(server.address).await.expect("it listens");
    let (requests, mut connection) = h2::client::handshake(socket).await.expect("HTTP/2");
    within(std::future::poll_fn(|cx| {
        assert!(Future::poll(std::pin::Pin::new(&mut connection), cx).is_pending(), "the connection ended");
        if requests.current_max_send_streams() == 7 { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    }))
    .await;
}
