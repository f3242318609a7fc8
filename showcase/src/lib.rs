//! The showcase: plays with the platform through its public API, breaks a relay on the way, poisons a topic and mends it as an operator does,
//! and checks afterwards that nothing is off.
//!
//! Place in the flow: outside of it. It knows the protos and nothing of the services' code; `idempo-checker` judges what is left behind.
//!
//! What it does not do: measure. Its figures say what happened in one run on one machine; `cargo xtask bench` compares.

pub mod account;
pub mod demo;
pub mod figures;
pub mod load;
pub mod logs;
pub mod poison;
pub mod read_back;
pub mod takeover;
pub mod wire;
