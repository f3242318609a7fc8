//! Settings: every key of every binary, read from the structs that are deserialised.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use regex_lite::Regex;

use super::cell;
use crate::tidy::tree::{Member, Tree};

/// How deep tables may be nested.
const DEPTH_MAX: usize = 6;

/// Structs that several binaries have in their settings: folder of the crate, and name.
type Shared = BTreeSet<(String, String)>;

/// A field of a struct.
struct Field {
    name: String,
    kind: String,
    comment: String,
}

pub(super) fn gather(tree: &Tree) -> String {
    let mut text = String::from(
        "# Settings\n\nEvery key of every binary. A key `a.b` is `IDEMPO_A__B` in the environment and `--set a.b=…` on the command line; the command \
         line goes before the environment, and that before the file of `--config`. `--dump-config` shows what is in force.\n",
    );
    let mut shared = BTreeSet::new();
    if let Some(runtime) = tree.members.iter().find(|member| member.folder == "crates/runtime") {
        section(tree, runtime, "PlatformConfig", "platform.", "Every binary", &mut shared, &mut text);
    }
    for member in tree.members.iter().filter(|member| is_role(tree, member)) {
        section(tree, member, "Config", "", &member.name, &mut shared, &mut text);
    }
    // What a shared table holds may be shared too.
    let mut written = BTreeSet::new();
    while let Some((folder, name)) = shared.difference(&written).next().cloned() {
        if let Some(member) = tree.members.iter().find(|member| member.folder == folder) {
            section(tree, member, &name, "", &heading(member, &name), &mut shared, &mut text);
        }
        written.insert((folder, name));
    }
    text
}

/// Whether a crate is a binary that takes settings.
fn is_role(tree: &Tree, member: &Member) -> bool {
    let has = |file: &str| tree.files.contains_key(&format!("{}/src/{file}", member.folder));
    has("main.rs") && has("config.rs")
}

/// What a table that several binaries have is called.
fn heading(member: &Member, name: &str) -> String {
    format!("{}::{name}", member.name.replace('-', "_"))
}

fn section(tree: &Tree, member: &Member, name: &str, prefix: &str, title: &str, shared: &mut Shared, text: &mut String) {
    let _ = write!(text, "\n## {title}\n\n| key | type | default | |\n|---|---|---|---|\n");
    rows(tree, member, name, prefix, DEPTH_MAX, shared, text);
}

fn rows(tree: &Tree, member: &Member, name: &str, prefix: &str, depth: usize, shared: &mut Shared, text: &mut String) {
    let Some((body, defaults)) = structure(tree, member, name) else { return };
    for Field { name, kind, comment } in fields(&body) {
        let (inner, is_list) = inner(&kind);
        let key = if is_list { format!("{prefix}{name}[]") } else { format!("{prefix}{name}") };
        let nested = if depth == 0 { None } else { nested(tree, member, inner) };
        match nested {
            Some((owner, name)) if owner.folder == member.folder => {
                rows(tree, owner, name, &format!("{key}."), depth - 1, shared, text);
            }
            Some((owner, name)) => {
                let _ = writeln!(text, "| `{key}.…` | see {} below |  | {} |", heading(owner, name), cell(&comment));
                shared.insert((owner.folder.clone(), name.to_owned()));
            }
            None => {
                let default = default(&defaults, &name);
                let _ =
                    writeln!(text, "| `{key}` | {} | {default} | {} |", cell(inner.rsplit("::").next().unwrap_or(inner)), cell(&comment));
            }
        }
    }
}

/// The body of a struct, and of its `Default`.
fn structure(tree: &Tree, member: &Member, name: &str) -> Option<(String, String)> {
    let pattern = Regex::new(&format!(r"(?ms)^pub(?:\(crate\))? struct {name} \{{(.*?)^\}}")).ok()?;
    let defaults = Regex::new(&format!(r"(?ms)^impl Default for {name} \{{(.*?)^\}}")).ok()?;
    let prefix = format!("{}/src/", member.folder);
    tree.with_extension("rs").filter(|(path, _)| path.starts_with(&prefix)).find_map(|(_, text)| {
        let body = pattern.captures(text)?.get(1)?.as_str().to_owned();
        let default = defaults.captures(text).and_then(|found| found.get(1)).map_or(String::new(), |found| found.as_str().to_owned());
        Some((body, default))
    })
}

