//! `relay-steady`: the way from commit to the broker's append, at rates that do not follow how fast the relay is.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::time::MissedTickBehavior;

use super::broker::BareProducer;
use super::listener::{Heard, Listener};
use super::place::Place;
use super::rows::{Headers, KEYS, Rows};
use super::writers::{Offered, RATE_MAX, Written, write};
use crate::database::settle;
use crate::latency::Latencies;
use crate::report::{Bar, Cost, Measured, Report};
use crate::usage::Watch;
use crate::{Size, since_1970};

/// How long rows are written before the ones that count: everything is warm then.
const WARM_UP_SECONDS: u32 = 2;
/// How long writers without a rate show what can be sustained.
const SEARCH_SECONDS: u32 = 4;
/// How long the last rows may take.
const LAST_MAX: Duration = Duration::from_secs(60);

/// The load that the first bar is about.
const SINGLE: Offered = Offered { per_second: Some(1_000), per_transaction: 1, seconds: 0 };
/// Rows in transactions of ten.
const TENS: Offered = Offered { per_second: Some(5_000), per_transaction: 10, seconds: 0 };

/// A commit happens between the moment its COMMIT is sent and the moment it is answered, so the first two are bounds of
/// what "commit to append" is. The broker's clock has whole milliseconds, cut off: one is added, so that nothing is reported too small.
pub(super) struct Spreads {
    /// From when the COMMIT was sent: with its fsync.
    pub(super) sent_to_append: Latencies,
    /// From when it was answered. The relay may be faster than that answer: then it is 0.
    pub(super) answered_to_append: Latencies,
    /// From when the COMMIT was sent until a consumer had the record: an upper bound on clocks of this process alone.
    pub(super) sent_to_receipt: Latencies,
    /// From when the transaction was to begin: with what its writer was late.
    pub(super) due_to_append: Latencies,
}

/// Measures each load, `rounds` times in turn, beside a bare producer.
pub(crate) async fn run(size: Size, report: &mut Report) -> anyhow::Result<()> {
    let rows = Arc::new(Rows::new());
    for round in 1..=size.rounds {
        let place = Place::new(&rows).await?;
        let floor = bare(&place, &rows, size.seconds).await?;
        let name = "bare producer at 1,000/s, send to append";
        report.add(round, Measured::new(format!("{name}, p50"), floor.ms(0.5), "ms"));
        report.add(round, Measured::new(format!("{name}, p99"), floor.ms(0.99), "ms"));
        report.distribution(format!("{name}, µs, round {round}"), &floor);

        // The search goes last but one: a disk that is busy with what it left would be measured otherwise.
        let mut run = Run::new(&place, &rows);
        let bars = Bars { p50_ms: Some(3.0), p99_ms: Some(8.0) };
        run.measure(SINGLE, "1,000/s", bars, size, round, report).await?;
        run.measure(TENS, "5,000/s in transactions of 10", Bars::default(), size, round, report).await?;
        let sustained = run.search().await?;
        report.add(round, Measured::new("sustained: written and sent at once, transactions of 10", sustained, "events/s"));
        let (half, bars) = (Offered { per_second: Some(half(sustained)), ..TENS }, Bars { p50_ms: None, p99_ms: Some(20.0) });
        run.measure(half, "half of the sustained rate", bars, size, round, report).await?;
    }
    Ok(())
}

/// Half of a rate, in rows; a multiple of ten.
fn half(rate: f64) -> u32 {
    (1..RATE_MAX / 10).rev().map(|tens| tens * 10).find(|half| f64::from(*half) <= rate / 2.0).unwrap_or(10)
}

/// Loads on one outbox, one after the other; the numbers of their rows go up.
pub(super) struct Run<'a> {
    place: &'a Place,
    rows: &'a Arc<Rows>,
    next: u32,
}

impl<'a> Run<'a> {
    /// Rows are numbered from 0.
    pub(super) fn new(place: &'a Place, rows: &'a Arc<Rows>) -> Self {
        Self::after(place, rows, 0)
    }

