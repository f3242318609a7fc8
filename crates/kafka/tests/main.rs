//! The producer and the consumer on a real broker.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod consumer;
mod log;
mod opening;
mod producer;
mod support;
mod topics;
