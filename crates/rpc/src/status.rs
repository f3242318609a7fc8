//! The error model: a code, a stable reason, and machine-readable details.
//!
//! Every error has an `ErrorInfo` with a reason, the domain `<service>.idempo` and what varies as metadata; messages are English and may
//! change. A refusal that binds its key is stored as the encoded `google.rpc.Status`, and answered from those bytes each time.

use std::collections::HashMap;
use std::fmt::Display;
use std::time::Duration;

use bytes::Bytes;
use idempo_errors::{Class, Classified};
use prost::Message as _;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _, pb};

/// What a caller is told to wait after a transient error.
pub const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Begins an error; `domain` is `<service>.idempo`, `reason` a stable name in `SCREAMING_SNAKE_CASE`.
pub fn refusal(code: Code, reason: &str, domain: &str, message: impl Into<String>) -> StatusBuilder {
    StatusBuilder {
        code,
        reason: reason.to_owned(),
        domain: domain.to_owned(),
        message: message.into(),
        metadata: HashMap::new(),
        details: ErrorDetails::new(),
    }
}

/// An error in the making. It can't get two details of one type: what is added twice becomes one detail with two entries, or the later one.
#[derive(Debug, Clone)]
#[must_use]
pub struct StatusBuilder {
    code: Code,
    reason: String,
    domain: String,
    message: String,
    metadata: HashMap<String, String>,
    details: ErrorDetails,
}

impl StatusBuilder {
    /// Adds to the `ErrorInfo` what varies, such as `available` → `30`. A key given twice keeps the later value.
    pub fn metadata(mut self, key: &str, value: impl Display) -> Self {
        self.metadata.insert(key.to_owned(), value.to_string());
        self
    }

    /// Adds a field violation to the `BadRequest`.
    pub fn violation(mut self, field: impl Into<String>, description: impl Into<String>) -> Self {
        self.details.add_bad_request_violation(field, description);
        self
    }

    /// Adds a violation to the `PreconditionFailure`: of the type `kind`, such as `BALANCE`, about `subject`, such as `wallets/…`.
    pub fn precondition(mut self, kind: impl Into<String>, subject: impl Into<String>, description: impl Into<String>) -> Self {
        self.details.add_precondition_failure_violation(kind, subject, description);
        self
    }

    /// Adds a violation to the `QuotaFailure`.
    pub fn quota(mut self, subject: impl Into<String>, description: impl Into<String>) -> Self {
        self.details.add_quota_failure_violation(subject, description);
        self
    }

    /// Sets the `ResourceInfo`: which resource of the type `kind` the error is about.
    pub fn resource(mut self, kind: impl Into<String>, name: impl Into<String>, description: impl Into<String>) -> Self {
        self.details.set_resource_info(kind, name, "", description);
        self
    }

    /// Sets the `RetryInfo`: sending the same request again makes sense after `delay`.
    pub fn retry_after(mut self, delay: Duration) -> Self {
        self.details.set_retry_info(Some(delay));
        self
    }

    /// The error as an answer.
    #[must_use]
    pub fn into_status(mut self) -> Status {
        self.details.set_error_info(self.reason, self.domain, self.metadata);
        Status::with_error_details(self.code, self.message, self.details)
    }

    /// The error as it is stored: an encoded `google.rpc.Status`.
    #[must_use]
    pub fn encode(self) -> Bytes {
        encode(&self.into_status())
    }

    /// The error as a `google.rpc.Status`.
    #[must_use]
    pub fn build(self) -> pb::Status {
        // It is always readable: it was encoded in the line before.
        pb::Status::decode(self.encode()).unwrap_or_default()
    }
}

/// The one table from what an error means to its gRPC code.
#[must_use]
pub const fn code_of(class: Class) -> Code {
    match class {
        Class::Invalid => Code::InvalidArgument,
        Class::NotFound => Code::NotFound,
        Class::Denied => Code::PermissionDenied,
        Class::Exhausted => Code::ResourceExhausted,
        Class::Unavailable => Code::Unavailable,
        Class::DeadlineExceeded => Code::DeadlineExceeded,
        Class::Internal => Code::Internal,
    }
}

/// The answer to an error. What is internal is logged here, once, and not told to the caller; what is transient says when to try again.
#[must_use]
pub fn of_error<E: Classified + 'static>(error: &E, domain: &str) -> Status {
    let class = error.class();
    let message = if class == Class::Internal {
        let cause: &(dyn std::error::Error + 'static) = error;
        tracing::error!(error = cause, code = error.code(), "a call failed for a reason of our own");
        "an internal error; it was logged".to_owned()
    } else {
        error.to_string()
    };
    let answer = refusal(code_of(class), error.code(), domain, message);
    if class.is_transient() { answer.retry_after(RETRY_AFTER).into_status() } else { answer.into_status() }
}