    /// The first `used` numbers are used already.
    pub(super) fn after(place: &'a Place, rows: &'a Arc<Rows>, used: u32) -> Self {
        Self { place, rows, next: used.next_multiple_of(KEYS) }
    }

    /// Numbers that no load before has used. Each load begins with the first key, so that its keys have one writer each.
    fn numbers(&mut self, rows: u32) -> (u32, u32) {
        let from = self.next;
        self.next = (from + rows).next_multiple_of(KEYS);
        (from, from + rows)
    }

    /// How many rows a second come out at the broker while writers without a rate put in as many as they can: no more than they put in, and no
    /// more than the relay sends.
    pub(super) async fn search(&mut self) -> anyhow::Result<f64> {
        let offered = Offered { per_second: None, seconds: SEARCH_SECONDS, ..TENS };
        let (from, _) = self.numbers(offered.rows_max());
        let before = self.place.count()?;
        let mut relay = self.place.relay(&[]).await?;
        let began = Instant::now();
        let written = write(self.place, self.rows, offered, from).await?;
        let sent = self.place.count()? - before;
        let rate = crate::usage::float(sent) / began.elapsed().as_secs_f64();
        let rows = u64::try_from(written.len())? * u64::from(offered.per_transaction);
        self.place.wait_for(before + rows).await?;
        relay.stop().await?;
        let found = self.place.count()? - before;
        ensure!(found == rows, "{found} records for {rows} rows");
        Ok(rate)
    }

    async fn measure(&mut self, load: Offered, name: &str, bars: Bars, size: Size, round: u32, report: &mut Report) -> anyhow::Result<()> {
        let (spreads, cost) = self.load(load, size.seconds, &[]).await?;
        let spread =
            |what: &str, latencies| [(format!("{name}: {what}, p50"), latencies, 0.5), (format!("{name}: {what}, p99"), latencies, 0.99)];
        let figures = [
            spread("COMMIT sent to append", &spreads.sent_to_append),
            spread("COMMIT answered to append", &spreads.answered_to_append),
            spread("COMMIT sent to receipt", &spreads.sent_to_receipt),
        ];
        for (at, (figure, latencies, quantile)) in figures.into_iter().flatten().enumerate() {
            let (bar, cost) = match at {
                0 => (bars.p50_ms, cost),
                1 => (bars.p99_ms, Cost::default()),
                _ => (None, Cost::default()),
            };
            report.add(round, Measured::new(figure, latencies.ms(quantile), "ms").bar(bar.map(Bar::AtMost)).cost(cost));
        }
        let due = &spreads.due_to_append;
        report.add(round, Measured::new(format!("{name}: due to append, p99"), due.ms(0.99), "ms"));
        for (what, latencies) in [
            ("COMMIT sent to append", &spreads.sent_to_append),
            ("COMMIT answered to append", &spreads.answered_to_append),
            ("COMMIT sent to receipt", &spreads.sent_to_receipt),
            ("due to append", due),
        ] {
            report.distribution(format!("{name}: {what}, µs, round {round}"), latencies);
        }
        Ok(())
    }

    /// Writes at a rate for `seconds` beyond the warm-up, with a relay that has these settings, and checks what came of it.
    pub(super) async fn load(&mut self, load: Offered, seconds: u32, settings: &[(&str, String)]) -> anyhow::Result<(Spreads, Cost)> {
        let offered = Offered { seconds: seconds + WARM_UP_SECONDS, ..load };
        let (from, to) = self.numbers(offered.rows_max());
        settle(&self.place.client).await?;
        let mut relay = self.place.relay(settings).await?;
        let listener = Listener::start(self.place, &self.place.topic(), self.rows, from, to)?;
        let watch = Watch::begin(relay.pid(), self.place.postgres)?;
        let written = write(self.place, self.rows, offered, from).await?;
        let heard = hear(listener).await?;
        let cost = watch.cost(u64::from(to - from))?;
        relay.stop().await?;
        let rows = u64::try_from(heard.len())?;
        ensure!(rows == u64::from(to - from), "{rows} records for {} rows", to - from);
        let warm = from + load.per_second.unwrap_or(0) * WARM_UP_SECONDS;
        Ok((spreads(&written, &heard, offered.per_transaction, warm)?, cost))
    }
}

