//! The commands, one module for each noun.

pub mod audit;
pub mod config;
pub mod outbox;
pub mod relay;
