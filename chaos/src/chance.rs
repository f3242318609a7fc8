//! The one source of chance of a schedule: ChaCha from the seed.

use std::time::Duration;

use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use uuid::Uuid;

/// The stream of the schedule; the load has the others.
const SCHEDULE_STREAM: u64 = u64::MAX - 7;

/// Chance, the same for the same seed.
#[derive(Debug, Clone)]
pub struct Chance(ChaCha8Rng);

impl Chance {
    /// The chance of this seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(SCHEDULE_STREAM);
        Self(random)
    }

    /// A number from `least` to `most`, both included; `least` where the range is empty.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        if least >= most { least } else { self.0.random_range(least..=most) }
    }

    /// A time from `least_ms` to `most_ms` milliseconds.
    pub fn millis(&mut self, least_ms: u64, most_ms: u64) -> Duration {
        Duration::from_millis(self.between(least_ms, most_ms))
    }

    /// Whether something of this likelihood happens.
    pub fn happens(&mut self, per_thousand: u64) -> bool {
        self.between(0, 999) < per_thousand
    }

    /// One of them; `None` where there is none.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let last = u64::try_from(from.len()).ok()?.checked_sub(1)?;
        let index = usize::try_from(self.between(0, last)).ok()?;
        from.get(index).copied()
    }

    /// Puts them into another order.
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            let other = usize::try_from(self.between(0, u64::try_from(last).unwrap_or(0))).unwrap_or(0);
            things.swap(last, other);
        }
    }

    /// An id.
    pub fn id(&mut self) -> Uuid {
        let mut bytes = [0; 16];
        self.0.fill_bytes(&mut bytes);
        Uuid::from_bytes(bytes)
    }

    /// A seed for something that has chance of its own.
    pub fn seed(&mut self) -> u64 {
        self.0.next_u64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_chance() {
        let draw = |mut chance: Chance| {
            let mut order: Vec<u64> = (0..20).collect();
            chance.shuffle(&mut order);
            (order, chance.id(), chance.between(0, u64::MAX))
        };
        assert_eq!(draw(Chance::of(5)), draw(Chance::of(5)));
        assert_ne!(draw(Chance::of(5)), draw(Chance::of(6)));
        assert_eq!(Chance::of(1).pick::<u8>(&[]), None);
    }
}
