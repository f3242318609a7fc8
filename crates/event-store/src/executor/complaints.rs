//! What the executor says of its store's failures.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::store::StoreError;

/// Says once that the store is away, and once that it answers again: meanwhile every command meets the same. Everything else is said each time.
#[derive(Debug, Clone, Default)]
pub(super) struct Complaints {
    away: Arc<AtomicBool>,
}

impl Complaints {
    /// The store has failed at `what`.
    pub(super) fn failed(&self, error: &StoreError, what: &'static str) {
        let cause = error as &dyn Error;
        if matches!(error, StoreError::Away(_)) && self.away.swap(true, Ordering::Relaxed) {
            tracing::debug!(error = cause, what, "the event store has failed");
        } else {
            tracing::warn!(error = cause, what, "the event store has failed");
        }
    }

    /// The store has answered.
    pub(super) fn answered(&self) {
        if self.away.swap(false, Ordering::Relaxed) {
            tracing::info!("the event store answers again");
        }
    }
}
