//! The account of a run: what was done, what came of it, and each claim with how much was looked at.

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use idempo_checker::checks::vacuity::{Seen, Trouble};
use idempo_checker::facts::DeadLetters;
use idempo_checker::history::{Answer, History, Purpose};
use idempo_checker::report::grouped;
use idempo_checker::{Evidence, Report};

use crate::logs::{Happening, Heard};
use crate::run::Took;
use crate::scrape::Totals;
use crate::timeline::{Timeline, seconds};

/// How many kinds of warnings are shown.
const WARNINGS_SHOWN: usize = 12;

/// What was sent and what came of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sent {
    /// Commands, each with a key of its own.
    pub commands: usize,
    /// Sends of commands, all in all.
    pub sends: usize,
    /// Commands that were applied.
    pub applied: usize,
    /// Sends with an unknown outcome.
    pub unknown: usize,
    /// Commands with at least one of those.
    pub commands_unknown: usize,
    /// Reads with a position.
    pub reads: usize,
}

impl Sent {
    /// Counts a history.
    #[must_use]
    pub fn of(history: &History) -> Self {
        let attempts = &history.attempts;
        let unknown = || attempts.iter().filter(|attempt| !attempt.answer.is_definite());
        let applied = attempts.iter().filter(|attempt| matches!(attempt.answer, Answer::Replied { .. }));
        Self {
            commands: attempts.iter().filter(|attempt| attempt.purpose == Purpose::First).count(),
            sends: attempts.len(),
            applied: applied.filter_map(|attempt| attempt.key).collect::<HashSet<_>>().len(),
            unknown: unknown().count(),
            commands_unknown: unknown().filter_map(|attempt| attempt.key).collect::<HashSet<_>>().len(),
            reads: history.reads.len(),
        }
    }
}

/// What people had to settle, and did.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settling {
    /// Records that were put into the topic.
    pub injected: usize,
    /// Dead letters.
    pub letters: usize,
    /// Those of them that are applied after all, or gone because they were.
    pub applied: usize,
    /// Jobs that were begun.
    pub jobs: usize,
    /// Reads that were refused because what they waited for was parked.
    pub refused_reads: usize,
}

impl Settling {
    /// Counts what has become of dead letters.
    #[must_use]
    pub fn of(dead: &DeadLetters, evidence: &Evidence) -> Self {
        Self {
            injected: evidence.poison.len(),
            letters: dead.letters.len(),
            applied: dead.letters.iter().filter(|letter| ["replayed", "gone"].contains(&letter.state.as_str())).count(),
            jobs: dead.jobs.iter().filter(|job| job.begun).count(),
            refused_reads: evidence.history.reads.iter().filter(|read| !read.refused.is_empty()).count(),
        }
    }
}

/// Everything there is to say about a run.
#[derive(Debug)]
pub struct Account {
    /// What everything random came from.
    pub seed: u64,
    /// How long the load played.
    pub length: Duration,
    /// What was sent.
    pub sent: Sent,
    /// Events in each store.
    pub events: Vec<usize>,
    /// Records in Kafka.
    pub records: usize,
    /// What was met.
    pub seen: Seen,
    /// What people had to settle; `None` where there was no poison.
    pub settling: Option<Settling>,
    /// The faults.
    pub timeline: Timeline,
    /// What the processes counted.
    pub(crate) counters: Totals,
    /// Answers to services' commits that were lost.
    pub swallowed: usize,
    /// What the logs say.
    pub heard: Heard,
    /// How long each part took.
    pub took: Took,
    /// What the checks say.
    pub report: Report,
}

impl Account {
    /// Whether every claim holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.report.holds()
    }

    fn figures(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sent = &self.sent;
        writeln!(
            f,
            "Load     {} commands in {} sends in {}: {} applied; {} sends of {} commands had an unknown outcome",
            grouped(sent.commands),
            grouped(sent.sends),
            seconds(self.length),
            grouped(sent.applied),
            grouped(sent.unknown),
            grouped(sent.commands_unknown),
        )?;
        writeln!(
            f,
            "Kafka    {} events are {} records: {} duplicates",
            self.events.iter().map(grouped).collect::<Vec<_>>().join(" + "),
            grouped(self.records),
            grouped(self.seen.count(Trouble::Duplicate))
        )?;
        writeln!(
            f,
            "Met      {} take-overs, {} fences, {} lost COMMIT answers, {} answers from memory, {} producers replaced, {} reads with a position",
            grouped(self.seen.count(Trouble::Takeover)),
            grouped(self.seen.count(Trouble::Fenced)),
            grouped(self.swallowed),
            grouped(self.seen.count(Trouble::Replayed)),
            grouped(self.heard.count(Happening::ProducerFailed)),
            grouped(sent.reads),
        )?;
        if let Some(Settling { injected, letters, applied, jobs, refused_reads }) = self.settling {
            writeln!(
                f,
                "Poison   {injected} records; {letters} dead letters, {applied} of them applied in the end; {} records parked behind them; {jobs} jobs, whose \
                 service was killed {} times in the middle; {refused_reads} reads refused",
                grouped(self.seen.count(Trouble::Parked)),
                self.seen.count(Trouble::Interrupted),
            )?;
        }
        let counters = self.counters.iter().map(|(name, value)| format!("{name} {}", grouped(*value)));
        writeln!(f, "Counted  {}", counters.collect::<Vec<_>>().join(", "))?;
        let Took { start, play, drain, check } = self.took;
        writeln!(f, "Took     start {}, play {}, drain {}, check {}", seconds(start), seconds(play), seconds(drain), seconds(check))
    }

    fn warnings(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut warnings: Vec<(&String, &u64)> = self.heard.warnings.iter().collect();
        warnings.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        for (warning, count) in warnings.iter().take(WARNINGS_SHOWN) {
            writeln!(f, "  {count:>5} × {warning}")?;
        }
        let left = warnings.len().saturating_sub(WARNINGS_SHOWN);
        if left > 0 { writeln!(f, "  and {left} other warnings, in logs.json") } else { Ok(()) }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nSeed {}\n\n{}\n", self.seed, self.timeline)?;
        self.figures(f)?;
        writeln!(f, "\nWarnings")?;
        self.warnings(f)?;
        writeln!(f, "\n{}", self.report)?;
        match self.report.broken().count() {
            0 => writeln!(f, "Every claim holds. Seed {}.", self.seed),
            count => writeln!(
                f,
                "{count} of {} claims do not hold; --seed {} with the same options draws the same faults.",
                self.report.verdicts.len(),
                self.seed
            ),
        }
    }
}
