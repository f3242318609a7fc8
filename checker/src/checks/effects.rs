//! What the commands left in the stores: once (I2), wholly or not at all and nothing where refused (I3), all of it where acknowledged (I4).

use std::collections::{BTreeMap, HashMap, HashSet};

use idempo_proto::event::v1::event_envelope::Data;
use idempo_proto::event::v1::hold_captured;
use uuid::Uuid;

use super::answers::{keys_by_command, same_payload};
use super::called;
use crate::facts::{Store, StoredEvent};
use crate::history::{Answer, Attempt, History};
use crate::ids;
use crate::verdict::Verdict;

/// The events of each command, in the order of the stores.
pub type ByCommand<'a> = HashMap<Uuid, Vec<&'a StoredEvent>>;

/// The events of each command.
#[must_use]
pub fn by_command(stores: &[Store]) -> ByCommand<'_> {
    let mut commands: ByCommand<'_> = HashMap::new();
    for event in stores.iter().flat_map(|store| &store.events) {
        commands.entry(event.command_id()).or_default().push(event);
    }
    commands
}

/// I2, the effects: a command's events are its first, second, … once each, of one transaction, and no event id is there twice.
#[must_use]
pub fn at_most_once(commands: &ByCommand<'_>) -> Verdict {
    let mut verdict = Verdict::new("I2", "no command took effect twice", "commands with events");
    for (command, events) in commands {
        let mut there: Vec<Uuid> = events.iter().map(|event| event.event_id).collect();
        let mut due: Vec<Uuid> = (0_u32..).zip(events).map(|(ordinal, _)| ids::event(*command, ordinal)).collect();
        let in_order = there == due;
        there.sort_unstable();
        due.sort_unstable();
        verdict.look(in_order || there == due, || {
            let distinct: HashSet<_> = there.iter().collect();
            format!("command {command} took effect otherwise than once: its {} events have {} ids of its own", events.len(), distinct.len())
        });
        let first = events.first().map(|event| event.xid);
        verdict.require(events.iter().all(|event| Some(event.xid) == first), || {
            format!("command {command} has events of more than one transaction")
        });
    }
    verdict
}

/// I3, the effects: a command that was only ever refused has no event.
#[must_use]
pub fn none_where_refused(history: &History, commands: &ByCommand<'_>) -> Verdict {
    let mut verdict = Verdict::new("I3", "what was refused or invalid left no event", "refused commands");
    for (command, outcome) in outcomes(history) {
        if outcome == Outcome::Refused {
            let left = commands.get(&command).map_or(0, Vec::len);
            verdict.look(left == 0, || format!("command {command} was refused and has {left} events"));
        }
    }
    verdict
}

/// I3, the keys: a command has events exactly where an applied answer is stored under its key, also where no client knows its outcome.
#[must_use]
pub fn as_the_keys_say(history: &History, stores: &[Store], commands: &ByCommand<'_>) -> Verdict {
    let mut verdict = Verdict::new("I3", "a command has events exactly where its key says it was applied", "keys");
    let keys = keys_by_command(stores);
    for (command, row) in &keys {
        let left = commands.get(command).map_or(0, Vec::len);
        verdict.look((left > 0) != row.is_refused, || {
            let says = if row.is_refused { "refused" } else { "applied" };
            format!("key {} says that command {command} was {says}, which has {left} events", row.key)
        });
    }
    let sent: HashSet<Uuid> = history.attempts.iter().filter_map(|attempt| attempt.command).collect();
    for command in sent {
        let left = commands.get(&command).map_or(0, Vec::len);
        verdict.require(left == 0 || keys.contains_key(&command), || format!("command {command} has {left} events and its key is free"));
    }
    verdict
}

/// I3, the legs: what one event says was given, another of the same command says was received.
#[must_use]
pub fn both_legs(commands: &ByCommand<'_>) -> Verdict {
    let mut verdict = Verdict::new("I3", "a command leaves all of its legs or none", "legs");
    for (command, events) in commands {
        let mut legs: HashMap<Leg, i64> = HashMap::new();
        for event in events {
            if let Some((leg, sign)) = leg(event) {
                *legs.entry(leg).or_default() += sign;
            }
        }
        for (leg, balance) in legs {
            verdict.look(balance == 0, || format!("command {command} has one leg without the other: {leg:?}"));
        }
    }
    verdict
}

/// What both legs of a transfer say.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Leg {
    transfer: Vec<u8>,
    from: Uuid,
    to: Uuid,
    what: String,
}

fn leg(event: &StoredEvent) -> Option<(Leg, i64)> {
    let own = event.partition_key();
    let gives = |transfer: &[u8], to: &[u8], what: String| {
        Some((Leg { transfer: transfer.to_vec(), from: own, to: ids::of_bytes(to).unwrap_or_default(), what }, 1))
    };
    let takes = |transfer: &[u8], from: &[u8], what: String| {
        Some((Leg { transfer: transfer.to_vec(), from: ids::of_bytes(from).unwrap_or_default(), to: own, what }, -1))
    };
    match event.data()? {
        Data::FundsSent(e) => gives(&e.transaction_id, &e.to_player_id, format!("{} of asset {}", e.amount, e.asset)),
        Data::FundsReceived(e) => takes(&e.transaction_id, &e.from_player_id, format!("{} of asset {}", e.amount, e.asset)),
        Data::HoldCaptured(e) => match e.to.as_ref()? {
            hold_captured::To::ToPlayerId(to) => gives(&e.transaction_id, to, format!("{} of asset {}", e.captured_amount, e.asset)),
            hold_captured::To::ToSystemAccount(_) => None,
        },
        Data::CaptureReceived(e) => takes(&e.transaction_id, &e.from_player_id, format!("{} of asset {}", e.amount, e.asset)),
        Data::ItemSent(e) => gives(&e.transfer_id, &e.to_player_id, format!("{:?}", e.portion)),
        Data::ItemReceived(e) => takes(&e.transfer_id, &e.from_player_id, format!("{:?}", e.portion)),
        _ => None,
    }
}

/// I4: an acknowledged command's events are in the stores, on the streams and up to the versions that its position says.
#[must_use]
pub fn all_where_acknowledged(history: &History, commands: &ByCommand<'_>) -> Verdict {
    let mut verdict = Verdict::new("I4", "what was acknowledged is there, where its position says", "acknowledged commands");
    let mut seen = HashSet::new();
    for attempt in same_payload(history) {
        let (Answer::Replied { .. }, Some(command), Some(key)) = (&attempt.answer, attempt.command, attempt.key) else { continue };
        if !seen.insert(command) {
            continue;
        }
        let events = commands.get(&command).map_or(&[][..], Vec::as_slice);
        for event in events {
            verdict.require(event.correlation_id() == key, || format!("event {} does not say that it belongs to {key}", event.event_id));
        }
        acknowledged(&mut verdict, attempt, events);
    }
    verdict
}

fn acknowledged(verdict: &mut Verdict, attempt: &Attempt, events: &[&StoredEvent]) {
    let mut there: BTreeMap<Uuid, u64> = BTreeMap::new();
    for event in events {
        let version = there.entry(event.stream_id).or_default();
        *version = event.version.max(*version);
    }
    let said: BTreeMap<Uuid, u64> = attempt.position.iter().copied().collect();
    verdict.look(!there.is_empty() && there == said, || {
        format!("{} was acknowledged at {said:?}, its events are at {there:?}", called(attempt))
    });
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Acknowledged,
    Refused,
    Unknown,
}

/// What each command came to, over all its attempts.
fn outcomes(history: &History) -> HashMap<Uuid, Outcome> {
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
