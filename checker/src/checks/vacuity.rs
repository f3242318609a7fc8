//! A run in which nothing happened proves nothing.

use std::collections::{BTreeMap, HashSet};

use idempo_proto::event::v1::event_envelope::Data;

use crate::evidence::Evidence;
use crate::history::{Answer, Attempt, Expected, History, Purpose};
use crate::verdict::Verdict;

/// What a run can meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trouble {
    /// A repetition that was answered as such.
    Replayed,
    /// A refusal by the rules of the domain.
    Refused,
    /// A malformed request that was refused.
    Invalid,
    /// Another payload under a key that is taken.
    Mismatched,
    /// An outcome that was unknown at first.
    Unknown,
    /// A command that got its definite answer after an unknown outcome.
    RetriedToTheEnd,
    /// A read with a position.
    Read,
    /// A hold or reservation that expired by itself.
    Expired,
    /// An outbox that another relay took over. Only who ran it knows.
    Takeover,
    /// A write that was refused because its writer had lost its lease or its partition. Only who ran it knows.
    Fenced,
    /// A record that waited behind a dead letter of its key, and was applied with it.
    Parked,
    /// A job on dead letters that was under way when a process was killed that it needs. Only who ran it knows.
    Interrupted,
    /// A record in Kafka that says again what an earlier one said.
    Duplicate,
}

impl Trouble {
    /// What the demo is meant to meet: it kills one relay.
    pub const DEMO: [Self; 9] = [
        Self::Replayed,
        Self::Refused,
        Self::Invalid,
        Self::Mismatched,
        Self::Unknown,
        Self::RetriedToTheEnd,
        Self::Read,
        Self::Expired,
        Self::Takeover,
    ];
    /// What a run with faults is meant to meet.
    pub const CHAOS: [Self; 12] = [
        Self::Replayed,
        Self::Refused,
        Self::Invalid,
        Self::Mismatched,
        Self::Unknown,
        Self::RetriedToTheEnd,
        Self::Read,
        Self::Expired,
        Self::Takeover,
        Self::Fenced,
        Self::Parked,
        Self::Interrupted,
    ];

    const fn missing(self) -> &'static str {
        match self {
            Self::Replayed => "no repetition was answered from memory",
            Self::Refused => "nothing was refused",
            Self::Invalid => "nothing was malformed",
            Self::Mismatched => "no payload mismatch was met",
            Self::Unknown => "no outcome was unknown",
            Self::RetriedToTheEnd => "no command was settled after an unknown outcome",
            Self::Read => "nothing was read with a position",
            Self::Expired => "no hold or reservation expired by itself",
            Self::Takeover => "no relay was taken over",
            Self::Fenced => "no write was fenced off",
            Self::Parked => "no record was parked behind a dead letter",
            Self::Interrupted => "no job on dead letters was under way when their service was killed",
            Self::Duplicate => "no duplicate was in Kafka",
        }
    }
}

/// How often a run met each trouble.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen(BTreeMap<Trouble, u64>);

impl Seen {
    /// How often a trouble was met.
    #[must_use]
    pub fn count(&self, trouble: Trouble) -> u64 {
        self.0.get(&trouble).copied().unwrap_or(0)
    }

    /// Counts a trouble so many times more.
    pub fn add(&mut self, trouble: Trouble, times: u64) {
        *self.0.entry(trouble).or_default() += times;
    }

    /// Counts everything that the evidence shows, and what only who ran it knows.
    #[must_use]
    pub fn of(evidence: &Evidence) -> Self {
        let mut seen = evidence.met.clone();
        seen.count_history(&evidence.history);
        let expired = |data: Option<&Data>| matches!(data, Some(Data::HoldExpired(_) | Data::ReservationExpired(_)));
        let events = evidence.stores.iter().flat_map(|store| &store.events);
        seen.add(Trouble::Expired, many(events.filter(|event| expired(event.data())).count()));
        let (topics, _) = crate::poison::apart(&evidence.topics, &evidence.poison);
        seen.add(Trouble::Duplicate, topics.iter().map(super::topic::duplicates).sum());
        seen.add(Trouble::Parked, evidence.ops.as_ref().map_or(0, |dead| super::dead_letters::parked_behind(&dead.letters)));
        seen
    }

    fn count_history(&mut self, history: &History) {
        let count = |fits: &dyn Fn(&Attempt) -> bool| many(history.attempts.iter().filter(|attempt| fits(attempt)).count());
        let was_refused = |attempt: &Attempt| matches!(attempt.answer, Answer::Refused { .. });
        let unknown: HashSet<_> =
            history.attempts.iter().filter(|attempt| !attempt.answer.is_definite()).filter_map(|attempt| attempt.command).collect();
        let retried = |attempt: &Attempt| {
            attempt.purpose == Purpose::Retry
                && attempt.answer.is_definite()
                && attempt.command.is_some_and(|command| unknown.contains(&command))
        };
        self.add(Trouble::Replayed, count(&|attempt| attempt.answer.is_replayed() && attempt.purpose != Purpose::Changed));
        self.add(Trouble::Refused, count(&|attempt| was_refused(attempt) && matches!(attempt.expected, Expected::Refused(_))));
        self.add(Trouble::Invalid, count(&|attempt| was_refused(attempt) && matches!(attempt.expected, Expected::Invalid(_))));
        self.add(Trouble::Mismatched, count(&|attempt| was_refused(attempt) && matches!(attempt.expected, Expected::Mismatch(_))));
        self.add(Trouble::Unknown, count(&|attempt| !attempt.answer.is_definite()));
        self.add(Trouble::RetriedToTheEnd, count(&retried));
        self.add(Trouble::Read, many(history.reads.iter().filter(|read| read.seen.is_some()).count()));
    }
}

fn many(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

/// Whether each thing that the run is for has happened at least once.
#[must_use]
pub fn not_vacuous(seen: &Seen, must_meet: &[Trouble]) -> Verdict {
    let mut verdict = Verdict::new("run", "the run met what it is meant to meet", "kinds of trouble");
    for trouble in must_meet {
        verdict.look(seen.count(*trouble) > 0, || trouble.missing().to_owned());
    }
    verdict
}
