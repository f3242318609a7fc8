//! What the inventory service measures beside what every service measures.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

const RESERVATIONS_EXPIRED: &str = "idempo_inventory_reservations_expired_total";
const RESERVATIONS_DUE: &str = "idempo_inventory_reservations_due";
const EXPIRY_LATENESS: &str = "idempo_inventory_reservation_expiry_lateness_seconds";
const EXPIRY_FAILURES: &str = "idempo_inventory_reservation_expiry_failures_total";

/// Says what the metrics mean.
pub(crate) fn describe() {
    describe_counter!(RESERVATIONS_EXPIRED, Unit::Count, "Reservations that expired");
    describe_gauge!(RESERVATIONS_DUE, Unit::Count, "Reservations that were due and not yet expired at the last look");
    describe_histogram!(EXPIRY_LATENESS, Unit::Seconds, "From the end of a reservation's life to its expiry");
    describe_counter!(EXPIRY_FAILURES, Unit::Count, "Expiries of reservations that came to nothing and are tried again");
}

/// A reservation expired, so long after the end of its life.
pub(crate) fn reservation_expired(late: jiff::SignedDuration) {
    counter!(RESERVATIONS_EXPIRED).increment(1);
    histogram!(EXPIRY_LATENESS).record(late.as_secs_f64().max(0.0));
}

/// The expiry of a reservation came to nothing.
pub(crate) fn reservation_expiry_failed() {
    counter!(EXPIRY_FAILURES).increment(1);
}

/// How many reservations were due at the last look.
pub(crate) fn reservations_due(count: usize) {
    gauge!(RESERVATIONS_DUE).set(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
}
