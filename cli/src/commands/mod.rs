//! The commands, one module for each noun.

pub mod config;
pub mod outbox;
pub mod relay;
