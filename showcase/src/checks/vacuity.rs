//! A run in which nothing happened proves nothing.

use super::Verdict;
use crate::history::{Answer, Attempt, Expected, History, Purpose};

/// What must have happened for a run to count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// Repetitions that were answered as such.
    pub replayed: u64,
    /// Domain refusals.
    pub refused: u64,
    /// Malformed requests that were refused.
    pub invalid: u64,
    /// Payload mismatches that were refused.
    pub mismatched: u64,
    /// Outcomes that were unknown at first.
    pub unknown: u64,
    /// Takeovers of a killed relay's outboxes.
    pub takeovers: u64,
    /// Reads with a position.
    pub reads: u64,
    /// Holds and reservations that expired by themselves.
    pub expired: u64,
}

impl Seen {
    /// Counts what a history has of it.
    #[must_use]
    pub fn of(history: &History) -> Self {
        let count = |fits: &dyn Fn(&Attempt) -> bool| {
            u64::try_from(history.attempts.iter().filter(|attempt| fits(attempt)).count()).unwrap_or(u64::MAX)
        };
        let was_refused = |attempt: &Attempt| matches!(attempt.answer, Answer::Refused { .. });
        Self {
            replayed: count(&|attempt| attempt.answer.is_replayed() && attempt.purpose != Purpose::Changed),
            refused: count(&|attempt| was_refused(attempt) && matches!(attempt.expected, Expected::Refused(_))),
            invalid: count(&|attempt| was_refused(attempt) && matches!(attempt.expected, Expected::Invalid(_))),
            mismatched: count(&|attempt| was_refused(attempt) && matches!(attempt.expected, Expected::Mismatch(_))),
            unknown: count(&|attempt| !attempt.answer.is_definite()),
            takeovers: 0,
            reads: u64::try_from(history.reads.iter().filter(|read| read.seen.is_some()).count()).unwrap_or(u64::MAX),
            expired: 0,
        }
    }
}

/// Whether each thing that the run is for has happened at least once.
#[must_use]
pub fn not_vacuous(seen: Seen) -> Verdict {
    let mut verdict = Verdict::new("run", "the run met what it is meant to meet", "kinds of trouble");
    for (count, what) in [
        (seen.replayed, "no repetition was answered from memory"),
        (seen.refused, "nothing was refused"),
        (seen.invalid, "nothing was malformed"),
        (seen.mismatched, "no payload mismatch was met"),
        (seen.unknown, "no outcome was unknown"),
        (seen.takeovers, "no relay was taken over"),
        (seen.reads, "nothing was read with a position"),
        (seen.expired, "no hold or reservation expired by itself"),
    ] {
        verdict.look(count > 0, || what.to_owned());
    }
    verdict
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;
    use crate::checks::samples::{attempt, refused, replied};

    #[test]
    fn a_run_without_any_one_kind_of_trouble_is_vacuous() {
        let full = Seen { replayed: 1, refused: 1, invalid: 1, mismatched: 1, unknown: 1, takeovers: 1, reads: 1, expired: 1 };
        assert!(not_vacuous(full).holds());
        for vacuous in [
            Seen { replayed: 0, ..full },
            Seen { refused: 0, ..full },
            Seen { invalid: 0, ..full },
            Seen { mismatched: 0, ..full },
            Seen { unknown: 0, ..full },
            Seen { takeovers: 0, ..full },
            Seen { reads: 0, ..full },
            Seen { expired: 0, ..full },
        ] {
            assert_eq!(not_vacuous(vacuous).flaw_count, 1, "{vacuous:?}");
        }
    }

    #[test]
    fn what_happened_is_counted_by_kind() {
        let replay = Answer::Replied { reply: vec![].into(), replayed: true };
        let expecting = |expected, answer| Attempt { expected, ..attempt(1, Purpose::First, answer) };
        let attempts = vec![
            attempt(1, Purpose::First, replied(b"a")),
            attempt(1, Purpose::Twin, replay),
            expecting(Expected::Refused("A"), refused("A")),
            expecting(Expected::Invalid("a"), refused("INVALID_FIELD")),
            expecting(Expected::Mismatch("a"), refused("REQUEST_ID_PAYLOAD_MISMATCH")),
            attempt(1, Purpose::First, Answer::Unknown { code: Code::Cancelled, reason: String::new() }),
        ];
        let seen = Seen::of(&History { attempts, reads: vec![] });
        assert_eq!(seen, Seen { replayed: 1, refused: 1, invalid: 1, mismatched: 1, unknown: 1, ..Seen::default() });
    }
}
