//! Latencies and their distribution.

use std::time::Duration;

use hdrhistogram::Histogram;

/// The longest latency that is told apart, in microseconds; a longer one counts as this.
const LONGEST_US: u64 = 600_000_000;

/// Latencies in microseconds, to three digits.
#[derive(Debug, Clone)]
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    /// None yet.
    pub(crate) fn new() -> anyhow::Result<Self> {
        // With bounds: without them, what is recorded beyond the first few milliseconds is clamped to nothing instead of counted.
        Ok(Self(Histogram::new_with_bounds(1, LONGEST_US, 3)?))
    }

    /// Adds one.
    pub(crate) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_micros()).unwrap_or(LONGEST_US));
    }

    /// Adds all of `other`.
    pub(crate) fn add(&mut self, other: &Self) -> anyhow::Result<()> {
        Ok(self.0.add(&other.0)?)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// What this share of all was within, in milliseconds.
    pub(crate) fn ms(&self, share: f64) -> f64 {
        Duration::from_micros(self.0.value_at_quantile(share)).as_secs_f64() * 1_000.0
    }

    /// Each latency in microseconds (the end of its step), and how often it was seen.
    pub(crate) fn counts(&self) -> Vec<[u64; 2]> {
        self.0.iter_recorded().map(|seen| [seen.value_iterated_to(), seen.count_since_last_iteration()]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_counts_at_its_own_length() {
        let mut latencies = Latencies::new().expect("bounds that are taken");
        for ms in [0, 1, 5, 40, 900_000_000] {
            latencies.record(Duration::from_millis(ms));
        }
        assert_eq!(latencies.count(), 5);
        assert!((latencies.ms(0.5) - 5.0).abs() < 0.01, "{}", latencies.ms(0.5));
        assert!((latencies.ms(0.8) - 40.0).abs() < 0.05, "{}", latencies.ms(0.8));
        assert!(latencies.ms(1.0) > 599_000.0, "{}", latencies.ms(1.0));
        assert_eq!(latencies.counts().len(), 5);
    }
}
