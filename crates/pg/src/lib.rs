//! PostgreSQL: how idempo connects, pools, migrates, and reads errors.
//!
//! This crate owns the drivers (deadpool-postgres, refinery). What it keeps:
//!
//! * A pooled connection is handed out only when the server has confirmed that it is outside any transaction and has no session state left
//!   ([`Client`]): not even a handler dropped in the middle of a statement leaves a lock or an open transaction behind.
//! * Every wait is bounded: for a connection, for the server's answer to a connect, for a statement, for a lock, and in an idle transaction.
//! * [`Error`] says what follows. A connection that is lost during a statement is [`Error::Unknown`], never a failure.
//! * No error, log line or `Debug` output shows a password.
//!
//! What it doesn't do: retry. Who holds the idempotency key retries.

mod classify;
mod config;
mod connect;
mod error;
mod metrics;
mod migrate;
mod pool;

pub use classify::classify;
pub use config::{Config, DatabaseUrl, Password};
pub use connect::{Connection, connect};
pub use deadpool_postgres::Transaction;
pub use error::Error;
pub use migrate::{Report, migrate};
pub use pool::{Client, Pool};
