//! The commands, one module for each noun.

pub mod audit;
pub mod config;
pub mod dlq;
pub mod doctor;
pub mod event;
pub mod operator;
pub mod outbox;
pub mod projection;
pub mod relay;
pub mod replay;
pub mod top;
pub mod trace;
