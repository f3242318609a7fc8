//! When the parts of a rebuild are begun, and how many are under way: at the rate that people allow, after the live generation, and one at a time with
//! rests in between while somebody reads it.

use std::time::Duration;

use tokio::time::sleep;

use super::live_first::LiveFirst;
use crate::gate::Pace;

/// How long is rested between two parts while somebody reads: so many times what the last one took, and this at most.
const RESTS_PER_PART: u32 = 2;
const REST_MAX: Duration = Duration::from_secs(2);

/// In front of the parts of a rebuild.
pub(super) struct Throttle<R, F> {
    pace: Pace,
    live_first: LiveFirst<F>,
    /// Whether somebody reads the live generation.
    has_readers: R,
    rest: Duration,
}

impl<R: Fn() -> bool, F: Fn() -> Option<i64>> Throttle<R, F> {
    /// So many events a second at most, 0 for no limit; `behind_at` is where the live generation stands, while it is behind.
    pub(super) fn new(events_per_second: u32, has_readers: R, behind_at: F) -> Self {
        Self { pace: Pace::new(events_per_second), live_first: LiveFirst::new(behind_at), has_readers, rest: Duration::ZERO }
    }

    /// How many parts may be under way at once, where so many are wanted.
    pub(super) fn at_once(&self, wanted: usize) -> usize {
        if (self.has_readers)() { wanted.min(1) } else { wanted }
    }

    /// Waits until another part may begin.
    ///
    /// # Cancel safety
    /// Safe.
    pub(super) async fn ready(&mut self) {
        self.pace.ready().await;
        self.live_first.wait().await;
        if (self.has_readers)() {
            sleep(self.rest).await;
        }
    }

    /// A part of so many events is in, and was waited for for so long.
    pub(super) fn took(&mut self, events: usize, waited: Duration) {
        self.pace.took(events);
        self.rest = waited.saturating_mul(RESTS_PER_PART).min(REST_MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::Instant;

    use super::*;

    /// How long the next part waits.
    async fn waits<R: Fn() -> bool, F: Fn() -> Option<i64>>(throttle: &mut Throttle<R, F>) -> Duration {
        let began = Instant::now();
        throttle.ready().await;
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn while_somebody_reads_there_is_one_part_at_a_time_and_a_rest_of_twice_its_time_after_it() {
        let reads = Cell::new(false);
        let mut throttle = Throttle::new(0, || reads.get(), || None);
        assert_eq!(throttle.at_once(8), 8);
        throttle.took(1, Duration::from_millis(300));
        assert_eq!(waits(&mut throttle).await, Duration::ZERO);
        reads.set(true);
        assert_eq!((throttle.at_once(8), throttle.at_once(0)), (1, 0));
        assert_eq!(waits(&mut throttle).await, Duration::from_millis(600));
        throttle.took(1, Duration::from_secs(60));
        assert_eq!(waits(&mut throttle).await, REST_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_waits_while_the_live_generation_catches_up_and_for_the_rate_that_is_allowed() {
        let stands = Cell::new(0);
        let behind_at = || {
            stands.set(stands.get() + 1);
            Some(stands.get()).filter(|stands| *stands < 5)
        };
        let mut throttle = Throttle::new(1_000, || false, behind_at);
        assert!(waits(&mut throttle).await > Duration::ZERO, "the live generation is behind");
        assert_eq!(waits(&mut throttle).await, Duration::ZERO, "it is no more");
        throttle.took(3_000, Duration::ZERO);
        assert_eq!(waits(&mut throttle).await, Duration::from_secs(3));
    }
}
