//! The end: every process is asked to stop, and has left nothing undone and nothing unsaid.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use idempo_tests::{World, log};
use serde_json::Value;

/// How long a process may take to drain, in milliseconds: its default grace period.
const GRACE_MS: u64 = 10_000;
/// How often a process may say the same in one run: an outage of some seconds is no reason for a flood.
const SAID_MAX: usize = 30;

/// The beginnings of messages above INFO that the tests deserve, by what they did.
const DUE: &[(&str, &[&str])] = &[
    (
        "PostgreSQL was stopped and started",
        &[
            "condition no longer met",
            "dead letters can't be written, the partition waits",
            "due work can't be done for now",
            "the event store has failed",
            "the read model is away, the partition waits for it",
            "the outbox's database has failed",
            "the lease could not be kept",
            "the lease is lost, publishing has stopped",
        ],
    ),
    ("the read model was made to refuse rows", &["a record is a dead letter, its key is parked"]),
    (
        "strangers and viewers tried every operation",
        &["an operation was refused to who may not do it", "an operation on an unknown outbox was refused"],
    ),
    ("the relays were killed", &["the backlog is too old: commands that can wait are refused"]),
    (
        "Kafka was stopped and started",
        &[
            "every Kafka broker is away",
            "the brokers are away: rows wait",
            "the dead-letter topics can't be read, it is tried again",
            "the producer has failed, another one resumes from the acknowledged rows",
            // librdkafka's own lines.
            "[thrd:",
        ],
    ),
];

/// Whether the tests are the reason for a line.
pub(crate) fn is_due(line: &Value) -> bool {
    DUE.iter().flat_map(|(_, messages)| *messages).any(|start| log::text(line, "message").starts_with(start))
}

pub(crate) async fn every_process_drains(world: World) -> Result<()> {
    let World { platform, servers, .. } = world;
    let logs: Vec<(&str, PathBuf)> = platform.services().map(|(name, service)| (name, service.log().to_owned())).collect();
    platform.stop().await?;
    let mut problems = Vec::new();
    for (name, path) in logs {
        let lines = log::read(&path)?;
        assert_drained(name, &lines)?;
        let mut said: BTreeMap<String, usize> = BTreeMap::new();
        for line in log::complaints(&lines) {
            if !is_due(line) {
                problems.push(format!("{name}: unlisted: {line}"));
            }
            *said.entry(format!("{} {}", log::text(line, "message"), log::text(line, "error"))).or_default() += 1;
        }
        problems
            .extend(said.into_iter().filter(|(_, times)| *times > SAID_MAX).map(|(what, times)| format!("{name}: {times} times: {what}")));
    }
    servers.stop().await?;
    assert!(problems.is_empty(), "lines above INFO:\n{}", problems.join("\n"));
    Ok(())
}

/// Asserts that the end of a log is that of a process that was asked to stop and had time enough.
fn assert_drained(name: &str, lines: &[Value]) -> Result<()> {
    let last = |message: &str| {
        let line = lines.iter().rev().find(|line| log::text(line, "message") == message);
        line.with_context(|| format!("{name} does not say that it is {message}"))
    };
    assert_eq!(log::text(last("stopping")?, "by"), "SIGTERM", "{name}");
    let took_ms = last("stopped")?.get("took_ms").and_then(Value::as_u64).context("took_ms")?;
    assert!(took_ms < GRACE_MS, "{name} took {took_ms} ms");
    Ok(())
}
