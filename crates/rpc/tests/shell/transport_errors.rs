use idempo_rpc::{ServerConfig, status};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::support::{DOMAIN, GET_ITEM, get, raw, spawn_get, start, within};

fn code_and_reason(status: &Status) -> (Code, String) {
    let info = status.get_details_error_info().expect("every error has an ErrorInfo");
    assert_eq!(info.domain, DOMAIN);
    (status.code(), info.reason)
}

#[tokio::test]
async fn a_message_that_can_not_be_decoded_is_the_callers_mistake() {
    let server = start(ServerConfig::default()).await;
    for body in [&b"\x0a\xff"[..], b"\x0b", b"\x0a\x01\xff", b"\x08\x01"] {
        let refused = raw(server.channel().await, GET_ITEM, body).await.expect_err("not a GetItemRequest");
        assert_eq!(code_and_reason(&refused), (Code::InvalidArgument, "MALFORMED_REQUEST".to_owned()), "{body:?}");
    }
}

#[tokio::test]
async fn a_message_nested_too_deep_is_refused_without_harm() {
    let server = start(ServerConfig::default()).await;
    // Groups within groups of an unknown field: skipping them is what nests.
    let body = [vec![0x93_u8, 0x3f]; 1].concat().repeat(50_000);
    let refused = raw(server.channel().await, GET_ITEM, body).await.expect_err("too deep");
    assert_eq!(code_and_reason(&refused), (Code::InvalidArgument, "MALFORMED_REQUEST".to_owned()));
}

#[tokio::test]
async fn an_unknown_method_or_service_is_unimplemented() {
    let server = start(ServerConfig::default()).await;
    for path in ["/idempo.inventory.v1.InventoryQueryService/Nothing", "/no.such.Service/Nothing", "/nothing", "/"] {
        let refused = raw(server.channel().await, path, &b""[..]).await.expect_err("no such method");
        assert_eq!(code_and_reason(&refused), (Code::Unimplemented, "METHOD_UNKNOWN".to_owned()), "{path}");
    }
}

#[tokio::test]
async fn a_panic_is_an_internal_error_of_its_call_alone() {
    let server = start(ServerConfig::default()).await;
    let client = server.client().await;
    let neighbour = spawn_get(&client, "gate");
    server.inside(1).await;

    let failed = get(client, "panic").await.expect_err("it panicked");
    assert_eq!(code_and_reason(&failed), (Code::Internal, "HANDLER_PANICKED".to_owned()));
    assert!(!failed.message().contains("own panic"), "what is internal is not told");

    server.gate.open.add_permits(1);
    assert!(within(neighbour).await.expect("no panic").is_ok());
}

#[tokio::test]
async fn a_handlers_bare_internal_error_stays_one() {
    let server = start(ServerConfig::default()).await;
    let mut client = server.client().await;
    let failed = within(client.list_items(idempo_proto::inventory::v1::ListItemsRequest::default())).await.expect_err("it fails");
    assert_eq!(code_and_reason(&failed), (Code::Internal, "INTERNAL".to_owned()));
    assert_eq!(status::reason(&failed).as_deref(), Some("INTERNAL"));
}
