//! What those who read a read model need to know of it: whether it has what they wrote, and how far behind it is.

use std::sync::Arc;
use std::time::Duration;

use idempo_dead_letter::DeadLetterId;
use idempo_ids::StreamId;
use tokio::time::{Instant, timeout_at};

use crate::lookups::Lookups;
use crate::progress::{Lag, Progress, Stopped};
use crate::store::{Store, StoreError};

/// How long a reader waits before it looks again, at first and at most, when no batch of this process wakes it: another one may have the partition.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(320));
/// How long it waits while a partition has stopped.
const STOPPED_WAIT: Duration = Duration::from_millis(500);

/// A read model as its readers see it. Cheap to clone.
pub struct View<S> {
    lookups: Arc<Lookups<S>>,
    progress: Arc<Progress>,
    generation: i32,
}

impl<S> Clone for View<S> {
    fn clone(&self) -> Self {
        Self { lookups: Arc::clone(&self.lookups), progress: Arc::clone(&self.progress), generation: self.generation }
    }
}

/// Whether a read model has what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reached {
    /// It has.
    Yes,
    /// Not within the time given; or not within a moment, and a partition has stopped ([`View::stops`]).
    NotYet,
    /// It has not, and what it was asked for stands in line behind this dead letter, which waits for people.
    Parked(DeadLetterId),
}

impl<S: Store> View<S> {
    /// The view of generation `generation`, which `store` holds.
    #[must_use]
    pub fn new(store: Arc<S>, progress: Arc<Progress>, generation: i32) -> Self {
        Self { lookups: Arc::new(Lookups::new(store)), progress, generation }
    }

    /// The generation that is read.
    #[must_use]
    pub const fn generation(&self) -> i32 {
        self.generation
    }

    /// How far the read model is behind: on one partition, or on all. Asks nobody; as of at most a second ago for the partitions of this process,
    /// a few seconds for others.
    #[must_use]
    pub fn lag(&self, partition: Option<i32>) -> Lag {
        self.progress.lag(partition)
    }

    /// The partitions that stand still until a person has mended the cause: whether this one does, or all that do. Asks nobody; as of now for the
    /// partitions of this process, as of about a second ago for others.
    #[must_use]
    pub fn stops(&self, partition: Option<i32>) -> Vec<Stopped> {
        self.progress.stops(partition)
    }

    /// Waits until the read model has each of these streams up to its version, for at most `limit`. A stream that the projection does not consume
    /// is never reached. A read that begins after it sees at least these versions.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] where the store can't say.
    ///
    /// # Cancel safety
    /// Safe: it only looks.
    pub async fn reached(&self, position: &[(StreamId, u64)], limit: Duration) -> Result<Reached, StoreError> {
        let began = Instant::now();
        let deadline = began + limit;
        let mut missing = position.to_vec();
        let mut look_again = LOOK_AGAIN.0;
        // Before the first look, so that no batch comes unnoticed between a look and the wait after it.
        let registered = self.progress.waiters.register(position);
        while !missing.is_empty() {
            let streams: Vec<StreamId> = missing.iter().map(|(stream, _)| *stream).collect();
            let found = self.lookups.versions(&streams).await?;
            missing.retain(|(stream, version)| found.get(stream).is_none_or(|end| end < version));
            if missing.is_empty() {
                break;
            }
            if self.progress.has_letters()
                && let Some(letter) = self.lookups.parked_stream(&missing).await?
            {
                return Ok(Reached::Parked(letter));
            }
            let now = Instant::now();
            // What has stopped will not come for as long as anybody waits; what is missing may be of others, which have a moment to come.
            let given_up = now >= began + STOPPED_WAIT && !self.progress.stops(None).is_empty();
            if now >= deadline || given_up {
                return Ok(Reached::NotYet);
            }
            // Woken by a batch of this process, by the time to look again, or by the deadline, which is looked at once more.
            let _ = timeout_at(deadline.min(now + look_again), registered.moved()).await;
            look_again = (look_again * 2).min(LOOK_AGAIN.1);
        }
        Ok(Reached::Yes)
    }
}
