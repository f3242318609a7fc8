//! What the relay tells about itself. All names are described here; `domain` is the outbox's name in the configuration.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::status::State;

/// The most rows of one page whose time to Kafka is recorded; of a longer page they are spread evenly over it.
const SAMPLES_PER_PAGE_MAX: usize = 16;

/// Says what each metric is.
pub(crate) fn describe() {
    describe_gauge!("idempo_outbox_pending", "Rows that are not in Kafka; above 10,000 an estimate by their numbers.");
    describe_gauge!("idempo_outbox_oldest_age_seconds", Unit::Seconds, "Age of the first row that is not in Kafka.");
    describe_gauge!("idempo_outbox_dead", "Refused rows that wait for people, and 1 more while the outbox stands still.");
    describe_gauge!("idempo_outbox_quarantined", "Rows that wait in quarantine, by state.");
    describe_counter!(
        "idempo_relay_rebased_total",
        "Times that the database was found to be another one than the cursor's, by what was noticed."
    );
    describe_gauge!("idempo_outbox_table_bytes", Unit::Bytes, "Size of each outbox table.");
    describe_gauge!(
        "idempo_outbox_records_lost",
        "1 while a topic ends before what was acknowledged in it; the outbox waits until people have decided."
    );
    describe_counter!(
        "idempo_outbox_skipped_total",
        "Rows that a predecessor had sent, found in Kafka after a take-over and not sent again."
    );
    describe_gauge!("idempo_relay_leader", "1 while this process relays the outbox.");
    describe_gauge!("idempo_relay_state", "1 for the state that the outbox is in at this process.");
    describe_counter!("idempo_relay_fenced_total", "Times that this process found its lease taken or could not renew it in time.");
    describe_counter!("idempo_relay_takeovers_total", "Times that this process took a lease.");
    describe_counter!("idempo_relay_producers_failed_total", "Producers that ended and were replaced.");
    describe_counter!("messaging_client_sent_messages_total", "Records acknowledged by the brokers.");
    describe_histogram!("idempo_relay_batch_size", "Rows of a page.");
    describe_histogram!(
        "idempo_relay_e2e_duration_seconds",
        Unit::Seconds,
        "From the start of the transaction that wrote a row to the acknowledgement of its page, for a sample of rows."
    );
    describe_histogram!(
        "idempo_relay_read_back_duration_seconds",
        Unit::Seconds,
        "Looking for what predecessors have sent, before a producer begins."
    );
    describe_histogram!("idempo_relay_storage_duration_seconds", Unit::Seconds, "Statements of the relay, by operation.");
    describe_counter!("idempo_relay_rotations_total", "Switches of the outbox table that is written.");
    describe_counter!(
        "idempo_relay_truncations_total",
        "Outbox tables that were emptied, or could not be because one still wrote into them."
    );
}

/// How many rows wait in quarantine.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) held: i64,
    pub(crate) parked: i64,
    pub(crate) diverted: i64,
    pub(crate) requeued: i64,
}

/// The metrics of one outbox.
#[derive(Clone)]
pub(crate) struct Metrics {
    domain: String,
    sent: Counter,
    page_rows: Histogram,
    e2e: Histogram,
    leader: Gauge,
    dead: Gauge,
    dead_rows: Arc<AtomicU32>,
    is_blocked: Arc<AtomicBool>,
    pending: Gauge,
    oldest_age: Gauge,
}

impl Metrics {
    /// The metrics of the outbox with this name.
    pub(crate) fn new(domain: &str) -> Self {
        let label = || domain.to_owned();
        Self {
            domain: domain.to_owned(),
            sent: counter!("messaging_client_sent_messages_total", "domain" => label()),
            page_rows: histogram!("idempo_relay_batch_size", "domain" => label()),
            e2e: histogram!("idempo_relay_e2e_duration_seconds", "domain" => label()),
            leader: gauge!("idempo_relay_leader", "domain" => label()),
            dead: gauge!("idempo_outbox_dead", "domain" => label()),
            dead_rows: Arc::default(),
            is_blocked: Arc::default(),
            pending: gauge!("idempo_outbox_pending", "domain" => label(), "state" => "new"),
            oldest_age: gauge!("idempo_outbox_oldest_age_seconds", "domain" => label()),
        }
    }

