//! The caller's trace, as it comes in the metadata `traceparent`.

use http::HeaderMap;
use tracing::Span;

/// The metadata with the W3C trace context.
const TRACEPARENT: &str = "traceparent";

/// Makes the caller's span the parent of `span`, where the metadata names one that can be read.
pub(crate) fn adopt(span: &Span, headers: &HeaderMap) {
    if let Some(traceparent) = headers.get(TRACEPARENT).and_then(|value| value.to_str().ok()) {
        idempo_telemetry::span_parent_from(span, traceparent);
    }
}
