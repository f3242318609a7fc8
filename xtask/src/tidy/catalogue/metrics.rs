//! Metrics: every name that is described, and the complaint about those that are not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::LazyLock;

use regex_lite::Regex;

use super::cell;
use crate::tidy::pattern;
use crate::tidy::tree::{Member, Tree};

/// `describe_counter!(NAME, Unit::Seconds, "text")`, with the name as a literal or a constant, and the unit or not.
static DESCRIBED: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r#"describe_(counter|gauge|histogram)!\(\s*("[^"]+"|[\w:]+)\s*,\s*(?:(?:metrics::)?Unit::(\w+)\s*,\s*)?"((?:[^"\\]|\\.)*)""#)
});
/// `counter!(NAME…`.
static USED: LazyLock<Regex> = LazyLock::new(|| pattern(r#"(?:^|[^_\w])(counter|gauge|histogram)!\(\s*("[^"]+"|[\w:]+)\s*[,)]"#));
/// `const NAME: &str = "name";`
static CONSTANT: LazyLock<Regex> = LazyLock::new(|| pattern(r#"const (\w+): &(?:'static )?str\s*=\s*"([^"]+)""#));

/// A metric, as it is described.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Metric {
    kind: String,
    unit: String,
    text: String,
}

pub(super) fn gather(tree: &Tree) -> String {
    let mut found: BTreeMap<String, (Metric, BTreeSet<&str>)> = BTreeMap::new();
    for (member, path, text) in tree.product() {
        let constants = constants(tree, member, path);
        for captures in DESCRIBED.captures_iter(text) {
            let part = |index| captures.get(index).map_or("", |part| part.as_str());
            let metric = Metric { kind: part(1).to_owned(), unit: part(3).to_lowercase(), text: part(4).replace("\\\"", "\"") };
            found.entry(name(part(2), &constants)).or_insert((metric, BTreeSet::new())).1.insert(&member.name);
        }
    }
    let mut text = String::from("# Metrics\n\nWhat `/metrics` of a process shows, beside what its libraries add.\n\n");
    text.push_str("| name | kind | unit | | from |\n|---|---|---|---|---|\n");
    for (name, (metric, from)) in found {
        let from: Vec<&str> = from.into_iter().collect();
        let _ = writeln!(text, "| `{name}` | {} | {} | {} | {} |", metric.kind, metric.unit, cell(&metric.text), from.join(", "));
    }
    text
}

/// Metrics that are counted and never described.
pub(super) fn undescribed(tree: &Tree) -> Vec<String> {
    let mut described = BTreeSet::new();
    let mut used = BTreeMap::new();
    for (member, path, text) in tree.product() {
        let constants = constants(tree, member, path);
        let names = |wanted: &Regex| -> Vec<String> {
            let found = wanted.captures_iter(text).filter_map(|found| found.get(2));
            found.map(|found| name(found.as_str(), &constants)).collect()
        };
        described.extend(names(&DESCRIBED));
        used.extend(names(&USED).into_iter().map(|name| (name, path)));
    }
    let missing = used.iter().filter(|(name, _)| !described.contains(*name));
    missing.map(|(name, path)| format!("{path}: the metric {name} is not described (describe_counter! and its like)")).collect()
}

/// The constants that a file sees: its own, and those of its crate, which may be in another module.
fn constants(tree: &Tree, member: &Member, path: &str) -> BTreeMap<String, String> {
    let prefix = format!("{}/", member.folder);
    let own = tree.files.get(path).map(String::as_str);
    let others = tree.with_extension("rs").filter(|(other, _)| other.starts_with(&prefix)).map(|(_, text)| text);
    let found = others.chain(own).flat_map(|text| CONSTANT.captures_iter(text));
    found.filter_map(|found| Some((found.get(1)?.as_str().to_owned(), found.get(2)?.as_str().to_owned()))).collect()
}

fn name(expression: &str, constants: &BTreeMap<String, String>) -> String {
    let literal = expression.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let constant = expression.rsplit("::").next().and_then(|constant| constants.get(constant)).map(String::as_str);
    literal.or(constant).unwrap_or(expression).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_listed_by_its_name_wherever_that_stands() {
        let text = "const WAIT: &str = \"wait_seconds\";\nfn d() { describe_histogram!(WAIT, metrics::Unit::Seconds, \"How long.\"); describe_counter!(\"made_total\", \"What was made.\"); }";
        let tree = Tree::of(&[("crates/a/src/lib.rs", text)]).with("crates/a", "a", &[]);
        let listed = gather(&tree);
        assert!(listed.contains("| `wait_seconds` | histogram | seconds | How long. | a |"), "{listed}");
        assert!(listed.contains("| `made_total` | counter |  | What was made. | a |"), "{listed}");
    }

    #[test]
    fn a_metric_that_is_not_described_is_refused() {
        let text = "const USED: &str = \"used\";\nfn f() { counter!(\"lost_total\").increment(1); metrics::gauge!(USED, \"a\" => \"b\"); describe_gauge!(USED, \"Used.\"); }";
        let tree = Tree::of(&[("crates/a/src/lib.rs", text)]).with("crates/a", "a", &[]);
        let problems = undescribed(&tree);
        assert!(matches!(problems.as_slice(), [problem] if problem.contains("lost_total")), "{problems:?}");
    }
}
