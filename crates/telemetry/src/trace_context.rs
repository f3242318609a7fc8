//! How a trace goes from one process to the next: as a W3C `traceparent`, one short text.

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{SpanContext, TraceContextExt as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The `traceparent` of the span this task is in: `00-<trace id>-<span id>-01`. Empty when the span is not traced or not sampled, so that an
/// untraced command costs its readers nothing.
#[must_use]
pub fn traceparent_of_current_span() -> String {
    traceparent_of(&Span::current())
}

/// The `traceparent` of `span`; empty when it is not traced or not sampled.
#[must_use]
pub fn traceparent_of(span: &Span) -> String {
    let context = span.context();
    let span = context.span();
    let ids = span.span_context();
    if !ids.is_valid() || !ids.is_sampled() {
        return String::new();
    }
    format!("00-{}-{}-{:02x}", ids.trace_id(), ids.span_id(), ids.trace_flags())
}

/// Makes `span` a child of the span that `traceparent` names, and tells whether it did: false for an empty or malformed text, and for a span that
/// is not traced. To be called right after the span is made: once something was logged in it, its parent is settled.
pub fn span_parent_from(span: &Span, traceparent: &str) -> bool {
    match parse(traceparent) {
        Some(ids) => span.set_parent(Context::new().with_remote_span_context(ids)).is_ok(),
        None => false,
    }
}

/// Links `span` to the span that `traceparent` names, and tells whether the text could be read. A span may have many links: it is how a batch
/// names the commands in it, and how a consumer names the producer's span.
pub fn span_link_from(span: &Span, traceparent: &str) -> bool {
    match parse(traceparent) {
        Some(ids) => {
            span.add_link(ids);
            true
        }
        None => false,
    }
}

/// What `traceparent` names, unless it is empty or malformed.
fn parse(traceparent: &str) -> Option<SpanContext> {
    if traceparent.is_empty() {
        return None;
    }
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &Carrier(traceparent));
    let ids = context.span().span_context().clone();
    ids.is_valid().then_some(ids)
}

/// A carrier of nothing but a `traceparent`.
struct Carrier<'a>(&'a str);

impl Extractor for Carrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == "traceparent").then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent"]
    }
}
