//! The rules of wallets: who has how many coins and Stamps, what is on hold, and what may happen next.
//!
//! Place in the flow: the wallet service decides commands with [`Rules`] on the folded state of one or two wallets and appends the events.
//! There is one stream per wallet, of category `wallet`, which belongs to a player.
//!
//! Invariants, kept by every decision: `0 <= held <= posted` for each asset; what leaves one account reaches another in the same decision,
//! so that the sum over all accounts, the platform's included, is 0; a hold is resolved once; a transaction is reversed once.
//!
//! What is not here: time, randomness, IO, protobuf. The time comes in the context of a decision, ids are derived from the command's.
//! What a state has forgotten, because it is bounded, comes with the command as a look-up: see [`HoldLookup`] and [`ReversalLookup`].

#![deny(clippy::arithmetic_side_effects, clippy::float_arithmetic)]

mod amount;
mod command;
mod decide;
mod event;
mod rejection;
mod reversal;
mod wallet;

pub use amount::{Amount, Asset, Balance, Party, SystemAccount};
pub use command::{Action, Command, HoldLookup, Original, Reversal, ReversalLookup, Shortfall};
pub use decide::Rules;
pub use event::Event;
pub use idempo_decider::Reason;
pub use rejection::{Rejection, Side};
pub use wallet::{Hold, Opening, Resolution, Wallet};

/// The most holds that one wallet has open at a time.
pub const OPEN_HOLDS_MAX: usize = 1_000;

/// How many resolved holds and how many reversed transactions, the latest, a wallet's state remembers.
pub const RECENT_MAX: usize = 256;

/// The shortest life of a hold, in milliseconds.
pub const HOLD_TTL_MIN_MS: i64 = 1_000;

/// The longest life of a hold, in milliseconds: 30 days.
pub const HOLD_TTL_MAX_MS: i64 = 2_592_000_000;
