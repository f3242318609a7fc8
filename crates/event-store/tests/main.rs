//! The event store as its callers and its faults see it.

mod conformance;
mod differential;
mod executor;
mod support;
