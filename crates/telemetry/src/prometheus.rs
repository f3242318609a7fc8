//! The recorder behind the `metrics` facade.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{OnceLock, PoisonError, RwLock};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;

/// Upper bounds of duration histograms (names ending in `_seconds`): from half a millisecond, below which a commit is not, to half a minute.
const SECONDS: [f64; 15] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];

/// Upper bounds of size histograms (names ending in `_bytes`): powers of four from 256 B to 16 MiB.
const BYTES: [f64; 9] = [256.0, 1024.0, 4096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0];

/// Upper bounds of all other histograms, which count things: batch sizes, attempts.
const COUNTS: [f64; 13] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0];

/// The most groups of series that are left out. Beyond it the one that was left out first is shown again.
const HIDDEN_MAX: usize = 1_024;

static METRICS: OnceLock<Metrics> = OnceLock::new();

/// The labels of series that are left out, each as it stands in the text.
static HIDDEN: RwLock<VecDeque<Vec<String>>> = RwLock::new(VecDeque::new());

/// What this process has measured. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    recorder: PrometheusHandle,
    process: Collector,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Everything measured so far, and the process' own figures (memory, file descriptors, CPU time), in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.process.collect();
        let text = self.recorder.render();
        without(text, &HIDDEN.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Moves recorded values into their histograms. To be called every few seconds: without it a process that nobody scrapes would keep every
    /// single value.
    pub fn run_upkeep(&self) {
        self.recorder.run_upkeep();
    }
}

/// Leaves all series out of what [`Metrics::render`] gives that have all of these labels: what they tell of is no more. A recorder can't forget a series
/// whose counters and gauges somebody may still have, so it goes on being kept; it is some hundred bytes.
pub fn hide_series(labels: &[(&str, &str)]) {
    let labels = in_text(labels);
    let mut hidden = HIDDEN.write().unwrap_or_else(PoisonError::into_inner);
    if !hidden.contains(&labels) {
        if hidden.len() >= HIDDEN_MAX {
            hidden.pop_front();
        }
        hidden.push_back(labels);
    }
}

/// Shows series again that were left out by [`hide_series`] with the same labels.
pub fn show_series(labels: &[(&str, &str)]) {
    let labels = in_text(labels);
    HIDDEN.write().unwrap_or_else(PoisonError::into_inner).retain(|hidden| *hidden != labels);
}

/// Labels as they stand in Prometheus' text format.
fn in_text(labels: &[(&str, &str)]) -> Vec<String> {
    let escaped = |value: &str| value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n");
    labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect()
}

/// The text without the lines of series that are left out.
fn without(text: String, hidden: &VecDeque<Vec<String>>) -> String {
    if hidden.is_empty() {
        return text;
    }
    let is_shown = |line: &&str| line.starts_with('#') || !hidden.iter().any(|labels| has_all(line, labels));
    text.split_inclusive('\n').filter(is_shown).collect()
}

/// Whether a line's series has all of these labels. In a value a quote is escaped, so none can stand for a label.
fn has_all(line: &str, labels: &[String]) -> bool {
    let begins = |at: usize| line.get(..at).is_some_and(|before| before.ends_with(['{', ',']));
    labels.iter().all(|label| line.match_indices(label.as_str()).any(|(at, _)| begins(at)))
}

/// The process' metrics. The first call installs the recorder; [`init`](crate::init) makes it. Where another recorder is installed already, what
/// this returns stays empty.
pub fn metrics_handle() -> &'static Metrics {
    METRICS.get_or_init(install)
}

fn install() -> Metrics {
    let recorder = builder().build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::warn!("another metrics recorder is installed; /metrics will be empty");
    }
    let process = Collector::default();
    process.describe();
    Metrics { recorder: handle, process }
}

/// Fixed buckets for every histogram, chosen by the unit at the end of its name.
#[expect(clippy::expect_used, reason = "a list of buckets is refused only when empty, and these are constants")]
fn builder() -> PrometheusBuilder {
    PrometheusBuilder::new()
        .set_buckets(&COUNTS)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS))
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_bytes".to_owned()), &BYTES))
        .expect("no list of buckets is empty")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# HELP position Where it stands
# TYPE position gauge
position{projection="items",version="1",partition="0"} 7
position{projection="items",version="12"} 7
position{projection="wallets",version="1"} 7
position{projection="items",other_version="1"} 7
position{projection="items",note="version=\"1\""} 7
up 1
"#;

    #[test]
    fn series_with_all_of_some_labels_are_left_out_and_no_others() {
        let hidden = VecDeque::from([in_text(&[("projection", "items"), ("version", "1")])]);
        let left: Vec<&str> = TEXT.lines().filter(|line| !line.contains("partition")).collect();
        assert_eq!(without(TEXT.to_owned(), &hidden).lines().collect::<Vec<_>>(), left);
        assert_eq!(without(TEXT.to_owned(), &VecDeque::new()), TEXT);
        let odd = VecDeque::from([in_text(&[("note", "version=\"1\"")])]);
        assert_eq!(without(TEXT.to_owned(), &odd).lines().count(), TEXT.lines().count() - 1);
    }

    #[test]
    fn what_is_left_out_can_be_shown_again_and_there_are_not_more_than_the_most() {
        let (items, wallets) = ([("of_a_test", "items")], [("of_a_test", "wallets")]);
        let is_hidden = |labels: &[(&str, &str)]| HIDDEN.read().expect("nobody panicked").contains(&in_text(labels));
        hide_series(&items);
        hide_series(&items);
        hide_series(&wallets);
        assert!(is_hidden(&items) && is_hidden(&wallets));
        show_series(&items);
        assert!(!is_hidden(&items) && is_hidden(&wallets));
        for number in 0..HIDDEN_MAX {
            hide_series(&[("of_a_test", &number.to_string())]);
        }
        assert!(!is_hidden(&wallets) && HIDDEN.read().expect("nobody panicked").len() == HIDDEN_MAX);
    }
}
