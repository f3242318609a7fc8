//! The dead-letter service's process on real servers, with a consumer that can fail in every way.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod fake;
mod intake;
mod jobs;
mod kills;
mod operations;
mod process;
mod reconcile;
#[expect(clippy::print_stdout, reason = "the figures are what it is for")]
mod speed;
mod support;
mod tokens;
