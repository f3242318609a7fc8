//! Every `.sql` file is used.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex_lite::Regex;

use super::pattern;
use super::tree::Tree;

static INCLUDED: LazyLock<Regex> = LazyLock::new(|| pattern(r#"include_str!\(\s*"([^"]+\.sql)"\s*,?\s*\)"#));

/// The build script that embeds whole folders of migrations, by their names.
const EMBEDS: &str = "schemas/build.rs";

pub(super) fn check(tree: &Tree) -> Vec<String> {
    let mut used = BTreeSet::new();
    for (path, text) in tree.with_extension("rs") {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let found = INCLUDED.captures_iter(text).filter_map(|found| found.get(1));
        used.extend(found.map(|relative| resolve(folder, relative.as_str())));
    }
    let unused = tree.with_extension("sql").filter(|(path, _)| !used.contains(*path) && !is_embedded(tree, path));
    unused.map(|(path, _)| format!("{path}: nothing includes it")).collect()
}

/// Whether it is a migration in a folder that the build script embeds.
fn is_embedded(tree: &Tree, path: &str) -> bool {
    let Some((folder, name)) = path.strip_prefix("schemas/").and_then(|rest| rest.split_once('/')) else { return false };
    let script = tree.files.get(EMBEDS).map_or("", String::as_str);
    name.starts_with('V') && name.contains("__") && !name.contains('/') && script.contains(&format!("\"{folder}\""))
}

/// The path of `relative`, seen from `folder`, from the root.
fn resolve(folder: &str, relative: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in relative.split('/') {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_nothing_includes_is_refused() {
        let rust = r#"fn f() { include_str!("sql/used.sql"); include_str!("../sql/above.sql") }"#;
        let tree = Tree::of(&[
            ("crates/a/src/lib.rs", rust),
            ("crates/a/src/sql/used.sql", ""),
            ("crates/a/sql/above.sql", ""),
            ("crates/a/src/sql/left_over.sql", ""),
            ("crates/b/src/sql/used.sql", ""),
            ("schemas/build.rs", r#"[("wallet_db", "X")]"#),
            ("schemas/wallet_db/V1__wallet.sql", ""),
            ("schemas/forgotten_db/V1__forgotten.sql", ""),
        ]);
        assert_eq!(
            check(&tree),
            [
                "crates/a/src/sql/left_over.sql: nothing includes it",
                "crates/b/src/sql/used.sql: nothing includes it",
                "schemas/forgotten_db/V1__forgotten.sql: nothing includes it",
            ]
        );
    }
}
