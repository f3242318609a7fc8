//! A server with a service whose handlers do as the test says, and clients for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use idempo_proto::inventory::v1::inventory_query_service_client::InventoryQueryServiceClient;
use idempo_proto::inventory::v1::inventory_query_service_server::{InventoryQueryService, InventoryQueryServiceServer};
use idempo_proto::inventory::v1::{
    GetItemRequest, GetItemResponse, Item, ListItemEventsRequest, ListItemEventsResponse, ListItemsRequest, ListItemsResponse,
};
use idempo_rpc::{Deadline, Error, RawCodec, ServerConfig, Service, serve};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

pub(crate) const DOMAIN: &str = "inventory.idempo";
pub(crate) const SERVICE: &str = <InventoryQueryServiceServer<Handlers> as NamedService>::NAME;
pub(crate) const GET_ITEM: &str = "/idempo.inventory.v1.InventoryQueryService/GetItem";

/// How long a test waits for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) type Client = InventoryQueryServiceClient<Channel>;

/// What the handlers have seen, and how they are let go on.
#[derive(Debug)]
pub(crate) struct Gate {
    /// How many handlers have begun, ever.
    pub(crate) begun: watch::Sender<usize>,
    pub(crate) inside: watch::Sender<usize>,
    pub(crate) peak: watch::Sender<usize>,
    pub(crate) open: Semaphore,
    pub(crate) stalls: AtomicBool,
}

#[derive(Debug, Clone)]
pub(crate) struct Handlers(Arc<Gate>);

#[tonic::async_trait]
impl InventoryQueryService for Handlers {
    async fn get_item(&self, request: Request<GetItemRequest>) -> Result<Response<GetItemResponse>, Status> {
        let remaining = Deadline::of(&request).remaining();
        self.0.begun.send_modify(|begun| *begun += 1);
        match request.get_ref().name.as_str() {
            "gate" => {
                let gate = &self.0;
                gate.inside.send_modify(|inside| *inside += 1);
                gate.peak.send_modify(|peak| *peak = (*peak).max(*gate.inside.borrow()));
                let _leave = Leave(gate);
                gate.open.acquire().await.expect("never closed").forget();
            }
            "panic" => panic!("the handler's own panic"),
            // The thread is kept, as if it got no core.
            "stall" => {
                while self.0.stalls.load(Ordering::SeqCst) {
                    std::thread::yield_now();
                }
            }
            _ => {}
        }
        let hop = i64::try_from(remaining.as_millis()).expect("not that long");
        Ok(Response::new(GetItemResponse { item: Some(Item { hop, ..Default::default() }), freshness: None }))
    }

    async fn list_items(&self, _: Request<ListItemsRequest>) -> Result<Response<ListItemsResponse>, Status> {
        Err(Status::internal("a status without details"))
    }

    async fn list_item_events(&self, _: Request<ListItemEventsRequest>) -> Result<Response<ListItemEventsResponse>, Status> {
        Ok(Response::new(ListItemEventsResponse { next_page_token: "x".repeat(1000), ..Default::default() }))
    }
}

/// Counts a handler out, also when it is dropped.
struct Leave<'a>(&'a Gate);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.inside.send_modify(|inside| *inside -= 1);
    }
}

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) gate: Arc<Gate>,
    pub(crate) ready: watch::Sender<bool>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) served: JoinHandle<Result<(), Error>>,
}

pub(crate) async fn start(config: ServerConfig) -> Running {
    let gate = Arc::new(Gate {
        begun: watch::Sender::new(0),
        inside: watch::Sender::new(0),
        peak: watch::Sender::new(0),
        open: Semaphore::new(0),
        stalls: AtomicBool::new(false),
    });
    let server = InventoryQueryServiceServer::new(Handlers(gate.clone())).max_encoding_message_size(config.max_response_bytes);
    let service = Service { domain: DOMAIN, routes: Routes::new(server), names: vec![SERVICE] };
    let (ready, is_ready) = watch::channel(true);
    let shutdown = CancellationToken::new();
    let (address, serving) = serve(&config, service, is_ready, shutdown.clone()).await.expect("a free port");
    Running { address, gate, ready, shutdown, served: tokio::spawn(serving) }
}

impl Running {
    pub(crate) async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).expect("a URL").connect().await.expect("it listens")
    }

    pub(crate) async fn client(&self) -> Client {
        Client::new(self.channel().await)
    }

    /// Waits until `count` handlers are at the gate.
    pub(crate) async fn inside(&self, count: usize) {
        within(self.gate.inside.subscribe().wait_for(|inside| *inside == count)).await.expect("the gate lives");
    }
}

/// What `future` gives, or a failed test.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}

pub(crate) async fn get(mut client: Client, name: &str) -> Result<GetItemResponse, Status> {
    within(client.get_item(GetItemRequest { name: name.to_owned(), min_position: String::new() })).await.map(Response::into_inner)
}

pub(crate) fn spawn_get(client: &Client, name: &'static str) -> JoinHandle<Result<GetItemResponse, Status>> {
    tokio::spawn(get(client.clone(), name))
}

/// Calls `path` with `body` as the message.
pub(crate) async fn raw(channel: Channel, path: &'static str, body: impl Into<Bytes>) -> Result<Bytes, Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.expect("the channel works");
    let call = grpc.unary(Request::new(body.into()), http::uri::PathAndQuery::from_static(path), RawCodec);
    within(call).await.map(Response::into_inner)
}
