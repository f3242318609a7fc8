//! The checks: each a function from what was found to a verdict.

pub mod answers;
pub mod dead_letters;
pub mod effects;
pub mod fence;
pub mod items;
pub mod money;
pub mod order;
pub mod reads;
pub mod replies;
pub mod rest;
pub mod rows;
pub mod streams;
pub mod topic;
pub mod vacuity;

use crate::history::Attempt;

/// A send in a few words.
fn called(attempt: &Attempt) -> String {
    let key = attempt.key.map_or_else(|| "without a key".to_owned(), |key| key.to_string());
    format!("{} {key} ({:?})", attempt.method.name(), attempt.purpose)
}
