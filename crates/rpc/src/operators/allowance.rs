//! How many audit entries denied tries may make: whoever may do nothing must not be able to fill a database either.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How many denied tries a process notes one after the other.
const ENTRIES_BURST: u32 = 20;
/// How often it notes one more then: 17,280 a day.
const ENTRY_INTERVAL: Duration = Duration::from_secs(5);

/// An allowance of entries, which fills again with time.
#[derive(Debug)]
pub(super) struct Allowance(Mutex<State>);

#[derive(Debug)]
struct State {
    entries: u32,
    /// Up to when time was turned into entries.
    filled_until: Instant,
    /// How many tries were not noted since the last one that was.
    unnoted: u64,
}

impl Allowance {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State { entries: ENTRIES_BURST, filled_until: Instant::now(), unnoted: 0 }))
    }

    /// Takes an entry: gives how many tries went without one since the last. `None` where there is none left.
    pub(super) fn take(&self) -> Option<u64> {
        self.take_at(Instant::now())
    }

    fn take_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while state.entries < ENTRIES_BURST && state.filled_until + ENTRY_INTERVAL <= now {
            state.entries += 1;
            state.filled_until += ENTRY_INTERVAL;
        }
        if state.entries == ENTRIES_BURST {
            state.filled_until = now;
        }
        if state.entries == 0 {
            state.unnoted = state.unnoted.saturating_add(1);
            return None;
        }
        state.entries -= 1;
        Some(std::mem::take(&mut state.unnoted))
    }

    /// Tries could not be noted after all: the next entry tells of them.
    pub(super) fn give_back(&self, unnoted: u64) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.unnoted = state.unnoted.saturating_add(unnoted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_noted_a_few_times_and_then_now_and_again_with_its_count() {
        let (allowance, begun) = (Allowance::new(), Instant::now());
        let noted = |at| (0..1_000).filter(|_| allowance.take_at(at).is_some()).count();
        assert_eq!(noted(begun), 20);
        let later = begun + ENTRY_INTERVAL;
        assert_eq!(allowance.take_at(later), Some(980));
        assert_eq!(allowance.take_at(later), None);
        allowance.give_back(3);
        let much_later = later + ENTRY_INTERVAL * 100;
        assert_eq!(allowance.take_at(much_later), Some(4));
        assert_eq!(noted(much_later), 19, "it does not grow beyond its size");
    }
}
