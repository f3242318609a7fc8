//! The event store as its callers and its faults see it.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that meets something it does not expect ends there"
)]

mod backlog;
mod conformance;
mod differential;
mod executor;
mod hammer;
mod locks;
mod neighbours;
mod overload;
mod storm;
mod support;
