//! The metrics of a projection, labelled with its name and generation.

pub(crate) mod generations;

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::parking::letters::ParkedCounts;

const EVENTS: &str = "idempo_projection_events_total";
const DUPLICATES: &str = "idempo_projection_duplicates_total";
const PASSED_OVER: &str = "idempo_projection_passed_over_total";
const RETRIES: &str = "idempo_projection_store_retries_total";
const FENCED: &str = "idempo_projection_fenced_total";
const STOPS: &str = "idempo_projection_stops_total";
const STOPPED: &str = "idempo_projection_stopped_partitions";
const STOPPED_AT: &str = "idempo_projection_stopped_at_offset";
const TOPIC_FAULT: &str = "idempo_projection_topic_fault";
const HEAD: &str = "idempo_projection_head";
const POSITION: &str = "idempo_projection_position";
const FRESHNESS: &str = "idempo_projection_freshness_seconds";
const BATCH: &str = "idempo_projection_batch_records";
const DEAD_LETTERS: &str = "idempo_dlq_produced_total";
const DEAD_LETTERS_AWAY: &str = "idempo_dlq_unavailable";
const PARKED_KEYS: &str = "idempo_parked_keys";
const PARKED_RECORDS: &str = "idempo_parked_records";
const PARKED_AGE: &str = "idempo_parked_oldest_age_seconds";
const DRAINED_LETTERS: &str = "idempo_parked_drained_letters_total";
const DRAINED_RECORDS: &str = "idempo_parked_drained_records_total";
const COMMIT: &str = "idempo_projection_commit_duration_seconds";

/// Shows the metrics of a generation, from here on or again.
pub(crate) fn show_metrics(projection: &'static str, generation: i32) {
    idempo_telemetry::show_series(&[("projection", projection), ("version", &generation.to_string())]);
}

/// Shows them no more: there is no such generation.
pub(crate) fn hide_metrics(projection: &'static str, generation: i32) {
    idempo_telemetry::hide_series(&[("projection", projection), ("version", &generation.to_string())]);
}

/// The metrics of one generation of a projection.
pub(crate) struct Meters {
    labels: Vec<Label>,
    events: Counter,
    duplicates: Counter,
    passed_over: Counter,
    retries: Counter,
    fenced: Counter,
    stopped: Gauge,
    freshness: Gauge,
    batch: Histogram,
    commit: Histogram,
    letters_away: Gauge,
    parked_keys: Gauge,
    parked_records: Gauge,
    parked_age: Gauge,
    drained_letters: Counter,
    drained_records: Counter,
}

impl Meters {
    pub(crate) fn new(projection: &'static str, generation: i32) -> Self {
        describe();
        let labels = vec![Label::from_static_parts("projection", projection), Label::new("version", generation.to_string())];
        Self {
            events: counter!(EVENTS, labels.clone()),
            duplicates: counter!(DUPLICATES, labels.clone()),
            passed_over: counter!(PASSED_OVER, labels.clone()),
            retries: counter!(RETRIES, labels.clone()),
            fenced: counter!(FENCED, labels.clone()),
            stopped: gauge!(STOPPED, labels.clone()),
            freshness: gauge!(FRESHNESS, labels.clone()),
            batch: histogram!(BATCH, labels.clone()),
            commit: histogram!(COMMIT, labels.clone()),
            letters_away: gauge!(DEAD_LETTERS_AWAY, labels.clone()),
            parked_keys: gauge!(PARKED_KEYS, labels.clone()),
            parked_records: gauge!(PARKED_RECORDS, labels.clone()),
            parked_age: gauge!(PARKED_AGE, labels.clone()),
            drained_letters: counter!(DRAINED_LETTERS, labels.clone()),
            drained_records: counter!(DRAINED_RECORDS, labels.clone()),
            labels,
        }
    }

    pub(crate) fn committed(&self, counts: &Counts, took: Duration) {
        self.events.increment(counts.applied);
        self.duplicates.increment(counts.duplicates);
        self.passed_over.increment(counts.passed_over);
        self.batch.record(counts.records());
        self.commit.record(took);
    }

    pub(crate) fn retried(&self) {
        self.retries.increment(1);
    }

    pub(crate) fn fenced(&self) {
        self.fenced.increment(1);
    }

    /// A dead letter was written to its topic.
    pub(crate) fn dead_letter(&self, topic: &str, code: &'static str) {
        let mut labels = self.labels.clone();
        labels.push(Label::new("topic", topic.to_owned()));
        labels.push(Label::from_static_parts("error_class", code));
        counter!(DEAD_LETTERS, labels).increment(1);
    }

    /// A partition more waits, or does not any more, for the dead-letter topic.
    pub(crate) fn dead_letters_away(&self, is_away: bool) {
        if is_away { self.letters_away.increment(1.0) } else { self.letters_away.decrement(1.0) }
    }

    /// Dead letters were drained, and records with them.
    pub(crate) fn drained(&self, letters: usize, records: usize) {
        self.drained_letters.increment(u64::try_from(letters).unwrap_or(u64::MAX));
        self.drained_records.increment(u64::try_from(records).unwrap_or(u64::MAX));
    }

