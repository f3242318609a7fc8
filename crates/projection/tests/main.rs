//! What the runtime promises: each event once, in a read model whose position moves with it, whatever is delivered, taken over or cut off.

mod conformance;
mod partition;
mod runtime;
mod support;
mod view;
