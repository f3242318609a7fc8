//! Events, to and from their stored messages.

use bytes::Bytes;
use idempo_decider::Timestamp;
use idempo_event_store::DecodeError;
use idempo_ids::{HoldId, InvalidId, PlayerId, TransactionId};
use idempo_proto::event::v1 as message;
use idempo_proto::event::v1::event_envelope::Data;
use idempo_proto::event::v1::hold_captured::To;
use idempo_rpc::timestamp;
use idempo_wallet_domain::{Amount, Asset, Event, Party, Reason, SystemAccount};

use super::numbers::{account, account_of, asset, asset_of};

/// The number of an event's field in `EventEnvelope.data`.
pub(super) const fn event_type(data: &Data) -> i16 {
    match data {
        Data::WalletOpened(_) => 100,
        Data::FundsMinted(_) => 101,
        Data::FundsBurned(_) => 102,
        Data::FundsSent(_) => 103,
        Data::FundsReceived(_) => 104,
        Data::HoldPlaced(_) => 105,
        Data::HoldCaptured(_) => 106,
        Data::HoldReleased(_) => 107,
        Data::HoldExpired(_) => 108,
        Data::CaptureReceived(_) => 109,
        // Not a wallet's: never encoded here.
        _ => 0,
    }
}

/// An event as it is stored.
pub(super) fn encode(event: &Event) -> Data {
    match event {
        Event::Opened { player, at } => {
            Data::WalletOpened(message::WalletOpened { player_id: bytes(player.bytes()), opened_at: Some(timestamp::to_proto(*at)) })
        }
        Event::Minted { transaction, asset: of, amount, from, reason, reverses } => Data::FundsMinted(message::FundsMinted {
            transaction_id: bytes(transaction.bytes()),
            asset: asset(*of).into(),
            amount: amount.get(),
            from: account(*from).into(),
            reason: reason.as_str().to_owned(),
            reverses_transaction_id: optional(*reverses),
        }),
        Event::Burned { transaction, asset: of, amount, to, reason, reverses } => Data::FundsBurned(message::FundsBurned {
            transaction_id: bytes(transaction.bytes()),
            asset: asset(*of).into(),
            amount: amount.get(),
            to: account(*to).into(),
            reason: reason.as_str().to_owned(),
            reverses_transaction_id: optional(*reverses),
        }),
        Event::Sent { transaction, asset: of, amount, to, reason, reverses } => Data::FundsSent(message::FundsSent {
            transaction_id: bytes(transaction.bytes()),
            asset: asset(*of).into(),
            amount: amount.get(),
            to_player_id: bytes(to.bytes()),
            reason: reason.as_str().to_owned(),
            reverses_transaction_id: optional(*reverses),
        }),
        Event::Received { transaction, asset: of, amount, from, reason, reverses } => Data::FundsReceived(message::FundsReceived {
            transaction_id: bytes(transaction.bytes()),
            asset: asset(*of).into(),
            amount: amount.get(),
            from_player_id: bytes(from.bytes()),
            reason: reason.as_str().to_owned(),
            reverses_transaction_id: optional(*reverses),
        }),
        Event::HoldPlaced { .. }
        | Event::HoldCaptured { .. }
        | Event::HoldReleased { .. }
        | Event::HoldExpired { .. }
        | Event::CaptureReceived { .. } => encode_of_hold(event),
    }
}

