//! What all mutations have in common: from the request's key to the stored answer.

use idempo_command_service::Attempt;
pub(super) use idempo_command_service::Shared;
use idempo_inventory_domain::inventory::Command;
use idempo_inventory_domain::item_type::{self, ItemType};
use idempo_rpc::Violations;
use prost::Message;
use smallvec::smallvec;
use tonic::{Request, Response, Status};

use super::Handlers;
use crate::codec::{DOMAIN, item_type_stream, streams};

impl Handlers {
    /// Checks what all mutations share. `method` is the RPC's full name. No request has an etag field: all give an empty one.
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
        Attempt::accept(attempt, checked, &self.inventories, DOMAIN).await
    }

    /// Has a command on an inventory decided and appended, and answers with what its key is bound to.
    ///
    /// # Cancel safety
    /// Cancel safe: a command whose caller goes away is either not begun or runs to its end.
    pub(super) async fn submit<R: Message + Default>(&self, attempt: Attempt, command: Command) -> Result<Response<R>, Status> {
        attempt.submit(&self.inventories, DOMAIN, streams(&command), command).await
    }

    /// Has the creation of an item type decided and appended, and answers with what its key is bound to.
    ///
    /// # Cancel safety
    /// Cancel safe: a command whose caller goes away is either not begun or runs to its end.
    pub(super) async fn create<R: Message + Default>(&self, attempt: Attempt, item_type: ItemType) -> Result<Response<R>, Status> {
        let streams = smallvec![item_type_stream(&item_type.id)];
        attempt.submit(&self.item_types, DOMAIN, streams, item_type::Command::Create(item_type)).await
    }
}
