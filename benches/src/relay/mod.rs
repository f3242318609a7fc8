//! What the relay costs and how late it is: its own process, on an outbox and topics of its own.

mod broker;
pub(crate) mod drain;
pub(crate) mod held;
mod listener;
mod order;
mod place;
mod rows;
pub(crate) mod steady;
mod writers;
