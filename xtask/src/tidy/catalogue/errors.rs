//! Errors: every reason that a caller, a log line or an alert may name.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::LazyLock;

use regex_lite::Regex;

use super::cell;
use crate::tidy::pattern;
use crate::tidy::tree::Tree;

/// gRPC's own codes are not reasons.
const CODES: [&str; 16] = [
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
/// Variables of the environment are not reasons either.
const VARIABLES: [&str; 9] = ["IDEMPO_", "OTEL_", "RUST_", "CARGO_", "DATABASE_URL", "KAFKA_BROKERS", "REDIS_URL", "NO_COLOR", "OUT_DIR"];

/// What only explains the reasons of others.
const EXPLAINS: [&str; 1] = ["cli"];

/// What has fewer words is no sentence.
const WORDS_MIN: usize = 3;

/// A literal in `SCREAMING_SNAKE_CASE`, and what stands around it: a gRPC code before, the variant it is the code of, a text after.
static REASON: LazyLock<Regex> = LazyLock::new(|| pattern(r#""([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)*)""#));
/// A text that begins with a reason.
static REASON_IN_TEXT: LazyLock<Regex> = LazyLock::new(|| pattern(r#""([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+): "#));
/// What a function of a database answers.
static REASON_IN_SQL: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?:THEN|ELSE|:=)\s+'([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)'"));
static CODE_BEFORE: LazyLock<Regex> = LazyLock::new(|| pattern(r"Code::(\w+),\s*$"));
static VARIANT_BEFORE: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?:Self|Error)::(\w+)(?:\([^)]*\)|\s*\{[^}]*\})?\s*=>\s*$"));
static TEXT_AFTER: LazyLock<Regex> = LazyLock::new(|| pattern(r#"^\s*,\s*(?:[\w.&]+\s*,\s*)?(?:format!\(\s*)?"((?:[^"\\]|\\.)*)""#));
/// The end of a call of `not_found`, whose code is in its name.
static NOT_FOUND_BEFORE: LazyLock<Regex> = LazyLock::new(|| pattern(r"not_found\(\s*[\w.&]+,\s*$"));

/// What is known of a reason.
#[derive(Default)]
struct Reason {
    codes: BTreeSet<String>,
    texts: BTreeSet<String>,
    crates: BTreeSet<String>,
}

pub(super) fn gather(tree: &Tree) -> String {
    let mut reasons: BTreeMap<String, Reason> = BTreeMap::new();
    for (member, _, text) in tree.product().filter(|(member, ..)| !EXPLAINS.contains(&member.folder.as_str())) {
        for found in REASON.captures_iter(text) {
            let (Some(whole), Some(name)) = (found.get(0), found.get(1)) else { continue };
            let name = name.as_str();
            if CODES.contains(&name) || VARIABLES.iter().any(|prefix| name.starts_with(prefix)) {
                continue;
            }
            let (before, after) = (text.get(..whole.start()).unwrap_or(""), text.get(whole.end()..).unwrap_or(""));
            // One word is a reason only with a gRPC code.
            if !name.contains('_') && capture(&CODE_BEFORE, tail(before)).is_none() {
                continue;
            }
            let reason = reasons.entry(name.to_owned()).or_default();
            reason.crates.insert(member.name.clone());
            reason.codes.extend(code(before));
            reason.texts.extend(described(before, after, text));
        }
        for name in names(&REASON_IN_TEXT, text) {
            reasons.entry(name).or_default().crates.insert(member.name.clone());
        }
    }
    for (path, text) in tree.with_extension("sql") {
        let Some((database, _)) = path.strip_prefix("schemas/").and_then(|path| path.split_once('/')) else { continue };
        for name in names(&REASON_IN_SQL, text) {
            reasons.entry(name).or_default().crates.insert(format!("`{database}`"));
        }
    }
    let mut text = String::from(
        "# Errors\n\nEvery reason that a gRPC answer (`ErrorInfo.reason`), a log line or an alert may name. `{}` stands for what is filled in.\n\n",
    );
    text.push_str("| reason | gRPC code | | from |\n|---|---|---|---|\n");
    for (name, Reason { codes, texts, crates }) in reasons {
        let join = |set: BTreeSet<String>, between: &str| set.into_iter().collect::<Vec<_>>().join(between);
        let _ = writeln!(text, "| `{name}` | {} | {} | {} |", join(codes, ", "), cell(&join(texts, "; ")), join(crates, ", "));
    }
    text
}

fn names<'a>(wanted: &'a Regex, text: &'a str) -> impl Iterator<Item = String> + 'a {
    wanted.captures_iter(text).filter_map(|found| Some(found.get(1)?.as_str().to_owned()))
}

/// The gRPC code that stands before a reason.
fn code(before: &str) -> Option<String> {
    let tail = tail(before);
    if let Some(found) = capture(&CODE_BEFORE, tail) {
        return Some(screaming(found));
    }
    NOT_FOUND_BEFORE.is_match(tail).then(|| "NOT_FOUND".to_owned())
}

/// What is said with a reason, or of the variant that it is the code of.
fn described(before: &str, after: &str, file: &str) -> Option<String> {
    if let Some(variant) = capture(&VARIANT_BEFORE, tail(before)) {
        let pattern = Regex::new(&format!(r#"#\[error\("((?:[^"\\]|\\.)*)"[^\]]*\)\]\s*{variant}\b"#)).ok()?;
        return pattern.captures(file).and_then(|found| found.get(1)).map(|text| text.as_str().to_owned());
    }
    let text = capture(&TEXT_AFTER, after)?;
    // Only a sentence: the next literal may as well be the name of a kind.
    (text.split_whitespace().count() >= WORDS_MIN).then(|| text.to_owned())
}

fn capture<'a>(wanted: &Regex, text: &'a str) -> Option<&'a str> {
    wanted.captures(text)?.get(1).map(|part| part.as_str())
}

/// The last characters of a text: what stands right before.
fn tail(text: &str) -> &str {
    let from = text.char_indices().rev().nth(160).map_or(0, |(index, _)| index);
    text.get(from..).unwrap_or(text)
}

/// `FailedPrecondition` as `FAILED_PRECONDITION`.
fn screaming(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.extend(letter.to_uppercase());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_listed_with_its_code_and_what_is_said() {
        let text = r#"
            #[error("no connection came free")]
            Busy,
            fn code(&self) { match self { Self::Busy => "DATABASE_BUSY", Self::Gone(_) => "DATABASE_GONE" } }
            fn f() { begin(Code::FailedPrecondition, "TOO_MANY", DOMAIN, "too many are open"); not_found(DOMAIN, "LOST", "wallet"); var("IDEMPO_HOME"); }
            fn g() { refusal(Code::Aborted, "ETAG_MISMATCH", domain, format!("it is at {version}")) == "NOT_FOUND"; not_found(DOMAIN, "WALLET_LOST", "wallet") }
            fn h() { refusal(Code::ResourceExhausted, "FULL", domain, "there is no room left"); format!("DISK_LOST: {disk} is gone") }
            #[cfg(test)] mod tests { "ONLY_IN_TESTS" }"#;
        let sql = "outcome := CASE WHEN n = 0 THEN 'NONE_LEFT' ELSE 'DONE' END; RAISE 'NOT_ONE'";
        let files = [("crates/a/src/lib.rs", text), ("schemas/a_db/V1__a.sql", sql), ("crates/a/src/sql/x.sql", sql)];
        let listed = gather(&Tree::of(&files).with("crates/a", "a", &[]));
        for row in [
            "| `DATABASE_BUSY` |  | no connection came free | a |",
            "| `DATABASE_GONE` |  |  | a |",
            "| `TOO_MANY` | FAILED_PRECONDITION | too many are open | a |",
            "| `ETAG_MISMATCH` | ABORTED | it is at {version} | a |",
            "| `WALLET_LOST` | NOT_FOUND |  | a |",
            "| `FULL` | RESOURCE_EXHAUSTED | there is no room left | a |",
            "| `DISK_LOST` |  |  | a |",
            "| `NONE_LEFT` |  |  | `a_db` |",
        ] {
            assert!(listed.contains(row), "{row} is not in\n{listed}");
        }
        for other in ["ONLY_IN_TESTS", "IDEMPO_HOME", "`NOT_FOUND`", "`LOST`", "`DONE`", "NOT_ONE"] {
            assert!(!listed.contains(other), "{other} is in\n{listed}");
        }
    }
}