/// The answer that stands in a stored refusal.
#[must_use]
pub fn decode(stored: &Bytes, domain: &str) -> Status {
    match pb::Status::decode(stored.as_ref()) {
        Ok(status) if Code::from(status.code) != Code::Ok => Status::with_details(Code::from(status.code), status.message, stored.clone()),
        _ => {
            tracing::error!("a stored refusal can't be read");
            refusal(Code::Internal, "STORED_REFUSAL_UNREADABLE", domain, "an internal error; it was logged").into_status()
        }
    }
}

/// An answer as it is stored: an encoded `google.rpc.Status`.
#[must_use]
pub fn encode(status: &Status) -> Bytes {
    if status.details().is_empty() {
        let bare = pb::Status { code: status.code().into(), message: status.message().to_owned(), details: Vec::new() };
        return bare.encode_to_vec().into();
    }
    Bytes::copy_from_slice(status.details())
}

/// The reason in an answer's `ErrorInfo`.
#[must_use]
pub fn reason(status: &Status) -> Option<String> {
    status.get_details_error_info().map(|info| info.reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insufficient() -> StatusBuilder {
        refusal(Code::FailedPrecondition, "INSUFFICIENT_FUNDS", "wallet.idempo", "not enough coins")
            .metadata("available", 30)
            .metadata("required", 50)
            .precondition("BALANCE", "wallets/a", "30 of 50 coins")
    }

    #[test]
    fn an_error_carries_its_details() {
        let status = insufficient().into_status();
        let details = status.get_error_details();
        let info = details.error_info().expect("an ErrorInfo");
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("INSUFFICIENT_FUNDS", "wallet.idempo"));
        assert_eq!(info.metadata.get("available").map(String::as_str), Some("30"));
        assert_eq!(details.precondition_failure().expect("one").violations.len(), 1);
        assert_eq!(status.code(), Code::FailedPrecondition);
    }

    #[test]
    fn no_detail_type_occurs_twice() {
        let status = insufficient()
            .precondition("STATE", "wallets/a", "closed")
            .violation("a", "bad")
            .violation("b", "bad")
            .quota("s", "d")
            .quota("t", "d")
            .retry_after(RETRY_AFTER)
            .retry_after(RETRY_AFTER)
            .resource("wallet", "wallets/a", "")
            .resource("wallet", "wallets/b", "")
            .build();
        let mut types: Vec<_> = status.details.iter().map(|any| any.type_url.clone()).collect();
        assert_eq!(types.len(), 6, "{types:?}");
        types.sort();
        types.dedup();
        assert_eq!(types.len(), 6);
    }

    #[test]
    fn a_stored_refusal_is_answered_as_it_was() {
        let status = insufficient().into_status();
        let again = decode(&encode(&status), "wallet.idempo");
        assert_eq!((again.code(), again.message(), again.details()), (status.code(), status.message(), status.details()));
        assert_eq!(reason(&again).as_deref(), Some("INSUFFICIENT_FUNDS"));
    }

    #[test]
    fn an_answer_without_details_can_be_stored() {
        let again = decode(&encode(&Status::not_found("nothing here")), "wallet.idempo");
        assert_eq!((again.code(), again.message()), (Code::NotFound, "nothing here"));
    }

    #[test]
    fn bytes_that_are_no_refusal_are_an_internal_error() {
        for stored in [Bytes::new(), Bytes::from_static(&[0xff, 0xff])] {
            assert_eq!(reason(&decode(&stored, "wallet.idempo")).as_deref(), Some("STORED_REFUSAL_UNREADABLE"));
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("the table `secret` is gone")]
    struct Failure(Class);

    impl Classified for Failure {
        fn class(&self) -> Class {
            self.0
        }

        fn code(&self) -> &'static str {
            "FAILURE"
        }
    }

    #[test]
    fn what_is_internal_is_not_told() {
        let status = of_error(&Failure(Class::Internal), "wallet.idempo");
        assert_eq!(status.code(), Code::Internal);
        assert!(!status.message().contains("secret"));
        assert_eq!(reason(&status).as_deref(), Some("FAILURE"));
    }

    #[test]
    fn only_transient_errors_say_when_to_try_again() {
        for class in
            [Class::Invalid, Class::NotFound, Class::Denied, Class::Exhausted, Class::Unavailable, Class::DeadlineExceeded, Class::Internal]
        {
            let retry = of_error(&Failure(class), "wallet.idempo").get_details_retry_info();
            assert_eq!(retry.is_some(), class.is_transient(), "{class:?}");
        }
    }
}