/// The struct that a field's type names, and the crate it is in; `None` for a plain value.
fn nested<'a>(tree: &'a Tree, member: &'a Member, kind: &'a str) -> Option<(&'a Member, &'a str)> {
    let name = kind.rsplit("::").next()?;
    let owner = match kind.split_once("::") {
        Some((krate, _)) if krate.starts_with("idempo_") => {
            let wanted = krate.replace('_', "-");
            tree.members.iter().find(|member| member.name == wanted)?
        }
        _ => member,
    };
    structure(tree, owner, name).map(|_| (owner, name))
}

/// What is in an `Option` or a `Vec`, and whether it is a list.
fn inner(kind: &str) -> (&str, bool) {
    let within = |outer: &str| kind.strip_prefix(outer).and_then(|rest| rest.strip_suffix('>'));
    if let Some(kind) = within("Option<") {
        return inner(kind);
    }
    within("Vec<").map_or((kind, false), |kind| (kind, true))
}

fn fields(body: &str) -> Vec<Field> {
    let mut fields = Vec::new();
    let mut comment = String::new();
    for line in body.lines().map(str::trim) {
        if let Some(text) = line.strip_prefix("///") {
            comment.push_str(text);
        } else if let Some((name, kind)) = line.strip_prefix("pub ").and_then(|field| field.split_once(": ")) {
            let name = name.trim_start_matches("(crate) ").to_owned();
            fields.push(Field { name, kind: kind.trim_end_matches(',').to_owned(), comment: std::mem::take(&mut comment) });
        }
    }
    fields
}

/// A field's default where it is a plain value.
fn default(defaults: &str, field: &str) -> String {
    let Ok(pattern) = Regex::new(&format!(r#"\b{field}: (true|false|[\d_]+(?: \* [\d_]+)*|"[^"]*")"#)) else { return String::new() };
    let value = pattern.captures(defaults).and_then(|found| found.get(1));
    value.map_or(String::new(), |value| format!("`{}`", value.as_str().replace('_', "")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_listed_with_its_path_default_and_meaning() {
        let service = "pub struct Config {\n    /// Where.\n    pub database: idempo_pg::Config,\n    /// When.\n    pub timers: Timers,\n    pub outboxes: Vec<Outbox>,\n}\npub struct Timers {\n    /// How\n    /// often.\n    pub poll_ms: u64,\n}\nimpl Default for Timers {\n    fn default() -> Self { Self { poll_ms: 1_000 } }\n}\npub struct Outbox {\n    pub name: String,\n}\n";
        let pg = "pub struct Config {\n    #[serde(skip)]\n    /// The URL.\n    pub url: DatabaseUrl,\n    pub password: Option<Password>,\n}\npub struct DatabaseUrl(String);\n";
        let tree = Tree::of(&[
            ("command-services/wallet/service/src/main.rs", ""),
            ("command-services/wallet/service/src/config.rs", service),
            ("crates/pg/src/config.rs", pg),
        ])
        .with("command-services/wallet/service", "idempo-wallet", &[])
        .with("crates/pg", "idempo-pg", &[]);
        let listed = gather(&tree);
        for row in [
            "## idempo-wallet",
            "| `database.…` | see idempo_pg::Config below |  | Where. |",
            "## idempo_pg::Config\n\n| key | type | default | |\n|---|---|---|---|\n| `url` | DatabaseUrl |  | The URL. |",
            "| `password` | Password |  |  |",
            "| `timers.poll_ms` | u64 | `1000` | How often. |",
            "| `outboxes[].name` | String |  |  |",
        ] {
            assert!(listed.contains(row), "{row} is not in\n{listed}");
        }
    }
}
