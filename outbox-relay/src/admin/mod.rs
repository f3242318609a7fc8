//! `idempo.ops.v1.RelayService`: what people see of the outboxes, and what they do to them.
//!
//! Every process serves it for each outbox that it is configured with. It works through the outbox's database alone: what is asked for is stored
//! there in one transaction with its audit entry, and whoever holds the lease heeds it ([`crate::control`]). A mutation that is refused leaves
//! an audit entry as well, but for one that names no outbox of ours: there is no database to write it into, so it is logged. Nobody comes to it but whom
//! the operators' file lets in ([`idempo_rpc::operators`]).

mod audit;
mod outboxes;
mod rows;
mod wishes;

use std::sync::Arc;

use idempo_pg::{Client, Pool};
use idempo_proto::ops::v1 as message;
use idempo_proto::ops::v1::relay_service_server::RelayService;
use idempo_rpc::{Operators, refusal, status};
use tonic::{Request, Response, Status};

use crate::status::Status as OutboxStatus;

/// The domain of this service's errors.
pub(crate) const DOMAIN: &str = "outbox-relay.idempo";

/// An outbox as it is operated from this process.
pub(crate) struct Operated {
    pub(crate) name: String,
    pub(crate) pool: Pool,
    pub(crate) status: Arc<OutboxStatus>,
}

/// The service.
pub(crate) struct Operations {
    /// Who this process is, in leases.
    pub(crate) instance: String,
    pub(crate) operators: Arc<Operators>,
    pub(crate) outboxes: Vec<Operated>,
}

impl Operations {
    /// The outbox with this name: `outboxes/{outbox}`.
    fn outbox(&self, name: &str) -> Result<&Operated, Status> {
        let wanted = idempo_rpc::name::parse("outboxes/{outbox}", name).map(|[outbox]| outbox);
        let found = wanted.and_then(|wanted| self.outboxes.iter().find(|outbox| outbox.name == wanted));
        found.ok_or_else(|| refusal::not_found(DOMAIN, "OUTBOX_NOT_FOUND", "outbox", name).into_status())
    }
}

impl Operated {
    fn resource(&self) -> String {
        format!("outboxes/{}", self.name)
    }

    async fn client(&self) -> Result<Client, Status> {
        self.pool.get().await.map_err(|error| failed(&error))
    }

    /// The row that a resource name of this outbox means.
    fn seq_of(&self, name: &str) -> Option<i64> {
        let [outbox, seq] = idempo_rpc::name::parse("outboxes/{outbox}/quarantinedRows/{seq}", name)?;
        (outbox == self.name).then_some(idempo_rpc::name::number(seq)?)
    }

    fn row_name(&self, seq: i64) -> String {
        format!("outboxes/{}/quarantinedRows/{seq}", self.name)
    }
}

/// The answer where the database has failed.
fn failed(error: &idempo_pg::Error) -> Status {
    status::of_error(error, DOMAIN)
}

/// The answer where a statement has failed.
fn failed_statement(error: tokio_postgres::Error) -> Status {
    failed(&error.into())
}

/// Declares each RPC as the method of [`Operations`] with its name, for whom it is admitted.
macro_rules! rpcs {
    ($($rpc:ident = $handler:ident($request:ident) -> $response:ident;)+) => {
        #[tonic::async_trait]
        impl RelayService for Operations {
            $(async fn $rpc(&self, request: Request<message::$request>) -> Result<Response<message::$response>, Status> {
                let request = self.admitted(request).await?;
                self.$handler(request).await.map(Response::new)
            })+
        }
    };
}

rpcs! {
    get_relay_status = read_status(GetRelayStatusRequest) -> GetRelayStatusResponse;
    list_quarantined_rows = list_rows(ListQuarantinedRowsRequest) -> ListQuarantinedRowsResponse;
    get_quarantined_row = read_row(GetQuarantinedRowRequest) -> GetQuarantinedRowResponse;
    requeue_rows = requeue(RequeueRowsRequest) -> RequeueRowsResponse;
    skip_rows = skip(SkipRowsRequest) -> SkipRowsResponse;
    pause_outbox = pause(PauseOutboxRequest) -> PauseOutboxResponse;
    resume_outbox = resume(ResumeOutboxRequest) -> ResumeOutboxResponse;
    step_down = give_up(StepDownRequest) -> StepDownResponse;
    note_replay = note_replay(NoteReplayRequest) -> NoteReplayResponse;
    list_audit_entries = list_audit(ListAuditEntriesRequest) -> ListAuditEntriesResponse;
}
