//! What the act with the poison came to: its figures, and how they are told.

use std::fmt;
use std::time::Duration;

use idempo_checker::report::grouped as number;

use super::kinds::Kind;
use super::witness::Seen;

/// Dead letters that were dealt with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settled {
    /// How many.
    pub letters: u64,
    /// Records that were applied by it: the letters themselves where they were replayed, and what waited behind them.
    pub records: u64,
    /// How long it took, with the command line's own start.
    pub took: Duration,
}

/// What came of a rebuild.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// The new generation's number.
    pub generation: i64,
    /// How long it took until it was ready.
    pub took: Duration,
    /// Rows that were compared with the live generation's.
    pub rows: u64,
    /// From the command to switch until the first read from the new generation.
    pub switch: Duration,
    /// From the command to roll back until the first read from the old generation.
    pub roll_back: Duration,
    /// Reads that were made all the while.
    pub reads: Vec<Seen>,
}

impl Rebuilt {
    /// The longest that one of these reads took.
    #[must_use]
    pub fn longest_read(&self) -> Duration {
        self.reads.iter().map(|read| read.took).max().unwrap_or_default()
    }
}

/// Everything there is to say about the act.
#[derive(Debug, Clone, Default)]
pub struct Mended {
    /// How many records of each kind.
    pub injected: Vec<(Kind, usize)>,
    /// From the last of them until all were parked.
    pub parked_after: Duration,
    /// Keys that were parked.
    pub keys: u64,
    /// Records that waited behind them.
    pub records: u64,
    /// How long a read took that waits for one of them, until it was refused.
    pub refused_read: Duration,
    /// Commands of other players that were settled in this act.
    pub other_commands: usize,
    /// Reads of other players that were answered while keys were parked, and the 99th percentile of how long they took.
    pub other_reads: (usize, Duration),
    /// What `idempo dlq groups` printed.
    pub groups: String,
    /// Records that the rehearsal said would be applied.
    pub rehearsed: u64,
    /// What was replayed.
    pub replayed: Settled,
    /// What was discarded.
    pub discarded: Settled,
    /// The rebuild.
    pub rebuilt: Rebuilt,
}

impl fmt::Display for Mended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: usize = self.injected.iter().map(|(_, count)| count).sum();
        let kinds: Vec<String> = self.injected.iter().map(|(kind, count)| format!("{count} {}", kind.name())).collect();
        writeln!(f, "Poison       {all} records into the topic under load: {}", kinds.join(", "))?;
        writeln!(
            f,
            "             {} keys parked after {}, {} later records of theirs behind them, in order",
            number(self.keys),
            millis(self.parked_after),
            number(self.records)
        )?;
        writeln!(f, "             a read that waits for such a key is refused at once (KEY_PARKED), after {}", millis(self.refused_read))?;
        writeln!(
            f,
            "             meanwhile {} reads of other players showed what they had just written, p99 {}; {} commands of theirs",
            number(self.other_reads.0),
            millis(self.other_reads.1),
            number(self.other_commands)
        )?;
        writeln!(f, "             $ idempo dlq groups")?;
        for line in self.groups.lines() {
            writeln!(f, "             {line}")?;
        }
        writeln!(
            f,
            "             the trigger is gone: rehearsed ({} records would be applied), then {} replayed with {} records in {}",
            number(self.rehearsed),
            number(self.replayed.letters),
            number(self.replayed.records),
            millis(self.replayed.took)
        )?;
        writeln!(
            f,
            "             {} discarded, with a reason; {} records behind them were applied, in {}",
            number(self.discarded.letters),
            number(self.discarded.records),
            millis(self.discarded.took)
        )?;
        let rebuilt = &self.rebuilt;
        writeln!(
            f,
            "Rebuild      generation {} from the event store, under load, in {}; {} rows compared with the live one's",
            rebuilt.generation,
            millis(rebuilt.took),
            number(rebuilt.rows)
        )?;
        writeln!(
            f,
            "             switched: read from it after {}; rolled back after {}; {} reads all the while, the longest {}",
            millis(rebuilt.switch),
            millis(rebuilt.roll_back),
            number(rebuilt.reads.len()),
            millis(rebuilt.longest_read())
        )
    }
}

fn millis(duration: Duration) -> String {
    let micros = duration.as_micros();
    if micros < 10_000 { format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100) } else { format!("{} ms", number(micros / 1_000)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_has_its_place_in_the_account() {
        let reads = vec![Seen { took: Duration::from_millis(7), generation: Some(2) }; 3];
        let mended = Mended {
            injected: vec![(Kind::Garbage, 11), (Kind::Refused, 12)],
            keys: 1_013,
            records: 1_014,
            groups: "CODE  COUNT\nUNDECODABLE_RECORD  11".to_owned(),
            replayed: Settled { letters: 15, records: 16, took: Duration::from_millis(17) },
            discarded: Settled { letters: 18, records: 19, took: Duration::from_millis(20) },
            rebuilt: Rebuilt { generation: 2, rows: 21_000, reads, ..Rebuilt::default() },
            ..Mended::default()
        };
        let text = mended.to_string();
        for part in [
            "23 records",
            "11 of garbage",
            "1,013 keys",
            "1,014 later",
            "UNDECODABLE_RECORD",
            "15 replayed with 16",
            "18 discarded",
            "21,000",
            "3 reads",
            "7.0 ms",
        ] {
            assert!(text.contains(part), "«{part}» is missing: {text}");
        }
    }
}
