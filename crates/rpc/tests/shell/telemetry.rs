use std::collections::BTreeSet;

use idempo_rpc::ServerConfig;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};
use tracing_subscriber::layer::SubscriberExt as _;

use super::support::{PATIENCE, get, raw, spawn_get, start, within};

/// Waits until a call of `method` that ended with `code` was measured. Everything runs in this thread, as the recorder does.
async fn measured(snapshotter: &Snapshotter, seen: &mut BTreeSet<(String, String)>, method: &str, code: &str) {
    let begun = tokio::time::Instant::now();
    while !seen.contains(&(method.to_owned(), code.to_owned())) {
        assert!(begun.elapsed() < PATIENCE, "{method} {code} is not in {seen:?}");
        tokio::task::yield_now().await;
        for (key, _, _, value) in snapshotter.snapshot().into_vec() {
            let is_duration = key.key().name() == "rpc_server_call_duration_seconds";
            if is_duration && matches!(value, DebugValue::Histogram(samples) if !samples.is_empty()) {
                let labels: Vec<_> = key.key().labels().map(|label| (label.key(), label.value())).collect();
                let [("rpc_method", method), ("rpc_status_code", code)] = labels[..] else { panic!("{labels:?}") };
                seen.insert((method.to_owned(), code.to_owned()));
            }
        }
    }
}

#[tokio::test]
async fn every_call_is_measured_by_method_and_code() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let _recording = metrics::set_default_local_recorder(&recorder);
    let server = start(ServerConfig::default()).await;
    let client = server.client().await;
    let mut seen = BTreeSet::new();
    let method = "idempo.inventory.v1.InventoryQueryService/GetItem";

    get(client.clone(), "fast").await.expect("an answer");
    measured(&snapshotter, &mut seen, method, "OK").await;

    get(client.clone(), "panic").await.expect_err("it panicked");
    measured(&snapshotter, &mut seen, method, "INTERNAL").await;

    let left = spawn_get(&client, "gate");
    server.inside(1).await;
    left.abort();
    measured(&snapshotter, &mut seen, method, "CANCELLED").await;

    raw(server.channel().await, "/made/up", &b""[..]).await.expect_err("no such method");
    measured(&snapshotter, &mut seen, "_OTHER", "UNIMPLEMENTED").await;
    assert!(seen.iter().all(|(method, _)| !method.contains("made")), "{seen:?}");
}

#[tokio::test]
async fn a_call_is_a_span_under_its_callers() {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let subscriber = tracing_subscriber::registry().with(idempo_telemetry::export_layer(&provider));
    // Not for this thread alone: tracing caches, for all threads, what the first thread to make a span thinks of it.
    tracing::subscriber::set_global_default(subscriber).expect("no other test sets one");

    let server = start(ServerConfig::default()).await;
    let mut client = server.client().await;
    let mut request = tonic::Request::new(Default::default());
    // The other tests' calls are exported too.
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    request.metadata_mut().insert("traceparent", traceparent.parse().expect("ASCII"));
    within(client.get_item(request)).await.expect("an answer");

    let begun = tokio::time::Instant::now();
    let span = loop {
        let spans = exporter.get_finished_spans().expect("the exporter works");
        if let Some(span) = spans.into_iter().find(|span| span.span_context.trace_id().to_string() == "0af7651916cd43dd8448eb211c80319c") {
            break span;
        }
        assert!(begun.elapsed() < PATIENCE, "no span");
        tokio::task::yield_now().await;
    };
    assert_eq!(span.name, "idempo.inventory.v1.InventoryQueryService/GetItem");
    assert_eq!(span.parent_span_id.to_string(), "b7ad6b7169203331");
    assert!(span.attributes.iter().any(|attribute| attribute.key.as_str() == "rpc.status_code" && attribute.value.as_str() == "OK"));
}
