//! The wallet service, through gRPC, on real PostgreSQL.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that can't go on fails")]

mod bad_input;
mod database_away;
mod holds;
mod idempotency;
mod ledger;
mod reads;
mod refusals;
mod reversals;
mod statements;
mod support;
