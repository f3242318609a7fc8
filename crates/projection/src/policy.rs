//! What happens to a record that can't be applied: the one table.
//!
//! | what failed | what happens |
//! |---|---|
//! | the store or a broker is away ([`StoreError::is_transient`](crate::StoreError::is_transient)) | it is waited for; no attempt counts |
//! | one record ([`Remedy::Park`]) | tried [`ATTEMPTS_MAX`] times, then a dead letter: its key is parked behind it, other keys flow |
//! | the partition ([`Remedy::Stop`]) | it stops before the record until people have mended the cause and say so |
//! | too many records at once ([`Recent`], [`PARKED_KEYS_MAX`], [`PARKED_RECORDS_MAX`]) | the partition stops, and nothing goes to the dead-letter topic |
//! | the dead-letter topic can't be written | it is waited for; the offset stays |

use std::collections::VecDeque;
use std::time::Duration;

use idempo_dead_letter::{Disposition, Stage};
use tokio::time::Instant;

use crate::halt::Cause;

/// How often a record is tried before it is a dead letter.
pub const ATTEMPTS_MAX: u32 = 3;
/// How long is waited between two of these attempts: what another transaction is about to change may be there then.
pub(crate) const ATTEMPT_PAUSE: Duration = Duration::from_millis(20);
/// The most dead letters of a partition within [`FLOOD_WINDOW`]. More are no poison here and there: something is wrong with all of them.
pub const POISON_PER_MINUTE_MAX: usize = 64;
/// The time over which they are counted.
pub(crate) const FLOOD_WINDOW: Duration = Duration::from_secs(60);
/// The most keys of a partition that are parked.
pub const PARKED_KEYS_MAX: usize = 100_000;
/// The most records of a partition that are parked, the dead letters apart.
pub const PARKED_RECORDS_MAX: u64 = 1_000_000;
/// How often a dead letter can be replayed in vain before only force replays it again.
pub const REPLAYS_MAX: u32 = 5;

/// What is done about a cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// The record is a dead letter, and its key is parked behind it.
    Park(Stage, Disposition),
    /// The partition stops.
    Stop,
}

impl Remedy {
    /// The table.
    pub(crate) const fn of(cause: &Cause) -> Self {
        match cause {
            Cause::Undecodable(_) | Cause::UnknownType(_) | Cause::Key | Cause::Misplaced { .. } => {
                Self::Park(Stage::Decode, Disposition::PoisonDecode)
            }
            Cause::Malformed(_) | Cause::Gap { .. } | Cause::Conflict { .. } | Cause::Foreign { .. } => {
                Self::Park(Stage::Apply, Disposition::PoisonDomain)
            }
            Cause::Refused(_) => Self::Park(Stage::Persist, Disposition::RetriesExhausted),
            Cause::Unexpected { .. }
            | Cause::LogReplaced { .. }
            | Cause::OffsetGone { .. }
            | Cause::Unreadable(_)
            | Cause::Flood
            | Cause::ParkingFull
            | Cause::LogRefused(_)
            | Cause::EffectFlood => Self::Stop,
        }
    }
}

/// The dead letters of a partition within the last minute.
#[derive(Debug, Default)]
pub(crate) struct Recent(VecDeque<Instant>);

impl Recent {
    /// Those that the store has, by how long ago they came, the oldest first: who takes a partition over goes on counting.
    pub(crate) fn of(ages: impl IntoIterator<Item = Duration>) -> Self {
        let now = Instant::now();
        Self(ages.into_iter().filter_map(|age| now.checked_sub(age)).collect())
    }

    /// Whether one more would be too many.
    pub(crate) fn is_flood(&mut self) -> bool {
        let now = Instant::now();
        while self.0.front().is_some_and(|at| now.duration_since(*at) >= FLOOD_WINDOW) {
            self.0.pop_front();
        }
        self.0.len() >= POISON_PER_MINUTE_MAX
    }

    /// One more.
    pub(crate) fn push(&mut self) {
        self.0.push_back(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_before_a_take_over_counts_for_a_minute() {
        let ages = (0..POISON_PER_MINUTE_MAX).map(|_| Duration::from_secs(59));
        assert!(Recent::of(ages).is_flood());
        let ages = (0..POISON_PER_MINUTE_MAX).map(|at| Duration::from_secs(if at == 0 { 60 } else { 30 }));
        let mut recent = Recent::of(ages);
        assert!(!recent.is_flood());
        recent.push();
        assert!(recent.is_flood());
    }
}
