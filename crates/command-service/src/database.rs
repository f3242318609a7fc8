//! The service's own database: whether it is there, and whether it has a place for the keys to come.

use std::time::Duration;

use idempo_clock::SharedClock;
use idempo_event_store::postgres::maintain_key_partitions;
use idempo_pg::Pool;
use idempo_runtime::{Condition, Platform, Task};
use tokio_util::sync::CancellationToken;

/// How often the partitions of the idempotency keys are looked after.
const KEY_PARTITIONS_INTERVAL: Duration = Duration::from_hours(24);
/// How soon that is tried again after a failure.
const KEY_PARTITIONS_RETRY: Duration = Duration::from_secs(1);

/// Keeps the service's readiness true to whether its database is there, and the key partitions ahead of the time.
///
/// # Panics
/// Outside a tokio runtime.
pub fn look_after_database(pool: &Pool, platform: &Platform) {
    let watched = pool.clone();
    platform.watch("database", move || {
        let pool = watched.clone();
        async move { pool.check().await }
    });
    let (partitions, pool, clock) = (platform.readiness.condition("key-partitions"), pool.clone(), platform.clock.clone());
    platform.tasks.spawn(Task::critical("key-partitions"), |cancel| async move {
        keep_key_partitions(pool, clock, partitions, cancel).await;
        Ok(())
    });
}

async fn keep_key_partitions(pool: Pool, clock: SharedClock, partitions: Condition, cancel: CancellationToken) {
    while let Some(kept) = cancel.run_until_cancelled(maintain_key_partitions(&pool, &clock)).await {
        let wait = match kept {
            Ok(()) => {
                partitions.met();
                KEY_PARTITIONS_INTERVAL
            }
            // The partitions reach weeks ahead: a failure matters only before the first success, when the condition is not met anyway.
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "the key partitions could not be looked after");
                KEY_PARTITIONS_RETRY
            }
        };
        if cancel.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
            break;
        }
    }
}
