//! Why a command is refused.

use crate::amount::{Amount, Asset};
use crate::wallet::Resolution;

/// Which of a command's wallets is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one it is addressed to.
    Own,
    /// The other one.
    Peer,
}

/// A refusal. It is definite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// The wallet is open already.
    WalletAlreadyOpen,
    /// There is no such wallet.
    WalletNotFound(Side),
    /// Less is available than is needed.
    InsufficientFunds {
        /// Of what.
        asset: Asset,
        /// How much is available.
        available: i64,
        /// How much is needed.
        required: i64,
    },
    /// Payer and payee are the same wallet.
    SelfTransfer,
    /// The wallet has no such hold.
    HoldNotFound,
    /// The hold was resolved before: this came first. Also said, as [`Resolution::Expired`], of a hold that has reached the end of its life
    /// and waits for its expiry, the only thing that can still happen to it.
    HoldResolved(Resolution),
    /// The hold has not reached the end of its life.
    HoldNotDue,
    /// More is to be captured than is held.
    CaptureExceedsHold {
        /// How much is held.
        held: Amount,
        /// How much is asked for.
        requested: Amount,
    },
    /// There is no such transaction.
    TransactionNotFound,
    /// The transaction was reversed before.
    TransactionAlreadyReversed,
    /// The transaction is a reversal itself.
    TransactionNotReversible,
    /// The balance would leave the range of 64 bits.
    BalanceLimit(Side, Asset),
    /// The wallet has [`crate::OPEN_HOLDS_MAX`] open holds.
    TooManyHolds,
    /// The life of a hold is outside of its bounds.
    TtlOutOfRange,
    /// More than [`crate::RECENT_MAX`] resolutions or reversals came between the look-up and the decision, so that neither knows whether this
    /// one was among them. To be asked again, with a new look-up.
    Outpaced,
}
