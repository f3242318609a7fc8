//! Writes the migrations and the topics into the crate, so that a malformed name or a malformed `topics.yaml` fails the build and adding a
//! migration is adding a file.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use serde::Deserialize;

/// A folder of migrations, and the constant its files become.
const FOLDERS: [(&str, &str); 6] = [
    ("event_store", "EVENT_STORE_FILES"),
    ("wallet_db", "WALLET_DB_FILES"),
    ("inventory_db", "INVENTORY_DB_FILES"),
    ("inventory_view_db", "INVENTORY_VIEW_DB_FILES"),
    ("ops_db", "OPS_DB_FILES"),
    ("reactor", "REACTOR_FILES"),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Topics {
    replication: BTreeMap<String, Replication>,
    dead_letters: DeadLetters,
    topics: Vec<Topic>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Replication {
    factor: i16,
    min_insync: i16,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeadLetters {
    partitions: i32,
    retention_hours: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Topic {
    number: i16,
    name: String,
    partitions: i32,
    retention_hours: u32,
    key: String,
    #[serde(default)]
    refused: WhenRefused,
}

#[derive(Default, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WhenRefused {
    #[default]
    BlockKey,
    Divert,
}

fn main() -> Result<(), Box<dyn Error>> {
    let root = env::var("CARGO_MANIFEST_DIR")?;
    let root = Path::new(&root);
    let mut code = String::new();
    for (folder, constant) in FOLDERS {
        migrations(&root.join(folder), constant, &mut code)?;
    }
    topics(&root.join("topics.yaml"), &mut code)?;
    fs::write(Path::new(&env::var("OUT_DIR")?).join("data.rs"), code)?;
    println!("cargo::rerun-if-changed=build.rs");
    Ok(())
}

/// Appends a constant with every `V<n>__<name>.sql` of `folder`, in the order of n.
fn migrations(folder: &Path, constant: &str, code: &mut String) -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).ok_or("a file name that is not UTF-8")?.to_owned();
        if path.extension().is_none_or(|extension| extension != "sql") {
            return Err(format!("{}: only .sql files belong in a folder of migrations", path.display()).into());
        }
        let number = stem.strip_prefix('V').and_then(|rest| rest.split_once("__")).map(|(number, _)| number.parse::<u32>());
        let Some(Ok(number)) = number else {
            return Err(format!("{}: a migration is called V<n>__<name>.sql", path.display()).into());
        };
        if files.insert(number, (stem, path)).is_some() {
            return Err(format!("{}: two migrations have the number {number}", folder.display()).into());
        }
    }
    writeln!(code, "const {constant}: &[(&str, &str)] = &[")?;
    for (stem, path) in files.values() {
        println!("cargo::rerun-if-changed={}", path.display());
        writeln!(code, "    ({stem:?}, include_str!({:?})),", path.display().to_string())?;
    }
    writeln!(code, "];")?;
    Ok(())
}

/// Appends the constant with what `topics.yaml` says.
fn topics(file: &Path, code: &mut String) -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={}", file.display());
    let topics: Topics = serde_yaml_ng::from_str(&fs::read_to_string(file)?)?;
    let replication = |name: &str| {
        let Replication { factor, min_insync } =
            topics.replication.get(name).ok_or(format!("topics.yaml: replication.{name} is missing"))?;
        Ok::<_, Box<dyn Error>>(format!("Replication {{ factor: {factor}, min_insync: {min_insync} }}"))
    };
    let mut numbers = BTreeMap::new();
    writeln!(code, "static TOPICS: Topics = Topics {{")?;
    writeln!(code, "    production: {},\n    local: {},", replication("production")?, replication("local")?)?;
    let DeadLetters { partitions, retention_hours } = topics.dead_letters;
    writeln!(code, "    dead_letters: DeadLetters {{ partitions: {partitions}, retention_hours: {retention_hours} }},\n    topics: &[")?;
    for Topic { number, name, partitions, retention_hours, key, refused } in &topics.topics {
        if numbers.insert(number, name).is_some() {
            return Err(format!("topics.yaml: two topics have the number {number}").into());
        }
        writeln!(
            code,
            "        Topic {{ number: {number}, name: {name:?}, dead_letter: {:?}, partitions: {partitions}, retention_hours: {retention_hours}, key: {key:?}, refused: WhenRefused::{refused:?} }},",
            format!("{name}.dlq")
        )?;
    }
    writeln!(code, "    ],\n}};")?;
    Ok(())
}
