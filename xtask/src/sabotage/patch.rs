//! A patch that breaks something on purpose: a unified diff, with what it is for in the lines before it.

use std::path::Path;

use anyhow::{Context as _, Result};

/// Where the patches are, from the root.
pub(crate) const FOLDER: &str = "chaos/sabotage";
/// How their names end.
pub(crate) const ENDING: &str = ".patch";
/// What a diff begins with; what stands before the first one, git passes over.
const DIFF: &str = "diff --git ";

/// A patch with what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Patch {
    /// Its file's name without the ending.
    pub(crate) name: String,
    /// What it breaks, in a sentence.
    pub(crate) breaks: String,
    /// The claim that must go red, as in the report: its invariant and its words.
    pub(crate) must_go_red: String,
    /// The options of the runs.
    pub(crate) options: Vec<String>,
    /// The seeds to be tried, one after the other.
    pub(crate) seeds: Vec<u64>,
    /// What it changes.
    pub(crate) hunks: Vec<Hunk>,
}

/// A place where a patch changes a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hunk {
    /// The file, from the root.
    pub(crate) path: String,
    /// The lines that must stand there, each with its end.
    pub(crate) before: String,
}

impl Patch {
    /// Takes a patch apart.
    ///
    /// # Errors
    /// What it lacks.
    pub(crate) fn parse(name: &str, text: &str) -> Result<Self, String> {
        let (head, _) = text.split_once(DIFF).ok_or("has no diff")?;
        let field = |field: &str| {
            let value = head.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(": ")).map(str::trim);
            value.filter(|value| !value.is_empty()).map(str::to_owned).ok_or_else(|| format!("does not say `{field}: `"))
        };
        let seeds = field("Seeds")?.split_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>();
        Ok(Self {
            name: name.to_owned(),
            breaks: field("Breaks")?,
            must_go_red: field("Must go red")?,
            options: field("Run")?.split_whitespace().map(str::to_owned).collect(),
            seeds: seeds.map_err(|error| format!("has seeds that are no numbers: {error}"))?,
            hunks: hunks(text),
        })
    }

    /// Reads every patch below `root`, in the order of their names.
    pub(crate) fn read_all(root: &Path) -> Result<Vec<Self>> {
        let folder = root.join(FOLDER);
        let mut patches = Vec::new();
        for entry in std::fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
            let path = entry?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let Some(name) = name.strip_suffix(ENDING) else { continue };
            let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
            patches.push(Self::parse(name, &text).map_err(|problem| anyhow::anyhow!("{name} {problem}"))?);
        }
        patches.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(patches)
    }
}

/// The hunks of a unified diff.
fn hunks(text: &str) -> Vec<Hunk> {
    let mut hunks: Vec<Hunk> = Vec::new();
    let (mut path, mut inside) = ("", false);
    for line in text.split_inclusive('\n') {
        if line.starts_with(DIFF) {
            inside = false;
        } else if let Some(file) = line.strip_prefix("--- a/").filter(|_| !inside) {
            path = file.trim_end();
        } else if line.starts_with("@@ ") {
            inside = true;
            hunks.push(Hunk { path: path.to_owned(), before: String::new() });
        } else if let Some(hunk) = hunks.last_mut().filter(|_| inside)
            && let Some(there) = line.strip_prefix([' ', '-'])
        {
            hunk.before.push_str(there);
        }
    }
    hunks
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Breaks: a thing.\nMust go red: I5 Kafka has it\nRun: --for 20s\nSeeds: 1 22\n\n\
        diff --git a/a.rs b/a.rs\nindex 1..2 100644\n--- a/a.rs\n+++ b/a.rs\n@@ -1,2 +1,2 @@\n one\n-two\n+three\n@@ -9 +9 @@\n--- four\n\
        diff --git a/b.sql b/b.sql\n--- a/b.sql\n+++ b/b.sql\n@@ -1 +1 @@\n-five\n";

    #[test]
    fn a_patch_says_what_it_is_for_and_where_it_changes_what() {
        let patch = Patch::parse("01-a", TEXT).unwrap();
        assert_eq!((patch.breaks.as_str(), patch.must_go_red.as_str()), ("a thing.", "I5 Kafka has it"));
        assert_eq!((patch.options.join(" ").as_str(), patch.seeds), ("--for 20s", vec![1, 22]));
        let hunks: Vec<(&str, &str)> = patch.hunks.iter().map(|hunk| (hunk.path.as_str(), hunk.before.as_str())).collect();
        assert_eq!(hunks, [("a.rs", "one\ntwo\n"), ("a.rs", "-- four\n"), ("b.sql", "five\n")]);
    }

    #[test]
    fn a_patch_that_does_not_say_what_it_is_for_is_refused() {
        for field in ["Breaks", "Must go red", "Run", "Seeds"] {
            let problem = Patch::parse("01-a", &TEXT.replace(&format!("{field}: "), "")).unwrap_err();
            assert!(problem.contains(field), "{problem}");
        }
        assert!(Patch::parse("01-a", &TEXT.replace("1 22", "one")).is_err());
        assert!(Patch::parse("01-a", "Breaks: nothing\n").is_err());
    }
}
