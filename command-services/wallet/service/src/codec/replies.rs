//! The encoded response of an applied command: what was decided, not what is read afterwards.

use bytes::Bytes;
use idempo_event_store::{Applied, AppliedStream};
use idempo_ids::{HoldId, PlayerId, TransactionId};
use idempo_proto::wallet::v1 as message;
use idempo_rpc::timestamp;
use idempo_wallet_domain::{Action, Asset, Event, Hold, Resolution, Reversal, Wallet};
use prost::Message as _;

use super::numbers::{asset, hold_state};
use super::{WalletDomain, hold_name, wallet_name};

/// The response of a command that was applied.
pub(super) fn reply(applied: &Applied<'_, WalletDomain>) -> Bytes {
    let wallet = applied.streams.first().map(wallet_message);
    let position = applied.position.to_owned();
    let transaction_id = transaction(applied).map_or_else(String::new, |id| id.to_string());
    let encoded = match &applied.command.action {
        Action::Open => message::OpenWalletResponse { wallet, position }.encode_to_vec(),
        Action::Grant { .. } => message::GrantFundsResponse { wallet, transaction_id, position }.encode_to_vec(),
        Action::Burn { .. } => message::BurnFundsResponse { wallet, transaction_id, position }.encode_to_vec(),
        Action::Transfer { .. } => message::TransferFundsResponse { from_wallet: wallet, transaction_id, position }.encode_to_vec(),
        Action::PlaceHold { .. } => message::PlaceHoldResponse { hold: placed_hold(applied), wallet, position }.encode_to_vec(),
        Action::CaptureHold { .. } => {
            let hold = resolved_hold(applied, Resolution::Captured);
            message::CaptureHoldResponse { hold, wallet, transaction_id, position }.encode_to_vec()
        }
        Action::ReleaseHold { .. } => {
            let hold = resolved_hold(applied, Resolution::Released);
            message::ReleaseHoldResponse { hold, wallet, position }.encode_to_vec()
        }
        // The timer reads no response.
        Action::ExpireHold { .. } => Vec::new(),
        Action::Reverse(reversal) => {
            let (reversed_amount, shortfall_amount) = reversed(applied, reversal);
            message::ReverseTransactionResponse { transaction_id, reversed_amount, shortfall_amount, position }.encode_to_vec()
        }
    };
    encoded.into()
}

fn wallet_message(stream: &AppliedStream<'_, Wallet>) -> message::Wallet {
    let opening = stream.state.opening();
    message::Wallet {
        name: opening.map_or_else(String::new, |opening| wallet_name(opening.player)),
        balances: Asset::ALL
            .into_iter()
            .map(|of| balance(of, stream.state.balance(of).posted(), stream.state.balance(of).held()))
            .collect(),
        etag: stream.version.to_string(),
        open_time: opening.map(|opening| timestamp::to_proto(opening.at)),
    }
}

/// A balance of a wallet.
pub(crate) fn balance(of: Asset, posted: i64, held: i64) -> message::Balance {
    message::Balance { asset: asset(of).into(), posted, held, available: posted.saturating_sub(held) }
}

/// A hold that is pending.
fn hold_message(player: PlayerId, id: HoldId, hold: &Hold) -> message::Hold {
    message::Hold {
        name: hold_name(player, id),
        asset: asset(hold.asset).into(),
        amount: hold.amount.get(),
        captured_amount: 0,
        state: message::HoldState::Pending.into(),
        create_time: Some(timestamp::to_proto(hold.placed_at)),
        expire_time: Some(timestamp::to_proto(hold.expires_at)),
        resolve_time: None,
        reason: hold.reason.as_str().to_owned(),
    }
}

fn placed_hold(applied: &Applied<'_, WalletDomain>) -> Option<message::Hold> {
    let state = applied.streams.first()?.state;
    let Event::HoldPlaced { hold, .. } = applied.events.first()?.event else { return None };
    Some(hold_message(applied.command.wallet, *hold, state.hold(*hold)?))
}

fn resolved_hold(applied: &Applied<'_, WalletDomain>, resolution: Resolution) -> Option<message::Hold> {
    let (id, was) = applied.streams.first()?.state.last_resolved()?;
    let captured_amount = match applied.events.first()?.event {
        Event::HoldCaptured { captured, .. } => captured.get(),
        _ => 0,
    };
    Some(message::Hold {
        captured_amount,
        state: hold_state(resolution).into(),
        resolve_time: Some(timestamp::to_proto(applied.decided_at)),
        ..hold_message(applied.command.wallet, *id, was)
    })
}

fn transaction(applied: &Applied<'_, WalletDomain>) -> Option<TransactionId> {
    applied.events.first()?.event.transaction()
}

/// How much was taken back, and how much of the original amount was not.
fn reversed(applied: &Applied<'_, WalletDomain>, reversal: &Reversal) -> (i64, i64) {
    let moved = applied.events.first().and_then(|event| event.event.movement()).map_or(0, |(_, posted, _)| posted.saturating_abs());
    let original = reversal.lookup.original.map_or(moved, |original| original.amount.get());
    (moved, original.saturating_sub(moved))
}
