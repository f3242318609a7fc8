//! The checks: each a small function from facts to a verdict, tested with facts that are wrong on purpose.

pub mod answers;
pub mod effects;
pub mod money;
pub mod reads;
pub mod rows;
#[cfg(test)]
mod samples;
pub mod streams;
pub mod topic;
pub mod vacuity;
mod verdict;

pub use verdict::Verdict;
