//! What is rendered for a scrape.

use idempo_telemetry::metrics_handle;
use metrics::{counter, histogram};

/// The value of the series that begins like this.
fn value(text: &str, series: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix(series)).map(|value| value.trim().to_owned())
}

#[test]
fn histograms_have_the_buckets_of_their_unit() {
    let metrics = metrics_handle();
    histogram!("append_duration_seconds").record(0.0015);
    histogram!("append_batch_size").record(30.0);
    histogram!("append_event_bytes").record(300.0);
    counter!("append_total", "outcome" => "appended").increment(2);
    metrics.run_upkeep();
    let text = metrics.render();
    assert_eq!(value(&text, "append_duration_seconds_bucket{le=\"0.001\"}").as_deref(), Some("0"), "{text}");
    assert_eq!(value(&text, "append_duration_seconds_bucket{le=\"0.002\"}").as_deref(), Some("1"));
    assert_eq!(value(&text, "append_batch_size_bucket{le=\"50\"}").as_deref(), Some("1"));
    assert_eq!(value(&text, "append_event_bytes_bucket{le=\"1024\"}").as_deref(), Some("1"));
    assert_eq!(value(&text, "append_total{outcome=\"appended\"}").as_deref(), Some("2"));
    assert!(value(&text, "process_resident_memory_bytes").is_some_and(|bytes| bytes != "0"));
    assert!(!text.contains("quantile"), "a summary costs memory by the value: {text}");
}
