//! What the inventory projector measures beside what projections and gRPC services measure.

use std::time::Duration;

use idempo_projection::Reached;
use metrics::{Unit, describe_histogram, histogram};

const WAIT: &str = "idempo_inventory_min_position_wait_seconds";

/// Says what the metrics mean.
pub(crate) fn describe() {
    describe_histogram!(WAIT, Unit::Seconds, "How long reads waited for the read model to have their min_position, by outcome");
}

/// A read has waited for its position.
pub(crate) fn waited(reached: &Reached, took: Duration) {
    let outcome = match reached {
        Reached::Yes => "reached",
        Reached::NotYet => "behind",
        Reached::Parked(_) => "parked",
    };
    histogram!(WAIT, "outcome" => outcome).record(took.as_secs_f64());
}
