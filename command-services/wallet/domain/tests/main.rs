//! The rules of wallets, as examples and as properties.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that can't go on fails")]

mod holds;
mod properties;
mod reversals;
mod scenario;
mod transfers;
