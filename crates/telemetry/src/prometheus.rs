//! The recorder behind the `metrics` facade.

use std::fmt;
use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;

/// Upper bounds of duration histograms (names ending in `_seconds`): from half a millisecond, below which a commit is not, to half a minute.
const SECONDS: [f64; 15] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];

/// Upper bounds of size histograms (names ending in `_bytes`): powers of four from 256 B to 16 MiB.
const BYTES: [f64; 9] = [256.0, 1024.0, 4096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0];

/// Upper bounds of all other histograms, which count things: batch sizes, attempts.
const COUNTS: [f64; 13] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0];

static METRICS: OnceLock<Metrics> = OnceLock::new();

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
        self.recorder.render()
    }

    /// Moves recorded values into their histograms. To be called every few seconds: without it a process that nobody scrapes would keep every
    /// single value.
    pub fn run_upkeep(&self) {
        self.recorder.run_upkeep();
    }
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
