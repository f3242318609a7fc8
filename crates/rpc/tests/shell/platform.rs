use std::collections::BTreeSet;
use std::net::SocketAddr;

use idempo_rpc::{Error, ServerConfig, Service, serve};
use tokio::sync::watch;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::support::{DOMAIN, SERVICE, start, within};

async fn health_of(channel: &Channel, service: &str) -> Result<ServingStatus, Code> {
    let request = HealthCheckRequest { service: service.to_owned() };
    let answer = within(HealthClient::new(channel.clone()).check(request)).await;
    answer.map(|answer| answer.get_ref().status()).map_err(|status| status.code())
}

#[tokio::test]
async fn health_follows_readiness_for_the_server_and_each_service() {
    let server = start(ServerConfig::default()).await;
    let channel = server.channel().await;
    for service in ["", SERVICE] {
        let mut health = HealthClient::new(channel.clone());
        let mut watched = within(health.watch(HealthCheckRequest { service: service.to_owned() })).await.expect("a stream").into_inner();
        let mut next = async || within(watched.next()).await.expect("no end").expect("no error").status();
        assert_eq!(next().await, ServingStatus::Serving);
        server.ready.send_replace(false);
        assert_eq!(next().await, ServingStatus::NotServing);
        assert_eq!(health_of(&channel, service).await, Ok(ServingStatus::NotServing));
        server.ready.send_replace(true);
        assert_eq!(next().await, ServingStatus::Serving);
    }
    assert_eq!(health_of(&channel, "no.such.Service").await, Err(Code::NotFound));
}

#[tokio::test]
async fn a_server_that_was_never_ready_never_says_so() {
    let (_ready, is_ready) = watch::channel(false);
    let service = Service { domain: DOMAIN, routes: Routes::default(), names: vec![] };
    let (address, serving) = serve(&ServerConfig::default(), service, is_ready, CancellationToken::new()).await.expect("a free port");
    tokio::spawn(serving);
    let channel = Channel::from_shared(format!("http://{address}")).expect("a URL").connect().await.expect("it listens");
    assert_eq!(health_of(&channel, "").await, Ok(ServingStatus::NotServing));
}

#[tokio::test]
async fn both_versions_of_reflection_tell_what_is_served() {
    let server = start(ServerConfig::default()).await;

    use tonic_reflection::pb::{v1, v1alpha};
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(server.channel().await);
    let list = v1::server_reflection_request::MessageRequest::ListServices(String::new());
    let request = v1::ServerReflectionRequest { host: String::new(), message_request: Some(list) };
    let mut answers = within(client.server_reflection_info(tokio_stream::once(request))).await.expect("a stream").into_inner();
    let answer = within(answers.next()).await.expect("an answer").expect("no error").message_response;
    let Some(v1::server_reflection_response::MessageResponse::ListServicesResponse(list)) = answer else { panic!("{answer:?}") };
    let names: BTreeSet<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, BTreeSet::from([SERVICE, "grpc.health.v1.Health"]), "those that are served here, and no other");

    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(server.channel().await);
    let find = v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(SERVICE.to_owned());
    let request = v1alpha::ServerReflectionRequest { host: String::new(), message_request: Some(find) };
    let mut answers = within(client.server_reflection_info(tokio_stream::once(request))).await.expect("a stream").into_inner();
    let answer = within(answers.next()).await.expect("an answer").expect("no error").message_response;
    assert!(matches!(answer, Some(v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(_))), "{answer:?}");
}

#[tokio::test]
async fn an_address_in_use_is_an_error() {
    let server = start(ServerConfig::default()).await;
    let config = ServerConfig { listen: server.address, ..Default::default() };
    let service = Service { domain: DOMAIN, routes: Routes::default(), names: vec![] };
    let refused = serve(&config, service, watch::channel(true).1, CancellationToken::new()).await.err();
    assert!(matches!(refused, Some(Error::Bind { address, .. }) if address == server.address));
}

#[tokio::test]
async fn a_configuration_that_makes_no_sense_is_an_error() {
    let config = ServerConfig { concurrency_limit: 0, listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..Default::default() };
    let service = Service { domain: DOMAIN, routes: Routes::default(), names: vec![] };
    let refused = serve(&config, service, watch::channel(true).1, CancellationToken::new()).await.err();
    assert!(matches!(refused, Some(Error::Config(_))));
}
