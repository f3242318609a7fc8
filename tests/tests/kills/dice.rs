//! What is drawn for a round of kills: everything from one seed.

use std::io::Write as _;

use anyhow::{Context as _, Result};
use idempo_clock::{Clock as _, SystemClock};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// The first seed. Without it, it is drawn.
const SEED: &str = "KILL_SEED";
/// How many rounds there are, each with the next seed; 1 without it.
const SEEDS: &str = "KILL_SEEDS";
/// Part of the names of the points that are meant; all without it.
const POINT: &str = "KILL_POINT";
/// Drawn seeds are below it, so that people can copy them.
const SEEDS_DRAWN: u64 = 1_000_000;

/// The dice of one round.
pub(super) struct Dice(ChaCha8Rng);

/// The dice of each round, as the environment says.
pub(super) fn rounds() -> Result<impl Iterator<Item = Dice>> {
    let count = number(SEEDS)?.unwrap_or(1);
    let first = match number(SEED)? {
        Some(seed) => seed,
        None => SystemClock.now().as_millisecond().unsigned_abs() % SEEDS_DRAWN,
    };
    Ok((first..first + count).map(|seed| {
        // Nothing else is lost where this can't be written.
        let _ = writeln!(std::io::stderr(), "{SEED}={seed}");
        Dice(ChaCha8Rng::seed_from_u64(seed))
    }))
}

fn number(variable: &str) -> Result<Option<u64>> {
    let text = std::env::var(variable).ok();
    text.map(|text| text.parse().with_context(|| format!("{variable} is a number, not {text}"))).transpose()
}

impl Dice {
    /// Dice that are drawn from these.
    pub(super) fn fork(&mut self) -> Self {
        Self(ChaCha8Rng::seed_from_u64(self.0.random()))
    }

    /// From 1 to `max`.
    pub(super) fn up_to(&mut self, max: u32) -> u32 {
        self.0.random_range(1..=max)
    }

    /// One of some.
    pub(super) fn one_of<T: Copy, const N: usize>(&mut self, some: [T; N]) -> T {
        let at = self.0.random_range(0..N);
        // The range is the array's.
        some.into_iter().nth(at).unwrap_or_else(|| unreachable!("an array without anything in it"))
    }

    /// The points that are meant, in an order that is drawn.
    pub(super) fn shuffled<T: Copy + std::fmt::Debug, const N: usize>(&mut self, points: [T; N]) -> Vec<T> {
        let meant = std::env::var(POINT).unwrap_or_default();
        let mut drawn: Vec<(u64, T)> = points.into_iter().map(|point| (self.0.random(), point)).collect();
        drawn.retain(|(_, point)| format!("{point:?}").contains(&meant));
        drawn.sort_by_key(|(number, _)| *number);
        drawn.into_iter().map(|(_, point)| point).collect()
    }
}
