//! What the compiler can't check: each rule is a function from the tree to the places where it is broken.

mod catalogue;
mod drivers;
mod features;
mod layers;
mod lints;
mod names;
mod sabotage;
mod sizes;
mod sql;
mod tree;

use std::process::ExitCode;

use anyhow::Result;
use regex_lite::Regex;

use crate::setup::root;
use crate::step::tell;
use tree::Tree;

/// Checks the tree and tells what is wrong; with `write`, brings the catalogues up to date first.
pub(crate) fn run(write: bool) -> Result<ExitCode> {
    let mut tree = Tree::read(&root())?;
    if write {
        for path in catalogue::write(&mut tree, &root())? {
            tell(&format!("tidy: wrote {path}"));
        }
    }
    let problems = problems(&tree);
    for problem in &problems {
        tell(&format!("tidy: {problem}"));
    }
    if problems.is_empty() {
        tell(&format!("tidy: {} files of {} crates are in order", tree.files.len(), tree.members.len()));
        return Ok(ExitCode::SUCCESS);
    }
    tell(&format!("tidy: {} problems", problems.len()));
    Ok(ExitCode::FAILURE)
}

fn problems(tree: &Tree) -> Vec<String> {
    let rules: [fn(&Tree) -> Vec<String>; 9] = [
        layers::check,
        drivers::check,
        features::check,
        lints::check,
        sizes::check,
        names::check,
        sql::check,
        sabotage::check,
        catalogue::check,
    ];
    rules.iter().flat_map(|rule| rule(tree)).collect()
}

#[expect(clippy::expect_used, reason = "patterns are literals, and tests use each of them")]
fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a pattern of ours is well formed")
}
