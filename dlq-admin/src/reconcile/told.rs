//! What is said of consumers that don't say what became of their dead letters: once, and again when it changes.

use std::collections::HashMap;

use idempo_rpc::status::reason;
use tonic::{Code, Status};

use crate::consumers::is_away;

/// The most consumer groups of which it is remembered what was said. With more, some things are said again.
const GROUPS_MAX: usize = 1_000;

/// How a consumer answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heard {
    outcome: &'static str,
    /// What people can read of it.
    problem: String,
}

const ANSWERED: &str = "answered";
const AWAY: &str = "away";
const UNKNOWN: &str = "consumer_unknown";

impl Heard {
    pub(super) const fn answer() -> Self {
        Self { outcome: ANSWERED, problem: String::new() }
    }

    /// Nobody has said which consumer has the group.
    pub(super) fn nobody() -> Self {
        Self { outcome: UNKNOWN, problem: "the service is not told which consumer that is".to_owned() }
    }

    pub(super) fn of(status: &Status) -> Self {
        let outcome = match status.code() {
            Code::Unimplemented => "no_such_call",
            Code::Unauthenticated => "token_refused",
            Code::PermissionDenied => "not_allowed",
            _ if is_away(status) => AWAY,
            _ => "failed",
        };
        let code = reason(status).unwrap_or_else(|| status.code().to_string());
        Self { outcome, problem: format!("{code}: {}", status.message()) }
    }
}

/// What was said last of each consumer group that does not answer.
#[derive(Debug, Default)]
pub(super) struct Told(HashMap<String, &'static str>);

impl Told {
    pub(super) fn hear(&mut self, group: &str, heard: Heard) {
        let Heard { outcome, problem } = heard;
        crate::metrics::inquired(group, outcome);
        if !self.is_news(group, outcome) {
            return;
        }
        match outcome {
            ANSWERED => tracing::info!(consumer_group = group, "the consumer says again what became of its dead letters"),
            // It restarts, or its own alarms tell of it.
            AWAY => {
                tracing::info!(consumer_group = group, problem, "a consumer does not say what became of its dead letters, they stay open")
            }
            _ => {
                tracing::warn!(consumer_group = group, problem, "a consumer can't be asked what became of its dead letters, they stay open")
            }
        }
    }

    /// Whether it is something else than what was said last.
    fn is_news(&mut self, group: &str, outcome: &'static str) -> bool {
        if outcome == ANSWERED {
            return self.0.remove(group).is_some();
        }
        if self.0.len() >= GROUPS_MAX {
            self.0.clear();
        }
        self.0.insert(group.to_owned(), outcome) != Some(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_as_it_is_is_said_once() {
        let mut told = Told::default();
        let mut news = |outcome| told.is_news("g", outcome);
        assert_eq!(
            [news(ANSWERED), news(AWAY), news(AWAY), news(UNKNOWN), news(ANSWERED), news(ANSWERED)],
            [false, true, false, true, true, false]
        );
    }

    #[test]
    fn each_way_of_not_answering_is_told_apart() {
        let cases = [
            (Status::unimplemented("x"), "no_such_call"),
            (Status::unauthenticated("x"), "token_refused"),
            (Status::permission_denied("x"), "not_allowed"),
            (Status::unavailable("x"), AWAY),
            (Status::deadline_exceeded("x"), AWAY),
            (Status::invalid_argument("x"), "failed"),
        ];
        for (status, outcome) in cases {
            assert_eq!(Heard::of(&status).outcome, outcome);
        }
    }
}