/// What p50 and p99 have to be, in milliseconds.
#[derive(Debug, Clone, Copy, Default)]
struct Bars {
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
}

async fn hear(listener: Listener) -> anyhow::Result<Vec<Heard>> {
    let began = Instant::now();
    while !listener.is_done() && began.elapsed() < LAST_MAX {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::task::block_in_place(|| listener.finish())
}

/// The latencies of the rows numbered from `warm` on.
fn spreads(written: &[Written], heard: &[Heard], per_transaction: u32, warm: u32) -> anyhow::Result<Spreads> {
    let by_first: HashMap<u32, &Written> = written.iter().map(|written| (written.first, written)).collect();
    let new = Latencies::new;
    let mut all = Spreads { sent_to_append: new()?, answered_to_append: new()?, sent_to_receipt: new()?, due_to_append: new()? };
    let base = written.iter().map(|written| written.first).min().unwrap_or(0);
    for heard in heard.iter().filter(|heard| heard.number >= warm) {
        let first = heard.number - (heard.number - base) % per_transaction;
        let written = by_first.get(&first).context("a record whose row nobody committed")?;
        let appended = Duration::from_millis(u64::try_from(heard.appended_ms + 1)?);
        all.sent_to_append.record(appended.saturating_sub(written.sent));
        all.answered_to_append.record(appended.saturating_sub(written.answered));
        all.sent_to_receipt.record(heard.received.saturating_sub(written.sent));
        all.due_to_append.record(appended.saturating_sub(written.due));
    }
    Ok(all)
}

/// What a producer needs that has the rows already: from handing one over to the broker's append, at 1,000 a second.
async fn bare(place: &Place, rows: &Arc<Rows>, seconds: u32) -> anyhow::Result<Latencies> {
    let topic = place.other_topic("bare").await?;
    let count = 1_000 * (seconds + WARM_UP_SECONDS);
    let listener = Listener::start(place, &topic, rows, 0, count)?;
    let mut producer = BareProducer::new(&place.brokers, 0)?;
    let mut due = tokio::time::interval(Duration::from_millis(1));
    due.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut sent = Vec::with_capacity(usize::try_from(count)?);
    for number in 0..count {
        due.tick().await;
        sent.push(since_1970()?);
        producer.send(rows, &topic, number, Headers::None)?;
    }
    let heard = hear(listener).await?;
    ensure!(heard.len() == sent.len(), "{} records of {} sent", heard.len(), sent.len());
    let mut latencies = Latencies::new()?;
    for heard in heard.iter().filter(|heard| heard.number >= 1_000 * WARM_UP_SECONDS) {
        let sent = sent.get(usize::try_from(heard.number)?).context("a record that was not sent")?;
        let appended = Duration::from_millis(u64::try_from(heard.appended_ms + 1)?);
        latencies.record(appended.saturating_sub(*sent));
    }
    Ok(latencies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_is_that_of_the_rows_own_transaction_and_never_too_small() {
        let at = Duration::from_millis;
        let written = |first, sent| Written { first, due: at(sent - 1), sent: at(sent), answered: at(sent + 2) };
        let heard = |number, appended_ms| Heard { number, appended_ms, received: at(200) };
        let (written, heard) = ([written(10, 100), written(20, 110)], [heard(19, 150), heard(20, 111), heard(29, 112)]);
        let found = spreads(&written, &heard, 10, 20).expect("all were committed");
        assert_eq!(found.sent_to_append.counts(), [[2_000, 1], [3_001, 1]], "to three digits");
        assert_eq!(found.answered_to_append.counts(), [[0, 1], [1_000, 1]], "one append came before the answer");
        assert!((found.sent_to_receipt.ms(0.0) - 90.0).abs() < 0.1);
        assert!(spreads(&written, &[Heard { number: 30, ..heard[0] }], 10, 0).is_err());
    }

    #[test]
    fn half_of_a_rate_is_whole_transactions() {
        assert_eq!((half(41_239.0), half(3.0)), (20_610, 10));
    }
}
