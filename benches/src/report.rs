//! The table that a bench prints, and the JSON beside it.

use std::path::{Path, PathBuf};

use serde::Serialize;

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    round: u32,
    name: String,
    value: f64,
    unit: &'static str,
    /// The figure over its reference of the same round; `None` for a reference.
    ratio: Option<f64>,
}

impl Row {
    /// What others are measured against.
    pub(crate) fn reference(round: u32, name: &str, value: f64, unit: &'static str) -> Self {
        Self { round, name: name.to_owned(), value, unit, ratio: None }
    }

    /// A figure of ours.
    pub(crate) fn measured(round: u32, name: &str, value: f64, unit: &'static str, ratio: f64) -> Self {
        Self { round, name: name.to_owned(), value, unit, ratio: Some(ratio) }
    }
}

/// The table as text.
pub(crate) fn table(rows: &[Row]) -> String {
    let width = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    let line = |row: &Row| {
        let ratio = row.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2} x"));
        format!("{:>5}  {:<width$}  {:>12.2} {:<10} {ratio:>8}", row.round, row.name, row.value, row.unit)
    };
    let head = format!("{:>5}  {:<width$}  {:>12} {:<10} {:>8}", "round", "what", "value", "", "ratio");
    std::iter::once(head).chain(rows.iter().map(line)).collect::<Vec<_>>().join("\n")
}

/// Writes `target/bench/<name>.json`.
pub(crate) fn write(name: &str, rows: &[Row]) -> anyhow::Result<PathBuf> {
    let folder = Path::new("target/bench");
    std::fs::create_dir_all(folder)?;
    let path = folder.join(format!("{name}.json"));
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let report = serde_json::json!({ "bench": name, "cores": cores, "rows": rows });
    std::fs::write(&path, serde_json::to_string_pretty(&report)?)?;
    Ok(path)
}
