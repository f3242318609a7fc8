//! The live generation comes before one that is being built.
//!
//! Both want the same cores and disks, and the one that is being built takes what it can get. A live generation that has more before it than a batch
//! is catching up: then parts of a rebuild are begun so rarely that they cost it little, yet often enough that the rebuild comes to its end even
//! where the live one is always behind. One that does not move (it is paused, or has stopped, which a rebuild may be the remedy for) is not waited for.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::generations::Live;
use crate::partition::BATCH_RECORDS_MAX;
use crate::progress::Progress;

/// How long a part is put off at most.
const PUT_OFF_MAX: Duration = Duration::from_secs(4);
/// How often it is looked meanwhile. A generation that is catching up commits several times in it.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Puts the parts of a rebuild off while the live generation is catching up.
pub(crate) struct LiveFirst<F> {
    /// Where the live generation stands, while it is behind.
    behind_at: F,
    /// Where it was when it was seen not to move.
    still_at: Option<i64>,
}

impl<F: Fn() -> Option<i64>> LiveFirst<F> {
    pub(crate) const fn new(behind_at: F) -> Self {
        Self { behind_at, still_at: None }
    }

    /// Waits while the live generation is catching up, for [`PUT_OFF_MAX`] at most.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn wait(&mut self) {
        let deadline = Instant::now() + PUT_OFF_MAX;
        let mut stood = (self.behind_at)();
        while let Some(position) = stood.filter(|position| self.still_at != Some(*position))
            && Instant::now() < deadline
        {
            sleep(LOOK_INTERVAL).await;
            stood = (self.behind_at)();
            self.still_at = stood.filter(|stands| *stands == position);
        }
    }
}

/// Where the live generation stands, while it has more before it than a batch.
pub(crate) fn behind_at<T>(live: &watch::Receiver<Live<T>>) -> Option<i64> {
    match &*live.borrow() {
        Live::Reading(reading) => stands_behind(&reading.progress),
        Live::Unknown | Live::OtherLogic { .. } => None,
    }
}

fn stands_behind(progress: &Progress) -> Option<i64> {
    let batch = i64::try_from(BATCH_RECORDS_MAX).unwrap_or(i64::MAX);
    (progress.lag(None).events > batch).then(|| progress.position())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use idempo_clock::SystemClock;

    use super::*;
    use crate::store::Lease;

    /// How long a part is put off.
    async fn put_off<F: Fn() -> Option<i64>>(live_first: &mut LiveFirst<F>) -> Duration {
        let began = Instant::now();
        live_first.wait().await;
        began.elapsed()
    }

    #[test]
    fn a_live_generation_is_behind_that_has_more_before_it_than_a_batch() {
        let progress = Progress::new(SystemClock::shared(), "test", 1);
        progress.held(0, Lease { epoch: 1, next_offset: 10, last_event: None });
        progress.held(1, Lease { epoch: 1, next_offset: 20, last_event: None });
        let batch = i64::try_from(BATCH_RECORDS_MAX).expect("small");
        progress.heads([10 + batch, 20]);
        assert_eq!(stands_behind(&progress), None);
        progress.heads([10 + batch, 21]);
        assert_eq!(stands_behind(&progress), Some(30));
    }

    #[tokio::test(start_paused = true)]
    async fn each_part_is_put_off_for_so_long_while_the_live_generation_catches_up_and_no_longer() {
        let stands = Cell::new(0);
        let moving = || {
            stands.set(stands.get() + 1);
            Some(stands.get())
        };
        let mut live_first = LiveFirst::new(moving);
        assert_eq!(put_off(&mut live_first).await, PUT_OFF_MAX);
        assert_eq!(put_off(&mut live_first).await, PUT_OFF_MAX);
        assert_eq!(put_off(&mut LiveFirst::new(|| None)).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_live_generation_that_does_not_move_is_not_waited_for_until_it_does() {
        let stands = Cell::new(7);
        let mut live_first = LiveFirst::new(|| Some(stands.get()));
        assert_eq!(put_off(&mut live_first).await, LOOK_INTERVAL);
        assert_eq!(put_off(&mut live_first).await, Duration::ZERO);
        stands.set(8);
        assert_eq!(put_off(&mut live_first).await, LOOK_INTERVAL);
        assert_eq!(put_off(&mut live_first).await, Duration::ZERO);
    }
}