    /// A page was acknowledged; `ages` are those of its rows.
    pub(crate) fn acknowledged(&self, ages: impl ExactSizeIterator<Item = Duration>) {
        let rows = ages.len();
        if rows == 0 {
            return;
        }
        self.sent.increment(u64::try_from(rows).unwrap_or(0));
        self.page_rows.record(f64::from(u32::try_from(rows).unwrap_or(u32::MAX)));
        for age in ages.step_by(rows.div_ceil(SAMPLES_PER_PAGE_MAX)) {
            self.e2e.record(age);
        }
    }

    /// The outbox is in this state at this process.
    pub(crate) fn state(&self, state: &State) {
        for name in State::NAMES {
            let here = if name == state.name() { 1.0 } else { 0.0 };
            gauge!("idempo_relay_state", "domain" => self.domain.clone(), "state" => name).set(here);
        }
        self.leader.set(if state.is_leader() { 1.0 } else { 0.0 });
        self.is_blocked.store(matches!(state, State::Blocked { .. }), Ordering::Relaxed);
        self.tell_dead();
    }

    /// So many rows wait in quarantine.
    pub(crate) fn quarantined(&self, waiting: &Waiting) {
        let Waiting { held, parked, diverted, requeued } = *waiting;
        for (state, rows) in [("held", held), ("parked", parked), ("diverted", diverted), ("requeued", requeued)] {
            let rows = f64::from(u32::try_from(rows).unwrap_or(u32::MAX));
            gauge!("idempo_outbox_quarantined", "domain" => self.domain.clone(), "state" => state).set(rows);
        }
        self.dead_rows.store(u32::try_from(held.saturating_add(diverted)).unwrap_or(u32::MAX), Ordering::Relaxed);
        self.tell_dead();
    }

    fn tell_dead(&self) {
        let blocked = u32::from(self.is_blocked.load(Ordering::Relaxed));
        self.dead.set(f64::from(self.dead_rows.load(Ordering::Relaxed).saturating_add(blocked)));
    }

    /// The database was found to be another one than the cursor's.
    pub(crate) fn rebased(&self, noticed: &'static str) {
        counter!("idempo_relay_rebased_total", "domain" => self.domain.clone(), "noticed" => noticed).increment(1);
    }

    /// The lease was lost.
    pub(crate) fn fenced(&self) {
        counter!("idempo_relay_fenced_total", "domain" => self.domain.clone()).increment(1);
    }

    /// The lease was taken.
    pub(crate) fn took_over(&self) {
        counter!("idempo_relay_takeovers_total", "domain" => self.domain.clone()).increment(1);
    }

    /// A producer ended.
    pub(crate) fn producer_failed(&self) {
        counter!("idempo_relay_producers_failed_total", "domain" => self.domain.clone()).increment(1);
    }

    /// A statement took this long.
    pub(crate) fn storage(&self, operation: &'static str, took: Duration) {
        histogram!("idempo_relay_storage_duration_seconds", "domain" => self.domain.clone(), "op" => operation).record(took);
    }

    /// Rows of a page need not be sent.
    pub(crate) fn skipped(&self, rows: u64) {
        if rows > 0 {
            counter!("idempo_outbox_skipped_total", "domain" => self.domain.clone()).increment(rows);
        }
    }

    /// Looking for what predecessors have sent took this long.
    pub(crate) fn read_back(&self, took: Duration) {
        histogram!("idempo_relay_read_back_duration_seconds", "domain" => self.domain.clone()).record(took);
    }

    /// Whether what was acknowledged is gone.
    pub(crate) fn records_lost(&self, lost: bool) {
        gauge!("idempo_outbox_records_lost", "domain" => self.domain.clone()).set(if lost { 1.0 } else { 0.0 });
    }

    /// What is not in Kafka.
    pub(crate) fn backlog(&self, rows: u32, oldest: Duration) {
        self.pending.set(f64::from(rows));
        self.oldest_age.set(oldest.as_secs_f64());
    }

    /// The size of an outbox table.
    pub(crate) fn table(&self, table: &'static str, bytes: u64) {
        // Kibibytes are exact enough, and fit.
        let kib = f64::from(u32::try_from(bytes / 1_024).unwrap_or(u32::MAX));
        gauge!("idempo_outbox_table_bytes", "domain" => self.domain.clone(), "table" => table).set(kib * 1_024.0);
    }

    /// The table that is written was switched.
    pub(crate) fn rotated(&self) {
        counter!("idempo_relay_rotations_total", "domain" => self.domain.clone()).increment(1);
    }

    /// A table was emptied, or not.
    pub(crate) fn truncation(&self, outcome: &'static str) {
        counter!("idempo_relay_truncations_total", "domain" => self.domain.clone(), "outcome" => outcome).increment(1);
    }
}
