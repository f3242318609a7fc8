//! Every patch that breaks something on purpose still can, still means a claim that the checker makes, and is listed.

use super::tree::Tree;
use crate::sabotage::{ENDING, FOLDER, Patch};

/// Where the patches are listed.
const LIST: &str = "docs/sabotage.md";

pub(super) fn check(tree: &Tree) -> Vec<String> {
    let patches = tree.with_extension("patch").filter_map(|(path, text)| {
        let name = path.strip_prefix(FOLDER)?.strip_prefix('/')?.strip_suffix(ENDING)?;
        Some((path, name, text))
    });
    let list = tree.files.get(LIST).map_or("", String::as_str);
    let problems = patches.flat_map(|(path, name, text)| {
        let mut problems = Patch::parse(name, text).map_or_else(|problem| vec![problem], |patch| problems_of(tree, &patch));
        if !list.contains(name) {
            problems.push(format!("is not listed in {LIST}"));
        }
        problems.into_iter().map(move |problem| format!("{path}: {problem}"))
    });
    problems.collect()
}

fn problems_of(tree: &Tree, patch: &Patch) -> Vec<String> {
    let mut problems = Vec::new();
    for hunk in &patch.hunks {
        // As `git apply` has it: the lines must stand there together, wherever that is.
        let stands = |text: &String| text.starts_with(&hunk.before) || text.contains(&format!("\n{}", hunk.before));
        if !tree.files.get(&hunk.path).is_some_and(stands) {
            let first = hunk.before.lines().next().unwrap_or_default();
            problems.push(format!("does not apply to {} any more, at `{}`", hunk.path, first.trim()));
        }
    }
    let claim = patch.must_go_red.split_once(' ').map_or("", |(_, claim)| claim);
    let is_made = |(path, text): (&str, &str)| path.starts_with("checker/src/") && text.contains(&format!("\"{claim}\""));
    if claim.is_empty() || !tree.with_extension("rs").any(is_made) {
        problems.push(format!("no check makes the claim `{claim}`"));
    }
    if patch.seeds.is_empty() || patch.hunks.is_empty() {
        problems.push("has no seed, or changes nothing".to_owned());
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = "Breaks: it.\nMust go red: I5 it is there\nRun: --for 20s\nSeeds: 1\n\ndiff --git a/a.rs b/a.rs\n--- a/a.rs\n+++ b/a.rs\n\
        @@ -1,2 +1,2 @@\n one\n-two\n+three\n";

    fn problems(patch: &str, file: &str, claim: &str, list: &str) -> Vec<String> {
        let claim = format!("const CLAIM: &str = \"{claim}\";");
        check(&Tree::of(&[("chaos/sabotage/01-it.patch", patch), ("a.rs", file), ("checker/src/a.rs", &claim), (LIST, list)]))
    }

    #[test]
    fn a_patch_that_applies_means_a_claim_and_is_listed_is_in_order() {
        assert_eq!(problems(PATCH, "zero\none\ntwo\n", "it is there", "* 01-it"), Vec::<String>::new());
        assert_eq!(problems(PATCH, "one\ntwo\n", "it is there", "* 01-it"), Vec::<String>::new());
    }

    #[test]
    fn a_patch_that_has_rotted_is_refused() {
        for (patch, file, claim, list, problem) in [
            (PATCH, "one\nand\ntwo\n", "it is there", "01-it", "does not apply to a.rs"),
            (PATCH, "someone\ntwo\n", "it is there", "01-it", "does not apply to a.rs"),
            (PATCH, "one\ntwo\n", "it is here", "01-it", "no check makes the claim `it is there`"),
            (PATCH, "one\ntwo\n", "it is there", "02-that", "is not listed"),
            ("Breaks: it.\n", "one\ntwo\n", "it is there", "01-it", "has no diff"),
        ] {
            let found = problems(patch, file, claim, list);
            assert!(found.len() == 1 && found[0].contains(problem), "{found:?}");
        }
    }
}
