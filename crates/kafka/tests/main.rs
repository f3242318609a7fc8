//! The producer and the consumer on a real broker.

mod consumer;
mod producer;
mod support;
mod topics;