fn encode_of_hold(event: &Event) -> Data {
    match event {
        Event::HoldPlaced { hold, asset: of, amount, placed_at, expires_at, reason } => Data::HoldPlaced(message::HoldPlaced {
            hold_id: bytes(hold.bytes()),
            asset: asset(*of).into(),
            amount: amount.get(),
            expires_at: Some(timestamp::to_proto(*expires_at)),
            reason: reason.as_str().to_owned(),
            placed_at: Some(timestamp::to_proto(*placed_at)),
        }),
        Event::HoldCaptured { hold, transaction, asset: of, held, captured, to } => Data::HoldCaptured(message::HoldCaptured {
            hold_id: bytes(hold.bytes()),
            transaction_id: bytes(transaction.bytes()),
            asset: asset(*of).into(),
            held_amount: held.get(),
            captured_amount: captured.get(),
            to: Some(match to {
                Party::Player(player) => To::ToPlayerId(bytes(player.bytes())),
                Party::System(system) => To::ToSystemAccount(account(*system).into()),
            }),
        }),
        Event::HoldReleased { hold, asset: of, amount } => {
            Data::HoldReleased(message::HoldReleased { hold_id: bytes(hold.bytes()), asset: asset(*of).into(), amount: amount.get() })
        }
        Event::CaptureReceived { transaction, hold, asset: of, amount, from } => Data::CaptureReceived(message::CaptureReceived {
            transaction_id: bytes(transaction.bytes()),
            hold_id: bytes(hold.bytes()),
            asset: asset(*of).into(),
            amount: amount.get(),
            from_player_id: bytes(from.bytes()),
        }),
        Event::HoldExpired { hold, asset: of, amount } => {
            Data::HoldExpired(message::HoldExpired { hold_id: bytes(hold.bytes()), asset: asset(*of).into(), amount: amount.get() })
        }
        other => encode(other),
    }
}

/// A stored event.
pub(super) fn decode(data: &Data) -> Result<Event, DecodeError> {
    match data {
        Data::WalletOpened(stored) => {
            let read = Reader("WalletOpened");
            Ok(Event::Opened { player: read.player(&stored.player_id)?, at: read.time(stored.opened_at.as_ref())? })
        }
        Data::FundsMinted(stored) => {
            let read = Reader("FundsMinted");
            Ok(Event::Minted {
                transaction: read.transaction(&stored.transaction_id)?,
                asset: read.asset(stored.asset)?,
                amount: read.amount(stored.amount)?,
                from: read.account(stored.from)?,
                reason: read.reason(&stored.reason)?,
                reverses: read.reverses(&stored.reverses_transaction_id)?,
            })
        }
        Data::FundsBurned(stored) => {
            let read = Reader("FundsBurned");
            Ok(Event::Burned {
                transaction: read.transaction(&stored.transaction_id)?,
                asset: read.asset(stored.asset)?,
                amount: read.amount(stored.amount)?,
                to: read.account(stored.to)?,
                reason: read.reason(&stored.reason)?,
                reverses: read.reverses(&stored.reverses_transaction_id)?,
            })
        }
        Data::FundsSent(stored) => {
            let read = Reader("FundsSent");
            Ok(Event::Sent {
                transaction: read.transaction(&stored.transaction_id)?,
                asset: read.asset(stored.asset)?,
                amount: read.amount(stored.amount)?,
                to: read.player(&stored.to_player_id)?,
                reason: read.reason(&stored.reason)?,
                reverses: read.reverses(&stored.reverses_transaction_id)?,
            })
        }
        Data::FundsReceived(stored) => {
            let read = Reader("FundsReceived");
            Ok(Event::Received {
                transaction: read.transaction(&stored.transaction_id)?,
                asset: read.asset(stored.asset)?,
                amount: read.amount(stored.amount)?,
                from: read.player(&stored.from_player_id)?,
                reason: read.reason(&stored.reason)?,
                reverses: read.reverses(&stored.reverses_transaction_id)?,
            })
        }
        _ => decode_of_hold(data),
    }
}

