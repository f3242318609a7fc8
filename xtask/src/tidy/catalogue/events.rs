//! Events: every type of the envelope, with its number at rest and what it carries.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::LazyLock;

use regex_lite::Regex;

use super::cell;
use crate::tidy::pattern;
use crate::tidy::tree::Tree;

/// The file with the envelope, and the folder with every event.
const ENVELOPE: &str = "proto/idempo/event/v1/envelope.proto";
const FOLDER: &str = "proto/idempo/event/v1/";

/// A message: its comment, its name, what is in it.
static MESSAGE: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?ms)^((?://[^\n]*\n)*)message (\w+) \{(.*?)^\}"));
/// A field: its comment, its type, its name, its number.
static FIELD: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?m)^((?:\s*//[^\n]*\n)*)\s*((?:repeated |optional )?[\w.]+) (\w+) = (\d+);"));

pub(super) fn gather(tree: &Tree) -> String {
    let mut text = String::from("# Events\n\nEvery event that is stored and that travels through Kafka, by its type number at rest.\n");
    let envelope = tree.files.get(ENVELOPE).map_or("", String::as_str);
    let events = envelope.split_once("oneof data {").map_or("", |(_, rest)| rest.split('}').next().unwrap_or(rest));
    let messages = messages(tree);
    for (comment, kind, _, number) in fields(events) {
        let _ = write!(text, "\n## {number} `{kind}`\n\n");
        let (about, body) = messages.get(kind.as_str()).map_or((comment.as_str(), ""), |(about, body)| (about.as_str(), *body));
        let _ = writeln!(text, "{}", if about.is_empty() { &comment } else { about });
        let fields = fields(body);
        if fields.is_empty() {
            continue;
        }
        text.push_str("\n| field | number | type | |\n|---|---|---|---|\n");
        for (comment, kind, name, number) in fields {
            let _ = writeln!(text, "| `{name}` | {number} | {kind} | {} |", cell(&comment));
        }
    }
    text
}

fn messages(tree: &Tree) -> BTreeMap<&str, (String, &str)> {
    let files = tree.files.iter().filter(|(path, _)| path.starts_with(FOLDER)).map(|(_, text)| text);
    let found = files.flat_map(|text| MESSAGE.captures_iter(text));
    found.filter_map(|found| Some((found.get(2)?.as_str(), (comment(found.get(1)?.as_str()), found.get(3)?.as_str())))).collect()
}

/// Comment, type, name and number of each field.
fn fields(body: &str) -> Vec<(String, String, String, u32)> {
    let found = FIELD.captures_iter(body);
    let mut fields: Vec<_> = found
        .filter_map(|found| {
            let text = |index| found.get(index).map(|part| part.as_str());
            Some((comment(text(1)?), text(2)?.to_owned(), text(3)?.to_owned(), text(4)?.parse().ok()?))
        })
        .collect();
    fields.sort_by_key(|(_, _, _, number)| *number);
    fields
}

fn comment(text: &str) -> String {
    text.lines().map(|line| line.trim().trim_start_matches("//").trim()).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_listed_with_its_number_and_fields() {
        let envelope = "message EventEnvelope {\n  oneof data {\n    // Funds came.\n    FundsMinted funds_minted = 101;\n  }\n}\n";
        let event = "// New funds.\n// In full.\nmessage FundsMinted {\n  // How much,\n  // at least 1.\n  int64 amount = 1;\n  repeated string tags = 2;\n}\n";
        let text = gather(&Tree::of(&[(ENVELOPE, envelope), ("proto/idempo/event/v1/wallet.proto", event)]));
        assert!(text.contains("## 101 `FundsMinted`\n\nNew funds. In full.\n"), "{text}");
        assert!(text.contains("| `amount` | 1 | int64 | How much, at least 1. |\n| `tags` | 2 | repeated string |  |\n"), "{text}");
    }
}
