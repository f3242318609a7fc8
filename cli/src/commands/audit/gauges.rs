//! What an audit has found, as gauges in a file: a node exporter's textfile collector takes it from there.

use std::path::PathBuf;
use std::time::Duration;

use idempo_checker::Report;
use jiff::Timestamp;
use metrics::{Unit, describe_gauge, gauge, with_local_recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

use crate::failure::Failure;

/// A file of gauges.
pub(super) struct Gauges {
    recorder: PrometheusRecorder,
    file: PathBuf,
}

impl Gauges {
    /// Gauges of which nothing is known yet.
    pub(super) fn new(file: PathBuf) -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        with_local_recorder(&recorder, describe);
        Self { recorder, file }
    }

    /// Writes what an audit has found; `None` where it could not look. The file is whole at any moment.
    pub(super) fn write(&self, report: Option<&Report>, now: Timestamp, took: Duration) -> Result<(), Failure> {
        with_local_recorder(&self.recorder, || {
            gauge!("idempo_audit_succeeded").set(if report.is_some() { 1.0 } else { 0.0 });
            gauge!("idempo_audit_duration_seconds").set(took.as_secs_f64());
            let Some(report) = report else { return };
            gauge!("idempo_audit_last_success_seconds").set(float(now.as_second().unsigned_abs()));
            for verdict in &report.verdicts {
                gauge!("idempo_audit_flaws", "invariant" => verdict.id, "claim" => verdict.claim).set(float(verdict.flaw_count));
                gauge!("idempo_audit_looked_at", "invariant" => verdict.id, "claim" => verdict.claim, "of" => verdict.of)
                    .set(float(verdict.looked_at));
            }
        });
        let beside = self.file.with_extension("new");
        std::fs::write(&beside, self.recorder.handle().render())?;
        Ok(std::fs::rename(&beside, &self.file)?)
    }
}

fn describe() {
    describe_gauge!("idempo_audit_succeeded", "1 where the last audit could look at everything; what it found is in idempo_audit_flaws.");
    describe_gauge!("idempo_audit_duration_seconds", Unit::Seconds, "How long the last audit took.");
    describe_gauge!("idempo_audit_last_success_seconds", Unit::Seconds, "When an audit last looked at everything, since 1970.");
    describe_gauge!("idempo_audit_flaws", Unit::Count, "Flaws that the last audit found, by claim: always 0, or something is wrong.");
    describe_gauge!("idempo_audit_looked_at", Unit::Count, "What the last audit looked at: events, records, rows, by claim.");
}

/// Counts above 4,294,967,295 are shown as that.
fn float(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use idempo_checker::Verdict;

    use super::*;

    #[test]
    fn a_flaw_is_a_gauge_of_its_claim() {
        let file = std::env::temp_dir().join(format!("idempo-gauges-{}.prom", std::process::id()));
        let gauges = Gauges::new(file.clone());
        let mut verdict = Verdict::new("I7", "rows are as they must be", "rows");
        verdict.look(false, || "one is not".to_owned());
        let report = Report { verdicts: vec![verdict] };
        gauges.write(Some(&report), Timestamp::UNIX_EPOCH, Duration::from_millis(1_500)).expect("written");
        let text = std::fs::read_to_string(&file).expect("a file");
        assert!(text.contains("idempo_audit_flaws{invariant=\"I7\",claim=\"rows are as they must be\"} 1"), "{text}");
        assert!(text.contains("idempo_audit_succeeded 1") && text.contains("idempo_audit_duration_seconds 1.5"), "{text}");
        gauges.write(None, Timestamp::UNIX_EPOCH, Duration::ZERO).expect("written");
        let text = std::fs::read_to_string(&file).expect("a file");
        assert!(text.contains("idempo_audit_succeeded 0") && text.contains("} 1"), "what was found last stays: {text}");
        std::fs::remove_file(&file).expect("removed");
    }
}
