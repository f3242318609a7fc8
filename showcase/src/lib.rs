//! The showcase: plays with the platform through its public API, breaks a relay on the way, and checks afterwards that nothing is off.
//!
//! Place in the flow: outside of it. It knows the protos, the tables that are open to an auditor, and nothing of the services' code; the one
//! exception is the projector's fold, which is compared with an event store and with the topic.
//!
//! What it does not do: measure. Its figures say what happened in one run on one machine; `cargo xtask bench` compares.

pub mod account;
pub mod checks;
pub mod demo;
pub mod facts;
pub mod figures;
pub mod history;
pub mod ledger;
pub mod load;
pub mod logs;
pub mod method;
pub mod model;
pub mod position;
pub mod read_back;
pub mod read_stores;
pub mod read_topic;
pub mod takeover;
pub mod wire;
