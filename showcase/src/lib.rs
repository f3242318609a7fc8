//! The showcase: plays with the platform through its public API, breaks a relay on the way, and checks afterwards that nothing is off.
//!
//! Place in the flow: outside of it. It knows the protos, the tables that are open to an auditor, and nothing of the services' code; the one
//! exception is the projector's fold, which is compared with an event store and with the topic.
//!
//! What it does not do: measure. Its figures say what happened in one run on one machine; `cargo xtask bench` compares.

pub mod checks;
pub mod facts;
pub mod history;
pub mod ledger;
pub mod load;
pub mod method;
pub mod position;
pub mod wire;
