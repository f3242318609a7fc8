//! Whether somebody reads the live generation, which a rebuild gives way to.
//!
//! A rebuild with nobody beside it takes all cores that it can get. Where reads are answered meanwhile, it reads one part at a time and rests between
//! two for twice as long as the last one took: so it has a third of a core, its own and the database's together.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::generations::Live;

/// From so many reads a second on there are readers. What looks after generations takes fewer connections from the readers' pool.
const READS_PER_SECOND_MIN: u64 = 20;
/// Over which time they are counted, at least.
const COUNT_INTERVAL: Duration = Duration::from_millis(250);

/// Counts reads.
pub(crate) struct Readers {
    since: Instant,
    counted: u64,
    are_there: bool,
}

impl Readers {
    pub(crate) fn new() -> Self {
        Self { since: Instant::now(), counted: 0, are_there: false }
    }

    /// Whether there are readers, when `count` reads were begun in all.
    pub(crate) fn are_there(&mut self, count: u64) -> bool {
        let elapsed = self.since.elapsed();
        if elapsed >= COUNT_INTERVAL {
            // Another generation has become live where there are fewer than before.
            let reads = u128::from(count.saturating_sub(self.counted));
            self.are_there = reads * 1_000 >= u128::from(READS_PER_SECOND_MIN) * elapsed.as_millis();
            (self.since, self.counted) = (Instant::now(), count);
        }
        self.are_there
    }
}

/// How many reads of the live generation were begun in this process.
pub(crate) fn reads<T>(live: &watch::Receiver<Live<T>>) -> u64 {
    match &*live.borrow() {
        Live::Reading(reading) => reading.pool.handed_out(),
        Live::Unknown | Live::OtherLogic { .. } => 0,
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn there_are_readers_while_reads_come_often_enough() {
        let mut readers = Readers::new();
        assert!(!readers.are_there(1_000), "no time has passed");
        advance(COUNT_INTERVAL).await;
        assert!(readers.are_there(1_000));
        assert!(readers.are_there(1_000), "for as long as they are counted");
        advance(COUNT_INTERVAL).await;
        assert!(!readers.are_there(1_004));
        advance(COUNT_INTERVAL).await;
        assert!(readers.are_there(1_009));
        advance(COUNT_INTERVAL).await;
        assert!(!readers.are_there(3), "another generation is live");
    }
}
