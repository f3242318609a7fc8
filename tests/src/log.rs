//! What a process has logged.

use std::path::Path;

use anyhow::{Context as _, Result};
use idempo_devstack::Service;
use serde_json::Value;

/// What a process has logged so far.
///
/// # Errors
/// As [`read`].
pub fn lines(service: &Service) -> Result<Vec<Value>> {
    read(service.log())
}

/// The lines of a log.
///
/// # Errors
/// When the file can't be read, or a line is no JSON object with a time, a level, a target, a message and a service.
pub fn read(path: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    // A process that was killed may have left half a line; one that runs may be writing one.
    let whole = text.rfind('\n').map_or("", |end| text.get(..end).unwrap_or_default());
    whole.lines().map(|line| checked(line).with_context(|| format!("{}: {line}", path.display()))).collect()
}

fn checked(line: &str) -> Result<Value> {
    let value: Value = serde_json::from_str(line).context("not JSON")?;
    for field in ["timestamp", "level", "target", "message", "service"] {
        value.get(field).and_then(Value::as_str).with_context(|| format!("no {field}"))?;
    }
    Ok(value)
}

/// A text field of a line; empty where there is none.
#[must_use]
pub fn text<'a>(line: &'a Value, field: &str) -> &'a str {
    line.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// The lines above INFO.
#[must_use]
pub fn complaints(lines: &[Value]) -> Vec<&Value> {
    lines.iter().filter(|line| !matches!(text(line, "level"), "INFO" | "DEBUG" | "TRACE")).collect()
}
