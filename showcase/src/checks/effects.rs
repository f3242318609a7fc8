//! What the commands left in the stores: once (I2), nothing where refused (I3), all of it where acknowledged (I4).

use std::collections::{BTreeMap, HashMap, HashSet};

use idempo_ids::{CommandId, EventId, StreamId};

use super::Verdict;
use crate::facts::{Store, StoredEvent};
use crate::history::{Answer, History};

/// The most events that one command makes; only a bound for the search.
const EVENTS_PER_COMMAND_MAX: u32 = 16;

/// The events of each command.
#[must_use]
pub fn by_command<'a>(stores: &[&'a Store]) -> HashMap<CommandId, Vec<&'a StoredEvent>> {
    let mut commands: HashMap<CommandId, Vec<&StoredEvent>> = HashMap::new();
    for event in stores.iter().flat_map(|store| &store.events) {
        commands.entry(event.command_id()).or_default().push(event);
    }
    commands
}

/// I2, the effects: a command's events are its first, second, … once each, of one transaction, and no event id is there twice.
#[must_use]
pub fn at_most_once(stores: &[&Store]) -> Verdict {
    let mut verdict = Verdict::new("I2", "no command took effect twice", "commands with events");
    for (command, events) in by_command(stores) {
        let count = u32::try_from(events.len()).unwrap_or(u32::MAX).min(EVENTS_PER_COMMAND_MAX);
        let due: HashSet<EventId> = (0..count).map(|ordinal| EventId::of(command, ordinal)).collect();
        let there: HashSet<EventId> = events.iter().map(|event| event.event_id).collect();
        let transactions: HashSet<u64> = events.iter().map(|event| event.xid).collect();
        verdict.look(due == there && there.len() == events.len(), || {
            format!("command {command} has {} events, with {} distinct ids, not its first {count}", events.len(), there.len())
        });
        verdict.require(transactions.len() == 1, || format!("command {command} has events of {} transactions", transactions.len()));
    }
    verdict
}

/// I3, the effects: a command that was only ever refused has no event.
#[must_use]
pub fn none_where_refused(history: &History, stores: &[&Store]) -> Verdict {
    let mut verdict = Verdict::new("I3", "what was refused or invalid left no event", "refused commands");
    let commands = by_command(stores);
    for (command, outcome) in outcomes(history) {
        if outcome == Outcome::Refused {
            let left = commands.get(&command).map_or(0, Vec::len);
            verdict.look(left == 0, || format!("command {command} was refused and has {left} events"));
        }
    }
    verdict
}

/// I4: an acknowledged command's events are in the stores, on the streams and up to the versions that its position says.
#[must_use]
pub fn all_where_acknowledged(history: &History, stores: &[&Store]) -> Verdict {
    let mut verdict = Verdict::new("I4", "what was acknowledged is there, where its position says", "acknowledged commands");
    let commands = by_command(stores);
    let mut seen = HashSet::new();
    for attempt in &history.attempts {
        let (Answer::Replied { .. }, Some(command), Some(key)) = (&attempt.answer, attempt.command, attempt.key) else { continue };
        if !seen.insert(command) {
            continue;
        }
        let mut there: BTreeMap<StreamId, u64> = BTreeMap::new();
        for event in commands.get(&command).into_iter().flatten() {
            verdict.require(event.correlation_id() == key, || format!("event {} does not say that it belongs to {key}", event.event_id));
            let version = there.entry(event.stream_id).or_default();
            *version = event.version.max(*version);
        }
        let said: BTreeMap<StreamId, u64> = attempt.position.iter().copied().collect();
        verdict.look(!there.is_empty() && there == said, || {
            format!("{} {key} was acknowledged at {said:?}, its events are at {there:?}", attempt.method.name())
        });
    }
    verdict
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Acknowledged,
    Refused,
    Unknown,
}

