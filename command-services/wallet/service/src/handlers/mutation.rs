//! What all mutations have in common: from the request's key to the stored answer.

use idempo_command_service::Attempt;
pub(super) use idempo_command_service::Shared;
use idempo_rpc::Violations;
use idempo_wallet_domain::Command;
use prost::Message;
use tonic::{Request, Response, Status};

use super::Handlers;
use crate::codec::{DOMAIN, streams};

impl Handlers {
    /// Checks what all mutations share. `method` is the RPC's full name. A request without an etag field gives an empty one.
    pub(super) fn attempt<M: Message>(
        &self,
        violations: &mut Violations,
        method: &'static str,
        request: &Request<M>,
        shared: &Shared<'_>,
    ) -> Option<Attempt> {
        Attempt::check(violations, self.clock.now(), method, request, shared)
    }

    /// Takes checked values, or binds the request's key to their refusal.
    pub(super) async fn accept<T: Send>(&self, attempt: Option<Attempt>, checked: Result<T, Status>) -> Result<(Attempt, T), Status> {
        Attempt::accept(attempt, checked, &self.commands, DOMAIN).await
    }

    /// Has a command decided and appended, and answers with what its key is bound to.
    ///
    /// # Cancel safety
    /// Cancel safe: a command whose caller goes away is either not begun or runs to its end.
    pub(super) async fn submit<R: Message + Default>(&self, attempt: Attempt, command: Command) -> Result<Response<R>, Status> {
        attempt.submit(&self.commands, DOMAIN, streams(&command), command).await
    }
}
