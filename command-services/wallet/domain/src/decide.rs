//! The decider of wallets.

use idempo_decider::{Context, Decider, Decision, Memory, Reason, States, Timestamp};
use idempo_ids::{HoldId, PlayerId, TransactionId};

use crate::amount::{Amount, Asset, Party, SystemAccount};
use crate::command::{Action, Command, HoldLookup};
use crate::event::Event;
use crate::rejection::{Rejection, Side};
use crate::reversal::{reverse, room};
use crate::wallet::{Hold, Resolution, Wallet};
use crate::{HOLD_TTL_MAX_MS, HOLD_TTL_MIN_MS, OPEN_HOLDS_MAX};

/// The rules of wallets.
#[derive(Debug)]
pub struct Rules;

impl Decider for Rules {
    type State = Wallet;
    type Command = Command;
    type Event = Event;
    type Rejection = Rejection;

    fn decide(states: States<'_, Wallet>, command: &Command, context: &Context) -> Result<Decision<Event>, Rejection> {
        let own = states.primary();
        let player = command.wallet;
        match &command.action {
            Action::Open => open(own, player, context),
            Action::Grant { asset, amount, reason } => grant(own, *asset, *amount, reason, context),
            Action::Burn { asset, amount, reason } => burn(own, *asset, *amount, reason, context),
            Action::Transfer { to, asset, amount, reason } => transfer(states, (player, *to), *asset, *amount, reason, context),
            Action::PlaceHold { asset, amount, ttl_ms, reason } => place_hold(own, *asset, *amount, *ttl_ms, reason, context),
            Action::CaptureHold { hold, amount, to, lookup } => {
                let found = usable(own, *hold, *lookup, context.now)?;
                capture(states, (player, *to), *hold, found, *amount, context)
            }
            Action::ReleaseHold { hold, lookup } => {
                let found = usable(own, *hold, *lookup, context.now)?;
                Ok(Decision::one(Event::HoldReleased { hold: *hold, asset: found.asset, amount: found.amount }))
            }
            Action::ExpireHold { hold, seen_at, lookup } => {
                let found = pending(own, *hold, *lookup)?;
                if *seen_at < found.expires_at {
                    return Err(Rejection::HoldNotDue);
                }
                Ok(Decision::one(Event::HoldExpired { hold: *hold, asset: found.asset, amount: found.amount }))
            }
            Action::Reverse(reversal) => reverse(states, reversal, context),
        }
    }

    fn evolve(state: &mut Wallet, event: &Event) {
        state.apply(event);
    }
}

fn open(own: &Wallet, player: PlayerId, context: &Context) -> Result<Decision<Event>, Rejection> {
    match own.opening() {
        None => Ok(Decision::one(Event::Opened { player, at: context.now })),
        Some(_) => Err(Rejection::WalletAlreadyOpen),
    }
}

fn grant(own: &Wallet, asset: Asset, amount: Amount, reason: &Reason, context: &Context) -> Result<Decision<Event>, Rejection> {
    opened(own, Side::Own)?;
    room(own, asset, amount, Side::Own)?;
    Ok(Decision::one(Event::Minted {
        transaction: transaction(context),
        asset,
        amount,
        from: SystemAccount::Mint,
        reason: reason.clone(),
        reverses: None,
    }))
}

fn burn(own: &Wallet, asset: Asset, amount: Amount, reason: &Reason, context: &Context) -> Result<Decision<Event>, Rejection> {
    opened(own, Side::Own)?;
    covered(own, asset, amount)?;
    Ok(Decision::one(Event::Burned {
        transaction: transaction(context),
        asset,
        amount,
        to: SystemAccount::Burn,
        reason: reason.clone(),
        reverses: None,
    }))
}

fn transfer(
    states: States<'_, Wallet>,
    (from, to): (PlayerId, PlayerId),
    asset: Asset,
    amount: Amount,
    reason: &Reason,
    context: &Context,
) -> Result<Decision<Event>, Rejection> {
    let own = states.primary();
    let peer = payee(states, from, to)?;
    covered(own, asset, amount)?;
    room(peer, asset, amount, Side::Peer)?;
    let transaction = transaction(context);
    Ok(Decision::both(
        Event::Sent { transaction, asset, amount, to, reason: reason.clone(), reverses: None },
        Event::Received { transaction, asset, amount, from, reason: reason.clone(), reverses: None },
    ))
}

