//! What the clients were answered: as it should be, equal for equal keys (I2), and settled (I3).

use std::collections::HashMap;

use idempo_ids::Uuid;
use tonic::Code;

use super::Verdict;
use crate::history::{Answer, Attempt, Expected, History, Purpose, Refusal};

/// Every answer is the one that the client knew it had to be: the reason of a refusal, the field that is malformed, the field that differs.
#[must_use]
pub fn as_expected(history: &History) -> Verdict {
    let mut verdict = Verdict::new("API", "each answer is the one due, and names its reason and field", "answers");
    for attempt in history.attempts.iter().filter(|attempt| attempt.answer.is_definite()) {
        let fits = match (&attempt.expected, &attempt.answer) {
            (Expected::Applied, Answer::Replied { .. }) => true,
            (Expected::Refused(reason), Answer::Refused { refusal, .. }) => refusal.reason == *reason,
            (Expected::Invalid(field), Answer::Refused { refusal, .. }) => names(refusal, Code::InvalidArgument, "INVALID_FIELD", field),
            (Expected::Mismatch(field), Answer::Refused { refusal, .. }) => {
                names(refusal, Code::AlreadyExists, "REQUEST_ID_PAYLOAD_MISMATCH", field)
            }
            _ => false,
        };
        verdict.look(fits, || format!("{} should be {:?} and was {}", called(attempt), attempt.expected, told(&attempt.answer)));
    }
    for attempt in &history.attempts {
        let broken = matches!(&attempt.answer, Answer::Unknown { code: Code::Internal | Code::Unknown | Code::DataLoss, .. });
        verdict.require(!broken, || format!("{} broke the service: {}", called(attempt), told(&attempt.answer)));
    }
    verdict
}

fn names(refusal: &Refusal, code: Code, reason: &str, field: &str) -> bool {
    refusal.code == code && refusal.reason == reason && refusal.fields.iter().any(|one| one == field)
}

/// I2, the answers: all definite answers to one request under one key are equal, byte by byte.
#[must_use]
pub fn equal_for_equal_keys(history: &History) -> Verdict {
    let mut verdict = Verdict::new("I2", "every repetition gets the first answer, byte by byte", "repetitions");
    let mut first: HashMap<Uuid, &Attempt> = HashMap::new();
    for attempt in same_payload(history).filter(|attempt| attempt.answer.is_definite()) {
        let Some(key) = attempt.key else { continue };
        match first.get(&key) {
            None => drop(first.insert(key, attempt)),
            Some(earlier) => verdict.look(said(&earlier.answer) == said(&attempt.answer), || {
                format!("{} was told {} and then {}", called(attempt), told(&earlier.answer), told(&attempt.answer))
            }),
        }
    }
    verdict
}

/// I3, the outcomes: every command got a definite answer in the end, also those whose first answer was lost.
#[must_use]
pub fn settled(history: &History) -> Verdict {
    let mut verdict = Verdict::new("I3", "every command is settled, also after an unknown outcome", "commands");
    let mut settled: HashMap<Uuid, (bool, &Attempt)> = HashMap::new();
    for attempt in same_payload(history) {
        let Some(key) = attempt.key else { continue };
        let entry = settled.entry(key).or_insert((false, attempt));
        entry.0 |= attempt.answer.is_definite();
    }
    for (is_settled, attempt) in settled.into_values() {
        verdict.look(is_settled, || format!("{} never got a definite answer; at last {}", called(attempt), told(&attempt.answer)));
    }
    verdict
}

/// What can be compared of an answer.
fn said(answer: &Answer) -> (Code, &str, &[u8]) {
    match answer {
        Answer::Replied { reply, .. } => (Code::Ok, "", reply),
        Answer::Refused { refusal, .. } => (refusal.code, &refusal.message, &refusal.details),
        Answer::Unknown { code, .. } => (*code, "", &[]),
    }
}

/// The sends that carry their key's first payload.
fn same_payload(history: &History) -> impl Iterator<Item = &Attempt> {
    history.attempts.iter().filter(|attempt| attempt.purpose != Purpose::Changed && !matches!(attempt.expected, Expected::Mismatch(_)))
}

fn called(attempt: &Attempt) -> String {
    let key = attempt.key.map_or_else(|| "without a key".to_owned(), |key| key.to_string());
    format!("{} {key} ({:?})", attempt.method.name(), attempt.purpose)
}

