//! What can happen to a wallet. Each event is on the stream of one wallet.

use idempo_decider::{Reason, Timestamp};
use idempo_ids::{HoldId, PlayerId, TransactionId};

use crate::amount::{Amount, Asset, Party, SystemAccount};

/// What happened to one wallet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It was opened, empty.
    Opened {
        /// Its owner.
        player: PlayerId,
        /// When.
        at: Timestamp,
    },
    /// Funds came from a system account.
    Minted {
        /// The double-entry transaction.
        transaction: TransactionId,
        /// Of what.
        asset: Asset,
        /// How much.
        amount: Amount,
        /// The other side.
        from: SystemAccount,
        /// Why.
        reason: Reason,
        /// The transaction that this one reverses.
        reverses: Option<TransactionId>,
    },
    /// Funds left to a system account.
    Burned {
        /// The double-entry transaction.
        transaction: TransactionId,
        /// Of what.
        asset: Asset,
        /// How much.
        amount: Amount,
        /// The other side.
        to: SystemAccount,
        /// Why.
        reason: Reason,
        /// The transaction that this one reverses.
        reverses: Option<TransactionId>,
    },
    /// Funds left to another wallet, whose event is [`Event::Received`].
    Sent {
        /// The double-entry transaction.
        transaction: TransactionId,
        /// Of what.
        asset: Asset,
        /// How much.
        amount: Amount,
        /// The other side.
        to: PlayerId,
        /// Why.
        reason: Reason,
        /// The transaction that this one reverses.
        reverses: Option<TransactionId>,
    },
    /// Funds came from another wallet, whose event is [`Event::Sent`].
    Received {
        /// The double-entry transaction.
        transaction: TransactionId,
        /// Of what.
        asset: Asset,
        /// How much.
        amount: Amount,
        /// The other side.
        from: PlayerId,
        /// Why.
        reason: Reason,
        /// The transaction that this one reverses.
        reverses: Option<TransactionId>,
    },
    /// Available funds were put on hold.
    HoldPlaced {
        /// The hold.
        hold: HoldId,
        /// Of what.
        asset: Asset,
        /// How much.
        amount: Amount,
        /// When.
        placed_at: Timestamp,
        /// When it ends by itself.
        expires_at: Timestamp,
        /// Why.
        reason: Reason,
    },
    /// A hold was captured; what was not captured is available again.
    HoldCaptured {
        /// The hold.
        hold: HoldId,
        /// The double-entry transaction.
        transaction: TransactionId,
        /// Of what.
        asset: Asset,
        /// How much was held.
        held: Amount,
        /// How much was captured, at most what was held.
        captured: Amount,
        /// The other side. A player's wallet has [`Event::CaptureReceived`].
        to: Party,
    },
    /// A hold was released.
    HoldReleased {
        /// The hold.
        hold: HoldId,
        /// Of what.
        asset: Asset,
        /// How much was held.
        amount: Amount,
    },
    /// A hold reached the end of its life.
    HoldExpired {
        /// The hold.
        hold: HoldId,
        /// Of what.
        asset: Asset,
        /// How much was held.
        amount: Amount,
    },
    /// The funds of another wallet's captured hold came.
    CaptureReceived {
        /// The double-entry transaction.
        transaction: TransactionId,
        /// The captured hold.
        hold: HoldId,
        /// Of what.
        asset: Asset,
        /// How much.
        amount: Amount,
        /// Whose hold it was.
        from: PlayerId,
    },
}

impl Event {
    /// What the event moves: the asset, what it adds to posted, what it adds to held. `None` for an event that moves nothing.
    #[must_use]
    pub const fn movement(&self) -> Option<(Asset, i64, i64)> {
        // No amount is above 10^15, so no negation overflows.
        Some(match self {
            Self::Opened { .. } => return None,
            Self::Minted { asset, amount, .. } | Self::Received { asset, amount, .. } | Self::CaptureReceived { asset, amount, .. } => {
                (*asset, amount.get(), 0)
            }
            Self::Burned { asset, amount, .. } | Self::Sent { asset, amount, .. } => (*asset, amount.get().saturating_neg(), 0),
            Self::HoldPlaced { asset, amount, .. } => (*asset, 0, amount.get()),
            Self::HoldCaptured { asset, held, captured, .. } => (*asset, captured.get().saturating_neg(), held.get().saturating_neg()),
            Self::HoldReleased { asset, amount, .. } | Self::HoldExpired { asset, amount, .. } => {
                (*asset, 0, amount.get().saturating_neg())
            }
        })
    }

    /// The double-entry transaction, where the event posts.
    #[must_use]
    pub const fn transaction(&self) -> Option<TransactionId> {
        match self {
            Self::Minted { transaction, .. }
            | Self::Burned { transaction, .. }
            | Self::Sent { transaction, .. }
            | Self::Received { transaction, .. }
            | Self::HoldCaptured { transaction, .. }
            | Self::CaptureReceived { transaction, .. } => Some(*transaction),
            Self::Opened { .. } | Self::HoldPlaced { .. } | Self::HoldReleased { .. } | Self::HoldExpired { .. } => None,
        }
    }
}
