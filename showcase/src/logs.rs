//! What the platform's processes complained about.

use std::path::Path;

use anyhow::{Context as _, Result};
use idempo_checker::Verdict;

/// Warnings that belong to the run: a part of the message, and why it is due.
const DUE: &[(&str, &str)] = &[
    ("Failed to acquire idempotence PID from broker", "Kafka has only just started, and is asked again"),
    ("the brokers are away: rows wait", "the same, where it takes longer"),
    ("a record is a dead letter, its key is parked", "poison was put into the topic; how much of it, is checked"),
    ("condition no longer met", "the stand-by takes over and starts its producer"),
];

/// A line at WARN or ERROR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// The process.
    pub service: String,
    /// The whole line.
    pub line: String,
    /// The message.
    pub message: String,
}

/// The complaints in a process's log.
///
/// # Errors
/// When the file can't be read.
pub fn read(service: &str, log: &Path) -> Result<Vec<Complaint>> {
    let text = std::fs::read_to_string(log).with_context(|| format!("reading {}", log.display()))?;
    Ok(complaints(service, &text))
}

fn complaints(service: &str, text: &str) -> Vec<Complaint> {
    let complaint = |line: &str| {
        let message = match serde_json::from_str::<serde_json::Value>(line) {
            Ok(value) => {
                let field = |name| value.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
                if !matches!(field("level"), "WARN" | "ERROR") {
                    return None;
                }
                field("message").to_owned()
            }
            // Every process writes JSON; what is not (a panic) is always a complaint.
            Err(_) => line.to_owned(),
        };
        Some(Complaint { service: service.to_owned(), line: line.to_owned(), message })
    };
    text.lines().filter(|line| !line.trim().is_empty()).filter_map(complaint).collect()
}

/// No process complained of anything but what the run did to it.
#[must_use]
pub fn quiet(services: usize, complaints: &[Complaint]) -> Verdict {
    let mut verdict = Verdict::new("logs", "no process warned of anything that the run did not do", "processes");
    verdict.looked_at = u64::try_from(services).unwrap_or(u64::MAX);
    for complaint in complaints {
        let due = DUE.iter().any(|(part, _)| complaint.message.contains(part));
        verdict.require(due, || format!("{}: {}", complaint.service, complaint.line));
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_errors_and_panics_are_complaints() {
        let text = "{\"level\":\"INFO\",\"message\":\"ready\"}\n{\"level\":\"WARN\",\"message\":\"slow\"}\n\nthread panicked\n";
        let found: Vec<String> = complaints("wallet", text).into_iter().map(|complaint| complaint.message).collect();
        assert_eq!(found, vec!["slow", "thread panicked"]);
    }

    #[test]
    fn an_unlisted_complaint_is_flagged() {
        assert!(quiet(5, &[]).holds());
        assert_eq!(quiet(5, &complaints("relay-1", "{\"level\":\"ERROR\",\"message\":\"gone\"}")).flaw_count, 1);
    }
}
