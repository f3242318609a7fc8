//! The event store: a command becomes events, outbox rows and a stored answer in one transaction, exactly once or not at all.
//!
//! A service hands a [`Submission`] to the [`Executor`], which decides it on the folded state of its streams and appends what follows. All
//! commands that wait at the same moment go to the database in one call and one COMMIT ([`store::Store::append`]); the database checks the
//! versions and claims the keys, so a state in memory is never more than a guess that the database confirms.
//!
//! Kept here: every key is answered alike each time; a refusal binds its key and an infrastructure failure does not; an append never stops
//! half-way because a client went away. Not done here: sending (the relay's), reading other services' events (the projections').

mod domain;
mod executor;
pub mod failpoint;
pub mod headers;
mod inline;
pub mod memory;
mod meters;
pub mod postgres;
mod respond;
mod rows;
pub mod store;
mod submission;
pub mod timer;

pub use domain::{
    Applied, AppliedEvent, AppliedStream, Category, CommandOf, DecodeError, Domain, EventOf, RejectionOf, StateOf, StreamTarget,
};
pub use executor::{Config, Executor, Handle};
pub use inline::{InlineProjection, NoInline, Parameter};
pub use respond::{REPLAYED_METADATA, respond};
pub use submission::{
    CLIENT_KEY_AGE_MAX_MS, Error, IdempotencyKey, KEY_AHEAD_MAX_MS, KEY_MEMORY_MS, KeyOrigin, Origin, Outcome, Submission,
};
