//! The gRPC service: each RPC is a handler's.

use idempo_proto::inventory::v1 as message;
use idempo_proto::inventory::v1::inventory_service_server::InventoryService;
use tonic::{Request, Response, Status};

use crate::handlers::{self, Handlers};

/// `idempo.inventory.v1.InventoryService`.
#[derive(Clone)]
pub(crate) struct Grpc(pub(crate) Handlers);

/// Declares each RPC as the handler of its name.
macro_rules! rpcs {
    ($($rpc:ident($request:ident) -> $response:ident;)+) => {
        #[tonic::async_trait]
        impl InventoryService for Grpc {
            $(async fn $rpc(&self, request: Request<message::$request>) -> Result<Response<message::$response>, Status> {
                handlers::$rpc(&self.0, request).await
            })+
        }
    };
}

rpcs! {
    create_item_type(CreateItemTypeRequest) -> CreateItemTypeResponse;
    get_item_type(GetItemTypeRequest) -> GetItemTypeResponse;
    list_item_types(ListItemTypesRequest) -> ListItemTypesResponse;
    grant_item(GrantItemRequest) -> GrantItemResponse;
    reserve_item(ReserveItemRequest) -> ReserveItemResponse;
    release_reservation(ReleaseReservationRequest) -> ReleaseReservationResponse;
    transfer_item(TransferItemRequest) -> TransferItemResponse;
    consume_item(ConsumeItemRequest) -> ConsumeItemResponse;
    equip_item(EquipItemRequest) -> EquipItemResponse;
    unequip_item(UnequipItemRequest) -> UnequipItemResponse;
}