/// What each command came to, over all its attempts.
fn outcomes(history: &History) -> HashMap<CommandId, Outcome> {
    let mut outcomes = HashMap::new();
    for attempt in &history.attempts {
        let Some(command) = attempt.command else { continue };
        let outcome = outcomes.entry(command).or_insert(Outcome::Unknown);
        match (&attempt.answer, *outcome) {
            (Answer::Replied { .. }, _) => *outcome = Outcome::Acknowledged,
            (Answer::Refused { .. }, Outcome::Unknown) => *outcome = Outcome::Refused,
            _ => {}
        }
    }
    outcomes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::samples::{attempt, event, key, refused, replied, store, stream};
    use crate::history::{Attempt, Purpose};

    fn acknowledged(command: u8, position: &[(StreamId, u64)]) -> History {
        let attempt = Attempt { position: position.to_vec(), ..attempt(command, Purpose::First, replied(b"a")) };
        History { attempts: vec![attempt], reads: vec![] }
    }

    #[test]
    fn a_transfer_with_both_legs_passes() {
        let store = store(vec![event(1, stream(1), 1, 9, 0), event(2, stream(2), 1, 9, 1)]);
        assert!(at_most_once(&[&store]).holds());
        assert!(all_where_acknowledged(&acknowledged(9, &[(stream(1), 1), (stream(2), 1)]), &[&store]).holds());
    }

    #[test]
    fn an_effect_that_is_there_twice_is_flagged() {
        let twice = store(vec![event(1, stream(1), 1, 9, 0), event(2, stream(1), 2, 9, 0)]);
        assert_eq!(at_most_once(&[&twice]).flaw_count, 1);
        let strange_id = store(vec![event(1, stream(1), 1, 9, 3)]);
        assert_eq!(at_most_once(&[&strange_id]).flaw_count, 1);
        let mut second_transaction = store(vec![event(1, stream(1), 1, 9, 0), event(2, stream(2), 1, 9, 1)]);
        second_transaction.events[1].xid += 1;
        assert_eq!(at_most_once(&[&second_transaction]).flaw_count, 1);
    }

    #[test]
    fn a_refused_command_with_an_event_is_flagged() {
        let history = History { attempts: vec![attempt(9, Purpose::First, refused("INSUFFICIENT_FUNDS"))], reads: vec![] };
        assert!(none_where_refused(&history, &[&store(vec![event(1, stream(1), 1, 8, 0)])]).holds());
        assert_eq!(none_where_refused(&history, &[&store(vec![event(1, stream(1), 1, 9, 0)])]).flaw_count, 1);
    }

    #[test]
    fn a_mismatch_after_an_acknowledgement_is_no_refusal_of_the_command() {
        let attempts =
            vec![attempt(9, Purpose::First, replied(b"a")), attempt(9, Purpose::Changed, refused("REQUEST_ID_PAYLOAD_MISMATCH"))];
        let verdict = none_where_refused(&History { attempts, reads: vec![] }, &[&store(vec![event(1, stream(1), 1, 9, 0)])]);
        assert_eq!((verdict.looked_at, verdict.flaw_count), (0, 0));
    }

    #[test]
    fn an_acknowledged_command_that_is_lost_or_elsewhere_is_flagged() {
        let history = acknowledged(9, &[(stream(1), 1)]);
        assert_eq!(all_where_acknowledged(&history, &[&store(vec![])]).flaw_count, 1);
        assert_eq!(all_where_acknowledged(&history, &[&store(vec![event(1, stream(2), 1, 9, 0)])]).flaw_count, 1);
        assert_eq!(all_where_acknowledged(&history, &[&store(vec![event(1, stream(1), 2, 9, 0)])]).flaw_count, 1);
        let half = acknowledged(9, &[(stream(1), 1), (stream(2), 1)]);
        assert_eq!(all_where_acknowledged(&half, &[&store(vec![event(1, stream(1), 1, 9, 0)])]).flaw_count, 1);
        assert_eq!(key(9), key(9));
    }
}
