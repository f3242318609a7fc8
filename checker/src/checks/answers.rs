//! What the clients were answered: as it should be, equal for equal keys and as it is stored (I2), and settled (I3).

use std::collections::{BTreeMap, HashMap};

use tonic::Code;
use uuid::Uuid;

use super::called;
use crate::facts::{KeyRow, Store};
use crate::history::{Answer, Attempt, Expected, History, Purpose, Refusal};
use crate::ids;
use crate::verdict::Verdict;

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
        let Some(command) = attempt.command else { continue };
        match first.get(&command) {
            None => drop(first.insert(command, attempt)),
            Some(earlier) => verdict.look(said(&earlier.answer) == said(&attempt.answer), || {
                format!("{} was told {} and then {}", called(attempt), told(&earlier.answer), told(&attempt.answer))
            }),
        }
    }
    verdict
}

/// I2, the store: every definite answer is the one that is stored under its key, byte by byte. A refusal whose request has no valid key is
/// stored nowhere.
#[must_use]
pub fn as_stored(history: &History, stores: &[Store]) -> Verdict {
    let mut verdict = Verdict::new("I2", "every answer is the one stored under its key, byte by byte", "answers");
    let keys = keys_by_command(stores);
    for attempt in same_payload(history) {
        let row = attempt.command.and_then(|command| keys.get(&command));
        match (&attempt.answer, row) {
            (Answer::Replied { reply, .. }, row) => verdict.look(row.is_some_and(|row| !row.is_refused && row.reply == *reply), || {
                format!("{} was told {}, and under its key stands {}", called(attempt), told(&attempt.answer), stored(row.copied()))
            }),
            (Answer::Refused { refusal, .. }, Some(row)) => verdict.look(row.is_refused && row.reply == refusal.details, || {
                format!("{} was told {}, and under its key stands {}", called(attempt), told(&attempt.answer), stored(Some(row)))
            }),
            (Answer::Refused { .. }, None) | (Answer::Unknown { .. }, _) => {}
        }
    }
    verdict
}

fn stored(row: Option<&KeyRow>) -> String {
    match row {
        None => "nothing".to_owned(),
        Some(row) => format!("{} with {} other bytes", if row.is_refused { "a refusal" } else { "a reply" }, row.reply.len()),
    }
}

/// The rows of all keys, by the command that each stands for.
#[must_use]
pub fn keys_by_command(stores: &[Store]) -> HashMap<Uuid, &KeyRow> {
    stores.iter().flat_map(|store| &store.keys).map(|row| (ids::command(row.key, row.scope), row)).collect()
}

/// I2, the mark: of the answers to one command at most one says that it is the first, and none that was asked for after another was there.
///
/// With `exact`, where no store lost an answer, one of them does say so as long as none was lost on its way to the client.
#[must_use]
pub fn marked_as_replayed(history: &History, stores: &[Store], exact: bool) -> Verdict {
    let mut verdict = Verdict::new("I2", "exactly the repetitions are marked as such", "commands");
    let keys = keys_by_command(stores);
    // A map in order: what is found first is the same each time.
    let mut commands: BTreeMap<Uuid, Vec<&Attempt>> = BTreeMap::new();
    for attempt in same_payload(history) {
        if let Some(command) = attempt.command.filter(|command| keys.contains_key(command)) {
            commands.entry(command).or_default().push(attempt);
        }
    }
    for attempts in commands.values() {
        let definite = || attempts.iter().filter(|attempt| attempt.answer.is_definite());
        let fresh: Vec<_> = definite().filter(|attempt| !attempt.answer.is_replayed()).collect();
        let settled_us = definite().map(|attempt| attempt.settled_us).min().unwrap_or(u64::MAX);
        let late = fresh.iter().find(|attempt| attempt.invoked_us > settled_us);
        let Some(one) = attempts.first() else { continue };
        verdict.look(fresh.len() <= 1, || format!("{} has {} answers that say they are the first", called(one), fresh.len()));
        verdict.require(late.is_none(), || format!("{} was answered, and then again as if it were the first time", called(one)));
        let lost = definite().count() < attempts.len();
        verdict.require(!exact || lost || !fresh.is_empty(), || format!("{} has only answers marked as replayed", called(one)));
    }
    verdict
}

/// I3, the outcomes: every command got a definite answer in the end, also those whose first answer was lost.
#[must_use]
pub fn settled(history: &History) -> Verdict {
    let mut verdict = Verdict::new("I3", "every command is settled, also after an unknown outcome", "commands");
    let mut settled: BTreeMap<Uuid, (bool, &Attempt)> = BTreeMap::new();
    for attempt in same_payload(history) {
        let Some(command) = attempt.command else { continue };
        let entry = settled.entry(command).or_insert((false, attempt));
        entry.0 |= attempt.answer.is_definite();
    }
    for (is_settled, attempt) in settled.into_values() {
        verdict.look(is_settled, || format!("{} never got a definite answer; at first {}", called(attempt), told(&attempt.answer)));
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
pub(crate) fn same_payload(history: &History) -> impl Iterator<Item = &Attempt> {
    history.attempts.iter().filter(|attempt| attempt.purpose != Purpose::Changed && !matches!(attempt.expected, Expected::Mismatch(_)))
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
