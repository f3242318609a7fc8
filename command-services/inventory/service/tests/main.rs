//! The inventory service, through gRPC, on real PostgreSQL.

#![expect(clippy::expect_used, clippy::panic, reason = "a test that can't go on fails")]

mod bad_input;
mod database_away;
mod grants;
mod idempotency;
mod item_types;
mod replicas;
mod reservations;
mod statements;
mod support;
mod transfers;
mod uses;