fn decode_of_hold(data: &Data) -> Result<Event, DecodeError> {
    match data {
        Data::HoldPlaced(stored) => {
            let read = Reader("HoldPlaced");
            Ok(Event::HoldPlaced {
                hold: read.hold(&stored.hold_id)?,
                asset: read.asset(stored.asset)?,
                amount: read.amount(stored.amount)?,
                placed_at: read.time(stored.placed_at.as_ref())?,
                expires_at: read.time(stored.expires_at.as_ref())?,
                reason: read.reason(&stored.reason)?,
            })
        }
        Data::HoldCaptured(stored) => {
            let read = Reader("HoldCaptured");
            Ok(Event::HoldCaptured {
                hold: read.hold(&stored.hold_id)?,
                transaction: read.transaction(&stored.transaction_id)?,
                asset: read.asset(stored.asset)?,
                held: read.amount(stored.held_amount)?,
                captured: read.amount(stored.captured_amount)?,
                to: match &stored.to {
                    Some(To::ToPlayerId(player)) => Party::Player(read.player(player)?),
                    Some(To::ToSystemAccount(account)) => Party::System(read.account(*account)?),
                    None => return Err(read.fail("it has no receiver")),
                },
            })
        }
        Data::HoldReleased(stored) => {
            let read = Reader("HoldReleased");
            let (hold, asset, amount) = (read.hold(&stored.hold_id)?, read.asset(stored.asset)?, read.amount(stored.amount)?);
            Ok(Event::HoldReleased { hold, asset, amount })
        }
        Data::HoldExpired(stored) => {
            let read = Reader("HoldExpired");
            let (hold, asset, amount) = (read.hold(&stored.hold_id)?, read.asset(stored.asset)?, read.amount(stored.amount)?);
            Ok(Event::HoldExpired { hold, asset, amount })
        }
        Data::CaptureReceived(stored) => {
            let read = Reader("CaptureReceived");
            Ok(Event::CaptureReceived {
                transaction: read.transaction(&stored.transaction_id)?,
                hold: read.hold(&stored.hold_id)?,
                asset: read.asset(stored.asset)?,
                amount: read.amount(stored.amount)?,
                from: read.player(&stored.from_player_id)?,
            })
        }
        _ => Err(Reader("EventEnvelope").fail("it is no event of a wallet")),
    }
}

