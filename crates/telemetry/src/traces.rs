//! The export of traces.

use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::layer::{Filter, Layer};
use tracing_subscriber::registry::LookupSpan;

use crate::Error;

/// How long the end of a process waits for spans still queued.
pub(crate) const FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// The variables that ask for the export of traces.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];

/// The variables, and their values, that forbid it all the same.
const REFUSALS: [(&str, &str); 2] = [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")];

/// A provider that exports spans by OTLP over gRPC in batches, when an endpoint is set. The sampler, the batch's limits and further resource
/// attributes are read by the SDK from the standard `OTEL_*` variables.
pub(crate) fn provider_from_env(service: &str) -> Result<Option<SdkTracerProvider>, Error> {
    let asked_for = ENDPOINTS.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    let refused = REFUSALS.iter().any(|(name, value)| std::env::var_os(name).is_some_and(|given| given.eq_ignore_ascii_case(value)));
    if !asked_for || refused {
        return Ok(None);
    }
    let exporter = SpanExporter::builder().with_tonic().build()?;
    let resource = Resource::builder().with_service_name(service.to_owned()).build();
    Ok(Some(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build()))
}

/// The layer that hands this platform's spans to `provider`: for processes that set up their own subscriber, such as tests.
///
/// Only spans of crates named `idempo…` (but the runtime), at level INFO and above, are exported: the exporter itself speaks gRPC, and its own spans would keep
/// it busy for ever.
pub fn export_layer<S>(provider: &SdkTracerProvider) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("idempo"))
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false);
    layer.with_filter(exported()).boxed()
}

/// Which spans and events are exported. Not those of the runtime: a task lives as long as its process, and all it does would be one trace.
fn exported<S: Subscriber>() -> impl Filter<S> + Send + Sync + 'static {
    filter_fn(|metadata: &Metadata<'_>| {
        let target = metadata.target();
        target.starts_with("idempo") && !target.starts_with("idempo_runtime")
    })
    .with_max_level_hint(LevelFilter::INFO)
}
