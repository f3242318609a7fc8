//! How a process tells what it does: logs, traces and metrics, set up once at boot.
//!
//! * **Logs** go to standard output: one JSON object a line when it is no terminal, text for people otherwise. A JSON line carries
//!   `timestamp`, `level`, `target`, `service`, the event's own fields, the fields of all spans it happened in under `span` (ids among them),
//!   and `trace_id` and `span_id` when the span is traced.
//! * **Traces** leave by OTLP over gRPC, in batches, only when `OTEL_EXPORTER_OTLP_ENDPOINT` is set. Between processes they travel as one W3C
//!   `traceparent` text, in gRPC metadata, in the outbox row and in the Kafka header alike: see [`traceparent_of_current_span`],
//!   [`span_parent_from`] and [`span_link_from`]. A traceparent stored with an event is never rewritten on its way.
//! * **Metrics** are recorded through the `metrics` facade and rendered in Prometheus' text format by [`Metrics::render`]. This crate opens no
//!   listener; the runtime's admin server does.
//!
//! Invariants: nothing is exported that nobody asked for; histograms have fixed buckets, so that a series costs the same memory at rest and
//! under load; a failure to export never fails the work it tells of.
//!
//! Not here: what is measured (each crate describes its own metrics), the health of the process (`idempo-runtime`).

mod logs;
mod prometheus;
mod trace_context;
mod traces;

use serde::{Deserialize, Serialize};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

pub use prometheus::{Metrics, hide_series, metrics_handle, show_series};
pub use trace_context::{span_link_from, span_parent_from, traceparent_of, traceparent_of_current_span};
pub use traces::export_layer;

/// How a process logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The shape of a log line.
    pub format: LogFormat,
    /// Which events are logged, in the syntax of `RUST_LOG` (which wins over this when set), such as `info,idempo_pg=debug`.
    pub filter: String,
}

impl Default for Config {
    fn default() -> Self {
        // The pool warns of each connection that is lost with its server; who needed the database says so once.
        Self { format: LogFormat::Auto, filter: "info,deadpool.postgres=error".to_owned() }
    }
}

/// The shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Text when standard output is a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// Text for people.
    Text,
}

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The log filter is not in the syntax of `RUST_LOG`.
    #[error("the log filter {filter:?} (from {origin}) cannot be read")]
    Filter {
        /// What was given.
        filter: String,
        /// Where it was given.
        origin: &'static str,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// The OTLP exporter's settings (`OTEL_EXPORTER_OTLP_*`) cannot be used.
    #[error("the OTLP exporter cannot be set up from OTEL_EXPORTER_OTLP_*")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// Telemetry was set up before in this process.
    #[error("telemetry is set up already in this process")]
    AlreadySetUp(#[from] tracing_subscriber::util::TryInitError),
}

/// Keeps the trace exporter alive. Call [`shut_down`](Self::shut_down) as the last thing before the process ends.
#[derive(Debug)]
#[must_use = "spans still queued are lost unless the guard is shut down"]
pub struct Guard {
    traces: Option<opentelemetry_sdk::trace::SdkTracerProvider>,
}

impl Guard {
    /// Sends the spans still queued, for at most 2 s, and ends the exporter. Blocks; the async runtime that [`init`] was called in must still be
    /// running, and this must not be called from one of its workers.
    pub fn shut_down(self) {
        if let Some(provider) = self.traces
            && let Err(error) = provider.shutdown_with_timeout(traces::FLUSH_LIMIT)
        {
            tracing::warn!(%error, "spans were lost at shutdown");
        }
    }
}

/// Sets up logs, metrics and, when `OTEL_EXPORTER_OTLP_ENDPOINT` is set, the export of traces, for this process. To be called once, inside the
/// async runtime when traces are to be exported. `service` is the `service.name` unless `OTEL_SERVICE_NAME` says otherwise.
///
/// # Errors
/// [`Error::Filter`] for a log filter that cannot be read, [`Error::Exporter`] for settings of the exporter that cannot be used,
/// [`Error::AlreadySetUp`] the second time.
pub fn init(config: &Config, service: &str) -> Result<Guard, Error> {
    let service = std::env::var("OTEL_SERVICE_NAME").ok().filter(|name| !name.is_empty()).unwrap_or_else(|| service.to_owned());
    let filter = logs::filter(config)?;
    let traces = traces::provider_from_env(&service)?;
    tracing_subscriber::registry().with(traces.as_ref().map(export_layer)).with(logs::layer(config.format, &service, filter)).try_init()?;
    metrics_handle();
    Ok(Guard { traces })
}