/// Reads the fields of a stored event of this type.
struct Reader(&'static str);

impl Reader {
    const fn fail(&self, problem: &'static str) -> DecodeError {
        DecodeError { event_type: self.0, problem }
    }

    fn id<T>(&self, bytes: &[u8], id: fn(&[u8]) -> Result<T, InvalidId>) -> Result<T, DecodeError> {
        id(bytes).map_err(|_| self.fail("an id has not 16 bytes"))
    }

    fn player(&self, bytes: &[u8]) -> Result<PlayerId, DecodeError> {
        self.id(bytes, PlayerId::from_slice)
    }

    fn transaction(&self, bytes: &[u8]) -> Result<TransactionId, DecodeError> {
        self.id(bytes, TransactionId::from_slice)
    }

    fn hold(&self, bytes: &[u8]) -> Result<HoldId, DecodeError> {
        self.id(bytes, HoldId::from_slice)
    }

    fn reverses(&self, bytes: &[u8]) -> Result<Option<TransactionId>, DecodeError> {
        if bytes.is_empty() { Ok(None) } else { self.transaction(bytes).map(Some) }
    }

    fn asset(&self, number: i32) -> Result<Asset, DecodeError> {
        message::Asset::try_from(number).ok().and_then(asset_of).ok_or_else(|| self.fail("its asset is unknown"))
    }

    fn account(&self, number: i32) -> Result<SystemAccount, DecodeError> {
        message::SystemAccount::try_from(number).ok().and_then(account_of).ok_or_else(|| self.fail("its system account is unknown"))
    }

    fn amount(&self, value: i64) -> Result<Amount, DecodeError> {
        Amount::new(value).ok_or_else(|| self.fail("an amount is out of bounds"))
    }

    fn reason(&self, text: &str) -> Result<Reason, DecodeError> {
        Reason::new(text).ok_or_else(|| self.fail("its reason is too long"))
    }

    fn time(&self, value: Option<&prost_types::Timestamp>) -> Result<Timestamp, DecodeError> {
        value.and_then(timestamp::from_proto).ok_or_else(|| self.fail("a time is missing or out of range"))
    }
}

fn bytes(id: &[u8; 16]) -> Bytes {
    Bytes::copy_from_slice(id)
}

fn optional(id: Option<TransactionId>) -> Bytes {
    id.map_or_else(Bytes::new, |id| bytes(id.bytes()))
}

#[cfg(test)]
mod tests {
    use idempo_ids::Uuid;

    use super::*;

    fn every_event() -> Vec<Event> {
        let id = Uuid::from_u128;
        let (transaction, hold) = (TransactionId::new(id(1)), HoldId::new(id(2)));
        let (amount, asset) = (Amount::new(7).expect("in bounds"), Asset::Stamp);
        let reason = Reason::new("why").expect("short");
        let (from, to) = (PlayerId::new(id(3)), PlayerId::new(id(4)));
        let at = Timestamp::from_microsecond(1_790_000_000_123_456).expect("in range");
        let reverses = Some(TransactionId::new(id(5)));
        let captured = |to| Event::HoldCaptured { hold, transaction, asset, held: amount, captured: amount, to };
        vec![
            Event::Opened { player: from, at },
            Event::Minted { transaction, asset, amount, from: SystemAccount::Mint, reason: reason.clone(), reverses: None },
            Event::Minted { transaction, asset, amount, from: SystemAccount::Burn, reason: Reason::default(), reverses },
            Event::Burned { transaction, asset, amount, to: SystemAccount::Burn, reason: reason.clone(), reverses },
            Event::Sent { transaction, asset, amount, to, reason: reason.clone(), reverses },
            Event::Received { transaction, asset, amount, from, reason: reason.clone(), reverses: None },
            Event::HoldPlaced { hold, asset, amount, placed_at: at, expires_at: at, reason },
            captured(Party::Player(to)),
            captured(Party::System(SystemAccount::Fees)),
            Event::HoldReleased { hold, asset, amount },
            Event::HoldExpired { hold, asset, amount },
            Event::CaptureReceived { transaction, hold, asset, amount, from },
        ]
    }

    #[test]
    fn every_event_is_read_back_as_it_was_stored() {
        for event in every_event() {
            assert_eq!(decode(&encode(&event)), Ok(event));
        }
    }

    #[test]
    fn every_event_has_the_type_number_of_its_field() {
        use prost::Message as _;
        for event in every_event() {
            let data = encode(&event);
            let number = event_type(&data);
            let envelope = message::EventEnvelope { data: Some(data), ..Default::default() };
            let key = prost::encoding::decode_key(&mut envelope.encode_to_vec().as_slice()).expect("a field");
            assert_eq!(key.0, u32::try_from(number).expect("positive"));
        }
    }

    /// `schemas/golden` has the bytes of every event that was ever shipped: those of wallets are 100 to 199.
    #[test]
    fn every_shipped_event_of_a_wallet_is_read_and_stored_alike() {
        use prost::Message as _;
        let mut seen = 0;
        for file in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../schemas/golden")).expect("the folder") {
            let path = file.expect("a file").path();
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name").to_owned();
            if !name.starts_with('1') {
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("text");
            let digits: Vec<char> = text.chars().filter(char::is_ascii_hexdigit).collect();
            let bytes: Vec<u8> =
                digits.chunks(2).map(|pair| u8::from_str_radix(&String::from_iter(pair), 16).expect("two digits")).collect();
            let envelope = message::EventEnvelope::decode(bytes.as_slice()).expect("an envelope");
            let data = envelope.data.expect("an event");
            assert!(name.starts_with(&event_type(&data).to_string()), "{name}");
            assert_eq!(encode(&decode(&data).expect("an event of a wallet")), data, "{name}");
            seen += 1;
        }
        assert!(seen >= 10);
    }

    #[test]
    fn what_is_no_event_of_a_wallet_is_refused() {
        assert!(decode(&Data::ItemGranted(message::ItemGranted::default())).is_err());
        assert!(decode(&Data::HoldCaptured(message::HoldCaptured::default())).is_err());
        assert!(decode(&Data::FundsMinted(message::FundsMinted::default())).is_err());
    }
}
