//! What all mutations have in common: from the request's key to the stored answer.

use idempo_event_store::{IdempotencyKey, KeyOrigin, Origin, Submission, respond};
use idempo_rpc::fingerprint::fingerprint;
use idempo_rpc::{Violations, scope_of};
use idempo_telemetry::traceparent_of_current_span;
use idempo_wallet_domain::Command;
use prost::Message;
use tonic::{Request, Response, Status};

use super::Handlers;
use crate::codec::{DOMAIN, streams};

/// The fields that the requests of all mutations share. A request without an etag field gives an empty one.
pub(super) struct Shared<'a> {
    pub(super) request_id: &'a str,
    pub(super) etag: &'a str,
    pub(super) validate_only: bool,
}

/// A checked attempt at a mutation.
pub(super) struct Attempt {
    method: &'static str,
    key: IdempotencyKey,
    expected_version: Option<u64>,
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
        let expected_version = violations.etag(shared.etag);
        Some(Attempt {
            method,
            key: IdempotencyKey { scope: scope_of(&caller?, method), key: key?, fingerprint: fingerprint(request.get_ref()) },
            expected_version: expected_version?,
            validate_only: shared.validate_only,
        })
    }

    /// Has a command decided and appended, and answers with what its key is bound to.
    ///
    /// # Cancel safety
    /// Cancel safe: a command whose caller goes away is either not begun or runs to its end.
    pub(super) async fn submit<R: Message + Default>(&self, attempt: Attempt, command: Command) -> Result<Response<R>, Status> {
        let submission = Submission {
            streams: streams(&command),
            command,
            key: attempt.key,
            expected_version: attempt.expected_version,
            validate_only: attempt.validate_only,
            key_origin: KeyOrigin::Client,
            origin: Origin { correlation_id: None, causation_id: None, traceparent: traceparent_of_current_span() },
        };
        respond(self.commands.execute(submission).await, DOMAIN, attempt.method)
    }
}
