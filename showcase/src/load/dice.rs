//! The one source of chance: ChaCha from a printed seed, one stream per client.

use idempo_clock::SharedClock;
use idempo_ids::Uuid;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// A client's chance, and the keys it makes from it.
pub(super) struct Dice {
    random: ChaCha8Rng,
    clock: SharedClock,
}

impl Dice {
    /// The `stream`-th chance of this seed: the same each time.
    #[must_use]
    pub(super) fn new(seed: u64, stream: u64, clock: SharedClock) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(stream);
        Self { random, clock }
    }

    /// A number from `low` to `high`, both included; `low` where the range is empty.
    pub(super) fn between(&mut self, low: i64, high: i64) -> i64 {
        if low >= high { low } else { self.random.random_range(low..=high) }
    }

    /// A place below `length`; `None` where there is none.
    pub(super) fn below(&mut self, length: usize) -> Option<usize> {
        if length == 0 { None } else { Some(self.random.random_range(0..length)) }
    }

    /// Whether something of this likelihood happens.
    pub(super) fn chance(&mut self, per_thousand: u32) -> bool {
        self.random.random_range(0..1000_u32) < per_thousand
    }

    /// One of them; `None` where there is none.
    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        self.below(from.len()).and_then(|at| from.get(at))
    }

    /// The place of one of those that fit; `None` where none does.
    pub(super) fn place_where<T>(&mut self, among: &[T], fits: impl Fn(&T) -> bool) -> Option<usize> {
        let start = self.below(among.len())?;
        (start..among.len()).chain(0..start).find(|at| among.get(*at).is_some_and(&fits))
    }

    /// One of them, by weight; `None` where the weights sum to zero.
    pub(super) fn weighted<T: Copy>(&mut self, from: &[(T, u32)]) -> Option<T> {
        let total: u32 = from.iter().map(|(_, weight)| weight).sum();
        if total == 0 {
            return None;
        }
        let mut left = self.random.random_range(0..total);
        for (thing, weight) in from {
            if left < *weight {
                return Some(*thing);
            }
            left -= weight;
        }
        None
    }

    /// A new UUIDv7 of this moment.
    pub(super) fn key(&mut self) -> Uuid {
        let millis = u64::try_from(self.clock.now().as_millisecond()).unwrap_or_default();
        self.key_at(millis)
    }

    /// A new UUIDv7 of the moment `millis` milliseconds after 1970.
    pub(super) fn key_at(&mut self, millis: u64) -> Uuid {
        let mut bytes = [0_u8; 10];
        self.random.fill_bytes(&mut bytes);
        uuid::Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use idempo_clock::ManualClock;
    use jiff::Timestamp;

    use super::*;

    fn dice(seed: u64, stream: u64) -> Dice {
        Dice::new(seed, stream, ManualClock::new(Timestamp::from_second(1_700_000_000).expect("in range")))
    }

    #[test]
    fn the_same_seed_and_stream_give_the_same_chance() {
        let draw = |mut dice: Dice| {
            let numbers: Vec<i64> = (0..50).map(|_| dice.between(0, 1_000_000)).collect();
            (numbers, dice.key())
        };
        assert_eq!(draw(dice(7, 3)), draw(dice(7, 3)));
        assert_ne!(draw(dice(7, 3)), draw(dice(7, 4)));
        assert_ne!(draw(dice(7, 3)), draw(dice(8, 3)));
    }

    #[test]
    fn only_what_fits_is_found_and_only_what_has_weight_is_drawn() {
        let mut dice = dice(1, 1);
        let numbers = [1, 3, 5, 8, 9];
        for _ in 0..20 {
            assert_eq!(dice.place_where(&numbers, |number| number % 2 == 0), Some(3));
            assert_eq!(dice.weighted(&[("never", 0), ("always", 4)]), Some("always"));
        }
        assert_eq!(dice.place_where(&numbers, |number| *number > 9), None);
        assert_eq!(dice.below(0), None);
        assert_eq!(dice.weighted::<u8>(&[]), None);
    }
}
