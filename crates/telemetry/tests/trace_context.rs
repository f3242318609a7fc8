//! A trace goes from one process to the next as one text.

use idempo_telemetry::{export_layer, span_link_from, span_parent_from, traceparent_of, traceparent_of_current_span};
use opentelemetry_sdk::trace::{InMemorySpanExporter, Sampler, SdkTracerProvider, SpanData};
use tracing::{info, info_span};
use tracing_subscriber::layer::SubscriberExt as _;

const REMOTE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// The spans that `act` makes, under this sampler.
fn traced(sampler: Sampler, act: impl FnOnce()) -> Vec<SpanData> {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).with_sampler(sampler).build();
    let subscriber = tracing_subscriber::registry().with(export_layer(&provider));
    tracing::subscriber::with_default(subscriber, act);
    exporter.get_finished_spans().unwrap()
}

#[test]
fn a_span_takes_its_parent_from_a_traceparent_and_hands_on_its_own() {
    let mut handed_on = String::new();
    let spans = traced(Sampler::AlwaysOn, || {
        let span = info_span!(target: "idempo_test", "append");
        assert!(span_parent_from(&span, REMOTE));
        handed_on = span.in_scope(traceparent_of_current_span);
    });
    assert!(handed_on.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && handed_on.ends_with("-01"), "{handed_on}");
    assert_eq!(spans[0].parent_span_id.to_string(), "b7ad6b7169203331");
    assert!(handed_on.contains(&spans[0].span_context.span_id().to_string()));
}

#[test]
fn a_batch_links_to_every_command_in_it() {
    let other = REMOTE.replace("b7ad6b7169203331", "00f067aa0ba902b7");
    let spans = traced(Sampler::AlwaysOn, || {
        let span = info_span!(target: "idempo_test", "send");
        assert!(span_link_from(&span, REMOTE) && span_link_from(&span, &other));
    });
    let linked: Vec<_> = spans[0].links.iter().map(|link| link.span_context.span_id().to_string()).collect();
    assert_eq!(linked, ["b7ad6b7169203331", "00f067aa0ba902b7"]);
    assert_ne!(spans[0].span_context.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
}

#[test]
fn what_is_no_traceparent_changes_nothing() {
    let spans = traced(Sampler::AlwaysOn, || {
        let span = info_span!(target: "idempo_test", "append");
        for text in ["", "00", "00-0-0-01", "00-00000000000000000000000000000000-b7ad6b7169203331-01", "ff-a-b-c", "héllo"] {
            assert!(!span_parent_from(&span, text) && !span_link_from(&span, text), "{text}");
        }
    });
    assert_eq!((spans[0].parent_span_id.to_string(), spans[0].links.len()), ("0000000000000000".to_owned(), 0));
}

#[test]
fn an_unsampled_span_hands_on_nothing() {
    let spans = traced(Sampler::AlwaysOff, || {
        let span = info_span!(target: "idempo_test", "append");
        assert_eq!(span.in_scope(traceparent_of_current_span), "");
        assert_eq!(traceparent_of(&span), "");
    });
    assert!(spans.is_empty());
}

#[test]
fn without_an_exporter_there_is_no_traceparent() {
    tracing::subscriber::with_default(tracing_subscriber::registry(), || {
        let span = info_span!(target: "idempo_test", "append");
        assert!(!span_parent_from(&span, REMOTE));
        assert_eq!(span.in_scope(traceparent_of_current_span), "");
    });
    assert_eq!(traceparent_of_current_span(), "");
}

#[test]
fn what_a_long_lived_task_does_is_not_one_trace() {
    let spans = traced(Sampler::AlwaysOn, || {
        let _task = info_span!(target: "idempo_runtime::task", "task").entered();
        for _ in 0..2 {
            let _batch = info_span!(target: "idempo_test", "batch").entered();
        }
    });
    let [first, second] = spans.as_slice() else { panic!("{spans:?}") };
    assert_ne!(first.span_context.trace_id(), second.span_context.trace_id());
}

#[test]
fn only_spans_of_this_platform_are_exported() {
    let spans = traced(Sampler::AlwaysOn, || {
        let _ours = info_span!(target: "idempo_test", "append").entered();
        let _theirs = info_span!(target: "h2::client", "poll").entered();
        let _detail = tracing::debug_span!(target: "idempo_test", "detail").entered();
        info!(target: "hyper", "connected");
        assert!(!traceparent_of_current_span().is_empty(), "the innermost span of ours counts");
    });
    let names: Vec<_> = spans.iter().map(|span| span.name.as_ref()).collect();
    assert_eq!(names, ["append"]);
    assert!(spans[0].events.is_empty());
}
