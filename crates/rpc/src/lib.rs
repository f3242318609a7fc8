//! What every gRPC service of the platform has in common: the server shell, the error model, and the meaning of the fields that all
//! requests share.
//!
//! A call passes through [`serve`]'s layers (span, metrics, deadline, admission), reaches a service's handler, is checked field by field
//! with [`Violations`], and is answered with a message or with a [`status`]. What a handler needs to make a command out of a request is
//! here too: the caller's [`scope_of`], the request's [`fingerprint`], positions and page tokens.
//!
//! Invariants:
//! * No limit is left at a library's default: streams, requests, connections, bytes, time ([`ServerConfig`]).
//! * Every error carries an `ErrorInfo`, also those that the transport makes; no detail type occurs twice.
//! * No text of a client becomes a metric's label.
//! * What operators do is done by whom [`operators`] let in.
//!
//! Not here: what a command means, which player may send it, and the age window of idempotency keys, which only matters for keys not seen before and
//! is decided where they are stored.

mod call;
mod caller;
mod config;
mod connection;
mod deadline;
pub mod descriptor;
pub mod fingerprint;
mod health;
pub mod name;
pub mod operators;
pub mod page;
pub mod position;
mod raw;
pub mod refusal;
mod server;
pub mod status;
pub mod timestamp;
mod trace_context;
mod transport_error;
mod violations;

pub use caller::{CALLER_METADATA, Caller, scope_of};
pub use config::ServerConfig;
pub use deadline::Deadline;
pub use operators::{Operators, OperatorsConfig};
pub use raw::RawCodec;
pub use server::{Error, Service, serve};
pub use violations::{AMOUNT_MAX, Accept, KEY_AHEAD_MAX, PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, REASON_CHARS_MAX, VIOLATIONS_MAX, Violations};

/// The response metadata that says, with the value `true`, that an earlier attempt had been answered already.
pub const REPLAYED_METADATA: &str = "idempo-replayed";
