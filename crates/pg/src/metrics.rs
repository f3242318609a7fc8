//! What a pool tells about itself, by OpenTelemetry's names for database connections.

use std::time::Duration;

use deadpool_postgres::Status;
use metrics::{Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

/// Connections of the pool, by state: `idle` or `used`.
const COUNT: &str = "db_client_connection_count";
/// Connections the pool may have.
const MAX: &str = "db_client_connection_max";
/// Callers that wait for a connection.
const PENDING: &str = "db_client_connection_pending_requests";
/// Callers that waited in vain.
const TIMEOUTS: &str = "db_client_connection_timeouts_total";
/// How long callers waited.
const WAIT: &str = "db_client_connection_wait_time_seconds";
/// How long callers held a connection.
const USE: &str = "db_client_connection_use_time_seconds";

/// The meters of one pool.
#[derive(Clone)]
pub(crate) struct Meters {
    idle: Gauge,
    used: Gauge,
    pending: Gauge,
    timeouts: Counter,
    wait: Histogram,
    usage: Histogram,
}

/// Counts a waiting caller while it lives.
pub(crate) struct Pending<'a>(&'a Gauge);

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

impl Meters {
    pub(crate) fn new(pool: &str, max: usize) -> Self {
        describe_gauge!(COUNT, "Connections of the pool by state.");
        describe_gauge!(MAX, "Connections the pool may have.");
        describe_gauge!(PENDING, "Callers that wait for a connection.");
        describe_counter!(TIMEOUTS, "Callers that waited for a connection in vain.");
        describe_histogram!(WAIT, metrics::Unit::Seconds, "How long callers waited for a connection.");
        describe_histogram!(USE, metrics::Unit::Seconds, "How long callers held a connection.");
        let pool = pool.to_owned();
        gauge!(MAX, "pool" => pool.clone()).set(f64::from(u32::try_from(max).unwrap_or(u32::MAX)));
        Self {
            idle: gauge!(COUNT, "pool" => pool.clone(), "state" => "idle"),
            used: gauge!(COUNT, "pool" => pool.clone(), "state" => "used"),
            pending: gauge!(PENDING, "pool" => pool.clone()),
            timeouts: counter!(TIMEOUTS, "pool" => pool.clone()),
            wait: histogram!(WAIT, "pool" => pool.clone()),
            usage: histogram!(USE, "pool" => pool),
        }
    }

    pub(crate) fn pending(&self) -> Pending<'_> {
        self.pending.increment(1.0);
        Pending(&self.pending)
    }

    pub(crate) fn acquired(&self, waited: Duration) {
        self.wait.record(waited);
    }

    pub(crate) fn timed_out(&self) {
        self.timeouts.increment(1);
    }

    pub(crate) fn used(&self, held: Duration) {
        self.usage.record(held);
    }

    pub(crate) fn connections(&self, status: Status) {
        let idle = status.available;
        let used = status.size.saturating_sub(idle);
        self.idle.set(f64::from(u32::try_from(idle).unwrap_or(u32::MAX)));
        self.used.set(f64::from(u32::try_from(used).unwrap_or(u32::MAX)));
    }
}
