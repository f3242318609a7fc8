//! The gRPC service: each RPC is a handler's.

use idempo_proto::wallet::v1 as message;
use idempo_proto::wallet::v1::wallet_service_server::WalletService;
use tonic::{Request, Response, Status};

use crate::handlers::{self, Handlers};

/// `idempo.wallet.v1.WalletService`.
pub(crate) struct Grpc(pub(crate) Handlers);

/// Declares each RPC as the handler of its name.
macro_rules! rpcs {
    ($($rpc:ident($request:ident) -> $response:ident;)+) => {
        #[tonic::async_trait]
        impl WalletService for Grpc {
            $(async fn $rpc(&self, request: Request<message::$request>) -> Result<Response<message::$response>, Status> {
                handlers::$rpc(&self.0, request).await
            })+
        }
    };
}

rpcs! {
    open_wallet(OpenWalletRequest) -> OpenWalletResponse;
    grant_funds(GrantFundsRequest) -> GrantFundsResponse;
    burn_funds(BurnFundsRequest) -> BurnFundsResponse;
    transfer_funds(TransferFundsRequest) -> TransferFundsResponse;
    place_hold(PlaceHoldRequest) -> PlaceHoldResponse;
    capture_hold(CaptureHoldRequest) -> CaptureHoldResponse;
    release_hold(ReleaseHoldRequest) -> ReleaseHoldResponse;
    reverse_transaction(ReverseTransactionRequest) -> ReverseTransactionResponse;
    get_wallet(GetWalletRequest) -> GetWalletResponse;
    get_hold(GetHoldRequest) -> GetHoldResponse;
    list_entries(ListEntriesRequest) -> ListEntriesResponse;
    get_statement(GetStatementRequest) -> GetStatementResponse;
}
