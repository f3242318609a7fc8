//! The executor's limits.

use serde::{Deserialize, Serialize};

use super::CACHED_STREAMS_MIN;

/// The executor's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The most commands in one batch, so in one transaction.
    pub batch_commands_max: usize,
    /// The most batches that are with the database at once.
    pub batches_in_flight_max: usize,
    /// The most commands that wait to be taken up, and the most that wait for their streams. Beyond, commands are refused as overload.
    pub queue_commands_max: usize,
    /// The most streams whose folded state is kept; at least 4,096, so that what was loaded for a command is there when it is decided.
    pub cached_streams_max: usize,
    /// The most answers that are kept to answer duplicates without asking the database.
    pub cached_answers_max: usize,
    /// How often a command is decided before it is given up as contended.
    pub attempts_max: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            batch_commands_max: 128,
            batches_in_flight_max: 3,
            queue_commands_max: 4_096,
            cached_streams_max: 20_000,
            cached_answers_max: 20_000,
            attempts_max: 8,
        }
    }
}

impl Config {
    /// Checks what the types can't say.
    ///
    /// # Errors
    /// What is wrong: the limit and its bounds.
    pub fn validate(&self) -> Result<(), String> {
        let limits = [
            ("batch_commands_max", self.batch_commands_max, 1, 1_024),
            ("batches_in_flight_max", self.batches_in_flight_max, 1, 64),
            ("queue_commands_max", self.queue_commands_max, 1, 1_000_000),
            ("cached_streams_max", self.cached_streams_max, CACHED_STREAMS_MIN, 10_000_000),
            ("cached_answers_max", self.cached_answers_max, 1, 10_000_000),
            ("attempts_max", usize::try_from(self.attempts_max).unwrap_or(usize::MAX), 1, 100),
        ];
        let outside = limits.into_iter().find(|(_, value, least, most)| !(*least..=*most).contains(value));
        outside.map_or(Ok(()), |(name, _, least, most)| Err(format!("{name} must be {least} to {most}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_are_not_given_are_the_default_ones_and_unknown_ones_are_refused() {
        let config: Config = toml::from_str("batch_commands_max = 7").expect("a limit");
        assert_eq!(config, Config { batch_commands_max: 7, ..Config::default() });
        assert!(toml::from_str::<Config>("batch_commands = 7").is_err());
    }

    #[test]
    fn a_limit_outside_its_bounds_is_named() {
        assert_eq!(Config::default().validate(), Ok(()));
        let config = Config { attempts_max: 0, ..Config::default() };
        assert_eq!(config.validate(), Err("attempts_max must be 1 to 100".to_owned()));
        assert!(Config { batch_commands_max: 1_025, ..Config::default() }.validate().is_err());
    }
}
