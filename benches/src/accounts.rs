//! The smallest domain whose commands are like the wallet's: one event each, about as large as a transfer's leg.

use bytes::Bytes;
use idempo_decider::{Context, Decider, Decision, States};
use idempo_event_store::{Applied, Category, DecodeError, Domain, IdempotencyKey, KeyOrigin, NoInline, Origin, StreamTarget, Submission};
use idempo_ids::{Uuid, derive};
use idempo_proto::event::v1::event_envelope::Data;
use idempo_proto::event::v1::{Asset, EventEnvelope, FundsReceived};
use idempo_proto::wallet::v1::GrantFundsRequest;
use prost::Message as _;

/// The category of the streams.
pub(crate) const ACCOUNTS: Category = Category { number: 1, name: "bench-account" };

/// Accounts that only ever receive.
#[derive(Debug)]
pub(crate) struct Accounts;

impl Decider for Accounts {
    type State = i64;
    type Command = i64;
    type Event = i64;
    type Rejection = ();

    fn decide(_states: States<'_, i64>, amount: &i64, _context: &Context) -> Result<Decision<i64>, ()> {
        Ok(Decision::one(*amount))
    }

    fn evolve(state: &mut i64, amount: &i64) {
        *state = state.saturating_add(*amount);
    }
}

impl Domain for Accounts {
    type Decider = Self;
    type Inline = NoInline;

    fn category(&self) -> Category {
        ACCOUNTS
    }

    fn error_domain(&self) -> &'static str {
        "bench.idempo"
    }

    fn topic(&self) -> i16 {
        3
    }

    fn encode(&self, amount: &i64) -> Data {
        Data::FundsReceived(FundsReceived {
            transaction_id: Bytes::from_static(&[7; 16]),
            asset: Asset::Coin.into(),
            amount: *amount,
            from_player_id: Bytes::from_static(&[9; 16]),
            reason: "a reason of usual length".to_owned(),
            reverses_transaction_id: Bytes::new(),
        })
    }

    fn decode(&self, data: Data) -> Result<i64, DecodeError> {
        match data {
            Data::FundsReceived(received) => Ok(received.amount),
            _ => Err(DecodeError { event_type: "other", problem: "not an account's" }),
        }
    }

    fn event_type(&self, _data: &Data) -> i16 {
        104
    }

    fn reply(&self, applied: &Applied<'_, Self>) -> Bytes {
        Bytes::copy_from_slice(applied.position.as_bytes())
    }

    fn refusal(&self, _amount: &i64, (): &()) -> Bytes {
        Bytes::new()
    }

    fn project(&self, _applied: &Applied<'_, Self>, (): &mut ()) {}
}

/// The `n`-th account.
pub(crate) fn account(n: u32) -> StreamTarget {
    ACCOUNTS.stream(derive(Uuid::nil(), "bench-owner", n))
}

/// An event as it is stored.
pub(crate) fn envelope() -> Vec<u8> {
    let id = |n: u8| Bytes::copy_from_slice(&[n; 16]);
    let envelope = EventEnvelope {
        event_id: id(1),
        stream_id: id(2),
        version: 1,
        partition_key: id(3),
        decided_at: Some(prost_types::Timestamp { seconds: 1_750_000_000, nanos: 0 }),
        command_id: id(4),
        correlation_id: id(5),
        data: Some(Accounts.encode(&1)),
        ..EventEnvelope::default()
    };
    envelope.encode_to_vec()
}

/// The `n`-th key of a run that began at `millis` since 1970: a UUIDv7.
pub(crate) fn key(millis: i64, n: u32) -> Uuid {
    let mut time = [0_u8; 16];
    for (to, from) in time.iter_mut().zip(millis.to_be_bytes().iter().skip(2)) {
        *to = *from;
    }
    derive(Uuid::from_bytes(time), "bench-key", n)
}

/// The `n`-th command of a run that began at `millis`, for one account.
pub(crate) fn command(millis: i64, n: u32, target: StreamTarget) -> Submission<i64> {
    let key = key(millis, n);
    let request = GrantFundsRequest {
        request_id: key.to_string(),
        wallet: format!("wallets/{}", target.partition_key),
        asset: Asset::Coin.into(),
        amount: 1,
        reason: "a reason of usual length".to_owned(),
        ..GrantFundsRequest::default()
    };
    let fingerprint = idempo_rpc::fingerprint::fingerprint(&request);
    Submission {
        command: 1,
        streams: std::iter::once(target).collect(),
        key: IdempotencyKey { scope: [1; 16], key, fingerprint },
        expected_version: None,
        validate_only: false,
        key_origin: KeyOrigin::Client,
        origin: Origin::default(),
    }
}
