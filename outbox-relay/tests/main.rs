//! The relay's process on real servers.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod broker;
mod fencing;
mod kills;
mod naive;
mod operations;
mod order;
mod process;
mod quarantine;
mod rebase;
mod rotation;
mod support;
mod writers;