/// An answer in a few words.
fn told(answer: &Answer) -> String {
    match answer {
        Answer::Replied { reply, replayed } => format!("OK with {} bytes{}", reply.len(), if *replayed { ", replayed" } else { "" }),
        Answer::Refused { refusal, .. } => {
            format!("{:?} {} {:?} «{}»", refusal.code, refusal.reason, refusal.fields, refusal.message)
        }
        Answer::Unknown { code, reason } => format!("{code:?} {reason}, which says nothing"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::samples::{attempt, key, refused, replied};

    fn history(attempts: Vec<Attempt>) -> History {
        History { attempts, reads: vec![] }
    }

    #[test]
    fn equal_answers_to_equal_keys_pass_and_a_differing_one_is_flagged() {
        let good = history(vec![attempt(1, Purpose::First, replied(b"a")), attempt(1, Purpose::Again, replied(b"a"))]);
        assert!(equal_for_equal_keys(&good).holds());
        let other_bytes = history(vec![attempt(1, Purpose::First, replied(b"a")), attempt(1, Purpose::Again, replied(b"b"))]);
        assert_eq!(equal_for_equal_keys(&other_bytes).flaw_count, 1);
        let other_outcome =
            history(vec![attempt(1, Purpose::First, replied(b"a")), attempt(1, Purpose::Twin, refused("WALLET_NOT_FOUND"))]);
        assert_eq!(equal_for_equal_keys(&other_outcome).flaw_count, 1);
    }

    #[test]
    fn a_changed_payload_and_an_unknown_outcome_are_not_compared() {
        let unknown = Answer::Unknown { code: Code::DeadlineExceeded, reason: String::new() };
        let mismatch = Attempt { expected: Expected::Mismatch("amount"), ..attempt(1, Purpose::Changed, refused("X")) };
        let history = history(vec![attempt(1, Purpose::First, unknown), attempt(1, Purpose::Retry, replied(b"a")), mismatch]);
        assert_eq!((equal_for_equal_keys(&history).looked_at, equal_for_equal_keys(&history).flaw_count), (0, 0));
        assert!(settled(&history).holds());
    }

    #[test]
    fn a_command_that_stays_unknown_is_flagged() {
        let unknown = Answer::Unknown { code: Code::Unavailable, reason: String::new() };
        let history = history(vec![attempt(1, Purpose::First, unknown.clone()), attempt(1, Purpose::Retry, unknown)]);
        assert_eq!(settled(&history).flaw_count, 1);
    }

    #[test]
    fn an_answer_that_was_not_due_is_flagged() {
        let refusal = |code, reason: &str, field: &str| Answer::Refused {
            refusal: Refusal {
                code,
                reason: reason.to_owned(),
                fields: vec![field.to_owned()],
                message: String::new(),
                details: vec![].into(),
            },
            replayed: false,
        };
        let invalid = |answer| Attempt { expected: Expected::Invalid("amount"), ..attempt(1, Purpose::First, answer) };
        let changed = |answer| Attempt { expected: Expected::Mismatch("reason"), ..attempt(1, Purpose::Changed, answer) };
        for good in [
            attempt(1, Purpose::First, replied(b"a")),
            invalid(refusal(Code::InvalidArgument, "INVALID_FIELD", "amount")),
            changed(refusal(Code::AlreadyExists, "REQUEST_ID_PAYLOAD_MISMATCH", "reason")),
            Attempt { expected: Expected::Refused("HOLD_EXPIRED"), ..attempt(1, Purpose::First, refused("HOLD_EXPIRED")) },
        ] {
            assert!(as_expected(&history(vec![good.clone()])).holds(), "{good:?}");
        }
        for bad in [
            attempt(1, Purpose::First, refused("INSUFFICIENT_FUNDS")),
            invalid(replied(b"a")),
            invalid(refusal(Code::InvalidArgument, "INVALID_FIELD", "wallet")),
            invalid(refusal(Code::FailedPrecondition, "INVALID_FIELD", "amount")),
            changed(replied(b"a")),
            changed(refusal(Code::AlreadyExists, "REQUEST_ID_PAYLOAD_MISMATCH", "amount")),
            Attempt { expected: Expected::Refused("HOLD_EXPIRED"), ..attempt(1, Purpose::First, refused("OTHER")) },
            attempt(1, Purpose::First, Answer::Unknown { code: Code::Internal, reason: String::new() }),
        ] {
            assert_eq!(as_expected(&history(vec![bad.clone()])).flaw_count, 1, "{bad:?}");
        }
    }

    #[test]
    fn requests_without_a_key_are_not_mixed_up() {
        let without = |answer| Attempt { key: None, ..attempt(1, Purpose::First, answer) };
        let history = history(vec![without(refused("A")), without(refused("B")), attempt(2, Purpose::First, replied(b"a"))]);
        assert_eq!(equal_for_equal_keys(&history).flaw_count, 0);
        assert_eq!(key(2), key(2));
    }
}
