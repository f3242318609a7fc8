use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;
use idempo_rpc::{RawCodec, ServerConfig, status};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use super::support::{GET_ITEM, Running, get, start, within};

/// Field 1, 4 bytes: a GetItemRequest with the name `gate`.
const GATE: &[u8] = b"\x0a\x04gate";
const FAST: &[u8] = b"\x0a\x04fast";

/// Calls through a client that, unlike tonic's, keeps no time itself: what is heard is the server's answer.
async fn call_with_timeout(server: &Running, grpc_timeout: &'static str, body: &'static [u8]) -> Result<(), Status> {
    let http = HttpClient::builder(TokioExecutor::new()).http2_only(true).build_http();
    let origin = format!("http://{}", server.address).parse().expect("a URL");
    let mut grpc = tonic::client::Grpc::with_origin(http, origin);
    grpc.ready().await.expect("the client works");
    let mut request = Request::new(Bytes::from_static(body));
    request.metadata_mut().insert("grpc-timeout", grpc_timeout.parse().expect("ASCII"));
    within(grpc.unary(request, PathAndQuery::from_static(GET_ITEM), RawCodec)).await.map(|_| ())
}

#[tokio::test]
async fn the_servers_timeout_is_told_as_deadline_exceeded_and_stops_the_handler() {
    let server = start(ServerConfig { request_timeout_ms: 50, ..Default::default() }).await;
    let over = get(server.client().await, "gate").await.expect_err("nobody opens the gate");
    assert_eq!(over.code(), Code::DeadlineExceeded);
    assert_eq!(status::reason(&over).as_deref(), Some("DEADLINE_EXCEEDED"));
    assert!(over.get_details_retry_info().is_some());
    server.inside(0).await;
}

#[tokio::test]
async fn the_callers_timeout_is_told_as_deadline_exceeded() {
    let server = start(ServerConfig::default()).await;
    for timeout in ["50m", "1m", "0m", "1n"] {
        let over = call_with_timeout(&server, timeout, GATE).await.expect_err("nobody opens the gate");
        assert_eq!(over.code(), Code::DeadlineExceeded, "{timeout}");
    }
}

#[tokio::test]
async fn a_malformed_timeout_is_refused() {
    let server = start(ServerConfig::default()).await;
    for timeout in ["soon", "10", "123456789S", "-1S"] {
        let refused = call_with_timeout(&server, timeout, FAST).await.expect_err("refused");
        assert_eq!(refused.code(), Code::InvalidArgument, "{timeout}");
        let violations = refused.get_details_bad_request().expect("a BadRequest").field_violations;
        assert_eq!(violations.first().map(|violation| violation.field.as_str()), Some("grpc-timeout"));
    }
    assert!(call_with_timeout(&server, "5S", FAST).await.is_ok());
}

#[tokio::test]
async fn a_handler_sees_how_long_its_caller_waits() {
    let server = start(ServerConfig { request_timeout_ms: 60_000, ..Default::default() }).await;
    let mut client = server.client().await;
    let item = get(client.clone(), "fast").await.expect("an answer").item.expect("an item");
    assert!((50_000..=60_000).contains(&item.hop), "{}", item.hop);

    let mut request = Request::new(Default::default());
    request.set_timeout(Duration::from_secs(30));
    let item = within(client.get_item(request)).await.expect("an answer").into_inner().item.expect("an item");
    assert!((20_000..=30_000).contains(&item.hop), "{}", item.hop);
}
