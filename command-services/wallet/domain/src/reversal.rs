//! Reversing a transaction: the same amount, the other way.

use idempo_decider::{Context, Decision, Memory, States};
use idempo_ids::TransactionId;

use crate::amount::{Amount, Asset, Party};
use crate::command::{Original, Reversal, Shortfall};
use crate::event::Event;
use crate::rejection::{Rejection, Side};
use crate::wallet::Wallet;

/// Decides a reversal. The states are those of the wallets that [`crate::Command::reverse`] names.
pub(crate) fn reverse(states: States<'_, Wallet>, reversal: &Reversal, context: &Context) -> Result<Decision<Event>, Rejection> {
    let own = states.primary();
    let original = reversible(own, reversal)?;
    let Original { asset, from, to, .. } = original;
    let transaction = TransactionId::new(context.derive("transaction", 0));
    let reason = reversal.reason.clone();
    let reverses = Some(reversal.transaction);
    match (from, to) {
        (Party::System(account), Party::Player(_)) => {
            let amount = taken_back(own, &original, reversal.shortfall)?;
            Ok(Decision::one(Event::Burned { transaction, asset, amount, to: account, reason, reverses }))
        }
        (Party::Player(_), Party::System(account)) => {
            room(own, asset, original.amount, Side::Own)?;
            Ok(Decision::one(Event::Minted { transaction, asset, amount: original.amount, from: account, reason, reverses }))
        }
        (Party::Player(payer), Party::Player(payee)) => {
            let peer = states.peer().ok_or(Rejection::WalletNotFound(Side::Peer))?;
            let amount = taken_back(own, &original, reversal.shortfall)?;
            room(peer, asset, amount, Side::Peer)?;
            Ok(Decision::both(
                Event::Sent { transaction, asset, amount, to: payer, reason: reason.clone(), reverses },
                Event::Received { transaction, asset, amount, from: payee, reason, reverses },
            ))
        }
        (Party::System(_), Party::System(_)) => Err(Rejection::TransactionNotReversible),
    }
}

/// The transaction, where it was not reversed before. [`crate::ReversalLookup`] has the argument.
fn reversible(own: &Wallet, reversal: &Reversal) -> Result<Original, Rejection> {
    let lookup = reversal.lookup;
    let original = lookup.original.ok_or(Rejection::TransactionNotFound)?;
    if original.is_reversal {
        return Err(Rejection::TransactionNotReversible);
    }
    match own.reversals.find(reversal.transaction, lookup.version) {
        _ if lookup.reversed => Err(Rejection::TransactionAlreadyReversed),
        Memory::Happened(()) => Err(Rejection::TransactionAlreadyReversed),
        Memory::Unknown => Err(Rejection::Outpaced),
        Memory::NotSince => Ok(original),
    }
}

/// How much the wallet that was paid gives back.
fn taken_back(own: &Wallet, original: &Original, shortfall: Shortfall) -> Result<Amount, Rejection> {
    let available = own.balance(original.asset).available();
    let refused = |required| Rejection::InsufficientFunds { asset: original.asset, available, required };
    match shortfall {
        _ if available >= original.amount.get() => Ok(original.amount),
        Shortfall::Refuse => Err(refused(original.amount.get())),
        Shortfall::Partial => Amount::new(available).ok_or_else(|| refused(1)),
    }
}

/// Refuses what would take a balance out of the range of its type.
pub(crate) fn room(wallet: &Wallet, asset: Asset, amount: Amount, side: Side) -> Result<(), Rejection> {
    if wallet.balance(asset).can_take(amount) { Ok(()) } else { Err(Rejection::BalanceLimit(side, asset)) }
}
