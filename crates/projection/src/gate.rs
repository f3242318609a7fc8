//! How far and how fast a generation's consumer may go.
//!
//! People pause a projection; a comparison of two generations holds both for a moment, so that they come to have the same events; a rebuild from
//! Kafka is throttled. All of it is in front of the batches: what a partition's task does with a record, and when it commits, is as ever, and a
//! consumer that stands still keeps its partitions and its place.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Nanoseconds in a second.
const SECOND_NS: u32 = 1_000_000_000;

/// In front of a generation's consumer. Open and unthrottled unless somebody says otherwise.
#[derive(Debug)]
pub struct Gate {
    limits: watch::Sender<Limits>,
    pace: Pace,
}

/// Up to where the partitions are read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Limits {
    /// Whether all of them stand still.
    pub(crate) paused: bool,
    /// The first offset that is not read, for partitions that have such a limit.
    pub(crate) before: BTreeMap<i32, i64>,
}

impl Limits {
    /// The first offset of a partition that is not to be read.
    pub(crate) fn of(&self, partition: i32) -> i64 {
        if self.paused { i64::MIN } else { self.before.get(&partition).copied().unwrap_or(i64::MAX) }
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Gate {
    /// An open gate, through which so many events go in a second at most; 0 for no limit.
    #[must_use]
    pub fn new(events_per_second: u32) -> Self {
        Self { limits: watch::channel(Limits::default()).0, pace: Pace::new(events_per_second) }
    }

    pub(crate) fn set(&self, limits: Limits) {
        self.limits.send_if_modified(|known| {
            let changed = *known != limits;
            *known = limits;
            changed
        });
    }

    pub(crate) fn limits(&self) -> watch::Receiver<Limits> {
        self.limits.subscribe()
    }

    pub(crate) const fn pace(&self) -> &Pace {
        &self.pace
    }

    /// Lets so many events through in a second from here on; 0 for no limit.
    pub(crate) fn set_pace(&self, events_per_second: u32) {
        self.pace.set(events_per_second);
    }
}

/// A rate that is kept on average: what was taken is waited for before more is taken, so a batch is never cut for it.
#[derive(Debug)]
pub(crate) struct Pace {
    /// How long one event takes, in nanoseconds; 0 for no limit.
    event_ns: AtomicU32,
    next: Mutex<Option<Instant>>,
}

impl Pace {
    pub(crate) fn new(events_per_second: u32) -> Self {
        let pace = Self { event_ns: AtomicU32::new(0), next: Mutex::new(None) };
        pace.set(events_per_second);
        pace
    }

    fn set(&self, events_per_second: u32) {
        self.event_ns.store(SECOND_NS.checked_div(events_per_second).unwrap_or(0), Ordering::Relaxed);
    }

    /// Waits until what was taken has had its time.
    ///
    /// # Cancel safety
    /// Safe: nothing is taken here.
    pub(crate) async fn ready(&self) {
        if let Some(due) = self.due() {
            sleep_until(due).await;
        }
    }

    fn due(&self) -> Option<Instant> {
        *self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many events were taken.
    pub(crate) fn took(&self, events: usize) {
        let event = Duration::from_nanos(u64::from(self.event_ns.load(Ordering::Relaxed)));
        if event.is_zero() {
            return;
        }
        let took = event.saturating_mul(u32::try_from(events).unwrap_or(u32::MAX));
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        *next = Some(next.map_or(now, |next| next.max(now)) + took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_kept_on_average_however_much_is_taken_at_once() {
        let pace = Pace::new(1_000);
        assert_eq!(pace.due(), None);
        let began = Instant::now();
        pace.took(500);
        pace.took(1_500);
        let due = pace.due().expect("something was taken");
        assert!((due - began >= Duration::from_secs(2)) && (due - Instant::now() <= Duration::from_secs(2)), "{due:?}");
    }

    #[test]
    fn without_a_limit_nothing_is_waited_for() {
        let pace = Pace::new(0);
        pace.took(usize::MAX);
        assert_eq!(pace.due(), None);
    }

    #[test]
    fn what_is_paused_stands_still_wherever_it_is_held() {
        let held = Limits { paused: false, before: BTreeMap::from([(1, 7)]) };
        assert_eq!((held.of(0), held.of(1)), (i64::MAX, 7));
        assert_eq!(Limits { paused: true, ..held }.of(1), i64::MIN);
    }
}
