//! A small account domain, and stores to run it on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use idempo_decider::{Context, Decider, Decision, States};
use idempo_event_store::store::{CommandAppend, NewEvent, Settled, Touch, Verdict};
use idempo_event_store::{Applied, Category, DecodeError, Domain, IdempotencyKey, KeyOrigin, NoInline, Origin, StreamTarget, Submission};
use idempo_ids::{EventId, Uuid, derive};
use idempo_proto::event::v1::event_envelope::Data;
use idempo_proto::event::v1::{EventEnvelope, FundsBurned, FundsMinted};
use prost::Message as _;

/// A time all tests begin at: 2026-11-01T00:00:00Z.
pub(crate) const START_MS: i64 = 1_793_491_200_000;

static NEXT: AtomicU64 = AtomicU64::new(1);

/// A UUIDv7 made at [`START_MS`], another one at each call.
pub(crate) fn fresh_key() -> Uuid {
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    key_at(START_MS, n)
}

/// The `n`-th UUIDv7 of a millisecond.
pub(crate) fn key_at(millis: i64, n: u64) -> Uuid {
    let mut bytes = [0_u8; 16];
    bytes[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
    bytes[8..].copy_from_slice(&n.to_be_bytes());
    derive(Uuid::from_bytes(bytes), "test", u32::try_from(n % 1_000_000).unwrap())
}

pub(crate) fn key(uuid: Uuid, payload: u8) -> IdempotencyKey {
    let request = FundsMinted { amount: i64::from(payload) + 1, ..FundsMinted::default() };
    IdempotencyKey { scope: [7; 16], key: uuid, fingerprint: idempo_rpc::fingerprint::fingerprint(&request) }
}

pub(crate) const ACCOUNTS: Category = Category { number: 1, name: "account" };

pub(crate) fn account(n: u32) -> StreamTarget {
    ACCOUNTS.stream(derive(Uuid::nil(), "owner", n))
}

/// A stream no other test uses.
pub(crate) fn fresh_account() -> StreamTarget {
    ACCOUNTS.stream(fresh_key())
}

/// A decided command: `touches` are (stream, expected version, events to add).
pub(crate) fn append(key: IdempotencyKey, touches: &[(StreamTarget, u64, u32)]) -> CommandAppend {
    let mut events = Vec::new();
    for (target, expected, added) in touches {
        for step in 1..=*added {
            events.push((*target, expected + u64::from(step)));
        }
    }
    let verdict = if events.is_empty() { Verdict::Refused } else { Verdict::Applied };
    let event = |(ordinal, (target, version)): (usize, (StreamTarget, u64))| {
        let event_id = EventId::of(key.command_id(), u32::try_from(ordinal).unwrap());
        let envelope = EventEnvelope {
            event_id: Bytes::copy_from_slice(event_id.bytes()),
            stream_id: Bytes::copy_from_slice(target.stream_id.bytes()),
            version,
            data: Some(Data::FundsMinted(FundsMinted { amount: 1, ..FundsMinted::default() })),
            ..EventEnvelope::default()
        };
        NewEvent { target, version, event_id, event_type: 101, topic: 3, headers: None, envelope: envelope.encode_to_vec().into() }
    };
    CommandAppend {
        settled: Settled { verdict, fingerprint: key.fingerprint.clone(), reply: Bytes::from(format!("reply of {}", key.key)) },
        touches: touches
            .iter()
            .map(|(target, expected, added)| Touch { target: *target, category: ACCOUNTS.number, expected: *expected, added: *added })
            .collect(),
        events: events.into_iter().enumerate().map(event).collect(),
        key,
    }
}

/// Accounts that can't be overdrawn.
#[derive(Debug)]
pub(crate) struct Accounts;

#[derive(Debug, Clone)]
pub(crate) enum Command {
    Deposit(i64),
    Withdraw(i64),
    /// From the first stream to the second.
    Move(i64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Deposited(i64),
    Withdrawn(i64),
}

impl Decider for Accounts {
    type State = i64;
    type Command = Command;
    type Event = Event;
    type Rejection = &'static str;

    fn decide(states: States<'_, i64>, command: &Command, _context: &Context) -> Result<Decision<Event>, &'static str> {
        let balance = *states.primary();
        match command {
            Command::Deposit(amount) => Ok(Decision::one(Event::Deposited(*amount))),
            Command::Withdraw(amount) if *amount <= balance => Ok(Decision::one(Event::Withdrawn(*amount))),
            Command::Move(amount) if *amount <= balance => Ok(Decision::both(Event::Withdrawn(*amount), Event::Deposited(*amount))),
            Command::Withdraw(_) | Command::Move(_) => Err("INSUFFICIENT"),
        }
    }

    fn evolve(state: &mut i64, event: &Event) {
        match event {
            Event::Deposited(amount) => *state += amount,
            Event::Withdrawn(amount) => *state -= amount,
        }
    }
}

impl Domain for Accounts {
    type Decider = Self;
    type Inline = NoInline;

    fn category(&self) -> Category {
        ACCOUNTS
    }

    fn error_domain(&self) -> &'static str {
        "accounts.idempo"
    }

    fn topic(&self) -> i16 {
        3
    }

    fn encode(&self, event: &Event) -> Data {
        match event {
            Event::Deposited(amount) => Data::FundsMinted(FundsMinted { amount: *amount, ..FundsMinted::default() }),
            Event::Withdrawn(amount) => Data::FundsBurned(FundsBurned { amount: *amount, ..FundsBurned::default() }),
        }
    }

    fn decode(&self, data: Data) -> Result<Event, DecodeError> {
        match data {
            Data::FundsMinted(minted) => Ok(Event::Deposited(minted.amount)),
            Data::FundsBurned(burned) => Ok(Event::Withdrawn(burned.amount)),
            _ => Err(DecodeError { event_type: "other", problem: "not an account's" }),
        }
    }

    fn event_type(&self, data: &Data) -> i16 {
        if matches!(data, Data::FundsMinted(_)) { 101 } else { 102 }
    }

    fn reply(&self, applied: &Applied<'_, Self>) -> Bytes {
        Bytes::from(format!("balance {} at {}", applied.streams[0].state, applied.streams[0].version))
    }

    fn refusal(&self, _command: &Command, rejection: &&'static str) -> Bytes {
        Bytes::from_static(rejection.as_bytes())
    }

    fn project(&self, _applied: &Applied<'_, Self>, (): &mut ()) {}
}

pub(crate) fn submission(key: IdempotencyKey, command: Command, streams: &[StreamTarget]) -> Submission<Command> {
    Submission {
        command,
        streams: streams.iter().copied().collect(),
        key,
        expected_version: None,
        validate_only: false,
        key_origin: KeyOrigin::Client,
        origin: Origin::default(),
    }
}

/// A clock at the tests' start.
pub(crate) fn clock() -> Arc<idempo_clock::ManualClock> {
    idempo_clock::ManualClock::new(jiff::Timestamp::from_millisecond(START_MS).unwrap())
}
