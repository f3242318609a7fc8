//! I13: after the last fault everything goes on, and comes to rest.

use std::collections::HashMap;

use crate::evidence::Evidence;
use crate::facts::{IdleTransaction, Outbox, Topic, View};
use crate::history::{Answer, History};
use crate::verdict::Verdict;

/// I13 on the outboxes: everything is in Kafka, and somebody holds the lease.
#[must_use]
pub fn no_backlog(outboxes: &[Outbox]) -> Verdict {
    let mut verdict = Verdict::new("I13", "every outbox is relayed to its end", "outboxes");
    for outbox in outboxes {
        verdict.look(outbox.backlog_rows == 0, || format!("{}: {} rows are not in Kafka", outbox.name, outbox.backlog_rows));
        verdict.require(outbox.held && outbox.owner.is_some(), || format!("{}: no relay holds the outbox", outbox.name));
    }
    verdict
}

/// I13 on the read model: no record is beyond its checkpoints.
#[must_use]
pub fn no_lag(view: &View, topics: &[Topic]) -> Verdict {
    let mut verdict = Verdict::new("I13", "the read model has read everything", "partitions");
    let next: HashMap<(&str, i32), i64> =
        view.checkpoints.iter().map(|checkpoint| ((checkpoint.topic.as_str(), checkpoint.partition), checkpoint.next_offset)).collect();
    for topic in topics {
        for partition in 0..topic.partitions {
            let next = next.get(&(topic.name.as_str(), partition)).copied().unwrap_or(0);
            let left = topic.records.iter().filter(|record| record.partition == partition && record.offset >= next).count();
            verdict.look(left == 0, || format!("{} partition {partition}: {left} records from {next} on are not read", topic.name));
        }
    }
    verdict
}

/// I13 on sessions: none is left in a transaction.
#[must_use]
pub fn no_idle_transaction(databases: usize, idle: &[IdleTransaction]) -> Verdict {
    let mut verdict = Verdict::new("I13", "no session is idle in a transaction", "databases");
    verdict.looked_at(databases);
    for session in idle {
        verdict.require(false, || {
            format!("{}: {} ({}) is idle in transaction for {} ms", session.database, session.user, session.application, session.idle_ms)
        });
    }
    verdict
}

/// I13 on dead letters: as many as poison was injected.
#[must_use]
pub fn only_poison_is_dead(dead_letters: &[Topic], poison_injected: u64) -> Verdict {
    let mut verdict = Verdict::new("I13", "dead letters are the poison that was injected", "dead-letter topics");
    verdict.looked_at(dead_letters.len());
    let dead: usize = dead_letters.iter().map(|topic| topic.records.len()).sum();
    verdict.require(u64::try_from(dead) == Ok(poison_injected), || format!("{dead} dead letters, and {poison_injected} were injected"));
    verdict
}

/// I13 after the last fault: a command that was sent then was applied.
#[must_use]
pub fn progress_resumes(history: &History, last_fault_us: u64) -> Verdict {
    let mut verdict = Verdict::new("I13", "progress resumes after the last fault", "commands sent after it");
    let after = || history.attempts.iter().filter(|attempt| attempt.invoked_us > last_fault_us);
    verdict.looked_at(after().count());
    verdict.require(after().any(|attempt| matches!(attempt.answer, Answer::Replied { .. })), || {
        format!("no command that was sent after {last_fault_us} µs was applied")
    });
    verdict
}

/// All of I13 that there is evidence for.
#[must_use]
pub fn all(evidence: &Evidence, poison_injected: u64) -> Vec<Verdict> {
    let mut verdicts = vec![no_backlog(&evidence.outboxes), no_idle_transaction(evidence.stores.len(), &evidence.idle)];
    verdicts.extend(evidence.view.as_ref().map(|view| no_lag(view, &evidence.topics)));
    if evidence.ops.is_none() && (!evidence.dead_letters.is_empty() || poison_injected > 0) {
        verdicts.push(only_poison_is_dead(&evidence.dead_letters, poison_injected));
    }
    verdicts.extend(evidence.last_fault_us.map(|at| progress_resumes(&evidence.history, at)));
    verdicts
}
