//! The errors that are made around the handlers, not by them: too much at once, too large, unreadable, unknown, a defect.
//!
//! Clients see the same model there too: every one gets an `ErrorInfo`, and what is the caller's mistake does not count as ours.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use http::{Request, Response};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::BoxError;

use crate::call::code_name;
use crate::status::{RETRY_AFTER, refusal};

/// A gRPC message has a prefix: the compression flag and the length.
const MESSAGE_PREFIX_BYTES: usize = 5;

/// How the messages begin with which tonic and prost tell INTERNAL for a request that they can't read. Tests compare these with the truth.
const UNREADABLE: [&str; 5] = [
    "failed to decode Protobuf message",
    "protocol error: received message with",
    "Missing request message.",
    "Unexpected EOF decoding stream.",
    "Error decompressing:",
];

/// The answer to a call that found no free place. The load shedder has no other error.
pub(crate) fn overloaded(domain: &str) -> Response<Body> {
    let text = "too many calls at once; nothing was done";
    refusal(Code::ResourceExhausted, "OVERLOADED", domain, text).retry_after(RETRY_AFTER).into_status().into_http()
}

/// Fails the request's body where it is longer than one message of `max_bytes`. The platform has no method that takes a stream.
pub(crate) fn limit_request<B>(request: Request<B>, max_bytes: usize) -> Request<Body>
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    request.map(|body| {
        Body::new(Limited::new(body, max_bytes.saturating_add(MESSAGE_PREFIX_BYTES)).map_err(move |error| -> BoxError {
            if error.is::<LengthLimitError>() {
                Status::out_of_range(format!("the request is larger than {max_bytes} bytes")).into()
            } else {
                error
            }
        }))
    })
}

/// Answers INTERNAL where a handler panics, so that the other calls on its connection go on.
pub(crate) async fn contain_panic<E>(
    handler: impl Future<Output = Result<Response<Body>, E>>,
    domain: &'static str,
) -> Result<Response<Body>, E> {
    AssertUnwindSafe(handler).catch_unwind().await.unwrap_or_else(|panic| {
        tracing::error!(panic = text_of(panic.as_ref()), "a handler panicked");
        let text = "an internal error; it was logged";
        Ok(refusal(Code::Internal, "HANDLER_PANICKED", domain, text).into_status().into_http())
    })
}

/// Gives an answer that tonic made the `ErrorInfo` that it lacks, and the right code.
pub(crate) fn explain(answer: Response<Body>, domain: &str) -> Response<Body> {
    let headers = answer.headers();
    if !headers.contains_key(Status::GRPC_STATUS) || headers.contains_key(Status::GRPC_STATUS_DETAILS) {
        return answer;
    }
    match Status::from_header_map(headers) {
        Some(status) if status.code() != Code::Ok => explained(&status, domain).into_http(),
        _ => answer,
    }
}

fn explained(status: &Status, domain: &str) -> Status {
    let (code, reason) = match status.code() {
        Code::Internal if UNREADABLE.iter().any(|beginning| status.message().starts_with(beginning)) => {
            (Code::InvalidArgument, "MALFORMED_REQUEST")
        }
        Code::OutOfRange => (Code::OutOfRange, "REQUEST_TOO_LARGE"),
        Code::Unimplemented => (Code::Unimplemented, "METHOD_UNKNOWN"),
        code => (code, code_name(code)),
    };
    let message = if status.message().is_empty() && code == Code::Unimplemented { "there is no such method" } else { status.message() };
    refusal(code, reason, domain, message).into_status()
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("of unknown type")
}
