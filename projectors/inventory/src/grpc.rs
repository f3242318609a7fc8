//! The gRPC service: each RPC is a handler's.

use idempo_proto::inventory::v1 as message;
use idempo_proto::inventory::v1::inventory_query_service_server::InventoryQueryService;
use tonic::{Request, Response, Status};

use crate::handlers::{self, Handlers};

/// `idempo.inventory.v1.InventoryQueryService`.
pub(crate) struct Grpc(pub(crate) Handlers);

/// Declares each RPC as the handler of its name.
macro_rules! rpcs {
    ($($rpc:ident($request:ident) -> $response:ident;)+) => {
        #[tonic::async_trait]
        impl InventoryQueryService for Grpc {
            $(async fn $rpc(&self, request: Request<message::$request>) -> Result<Response<message::$response>, Status> {
                handlers::$rpc(&self.0, request).await
            })+
        }
    };
}

rpcs! {
    list_items(ListItemsRequest) -> ListItemsResponse;
    get_item(GetItemRequest) -> GetItemResponse;
    list_item_events(ListItemEventsRequest) -> ListItemEventsResponse;
}
