//! The rules of items: what kinds there are, who has which, and what may happen next.
//!
//! Place in the flow: the inventory service decides commands with [`item_type::Rules`] and [`inventory::Rules`] on folded states and appends
//! the events. There is one stream per item type, of category `item-type`, and one per inventory, of category `inventory`, which belongs to
//! a player.
//!
//! Invariants, kept by every decision: an item is in one inventory, and there it is free, equipped, or held by exactly one reservation; of a
//! stack, what is reserved is the sum of its open reservations and never more than what is there; a transfer takes from one inventory what
//! the same decision adds to the other; the changes of a unique item's ownership are numbered from 1 without gaps ([`portion::Portion`]);
//! a reservation ends once; an item type never changes.
//!
//! What is not here: time, randomness, IO, protobuf. The time comes in the context of a decision, ids are derived from the command's. The
//! facts of an item type, and what a state has forgotten because it is bounded, come with the command as look-ups: see
//! [`inventory::StackSelection`] and [`inventory::ReservationLookup`].

#![deny(clippy::arithmetic_side_effects, clippy::float_arithmetic)]

pub mod inventory;
pub mod item_type;
pub mod portion;

pub use idempo_decider::Reason;
