//! Asking a consumer, and what its answer means for the members of a job.

use std::time::Duration;

use idempo_proto::ops::v1::parked_letter_outcome::Outcome;
use idempo_proto::ops::v1::{
    DiscardParkedLettersRequest, ParkedLetterEnd, ParkedLetterGone, ParkedLetterOutcome, ReplayParkedLettersRequest,
};
use idempo_rpc::status::reason;
use tonic::Status;

use super::lease::{Job, Members};
use crate::consumers::{Parked, asked_by, is_transient};

/// How long a consumer may take for what it is asked, in milliseconds; then it says that it is pending.
const WAIT_MS: i32 = 5_000;
/// How long its answer is waited for: the wait, and time to answer.
const ANSWER_LIMIT: Duration = Duration::from_millis(7_000);

/// The states that members come to be in by an answer, as the database has them.
pub(super) const STATES: [&str; 5] = [APPLIED, DISCARDED, FAILED_AGAIN, GONE, REFUSED];
const APPLIED: &str = "applied";
const DISCARDED: &str = "discarded";
const FAILED_AGAIN: &str = "failed_again";
const GONE: &str = "gone";
const REFUSED: &str = "refused";

/// What a job does to discard its members.
const DISCARD: &str = "discard";
/// The code of a member that was applied or discarded, and the next record of its key failed.
const KEY_BLOCKED: &str = "KEY_BLOCKED";
/// The code of a member that was gone.
const CODE_GONE: &str = "DEAD_LETTER_GONE";
/// The code of a member that no consumer is known for.
const CONSUMER_UNKNOWN: &str = "CONSUMER_UNKNOWN";

/// What has become of members: of each that is settled, its place in the job and what is to be written.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answers {
    pub(super) ordinals: Vec<i64>,
    pub(super) states: Vec<&'static str>,
    pub(super) codes: Vec<String>,
    pub(super) reasons: Vec<String>,
    pub(super) records: Vec<i64>,
    /// Why others are not settled; empty where all are.
    pub(super) hindrance: String,
}

/// What has become of one member.
struct Settled {
    state: &'static str,
    code: String,
    reason: String,
    records: i64,
}

impl Settled {
    fn new(state: &'static str, code: &str, reason: String) -> Self {
        Self { state, code: code.to_owned(), reason, records: 0 }
    }

    /// Applied or discarded, with so many records.
    fn done(state: &'static str, records: i64, blocked_by: &str) -> Self {
        let (code, reason) = match blocked_by {
            "" => ("", String::new()),
            other => (KEY_BLOCKED, format!("the next record of its key failed: {other}")),
        };
        Self { records, ..Self::new(state, code, reason) }
    }
}

impl Answers {
    pub(super) fn is_empty(&self) -> bool {
        self.ordinals.is_empty()
    }

    fn push(&mut self, ordinal: i64, Settled { state, code, reason, records }: Settled) {
        self.ordinals.push(ordinal);
        self.states.push(state);
        self.codes.push(code);
        self.reasons.push(reason);
        self.records.push(records);
    }

    /// The same for all members.
    fn of_all(members: &Members, code: &str, reason: &str) -> Self {
        let mut answers = Self::default();
        members.ordinals.iter().for_each(|ordinal| answers.push(*ordinal, Settled::new(REFUSED, code, reason.to_owned())));
        answers
    }
}

/// Asks the consumer of some members to do what the job is for.
///
/// # Cancel safety
/// Dropping it leaves the consumer to do what it was asked for, or not; the members stand as sent.
pub(super) async fn ask(consumer: Option<Parked>, job: &Job, members: &Members) -> Answers {
    let Some(mut consumer) = consumer else {
        let reason = format!("the service is not told which consumer has {}", members.consumer_group);
        return Answers::of_all(members, CONSUMER_UNKNOWN, &reason);
    };
    let (names, reason) = (members.names.clone(), job.reason.clone());
    let answered = if job.action == DISCARD {
        let message = DiscardParkedLettersRequest { names, reason, wait_ms: WAIT_MS };
        consumer.discard_parked_letters(asked_by(&job.caller, ANSWER_LIMIT, message)).await.map(|answer| answer.into_inner().outcomes)
    } else {
        let message = ReplayParkedLettersRequest { names, reason, force: job.force, wait_ms: WAIT_MS };
        consumer.replay_parked_letters(asked_by(&job.caller, ANSWER_LIMIT, message)).await.map(|answer| answer.into_inner().outcomes)
    };
    match answered {
        Ok(outcomes) => understood(&job.action, members, outcomes),
        Err(status) => failed(members, &status),
    }
}

/// What follows from a consumer's refusal of the request as a whole.
fn failed(members: &Members, status: &Status) -> Answers {
    let code = reason(status).unwrap_or_else(|| status.code().to_string());
    if is_transient(status) {
        // What it has done it will say when it is asked again.
        let hindrance = format!("the consumer of {} does not answer: {code}: {}", members.consumer_group, status.message());
        return Answers { hindrance, ..Answers::default() };
    }
    Answers::of_all(members, &code, status.message())
}

