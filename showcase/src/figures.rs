//! The figures of a run: how much, how fast, how far behind.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use hdrhistogram::Histogram;
use idempo_checker::facts::{Store, Topic};
use idempo_checker::history::{Answer, Attempt, Expected, History, Purpose};

/// The longest time that is told apart, in microseconds.
const LONGEST_US: u64 = 600_000_000;

/// How long something took, over many times.
#[derive(Debug, Clone)]
pub struct Spread {
    histogram: Histogram<u64>,
}

impl Spread {
    /// The spread of these times, in microseconds.
    ///
    /// # Errors
    /// When the bounds of the histogram are refused, which they are not.
    pub fn of(times_us: impl IntoIterator<Item = u64>) -> anyhow::Result<Self> {
        let mut histogram = Histogram::new_with_bounds(1, LONGEST_US, 3)?;
        for time in times_us {
            histogram.saturating_record(time.max(1));
        }
        Ok(Self { histogram })
    }

    /// The time that this share of all was within.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        Duration::from_micros(self.histogram.value_at_quantile(share))
    }

    /// How many times were measured.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }
}

/// What was sent and what came of it.
#[derive(Debug, Clone)]
pub struct Sent {
    /// Commands, each with a key of its own.
    pub commands: usize,
    /// Sends of commands, all in all.
    pub sends: usize,
    /// Commands that were applied.
    pub applied: usize,
    /// Commands that the rules refused.
    pub refused: usize,
    /// Requests that were malformed.
    pub malformed: usize,
    /// Repetitions at the same moment.
    pub twins: usize,
    /// Repetitions later.
    pub again: usize,
    /// Repetitions with another payload.
    pub changed: usize,
    /// Sends with an unknown outcome.
    pub unknown: usize,
    /// How long a first send took that was answered.
    pub latency: Spread,
    /// How long a read of one's own write took, from the read model.
    pub visible: Spread,
}

impl Sent {
    /// Counts a history.
    ///
    /// # Errors
    /// As [`Spread::of`].
    pub fn of(history: &History) -> anyhow::Result<Self> {
        let count = |fits: &dyn Fn(&Attempt) -> bool| history.attempts.iter().filter(|attempt| fits(attempt)).count();
        let final_of = |attempt: &Attempt| matches!(attempt.purpose, Purpose::First | Purpose::Retry) && attempt.answer.is_definite();
        let answered = history.attempts.iter().filter(|attempt| attempt.purpose == Purpose::First && attempt.answer.is_definite());
        Ok(Self {
            commands: count(&|attempt| attempt.purpose == Purpose::First),
            sends: history.attempts.len(),
            applied: history
                .attempts
                .iter()
                .filter(|attempt| matches!(attempt.answer, Answer::Replied { .. }))
                .filter_map(|attempt| attempt.key)
                .collect::<HashSet<_>>()
                .len(),
            refused: count(&|attempt| final_of(attempt) && matches!(attempt.expected, Expected::Refused(_))),
            malformed: count(&|attempt| final_of(attempt) && matches!(attempt.expected, Expected::Invalid(_))),
            twins: count(&|attempt| attempt.purpose == Purpose::Twin),
            again: count(&|attempt| attempt.purpose == Purpose::Again),
            changed: count(&|attempt| attempt.purpose == Purpose::Changed),
            unknown: count(&|attempt| !attempt.answer.is_definite()),
            latency: Spread::of(answered.map(|attempt| attempt.settled_us.saturating_sub(attempt.invoked_us)))?,
            visible: Spread::of(
                history.reads.iter().filter(|read| read.lag_events.is_some()).map(|read| read.settled_us.saturating_sub(read.invoked_us)),
            )?,
        })
    }
}

/// How long events took from their decision to Kafka, by the producer's clock; only the first record of each event counts.
///
/// # Errors
/// As [`Spread::of`].
pub fn to_kafka(stores: &[Store], topics: &[Topic]) -> anyhow::Result<Spread> {
    let mut first_ms: HashMap<&[u8], i64> = HashMap::new();
    for record in topics.iter().flat_map(|topic| &topic.records) {
        if let Some(at) = record.produced_ms {
            first_ms.entry(&record.value).or_insert(at);
        }
    }
    Spread::of(stores.iter().flat_map(|store| &store.events).filter_map(|event| {
        let produced_us = first_ms.get(event.envelope.as_ref())?.saturating_mul(1_000);
        u64::try_from(produced_us.saturating_sub(event.decided_us()).max(0)).ok()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_says_what_most_times_were_within() {
        let spread = Spread::of((1..=100).map(|number| number * 1_000)).expect("good bounds");
        assert_eq!(spread.count(), 100);
        assert!(spread.quantile(0.5).abs_diff(Duration::from_millis(50)) < Duration::from_millis(1));
        assert!(spread.quantile(0.99).abs_diff(Duration::from_millis(99)) < Duration::from_millis(1));
    }
}
