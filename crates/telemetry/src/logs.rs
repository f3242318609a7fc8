//! Log lines: which, and in which shape.

use std::io::{IsTerminal as _, stdout};

use json_subscriber::{FieldWriter, JsonLayer};
use opentelemetry::trace::TraceContextExt as _;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use crate::{Config, Error, LogFormat};

/// Keys of a JSON line that an event's own field must not shadow.
const RESERVED: [&str; 7] = ["timestamp", "level", "target", "service", "span", "trace_id", "span_id"];

/// The filter of `RUST_LOG`, or else the configured one.
pub(crate) fn filter(config: &Config) -> Result<EnvFilter, Error> {
    let (text, origin) = match std::env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() => (text, "RUST_LOG"),
        _ => (config.filter.clone(), "the configuration"),
    };
    EnvFilter::builder().parse(&text).map_err(|source| Error::Filter { filter: text, origin, source })
}

/// The layer that writes log lines to standard output.
pub(crate) fn layer<S>(format: LogFormat, service: &str, filter: EnvFilter) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let json = match format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !stdout().is_terminal(),
    };
    if json {
        json_layer(stdout, service).with_filter(filter).boxed()
    } else {
        tracing_subscriber::fmt::layer().with_ansi(colours_wanted()).with_filter(filter).boxed()
    }
}

/// Whether text may be coloured: on a terminal, unless `NO_COLOR` or `TERM=dumb` say otherwise.
fn colours_wanted() -> bool {
    stdout().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// The layer that writes one JSON object a line to `writer`.
pub(crate) fn json_layer<S, W>(writer: W, service: &str) -> JsonLayer<S, W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> tracing_subscriber::fmt::MakeWriter<'a> + 'static,
{
    let mut layer = JsonLayer::new(writer);
    layer.add_static_field("service", serde_json::Value::String(service.to_owned()));
    layer.with_timer("timestamp", SystemTime);
    layer.with_level("level");
    layer.with_target("target");
    layer.with_flattened_event_with_renames(rename_reserved, ());
    layer.with_flattened_span_fields("span");
    layer.add_multiple_dynamic_fields(write_trace_ids);
    layer
}

/// Moves an event's field out of the way of a key that every line has.
fn rename_reserved<'a>(name: &'a str, _: &'a ()) -> &'a str {
    if !RESERVED.contains(&name) {
        return name;
    }
    match name {
        "timestamp" => "event.timestamp",
        "level" => "event.level",
        "target" => "event.target",
        "service" => "event.service",
        "trace_id" => "event.trace_id",
        "span_id" => "event.span_id",
        _ => "event.span",
    }
}

/// Writes the ids of the trace and of the span the event happened in, when that span is traced.
fn write_trace_ids<S>(event: &Event<'_>, context: &Context<'_, S>, writer: &mut FieldWriter<'_>)
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let Some(span) = context.event_span(event) else { return };
    let id = span.id();
    let Some(trace) = tracing::dispatcher::get_default(|dispatch| tracing_opentelemetry::get_otel_context(&id, dispatch)) else { return };
    let span = trace.span();
    let ids = span.span_context();
    if ids.is_valid() {
        let _ = writer.write_field("trace_id", ids.trace_id().to_string());
        let _ = writer.write_field("span_id", ids.span_id().to_string());
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use serde_json::Value;
    use tracing::{info, info_span, warn};
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::{filter, json_layer};
    use crate::{Config, Error};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines that `act` logs.
    fn logged(act: impl FnOnce()) -> Vec<Value> {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::registry().with(json_layer(move || writer.clone(), "wallet"));
        tracing::subscriber::with_default(subscriber, act);
        let bytes = lines.0.lock().unwrap();
        String::from_utf8(bytes.clone()).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_line_is_one_object_with_the_service_the_event_and_the_ids_of_all_spans_around_it() {
        let lines = logged(|| {
            let _request = info_span!("request", command_id = "c-1", stream = "outer").entered();
            let _append = info_span!("append", stream = "s-1").entered();
            warn!(attempt = 2, "conflict\nagain");
        });
        let [line] = lines.as_slice() else { panic!("{lines:?}") };
        assert_eq!(line["service"], "wallet");
        assert_eq!((&line["level"], &line["message"], &line["attempt"]), (&"WARN".into(), &"conflict\nagain".into(), &2.into()));
        assert_eq!((&line["span"]["command_id"], &line["span"]["stream"]), (&"c-1".into(), &"s-1".into()));
        assert_eq!(line["target"], "idempo_telemetry::logs::tests");
        assert!(line["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
        assert!(line.get("trace_id").is_none());
    }

    #[test]
    fn an_event_cannot_shadow_what_every_line_has() {
        let lines = logged(|| info!(service = "other", level = 3, trace_id = "forged", "hello"));
        assert_eq!((&lines[0]["service"], &lines[0]["level"]), (&"wallet".into(), &"INFO".into()));
        assert_eq!((&lines[0]["event.service"], &lines[0]["event.level"]), (&"other".into(), &3.into()));
        assert!(lines[0].get("trace_id").is_none());
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_refused() {
        let config = Config { filter: "a=b=c".to_owned(), ..Config::default() };
        assert!(matches!(filter(&config), Err(Error::Filter { origin: "the configuration", .. })));
        assert!(filter(&Config::default()).is_ok());
    }
}
