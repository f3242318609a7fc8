//! The gRPC service: each RPC is a handler's. Each mutation declares here how critical it is, which says when it is refused while events are not carried
//! away.

use idempo_command_service::{Admission, Criticality};
use idempo_proto::wallet::v1 as message;
use idempo_proto::wallet::v1::wallet_service_server::WalletService;
use tonic::{Request, Response, Status};

use crate::handlers::{self, Handlers};

/// `idempo.wallet.v1.WalletService`.
pub(crate) struct Grpc {
    pub(crate) handlers: Handlers,
    pub(crate) admission: Admission,
}

/// Declares each RPC as the handler of its name.
macro_rules! rpcs {
    (
        mutations { $($mutation:ident($asked:ident) -> $answer:ident, $criticality:ident;)+ }
        reads { $($read:ident($query:ident) -> $found:ident;)+ }
    ) => {
        #[tonic::async_trait]
        impl WalletService for Grpc {
            $(async fn $mutation(&self, request: Request<message::$asked>) -> Result<Response<message::$answer>, Status> {
                self.admission.admit(Criticality::$criticality)?;
                handlers::$mutation(&self.handlers, request).await
            })+
            $(async fn $read(&self, request: Request<message::$query>) -> Result<Response<message::$found>, Status> {
                handlers::$read(&self.handlers, request).await
            })+
        }

        /// The mutations, as they are declared.
        #[cfg(test)]
        const MUTATIONS: &[(&str, Criticality)] = &[$((stringify!($mutation), Criticality::$criticality)),+];
    };
}

rpcs! {
    mutations {
        open_wallet(OpenWalletRequest) -> OpenWalletResponse, Low;
        grant_funds(GrantFundsRequest) -> GrantFundsResponse, Normal;
        burn_funds(BurnFundsRequest) -> BurnFundsResponse, Normal;
        transfer_funds(TransferFundsRequest) -> TransferFundsResponse, Normal;
        place_hold(PlaceHoldRequest) -> PlaceHoldResponse, Normal;
        capture_hold(CaptureHoldRequest) -> CaptureHoldResponse, Critical;
        release_hold(ReleaseHoldRequest) -> ReleaseHoldResponse, Critical;
        reverse_transaction(ReverseTransactionRequest) -> ReverseTransactionResponse, Critical;
    }
    reads {
        get_wallet(GetWalletRequest) -> GetWalletResponse;
        get_hold(GetHoldRequest) -> GetHoldResponse;
        list_entries(ListEntriesRequest) -> ListEntriesResponse;
        get_statement(GetStatementRequest) -> GetStatementResponse;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use idempo_rpc::descriptor::{field_number, methods, request_of};

    use super::*;

    /// `GrantFunds` → `grant_funds`.
    fn snake(name: &str) -> String {
        let words = name.chars().flat_map(|c| c.is_ascii_uppercase().then_some('_').into_iter().chain([c.to_ascii_lowercase()]));
        words.collect::<String>().trim_start_matches('_').to_owned()
    }

    #[test]
    fn every_mutation_of_the_service_declares_how_critical_it_is() {
        let own = methods().filter_map(|method| Some((method, method.strip_prefix("idempo.wallet.v1.WalletService/")?)));
        let is_mutation = |method| request_of(method).is_some_and(|request| field_number(request, "request_id").is_some());
        let mutations: BTreeSet<String> = own.filter(|(method, _)| is_mutation(method)).map(|(_, name)| snake(name)).collect();
        let declared: BTreeSet<String> = MUTATIONS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(declared, mutations);
        assert!(!mutations.is_empty());
    }

    #[test]
    fn what_ends_something_that_was_begun_is_never_refused_for_the_backlog() {
        let critical: BTreeSet<&str> =
            MUTATIONS.iter().filter(|(_, value)| *value == Criticality::Critical).map(|(name, _)| *name).collect();
        assert_eq!(critical, BTreeSet::from(["capture_hold", "release_hold", "reverse_transaction"]));
    }
}
