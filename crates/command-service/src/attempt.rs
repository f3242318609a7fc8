//! What all mutations have in common: from the request's key to the stored answer.

use idempo_decider::Timestamp;
use idempo_event_store::{CommandOf, Domain, Handle, IdempotencyKey, KeyOrigin, Origin, StreamTarget, Submission, respond};
use idempo_rpc::fingerprint::fingerprint;
use idempo_rpc::status::{self, refusal};
use idempo_rpc::{Deadline, Violations, scope_of};
use idempo_telemetry::traceparent_of_current_span;
use prost::Message;
use smallvec::SmallVec;
use tonic::{Code, Request, Response, Status};

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
    deadline: Deadline,
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
            deadline: Deadline::of(request),
        })
    }

    /// Takes checked values, or binds the key to their refusal.
    ///
    /// What the request alone decides is refused each time, for ever; but the key must answer alike too when it comes with another payload. So
    /// where the key can't be bound now (the database is away), there is no definite answer: told of the refusal, the caller may take the key to be
    /// bound, and the mended request that comes under it later would be applied.
    ///
    /// # Errors
    /// The refusal, what the key was bound to before, or that there is no definite answer.
    ///
    /// # Cancel safety
    /// Cancel safe, as [`Attempt::submit`].
    pub async fn accept<D: Domain, T: Send>(
        attempt: Option<Self>,
        checked: Result<T, Status>,
        commands: &Handle<D>,
        error_domain: &'static str,
    ) -> Result<(Self, T), Status> {
        match (attempt, checked) {
            (Some(attempt), Ok(values)) => Ok((attempt, values)),
            (Some(attempt), Err(refused)) => Err(attempt.refuse(refused, commands, error_domain).await),
            (None, Err(refused)) => Err(refused),
            // A check that gives nothing has remembered a violation, so this is never met.
            (None, Ok(_)) => {
                Err(refusal(Code::InvalidArgument, "INVALID_FIELD", error_domain, "a required value is missing").into_status())
            }
        }
    }

    async fn refuse<D: Domain>(self, refused: Status, commands: &Handle<D>, error_domain: &'static str) -> Status {
        if self.validate_only {
            return refused;
        }
        let bound = commands.refuse(self.key, status::encode(&refused), self.deadline.at()).await;
        match respond::<()>(bound, error_domain, self.method) {
            Err(answer) => answer,
            // The key was bound to a success: with this payload, which is refused, that can only have been another one.
            Ok(_) => refused,
        }
    }

    /// Has a command decided and appended, and answers with what its key is bound to. `error_domain` is the service's name in errors.
    ///
    /// # Errors
    /// The refusal that the key is bound to, or that there is no definite answer. A command that would only be begun when its caller has little time
    /// left is refused as overload.
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
        respond(commands.execute_by(submission, self.deadline.at()).await, error_domain, self.method)
    }
}
