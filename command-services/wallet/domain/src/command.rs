//! What can be asked of a wallet.

use idempo_decider::Reason;
use idempo_ids::{HoldId, PlayerId, TransactionId};

use crate::amount::{Amount, Asset, Party};
use crate::wallet::Resolution;

/// A command, addressed to one wallet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Whose wallet it is addressed to: the first stream the command names.
    pub wallet: PlayerId,
    /// What is asked.
    pub action: Action,
}

/// What is asked of a wallet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Opens the wallet.
    Open,
    /// Mints funds into the wallet.
    Grant {
        /// Of what.
        asset: Asset,
        /// How much.
        amount: Amount,
        /// Why.
        reason: Reason,
    },
    /// Takes funds out of the wallet for good.
    Burn {
        /// Of what.
        asset: Asset,
        /// How much.
        amount: Amount,
        /// Why.
        reason: Reason,
    },
    /// Moves available funds to another wallet, the second stream.
    Transfer {
        /// Who is paid.
        to: PlayerId,
        /// Of what.
        asset: Asset,
        /// How much.
        amount: Amount,
        /// Why.
        reason: Reason,
    },
    /// Puts available funds on hold.
    PlaceHold {
        /// Of what.
        asset: Asset,
        /// How much.
        amount: Amount,
        /// How long the hold lives, in milliseconds, [`crate::HOLD_TTL_MIN_MS`] to [`crate::HOLD_TTL_MAX_MS`].
        ttl_ms: i64,
        /// Why.
        reason: Reason,
    },
    /// Captures a hold. Another player's wallet is the second stream.
    CaptureHold {
        /// The hold.
        hold: HoldId,
        /// How much; `None` for all of it.
        amount: Option<Amount>,
        /// Where the funds go.
        to: Party,
        /// What was looked up of the hold.
        lookup: HoldLookup,
    },
    /// Releases a hold.
    ReleaseHold {
        /// The hold.
        hold: HoldId,
        /// What was looked up of the hold.
        lookup: HoldLookup,
    },
    /// Ends a hold that has reached the end of its life.
    ExpireHold {
        /// The hold.
        hold: HoldId,
        /// What the clock showed when the hold was seen to be due. It comes with the command, and is not the time of the decision, so that
        /// a clock that steps back in between can't make a refusal of it, which would stay bound to the hold's one expiry key.
        seen_at: idempo_decider::Timestamp,
        /// What was looked up of the hold.
        lookup: HoldLookup,
    },
    /// Posts a transaction's amount the other way.
    Reverse(Reversal),
}

/// What the wallet's tables said about a hold when a command for it was made.
///
/// A state remembers how the last [`crate::RECENT_MAX`] holds were resolved; how older ones were, the command brings along. That is as good
/// as asking at the time of the decision: a resolution never changes, so a late answer that names one is still true. And an answer that
/// names none is of a known `version`, read in one snapshot with it: a resolution up to it would have been seen, one after it is in the
/// state's memory unless that has forgotten something newer than `version`, which it knows of and which is then said
/// ([`crate::Rejection::Outpaced`]).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HoldLookup {
    /// The version the wallet's stream had.
    pub version: u64,
    /// How the hold had been resolved.
    pub resolution: Option<Resolution>,
}

/// A request to reverse a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reversal {
    /// The transaction to reverse.
    pub transaction: TransactionId,
    /// What was looked up of it.
    pub lookup: ReversalLookup,
    /// What to do when the funds are not all there any more.
    pub shortfall: Shortfall,
    /// Why.
    pub reason: Reason,
}

/// What the wallet's tables said about a transaction when its reversal was asked for.
///
/// Why a transaction is never reversed twice: each reversal of it is addressed to the same stream (a function of the original, which never
/// changes) and leaves an event there. So of two racing ones the later is decided on a state that holds the earlier: in its memory of the
/// last [`crate::RECENT_MAX`] reversals, or, if it is older than that, in `reversed`, which was read in one snapshot with `version`; where
/// neither can know, the command is refused ([`crate::Rejection::Outpaced`]). The append's version check makes the state the real one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReversalLookup {
    /// The version of the stream that the reversal is addressed to.
    pub version: u64,
    /// The transaction; `None` where there is none.
    pub original: Option<Original>,
    /// Whether it had been reversed.
    pub reversed: bool,
}

/// A transaction as it was posted. It never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Original {
    /// Of what.
    pub asset: Asset,
    /// How much.
    pub amount: Amount,
    /// Who paid.
    pub from: Party,
    /// Who was paid.
    pub to: Party,
    /// Whether it is a reversal itself.
    pub is_reversal: bool,
}

impl Original {
    /// The wallet that a reversal is addressed to: the one that gives back; where a system account gives back, the one that gets.
    #[must_use]
    pub const fn addressed_to(&self) -> Option<PlayerId> {
        match (self.from, self.to) {
            (_, Party::Player(payee)) => Some(payee),
            (Party::Player(payer), Party::System(_)) => Some(payer),
            (Party::System(_), Party::System(_)) => None,
        }
    }
}

/// What to do when the funds of a reversed transaction are not all there any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortfall {
    /// Refuse.
    Refuse,
    /// Take back what is available, at least 1.
    Partial,
}

impl Command {
    /// The other wallet that the command names: its second stream.
    #[must_use]
    pub const fn peer(&self) -> Option<PlayerId> {
        match &self.action {
            Action::Transfer { to, .. } | Action::CaptureHold { to: Party::Player(to), .. } => Some(*to),
            Action::Reverse(Reversal {
                lookup: ReversalLookup { original: Some(Original { from: Party::Player(payer), to: Party::Player(_), .. }), .. },
                ..
            }) => Some(*payer),
            _ => None,
        }
    }

    /// A reversal, addressed to the wallet it belongs to. One of a transaction that doesn't exist belongs to no wallet: the transaction's
    /// own id stands in, whose stream is only looked at, to refuse.
    #[must_use]
    pub fn reverse(reversal: Reversal) -> Self {
        let addressed = reversal.lookup.original.as_ref().and_then(Original::addressed_to);
        Self { wallet: addressed.unwrap_or_else(|| PlayerId::new(reversal.transaction.uuid())), action: Action::Reverse(reversal) }
    }
}
