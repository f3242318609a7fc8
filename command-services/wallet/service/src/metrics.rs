//! What the wallet service measures beside what every service measures.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

const HOLDS_EXPIRED: &str = "idempo_wallet_holds_expired_total";
const HOLDS_DUE: &str = "idempo_wallet_holds_due";
const EXPIRY_LATENESS: &str = "idempo_wallet_hold_expiry_lateness_seconds";
const EXPIRY_FAILURES: &str = "idempo_wallet_hold_expiry_failures_total";
const LEDGER_IMBALANCE: &str = "idempo_ledger_imbalance";

/// Says what the metrics mean.
pub(crate) fn describe() {
    describe_counter!(HOLDS_EXPIRED, Unit::Count, "Holds that expired");
    describe_gauge!(HOLDS_DUE, Unit::Count, "Holds that were due and not yet expired at the last look");
    describe_histogram!(EXPIRY_LATENESS, Unit::Seconds, "From the end of a hold's life to its expiry");
    describe_counter!(EXPIRY_FAILURES, Unit::Count, "Expiries of holds that came to nothing and are tried again");
    describe_gauge!(
        LEDGER_IMBALANCE,
        Unit::Count,
        "By how much the sides of all postings differ, in minor units: always 0, or something is wrong"
    );
}

/// A hold expired, so long after the end of its life.
pub(crate) fn hold_expired(late: jiff::SignedDuration) {
    counter!(HOLDS_EXPIRED).increment(1);
    histogram!(EXPIRY_LATENESS).record(late.as_secs_f64().max(0.0));
}

/// The expiry of a hold came to nothing.
pub(crate) fn hold_expiry_failed() {
    counter!(EXPIRY_FAILURES).increment(1);
}

/// By how much the sides of all postings differ.
pub(crate) fn ledger_imbalance(imbalance: f64) {
    gauge!(LEDGER_IMBALANCE).set(imbalance);
}

/// How many holds were due at the last look.
pub(crate) fn holds_due(count: usize) {
    gauge!(HOLDS_DUE).set(f64::from(u32::try_from(count).unwrap_or(u32::MAX)));
}
