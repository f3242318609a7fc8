//! The metrics of a reactor, labelled with its name.

use metrics::{Counter, Gauge, Label, Unit, counter, describe_counter, describe_gauge, gauge};

use super::log::EffectCounts;

const RECORDED: &str = "idempo_effects_recorded_total";
const PERFORMED: &str = "idempo_effects_performed_total";
const FAILED: &str = "idempo_effects_failed_total";
const EXPIRED: &str = "idempo_effects_expired_total";
const RETRIES: &str = "idempo_effects_retries_total";
const AGAIN: &str = "idempo_effects_of_duplicates_total";
const UNFINISHED: &str = "idempo_effects_unfinished";
const UNSETTLED: &str = "idempo_effects_unsettled";
const OLDEST: &str = "idempo_effects_oldest_unfinished_seconds";
const LOG_RETRIES: &str = "idempo_reactor_log_retries_total";
const STOPS: &str = "idempo_reactor_stops_total";
const STOPPED: &str = "idempo_reactor_stopped_partitions";
const HEAD: &str = "idempo_reactor_head";
const POSITION: &str = "idempo_reactor_position";

/// The metrics of a reactor.
pub(super) struct Meters {
    labels: Vec<Label>,
    recorded: Counter,
    performed: Counter,
    expired: Counter,
    retries: Counter,
    again: Counter,
    unfinished: Gauge,
    unsettled: Gauge,
    oldest: Gauge,
    log_retries: Counter,
    stopped: Gauge,
}

impl Meters {
    pub(super) fn new(reactor: &'static str) -> Self {
        describe();
        let labels = vec![Label::from_static_parts("reactor", reactor)];
        Self {
            recorded: counter!(RECORDED, labels.clone()),
            performed: counter!(PERFORMED, labels.clone()),
            expired: counter!(EXPIRED, labels.clone()),
            retries: counter!(RETRIES, labels.clone()),
            again: counter!(AGAIN, labels.clone()),
            unfinished: gauge!(UNFINISHED, labels.clone()),
            unsettled: gauge!(UNSETTLED, labels.clone()),
            oldest: gauge!(OLDEST, labels.clone()),
            log_retries: counter!(LOG_RETRIES, labels.clone()),
            stopped: gauge!(STOPPED, labels.clone()),
            labels,
        }
    }

    /// Effects were entered to be performed, or as expired, or were there before.
    pub(super) fn recorded(&self, pending: usize, expired: usize, again: usize) {
        self.recorded.increment(count(pending.saturating_add(expired)));
        self.expired.increment(count(expired));
        self.again.increment(count(again));
    }

    pub(super) fn performed(&self, effects: usize) {
        self.performed.increment(count(effects));
    }

    pub(super) fn failed(&self, code: &str) {
        let mut labels = self.labels.clone();
        labels.push(Label::new("error_class", code.to_owned()));
        counter!(FAILED, labels).increment(1);
    }

    pub(super) fn expired(&self) {
        self.expired.increment(1);
    }

    pub(super) fn retried(&self) {
        self.retries.increment(1);
    }

    pub(super) fn log_retried(&self) {
        self.log_retries.increment(1);
    }

    /// How many effects are unsettled; `age_s` is that of the oldest, in seconds.
    pub(super) fn unsettled(&self, counts: &EffectCounts, age_s: f64) {
        let amount = |count: u64| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        self.unfinished.set(amount(counts.unfinished));
        self.unsettled.set(amount(counts.failed));
        self.oldest.set(age_s);
    }

    pub(super) fn halted(&self, code: &'static str) {
        let mut labels = self.labels.clone();
        labels.push(Label::from_static_parts("reason", code));
        counter!(STOPS, labels).increment(1);
    }

    pub(super) fn stopped(&self, partitions: usize) {
        self.stopped.set(f64::from(u32::try_from(partitions).unwrap_or(u32::MAX)));
    }

    /// Where a partition stands. A gauge is a float: exact up to 2^53.
    #[expect(clippy::cast_precision_loss, reason = "an offset above 2^53 would be shown rounded, and nothing is decided by it")]
    pub(super) fn stands(&self, partition: i32, position: i64, head: i64) {
        let mut labels = self.labels.clone();
        labels.push(Label::new("partition", partition.to_string()));
        gauge!(POSITION, labels.clone()).set(position as f64);
        gauge!(HEAD, labels).set(head as f64);
    }
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn describe() {
    describe_counter!(RECORDED, Unit::Count, "Effects that were entered in the log of a reactor");
    describe_counter!(PERFORMED, Unit::Count, "Effects that were performed");
    describe_counter!(FAILED, Unit::Count, "Effects that failed for good and wait for a person, by the error's code");
    describe_counter!(EXPIRED, Unit::Count, "Effects that were dropped because they were too old to be worth performing");
    describe_counter!(RETRIES, Unit::Count, "Attempts to perform an effect that failed for a while, and were made again");
    describe_counter!(AGAIN, Unit::Count, "Effects of events that came again, which are in the log already and are not performed again");
    describe_gauge!(UNFINISHED, Unit::Count, "Effects that are in the log and not performed yet");
    describe_gauge!(UNSETTLED, Unit::Count, "Effects that have failed for good and wait for a person");
    describe_gauge!(OLDEST, Unit::Seconds, "How long ago the event of the oldest unfinished effect was decided; 0 where there is none");
    describe_counter!(LOG_RETRIES, Unit::Count, "Calls of the effect log that failed and were made again");
    describe_counter!(STOPS, Unit::Count, "Times a partition of a reactor stopped, by reason");
    describe_gauge!(STOPPED, Unit::Count, "Partitions of this process's reactor that have stopped and wait for a person");
    describe_gauge!(HEAD, Unit::Count, "Offset of the next record to be written, by partition of this process's reactor");
    describe_gauge!(
        POSITION,
        Unit::Count,
        "Offset of the first record whose effects are not in the log, by partition of this process's reactor"
    );
}
