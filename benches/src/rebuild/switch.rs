//! Switching to another generation and back while reads come at a fixed rate: how long nobody is answered.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::json;
use tokio::time::Instant;

use super::reads::{Read, Readers, latencies};
use super::stage::{FIRST, Stage};
use crate::Size;
use crate::report::{Bar, Measured, Report};

/// So much more often than beside a rebuild is read: by default a gap between two answers is about a millisecond where nothing is in their way.
const READS_FACTOR: u32 = 2;
/// How often it is switched, there and back, in each round.
const SWITCHES: u32 = 6;
/// How long before a switch is asked for, and after it is answered, a read counts as one over the switch: processes hear of it five times a second.
const AROUND: Duration = Duration::from_millis(300);
/// How long is waited between two.
const PAUSE: Duration = Duration::from_millis(800);
/// How long reads go on before those that count.
const WARM_UP: Duration = Duration::from_secs(1);
/// How long nobody is answered at most, in milliseconds.
const GAP_MAX_MS: f64 = 10.0;

/// A stretch of time.
#[derive(Debug, Clone, Copy)]
struct Window {
    from: Instant,
    to: Instant,
}

impl Window {
    fn has(&self, read: &Read) -> bool {
        read.answered >= self.from && read.due <= self.to
    }
}

/// Builds another generation and switches to it and back, in every round.
pub(super) async fn run(stage: &Stage, readers: &Arc<Readers>, size: Size, report: &mut Report) -> anyhow::Result<()> {
    let number = stage.start_rebuild().await?;
    stage.ready(number).await?;
    stage.verify(number).await?;
    for round in 1..=size.rounds {
        let reading = readers.begin(size.reads * READS_FACTOR);
        tokio::time::sleep(WARM_UP).await;
        let mut windows = Vec::new();
        for switch in 0..SWITCHES {
            tokio::time::sleep(PAUSE).await;
            let from = Instant::now() - AROUND;
            if switch.is_multiple_of(2) {
                stage.switch_to(number).await?
            } else {
                stage.roll_back().await?
            }
            windows.push(Window { from, to: Instant::now() + AROUND });
        }
        // As long without a switch.
        let from = Instant::now() + PAUSE;
        let length = windows.iter().map(|window| window.to - window.from).sum();
        let quiet = Window { from, to: from + length };
        tokio::time::sleep_until(quiet.to).await;
        let reads = reading.end().await.context("reading over switches")?;
        check(&reads, number)?;
        tell(&reads, &windows, quiet, round, report)?;
    }
    stage.remove(number).await
}

fn tell(reads: &[Read], windows: &[Window], quiet: Window, round: u32, report: &mut Report) -> anyhow::Result<()> {
    let quiet_gap = longest_gap(reads, &[quiet]);
    let gap = longest_gap(reads, windows);
    report.add(round, Measured::new("longest time without an answer", millis(quiet_gap), "ms"));
    let measured = Measured::new("the same over switches", millis(gap), "ms").beside(millis(quiet_gap));
    report.add(round, measured.bar(Bar::AtMost(GAP_MAX_MS)));
    let of = |windows: &[Window]| reads.iter().copied().filter(|read| windows.iter().any(|window| window.has(read))).collect::<Vec<_>>();
    let (still, switched) = (latencies(&of(&[quiet]))?, latencies(&of(windows))?);
    report.add(round, Measured::new("longest read", still.ms(1.0), "ms"));
    report.add(round, Measured::new("longest read over switches", switched.ms(1.0), "ms").beside(still.ms(1.0)));
    let asked: Vec<f64> = windows.iter().map(|window| millis((window.to - window.from).saturating_sub(2 * AROUND))).collect();
    report.sample(format!("how long each switch was asked for, ms, round {round}"), json!(asked));
    report.distribution(format!("reads over switches, µs, round {round}"), &switched);
    Ok(())
}

/// The reads were answered from the two generations in turn, as often as it was switched.
fn check(reads: &[Read], number: i32) -> anyhow::Result<()> {
    // In the order in which they were due: two that cross on the way are of one switch.
    let mut by_due = reads.to_vec();
    by_due.sort_unstable_by_key(|read| read.due);
    ensure!(by_due.iter().all(|read| read.generation == FIRST || read.generation == number), "a read was answered from a third generation");
    let turns = reads.windows(2).filter(|pair| matches!(pair, [a, b] if a.generation != b.generation)).count();
    ensure!(turns >= usize::try_from(SWITCHES)?, "the reads have seen {turns} switches of {SWITCHES}");
    let last = by_due.last().map(|read| read.generation);
    ensure!(last == Some(FIRST), "after the last way back reads are answered from generation {last:?}");
    Ok(())
}

/// The longest time between two answers in any of these.
fn longest_gap(reads: &[Read], windows: &[Window]) -> Duration {
    let of = |window: &Window| {
        let answers = reads.iter().map(|read| read.answered).filter(|at| *at >= window.from && *at <= window.to);
        let stops: Vec<Instant> = std::iter::once(window.from).chain(answers).chain(std::iter::once(window.to)).collect();
        stops.windows(2).filter_map(|pair| if let [a, b] = pair { Some(*b - *a) } else { None }).max().unwrap_or_default()
    };
    windows.iter().map(of).max().unwrap_or_default()
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_counts_from_the_edges_of_its_window_and_only_there() {
        let zero = Instant::now();
        let at = |ms: u64| zero + Duration::from_millis(ms);
        let reads = [10, 12, 40, 45, 200].map(|ms| Read { due: at(ms), answered: at(ms), generation: 1 });
        let window = |from, to| Window { from: at(from), to: at(to) };
        assert_eq!(longest_gap(&reads, &[window(10, 14)]).as_millis(), 2);
        assert_eq!(longest_gap(&reads, &[window(11, 45)]).as_millis(), 28);
        assert_eq!(longest_gap(&reads, &[window(40, 45), window(45, 60)]).as_millis(), 15);
    }
}
