//! Prometheus' text format, as a scraper reads it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use regex_lite::Regex;

/// A sample: name, labels, value.
const SAMPLE: &str =
    r#"^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\]|\\.)*",?)*\})? (NaN|[+-]Inf|[+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)$"#;
/// What a family of samples adds to its name.
const SUFFIXES: [&str; 4] = ["", "_bucket", "_sum", "_count"];

/// The samples of a page, by name and labels.
///
/// # Errors
/// When a line is none of the format, a sample's family has no type, or a sample is there twice.
pub fn parse(page: &str) -> Result<BTreeMap<String, f64>> {
    let sample = Regex::new(SAMPLE).context("the pattern")?;
    let mut types = BTreeMap::new();
    let mut samples = BTreeMap::new();
    for line in page.lines().filter(|line| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix("# ") {
            if let Some((name, kind)) = comment.strip_prefix("TYPE ").and_then(|rest| rest.split_once(' ')) {
                ensure!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} has two types");
            }
            continue;
        }
        let found = sample.captures(line).with_context(|| format!("not a sample: {line}"))?;
        let part = |number| found.get(number).map_or("", |part| part.as_str());
        let typed = SUFFIXES.iter().any(|suffix| part(1).strip_suffix(suffix).is_some_and(|family| types.contains_key(family)));
        ensure!(typed, "the family of {line} has no type");
        let value = part(3).parse().with_context(|| format!("not a value: {line}"))?;
        ensure!(samples.insert(format!("{}{}", part(1), part(2)), value).is_none(), "there twice: {line}");
    }
    Ok(samples)
}
