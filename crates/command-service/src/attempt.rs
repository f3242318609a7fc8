//! What all mutations have in common: from the request's key to the stored answer.

use idempo_decider::Timestamp;
use idempo_event_store::{CommandOf, Domain, Handle, IdempotencyKey, KeyOrigin, Origin, StreamTarget, Submission, respond};
use idempo_rpc::fingerprint::fingerprint;
use idempo_rpc::{Violations, scope_of};
use idempo_telemetry::traceparent_of_current_span;
use prost::Message;
use smallvec::SmallVec;
use tonic::{Request, Response, Status};

/// The fields that the requests of all mutations share.
#[derive(Debug, Clone, Copy)]
pub struct Shared<'a> {
    /// The idempotency key, as text.
    pub request_id: &'a str,
    /// The version that the caller has seen, as text; empty where it does not matter, or the request has no such field.
    pub etag: &'a str,
    /// Answer as the mutation would, and change nothing.
    pub validate_only: bool,
}

/// A checked attempt at a mutation.
#[derive(Debug)]
pub struct Attempt {
    method: &'static str,
    key: IdempotencyKey,
    expected_version: Option<u64>,
    validate_only: bool,
}

impl Attempt {
    /// Checks what all mutations share at the time `now`; `None` where `violations` has got one. `method` is the RPC's full name.
    pub fn check<M: Message>(
        violations: &mut Violations,
        now: Timestamp,
        method: &'static str,
        request: &Request<M>,
        shared: &Shared<'_>,
    ) -> Option<Self> {
        let key = violations.request_id(now, shared.request_id);
        let caller = violations.caller(request.metadata());
        let expected_version = violations.etag(shared.etag);
        Some(Self {
            method,
            key: IdempotencyKey { scope: scope_of(&caller?, method), key: key?, fingerprint: fingerprint(request.get_ref()) },
            expected_version: expected_version?,
            validate_only: shared.validate_only,
        })
    }

    /// Has a command decided and appended, and answers with what its key is bound to. `error_domain` is the service's name in errors.
    ///
    /// # Errors
    /// The refusal that the key is bound to, or that there is no definite answer.
    ///
    /// # Cancel safety
    /// Cancel safe: a command whose caller goes away is either not begun or runs to its end.
    pub async fn submit<D: Domain, R: Message + Default>(
        self,
        commands: &Handle<D>,
        error_domain: &'static str,
        streams: SmallVec<[StreamTarget; 2]>,
        command: CommandOf<D>,
    ) -> Result<Response<R>, Status> {
        let submission = Submission {
            streams,
            command,
            key: self.key,
            expected_version: self.expected_version,
            validate_only: self.validate_only,
            key_origin: KeyOrigin::Client,
            origin: Origin { correlation_id: None, causation_id: None, traceparent: traceparent_of_current_span() },
        };
        respond(commands.execute(submission).await, error_domain, self.method)
    }
}
