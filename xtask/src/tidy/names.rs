//! Names say what a thing is. A name for a place where anything may go is refused, and so is one that only says that a thing is a thing.

use std::sync::LazyLock;

use regex_lite::Regex;

use super::pattern;
use super::tree::Tree;

/// Names of folders and files (without ending) for attics: whatever is put there is never found again.
const ATTICS: [&str; 19] = [
    "attic",
    "backup",
    "bak",
    "common",
    "core",
    "deprecated",
    "helper",
    "helpers",
    "legacy",
    "misc",
    "old",
    "shared",
    "stuff",
    "temp",
    "tmp",
    "util",
    "utils",
    "wip",
    "unused",
];

/// The end of a type's name that says nothing. The names of associated types are those of others' traits.
static EMPTY_TYPE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?m)^\s*(?:pub(?:\([a-z: ]+\))? )?(?:struct|enum|trait|union) (\w*(?:Manager|Helper|Helpers|Util|Utils|Data|Info|Base|Impl))\b",
    )
});

pub(super) fn check(tree: &Tree) -> Vec<String> {
    let mut problems: Vec<String> = tree.files.keys().flat_map(|path| attics(path)).collect();
    for (path, text) in tree.with_extension("rs") {
        let found = EMPTY_TYPE.captures_iter(text).filter_map(|found| found.get(1));
        problems.extend(found.map(|name| format!("{path}: the type name {} says nothing about the thing", name.as_str())));
    }
    problems.sort();
    problems.dedup();
    problems
}

fn attics(path: &str) -> Vec<String> {
    let parts = path.split('/').map(|part| part.split('.').next().unwrap_or(part));
    parts.filter(|part| ATTICS.contains(part)).map(|part| format!("{path}: `{part}` is the name of an attic")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attic_is_refused() {
        for path in ["crates/common/src/lib.rs", "crates/pg/src/utils.rs", "crates/pg/src/helpers/mod.rs", "docs/old/a.md", "a/tmp.sql"] {
            assert_eq!(check(&Tree::of(&[(path, "")])).len(), 1, "{path}");
        }
        assert_eq!(check(&Tree::of(&[("crates/pg/src/pool.rs", "")])), Vec::<String>::new());
    }

    #[test]
    fn a_type_name_that_says_nothing_is_refused() {
        for text in ["pub struct LeaseManager;", "enum Info {", "    pub(crate) trait PoolHelper {}", "pub struct RowData(u8);"] {
            assert_eq!(check(&Tree::of(&[("a.rs", text)])).len(), 1, "{text}");
        }
        for text in
            ["struct Database;", "struct Infobox;", "// struct Manager", "impl Base {", "let x: ErrorInfo = y;", "type Data = Bytes;"]
        {
            assert_eq!(check(&Tree::of(&[("a.rs", text)])), Vec::<String>::new(), "{text}");
        }
    }
}
