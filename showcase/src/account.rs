//! The account of a run: what happened, the figures, and each invariant with how much was looked at.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use idempo_checker::Report;
use idempo_checker::checks::vacuity::{Seen, Trouble};
use idempo_checker::ledger::account_name;
use idempo_checker::report::grouped as number;
use idempo_proto::event::v1::Asset;

use crate::figures::{Sent, Spread};
use crate::load::Size;
use crate::poison::mended::Mended;
use crate::takeover::Killed;

/// Everything there is to say about a run.
#[derive(Debug)]
pub struct Account {
    /// How much was asked for.
    pub size: Size,
    /// How long servers and platform took to start.
    pub started_after: Duration,
    /// How long the load took.
    pub load_took: Duration,
    /// How long everything took.
    pub took: Duration,
    /// What was sent.
    pub sent: Sent,
    /// What was met.
    pub seen: Seen,
    /// The killed relay.
    pub killed: Killed,
    /// The poison, and what an operator did about it.
    pub mended: Mended,
    /// Events in each store, by its name.
    pub events: Vec<(String, usize)>,
    /// Records in the topic.
    pub records: usize,
    /// Records that repeat an earlier one.
    pub duplicates: u64,
    /// From an event's decision to its record.
    pub to_kafka: Spread,
    /// The most events that the read model said it was behind during the load.
    pub lag_events_max: i64,
    /// Reads made at the end.
    pub read_back: u64,
    /// What the system accounts have, by account and asset.
    pub system: BTreeMap<(i32, i32), i128>,
    /// What the checks say.
    pub report: Report,
}

impl Account {
    /// Whether every claim holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.report.holds()
    }

    fn load(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sent = &self.sent;
        let per_second = u128::try_from(sent.commands).unwrap_or(u128::MAX).saturating_mul(1_000) / self.load_took.as_millis().max(1);
        writeln!(
            f,
            "Load         {} players, {} clients: {} commands in {} sends, {} ({} commands/s)",
            number(self.size.players),
            self.size.clients,
            number(sent.commands),
            number(sent.sends),
            seconds(self.load_took),
            number(per_second),
        )?;
        writeln!(
            f,
            "             {} applied, {} refused by the rules, {} malformed",
            number(sent.applied),
            number(sent.refused),
            number(sent.malformed)
        )?;
        writeln!(
            f,
            "             sent twice: {} at the same moment, {} later, {} with another payload; {} were answered from memory",
            number(sent.twins),
            number(sent.again),
            number(sent.changed),
            number(self.seen.count(Trouble::Replayed))
        )?;
        writeln!(f, "             {} outcomes were unknown at first and settled by the same key", number(sent.unknown))?;
        writeln!(f, "             an answer took p50 {}, p99 {}", millis(&sent.latency, 0.5), millis(&sent.latency, 0.99))
    }

    fn relay(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Relay        {} was killed (SIGKILL) in the middle of it, and the stand-by took over:", self.killed.relay)?;
        for takeover in &self.killed.takeovers {
            writeln!(
                f,
                "             outbox {:<10} lease after {} ms, events moved again after {} ms",
                takeover.outbox,
                takeover.lease_after.as_millis(),
                takeover.moved_after.as_millis()
            )?;
        }
        Ok(())
    }

    fn flow(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let events: Vec<String> = self.events.iter().map(|(store, count)| format!("{} of {store}", number(count))).collect();
        writeln!(
            f,
            "Kafka        events {} are {} records: {} duplicates",
            events.join(" and "),
            number(self.records),
            number(self.duplicates)
        )?;
        writeln!(
            f,
            "             decided → in Kafka p50 {}, p99 {}, longest {} (the takeover)",
            millis(&self.to_kafka, 0.5),
            millis(&self.to_kafka, 0.99),
            millis(&self.to_kafka, 1.0)
        )?;
        writeln!(
            f,
            "Read model   {} reads of a write just made, visible after p50 {}, p99 {}; at most {} events behind",
            number(self.sent.visible.count()),
            millis(&self.sent.visible, 0.5),
            millis(&self.sent.visible, 0.99),
            number(self.lag_events_max)
        )?;
        writeln!(f, "             {} reads at the end showed every player's last position", number(self.read_back))?;
        let of = |asset: Asset| {
            let accounts = self.system.iter().filter(move |((_, one), _)| *one == i32::from(asset));
            accounts.map(|((account, _), sum)| format!("{} {}", account_name(*account), number(*sum))).collect::<Vec<_>>().join(", ")
        };
        writeln!(f, "Money        COIN: {}; STAMP: {}", of(Asset::Coin), of(Asset::Stamp))
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nSeed {}. Servers and platform were up after {}.\n", self.size.seed, seconds(self.started_after))?;
        self.load(f)?;
        self.relay(f)?;
        self.flow(f)?;
        write!(f, "{}", self.mended)?;
        writeln!(f, "\n{}", self.report)?;
        let took = seconds(self.took);
        match self.report.broken().count() {
            0 => writeln!(f, "\nEvery claim holds. {took} in all."),
            count => writeln!(
                f,
                "\n{count} of {} claims do not hold; --seed {} plays it again. {took} in all.",
                self.report.verdicts.len(),
                self.size.seed
            ),
        }
    }
}

fn seconds(duration: Duration) -> String {
    format!("{}.{} s", duration.as_secs(), duration.subsec_millis() / 100)
}

fn millis(spread: &Spread, share: f64) -> String {
    let micros = spread.quantile(share).as_micros();
    if micros < 10_000 { format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100) } else { format!("{} ms", number(micros / 1_000)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_times_have_a_digit_more() {
        let spread = |micros| Spread::of([micros]).expect("good bounds");
        assert_eq!(millis(&spread(1_250), 0.5), "1.2 ms");
        assert_eq!(millis(&spread(61_000), 0.5), "61 ms");
        assert_eq!(seconds(Duration::from_millis(1_250)), "1.2 s");
    }
}