fn place_hold(
    own: &Wallet,
    asset: Asset,
    amount: Amount,
    ttl_ms: i64,
    reason: &Reason,
    context: &Context,
) -> Result<Decision<Event>, Rejection> {
    opened(own, Side::Own)?;
    covered(own, asset, amount)?;
    if own.open_holds() >= OPEN_HOLDS_MAX {
        return Err(Rejection::TooManyHolds);
    }
    if !(HOLD_TTL_MIN_MS..=HOLD_TTL_MAX_MS).contains(&ttl_ms) {
        return Err(Rejection::TtlOutOfRange);
    }
    let ttl = jiff::SignedDuration::from_millis(ttl_ms);
    let expires_at = context.now.checked_add(ttl).map_err(|_| Rejection::TtlOutOfRange)?;
    let hold = HoldId::new(context.derive("hold", 0));
    Ok(Decision::one(Event::HoldPlaced { hold, asset, amount, placed_at: context.now, expires_at, reason: reason.clone() }))
}

fn capture(
    states: States<'_, Wallet>,
    (from, to): (PlayerId, Party),
    hold: HoldId,
    found: &Hold,
    amount: Option<Amount>,
    context: &Context,
) -> Result<Decision<Event>, Rejection> {
    let (asset, held) = (found.asset, found.amount);
    let captured = amount.unwrap_or(held);
    if captured > held {
        return Err(Rejection::CaptureExceedsHold { held, requested: captured });
    }
    let transaction = transaction(context);
    let own_event = Event::HoldCaptured { hold, transaction, asset, held, captured, to };
    match to {
        Party::System(_) => Ok(Decision::one(own_event)),
        Party::Player(player) => {
            room(payee(states, from, player)?, asset, captured, Side::Peer)?;
            Ok(Decision::both(own_event, Event::CaptureReceived { transaction, hold, asset, amount: captured, from }))
        }
    }
}

/// The hold, where it can still be captured or released.
///
/// From the end of its life on a hold can only expire, also while the timer has not come to it. Where two replicas' clocks differ, one may
/// say so while the other still captures: that refusal had no effect, and the capture is the one resolution.
fn usable(own: &Wallet, hold: HoldId, lookup: HoldLookup, now: Timestamp) -> Result<&Hold, Rejection> {
    let found = pending(own, hold, lookup)?;
    if now >= found.expires_at { Err(Rejection::HoldResolved(Resolution::Expired)) } else { Ok(found) }
}

/// The hold, where it is pending. [`HoldLookup`] says why the refusal is right.
fn pending(own: &Wallet, hold: HoldId, lookup: HoldLookup) -> Result<&Hold, Rejection> {
    opened(own, Side::Own)?;
    if let Some(found) = own.hold(hold) {
        return Ok(found);
    }
    Err(match (own.resolutions.find(hold, lookup.version), lookup.resolution) {
        (Memory::Happened(resolution), _) | (_, Some(resolution)) => Rejection::HoldResolved(resolution),
        (Memory::NotSince, None) => Rejection::HoldNotFound,
        (Memory::Unknown, None) => Rejection::Outpaced,
    })
}

/// The other wallet, to be paid from this one.
fn payee(states: States<'_, Wallet>, from: PlayerId, to: PlayerId) -> Result<&Wallet, Rejection> {
    if from == to {
        return Err(Rejection::SelfTransfer);
    }
    opened(states.primary(), Side::Own)?;
    let peer = states.peer().ok_or(Rejection::WalletNotFound(Side::Peer))?;
    opened(peer, Side::Peer)?;
    Ok(peer)
}

fn opened(wallet: &Wallet, side: Side) -> Result<(), Rejection> {
    wallet.opening().map(|_| ()).ok_or(Rejection::WalletNotFound(side))
}

fn covered(wallet: &Wallet, asset: Asset, amount: Amount) -> Result<(), Rejection> {
    let available = wallet.balance(asset).available();
    if available >= amount.get() { Ok(()) } else { Err(Rejection::InsufficientFunds { asset, available, required: amount.get() }) }
}

fn transaction(context: &Context) -> TransactionId {
    TransactionId::new(context.derive("transaction", 0))
}
