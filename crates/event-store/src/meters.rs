//! What the event store measures.

use metrics::{Unit, describe_counter, describe_histogram};

pub(crate) const BATCH_COMMANDS: &str = "idempo_append_batch_commands";
pub(crate) const CONFLICTS: &str = "idempo_append_conflicts_total";
pub(crate) const IDEMPOTENCY_HITS: &str = "idempo_idempotency_hits_total";

/// Says what the metrics mean.
pub(crate) fn describe() {
    describe_histogram!(BATCH_COMMANDS, Unit::Count, "Commands that went to the database in one call and one commit");
    describe_counter!(CONFLICTS, Unit::Count, "Commands that met a stream another process had changed, and were decided again");
    describe_counter!(
        IDEMPOTENCY_HITS,
        Unit::Count,
        "Commands whose key was bound before, by where that was seen: in memory or in the store"
    );
}
