//! Real time: what was answered before something else was sent comes before it.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use crate::history::{Answer, History};
use crate::verdict::Verdict;

/// When a command was under way: from its first send to its first good answer.
struct Interval {
    invoked_us: u64,
    settled_us: u64,
}

/// On each stream, a command that was answered before another one was sent has the lower version. Commands that were under way at the same
/// moment may come in any order.
#[must_use]
pub fn real_time(history: &History) -> Verdict {
    let mut verdict = Verdict::new("I8", "what was answered before another command was sent has the lower version", "places on streams");
    let mut commands: HashMap<Uuid, Interval> = HashMap::new();
    let mut streams: BTreeMap<Uuid, BTreeMap<u64, Uuid>> = BTreeMap::new();
    for attempt in &history.attempts {
        let Some(command) = attempt.command else { continue };
        let interval = commands.entry(command).or_insert(Interval { invoked_us: u64::MAX, settled_us: u64::MAX });
        interval.invoked_us = interval.invoked_us.min(attempt.invoked_us);
        if matches!(attempt.answer, Answer::Replied { .. }) {
            interval.settled_us = interval.settled_us.min(attempt.settled_us);
            for (stream, version) in &attempt.position {
                streams.entry(*stream).or_default().insert(*version, command);
            }
        }
    }
    for (stream, versions) in &streams {
        // The latest send among the versions so far: whoever comes after them may not have been answered before it.
        let mut latest: Option<(u64, u64)> = None;
        for (version, command) in versions {
            let Some(interval) = commands.get(command) else { continue };
            let early = latest.filter(|(sent_us, _)| interval.settled_us < *sent_us);
            verdict.look(early.is_none(), || {
                let (sent_us, before) = early.unwrap_or_default();
                format!(
                    "stream {stream}: version {version} was answered at {} µs, and version {before} was sent only at {sent_us} µs",
                    interval.settled_us
                )
            });
            if latest.is_none_or(|(sent_us, _)| sent_us < interval.invoked_us) {
                latest = Some((interval.invoked_us, *version));
            }
        }
    }
    verdict
}
