//! What is seen of a call from outside: a span and a duration, from the first header to the last trailer.
//!
//! Names follow OpenTelemetry's conventions for RPC. A method that the platform does not have is `_OTHER`, so that no caller can make up labels.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use crate::{descriptor, trace_context};

const DURATION: &str = "rpc_server_call_duration_seconds";

/// Tells the metrics recorder what the metric is.
pub(crate) fn describe_metrics() {
    metrics::describe_histogram!(DURATION, metrics::Unit::Seconds, "How long calls took, from their headers to the end of their answers.");
}

/// The full name of a call's method, such as `idempo.wallet.v1.WalletService/GrantFunds`. Every request of a method that the platform has is given it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Method(&'static str);

impl Method {
    /// The method that a request is for; `None` where it did not come through [`crate::serve`].
    pub(crate) fn of<T>(request: &tonic::Request<T>) -> Option<&'static str> {
        request.extensions().get::<Self>().map(|Self(name)| *name)
    }

    #[cfg(test)]
    pub(crate) const fn named(name: &'static str) -> Self {
        Self(name)
    }
}

/// Gives every call a span, the child of its caller's, and measures it; and says to its handler which method it is.
#[derive(Debug, Clone)]
pub(crate) struct CallLayer;

impl<S> Layer<S> for CallLayer {
    type Service = CallService<S>;

    fn layer(&self, inner: S) -> CallService<S> {
        CallService { inner }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct CallService<S> {
    inner: S,
}

impl<S> Service<Request<Body>> for CallService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let mut call = Call::begin(&request);
        request.extensions_mut().insert(Method(call.method));
        let span = call.span.clone();
        let answer = span.in_scope(|| self.inner.call(request));
        let measured = async move {
            let response = answer.await?;
            call.read_code(response.headers());
            Ok(response.map(|body| Body::new(MeasuredBody { body, call })))
        };
        Box::pin(measured.instrument(span))
    }
}

/// A call under way. It is measured when dropped: with the code it was answered with, or as CANCELLED where nobody waited for the answer.
struct Call {
    method: &'static str,
    begun: Instant,
    code: Code,
    span: Span,
}

impl Call {
    fn begin(request: &Request<Body>) -> Self {
        let method = descriptor::method(request.uri().path()).unwrap_or("_OTHER");
        let span = tracing::info_span!(
            "rpc",
            otel.name = method,
            otel.kind = "server",
            otel.status_code = Empty,
            rpc.system.name = "grpc",
            rpc.method = method,
            rpc.status_code = Empty
        );
        trace_context::adopt(&span, request.headers());
        Self { method, begun: Instant::now(), code: Code::Cancelled, span }
    }

    /// Reads the code from headers or trailers: an answer without a message has it in its headers.
    fn read_code(&mut self, headers: &HeaderMap) {
        if let Some(code) = headers.get(Status::GRPC_STATUS) {
            self.code = Code::from_bytes(code.as_bytes());
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let code = code_name(self.code);
        self.span.record("rpc.status_code", code);
        if is_server_error(self.code) {
            self.span.record("otel.status_code", "ERROR");
        }
        metrics::histogram!(DURATION, "rpc_method" => self.method, "rpc_status_code" => code).record(self.begun.elapsed());
    }
}

/// An answer's body, which ends with the code.
struct MeasuredBody {
    body: Body,
    call: Call,
}

impl http_body::Body for MeasuredBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(trailers) = frame.trailers_ref()
        {
            self.call.read_code(trailers);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What OpenTelemetry counts as an error of the server's.
const fn is_server_error(code: Code) -> bool {
    matches!(code, Code::Unknown | Code::DeadlineExceeded | Code::Unimplemented | Code::Internal | Code::Unavailable | Code::DataLoss)
}

/// The code's name in gRPC's specification.
pub(crate) const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