    /// How much is parked, on all partitions; `age_ms` is that of the oldest dead letter.
    pub(crate) fn parked(&self, counts: &ParkedCounts, age_ms: i64) {
        let amount = |count: u64| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        self.parked_keys.set(amount(counts.keys));
        self.parked_records.set(amount(counts.records));
        self.parked_age.set(Duration::from_millis(age_ms.unsigned_abs()).as_secs_f64());
    }

    #[expect(clippy::cast_precision_loss, reason = "an offset above 2^53 would be shown rounded, and nothing is decided by it")]
    pub(crate) fn halted(&self, topic: &str, partition: i32, offset: i64, reason: &'static str) {
        let mut labels = self.labels.clone();
        labels.push(Label::from_static_parts("reason", reason));
        counter!(STOPS, labels.clone()).increment(1);
        labels.push(Label::new("topic", topic.to_owned()));
        labels.push(Label::new("partition", partition.to_string()));
        gauge!(STOPPED_AT, labels).set(offset as f64);
    }

    /// What was wrong with the topic, and what is.
    pub(crate) fn topic_fault(&self, before: Option<&'static str>, after: Option<&'static str>) {
        for (code, value) in before.map(|code| (code, 0.0)).into_iter().chain(after.map(|code| (code, 1.0))) {
            let mut labels = self.labels.clone();
            labels.push(Label::from_static_parts("reason", code));
            gauge!(TOPIC_FAULT, labels).set(value);
        }
    }

    pub(crate) fn stopped(&self, partitions: usize) {
        self.stopped.set(f64::from(u32::try_from(partitions).unwrap_or(u32::MAX)));
    }

    pub(crate) fn freshness(&self, lag_ms: i64) {
        let lag_ms = Duration::from_millis(u64::try_from(lag_ms).unwrap_or(0));
        self.freshness.set(lag_ms.as_secs_f64());
    }

    /// Where a partition stands. A gauge is a float: exact up to 2^53.
    #[expect(clippy::cast_precision_loss, reason = "an offset above 2^53 would be shown rounded, and nothing is decided by it")]
    pub(crate) fn stands(&self, partition: i32, position: i64, head: i64) {
        let mut labels = self.labels.clone();
        labels.push(Label::new("partition", partition.to_string()));
        gauge!(POSITION, labels.clone()).set(position as f64);
        gauge!(HEAD, labels).set(head as f64);
    }
}

/// What was in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) applied: u64,
    pub(crate) duplicates: u64,
    pub(crate) passed_over: u64,
}

impl Counts {
    fn records(&self) -> f64 {
        f64::from(u32::try_from(self.applied + self.duplicates + self.passed_over).unwrap_or(u32::MAX))
    }
}

fn describe() {
    describe_counter!(EVENTS, Unit::Count, "Events that were applied to the read model");
    describe_counter!(DUPLICATES, Unit::Count, "Events that came again and were dropped, by the version of their stream");
    describe_counter!(PASSED_OVER, Unit::Count, "Events that are none of the projection's business");
    describe_counter!(RETRIES, Unit::Count, "Calls of the store that failed and were made again");
    describe_counter!(
        FENCED,
        Unit::Count,
        "Times a partition was given up because somebody else had taken it, or the store had fallen back"
    );
    describe_counter!(STOPS, Unit::Count, "Times a partition stopped, by reason");
    describe_gauge!(STOPPED, Unit::Count, "Partitions of this process that have stopped and wait for a person");
    describe_gauge!(STOPPED_AT, Unit::Count, "Offset that a partition last stopped before in this process, by reason, topic and partition");
    describe_gauge!(
        TOPIC_FAULT,
        Unit::Count,
        "1 while the topic is missing or has another number of partitions than it must have, by reason"
    );
    describe_gauge!(HEAD, Unit::Count, "Offset of the next record to be written, by partition");
    describe_gauge!(POSITION, Unit::Count, "Offset of the first record that is not in the read model, by partition");
    describe_gauge!(FRESHNESS, Unit::Seconds, "Age of the newest event in the read model while some are missing, else 0");
    describe_counter!(DEAD_LETTERS, Unit::Count, "Records that became dead letters, or failed again as such, by topic and reason");
    describe_gauge!(DEAD_LETTERS_AWAY, Unit::Count, "Partitions of this process that wait for the dead-letter topic");
    describe_gauge!(PARKED_KEYS, Unit::Count, "Keys that have a dead letter");
    describe_gauge!(PARKED_RECORDS, Unit::Count, "Records that wait behind dead letters of their keys");
    describe_gauge!(PARKED_AGE, Unit::Seconds, "How long ago the oldest dead letter failed first; 0 where there is none");
    describe_counter!(DRAINED_LETTERS, Unit::Count, "Dead letters that were applied or discarded");
    describe_counter!(DRAINED_RECORDS, Unit::Count, "Records that were applied when dead letters were drained");
    describe_histogram!(BATCH, Unit::Count, "Records of a batch");
    describe_histogram!(COMMIT, Unit::Seconds, "Time from a batch's records to its commit");
}
