//! What all mutations have in common: from the request's key to the stored answer.

use idempo_event_store::{CommandOf, Domain, Handle, IdempotencyKey, KeyOrigin, Origin, StreamTarget, Submission, respond};
use idempo_inventory_domain::inventory::Command;
use idempo_inventory_domain::item_type::{self, ItemType};
use idempo_rpc::fingerprint::fingerprint;
use idempo_rpc::{Violations, scope_of};
use idempo_telemetry::traceparent_of_current_span;
use prost::Message;
use smallvec::{SmallVec, smallvec};
use tonic::{Request, Response, Status};

use super::Handlers;
use crate::codec::{DOMAIN, item_type_stream, streams};

/// The fields that the requests of all mutations share.
pub(super) struct Shared<'a> {
    pub(super) request_id: &'a str,
    pub(super) validate_only: bool,
}

/// A checked attempt at a mutation.
pub(super) struct Attempt {
    method: &'static str,
    key: IdempotencyKey,
    validate_only: bool,
}

impl Handlers {
    /// Checks what all mutations share. `method` is the RPC's full name.
    pub(super) fn attempt<M: Message>(
        &self,
        violations: &mut Violations,
        method: &'static str,
        request: &Request<M>,
        shared: &Shared<'_>,
    ) -> Option<Attempt> {
        let key = violations.request_id(self.clock.now(), shared.request_id);
        let caller = violations.caller(request.metadata());
        Some(Attempt {
            method,
            key: IdempotencyKey { scope: scope_of(&caller?, method), key: key?, fingerprint: fingerprint(request.get_ref()) },
            validate_only: shared.validate_only,
        })
    }

    /// Has a command on an inventory decided and appended, and answers with what its key is bound to.
    ///
    /// # Cancel safety
    /// Cancel safe: a command whose caller goes away is either not begun or runs to its end.
    pub(super) async fn submit<R: Message + Default>(&self, attempt: Attempt, command: Command) -> Result<Response<R>, Status> {
        submit(&self.inventories, attempt, streams(&command), command).await
    }

    /// Has the creation of an item type decided and appended, and answers with what its key is bound to.
    ///
    /// # Cancel safety
    /// Cancel safe: a command whose caller goes away is either not begun or runs to its end.
    pub(super) async fn create<R: Message + Default>(&self, attempt: Attempt, item_type: ItemType) -> Result<Response<R>, Status> {
        let streams = smallvec![item_type_stream(&item_type.id)];
        submit(&self.item_types, attempt, streams, item_type::Command::Create(item_type)).await
    }
}

async fn submit<D: Domain, R: Message + Default>(
    commands: &Handle<D>,
    attempt: Attempt,
    streams: SmallVec<[StreamTarget; 2]>,
    command: CommandOf<D>,
) -> Result<Response<R>, Status> {
    let submission = Submission {
        streams,
        command,
        key: attempt.key,
        expected_version: None,
        validate_only: attempt.validate_only,
        key_origin: KeyOrigin::Client,
        origin: Origin { correlation_id: None, causation_id: None, traceparent: traceparent_of_current_span() },
    };
    respond(commands.execute(submission).await, DOMAIN, attempt.method)
}