/// What follows from a consumer's answer.
fn understood(action: &str, members: &Members, outcomes: Vec<ParkedLetterOutcome>) -> Answers {
    let mut answers = Answers::default();
    let mut unanswered = 0_usize;
    let mut outcomes = outcomes.into_iter();
    let asked = members.ordinals.iter().zip(&members.names).zip(&members.resent);
    for ((ordinal, name), resent) in asked {
        // An answer that is about another dead letter is none.
        let outcome = outcomes.next().filter(|outcome| outcome.name == *name).and_then(|outcome| outcome.outcome);
        match outcome.and_then(|outcome| settled(action, *resent, outcome)) {
            Some(settled) => answers.push(*ordinal, settled),
            None => unanswered += 1,
        }
    }
    if unanswered > 0 {
        answers.hindrance =
            format!("{unanswered} dead letters wait for the process of {} that has their partition", members.consumer_group);
    }
    answers
}

fn settled(action: &str, resent: bool, outcome: Outcome) -> Option<Settled> {
    match outcome {
        Outcome::Applied(applied) => Some(Settled::done(APPLIED, applied.records, &applied.blocked_by)),
        Outcome::Discarded(discarded) => Some(Settled::done(DISCARDED, discarded.records_applied, &discarded.blocked_by)),
        Outcome::FailedAgain(failed) => Some(Settled::new(FAILED_AGAIN, &failed.code, failed.reason)),
        Outcome::Gone(gone) => Some(ended_before(action, resent, &gone)),
        Outcome::Refused(refused) => Some(Settled::new(REFUSED, &refused.code, refused.reason)),
        Outcome::Pending(_) => None,
    }
}

/// Of a member that was sent before, the end that the job wanted is the answer that was not heard.
fn ended_before(action: &str, resent: bool, gone: &ParkedLetterGone) -> Settled {
    let as_wanted = match gone.end() {
        ParkedLetterEnd::Applied if action != DISCARD => Some(APPLIED),
        ParkedLetterEnd::Discarded if action == DISCARD => Some(DISCARDED),
        _ => None,
    };
    if let (Some(state), true) = (as_wanted, resent) {
        return Settled::done(state, gone.records, &gone.blocked_by);
    }
    let how = match gone.end() {
        ParkedLetterEnd::Applied => "it was applied before",
        ParkedLetterEnd::Discarded => "it was discarded before",
        ParkedLetterEnd::GenerationGone => "its generation is gone",
        ParkedLetterEnd::Unspecified => "its consumer does not know it, or not any more",
    };
    let by = if gone.caller.is_empty() { String::new() } else { format!(", as {} wanted", gone.caller) };
    Settled::new(GONE, CODE_GONE, format!("{how}{by}"))
}

#[cfg(test)]
mod tests {
    use idempo_proto::ops::v1::{ParkedLetterApplied, ParkedLetterPending};

    use super::*;

    fn members(resent: [bool; 2]) -> Members {
        Members {
            consumer_group: "g".to_owned(),
            ordinals: vec![1, 2],
            names: vec!["deadLetters/g.t.0.1".to_owned(), "deadLetters/g.t.0.2".to_owned()],
            resent: resent.to_vec(),
        }
    }

    fn outcome(offset: i64, outcome: Outcome) -> ParkedLetterOutcome {
        ParkedLetterOutcome { name: format!("deadLetters/g.t.0.{offset}"), outcome: Some(outcome) }
    }

    fn gone(end: ParkedLetterEnd) -> Outcome {
        Outcome::Gone(ParkedLetterGone { end: end.into(), records: 3, ..Default::default() })
    }

    #[test]
    fn what_was_sent_before_and_ended_as_wanted_is_the_answer_that_was_lost() {
        let both = |end| vec![outcome(1, gone(end)), outcome(2, gone(end))];
        let answers = understood("replay", &members([true, false]), both(ParkedLetterEnd::Applied));
        assert_eq!((answers.states, answers.records), (vec![APPLIED, GONE], vec![3, 0]));
        let answers = understood("replay", &members([true, true]), both(ParkedLetterEnd::Discarded));
        assert_eq!(answers.states, [GONE, GONE]);
        let answers = understood("discard", &members([true, true]), both(ParkedLetterEnd::Discarded));
        assert_eq!(answers.states, [DISCARDED, DISCARDED]);
        let answers = understood("replay", &members([true, true]), both(ParkedLetterEnd::Unspecified));
        assert_eq!(answers.states, [GONE, GONE]);
    }

    #[test]
    fn what_is_pending_or_not_answered_or_about_another_is_not_settled() {
        let applied = |offset| outcome(offset, Outcome::Applied(ParkedLetterApplied { records: 1, ..Default::default() }));
        for outcomes in [
            vec![applied(1), outcome(2, Outcome::Pending(ParkedLetterPending {}))],
            vec![applied(1)],
            vec![applied(1), applied(7)],
            vec![applied(1), ParkedLetterOutcome { name: "deadLetters/g.t.0.2".to_owned(), outcome: None }],
        ] {
            let answers = understood("replay", &members([false, false]), outcomes);
            assert_eq!((answers.ordinals.as_slice(), answers.hindrance.starts_with("1 dead letters")), (&[1][..], true));
        }
    }

    #[test]
    fn a_consumer_that_is_away_settles_nothing_and_one_that_refuses_settles_all() {
        let away = failed(&members([false, true]), &Status::unavailable("gone fishing"));
        assert!(away.is_empty() && away.hindrance.contains("gone fishing"));
        let refused = failed(&members([false, true]), &Status::permission_denied("no"));
        assert_eq!((refused.states, refused.hindrance.as_str()), (vec![REFUSED, REFUSED], ""));
    }
}
