//! What the dead-letter service tells about itself. All names are described here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use idempo_clock::SharedClock;
use idempo_pg::Pool;
use jiff::{SignedDuration, Timestamp};
use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use crate::intake::chain;

const DEPTH: &str = "idempo_dlq_depth";
const OLDEST_AGE: &str = "idempo_dlq_oldest_age_seconds";
const REPLAYED: &str = "idempo_dlq_replayed_total";
const TAKEN_IN: &str = "idempo_dlq_taken_in_total";
const INQUIRIES: &str = "idempo_dlq_inquiries_total";
const RECONCILED: &str = "idempo_dlq_reconciled_total";
const TOKEN_FILE_BROKEN: &str = "idempo_dlq_token_file_broken";

/// How often open dead letters are counted.
const OBSERVE_INTERVAL: Duration = Duration::from_secs(10);
/// The most settled dead letters that are forgotten at once.
const FORGET_MAX: i32 = 10_000;
const HOURS_PER_DAY: i64 = 24;

/// Says what each metric is.
pub(crate) fn describe() {
    describe_gauge!(DEPTH, "Open dead letters, by topic and by why they were given up.");
    describe_gauge!(OLDEST_AGE, Unit::Seconds, "How long ago the oldest open dead letter of a topic failed first.");
    describe_counter!(REPLAYED, "Members of jobs that were settled, by what became of them.");
    describe_counter!(TAKEN_IN, "Dead letters that were read from a dead-letter topic, each as often as it was there.");
    describe_counter!(
        INQUIRIES,
        "Times that a consumer was asked what became of its open dead letters, by consumer group and how it answered."
    );
    describe_counter!(RECONCILED, "Open dead letters that had ended at their consumer without a job, by what they came to be.");
    describe_gauge!(
        TOKEN_FILE_BROKEN,
        "1 while the file with the token for consumers can't be read or has none, so that an earlier one is used."
    );
}

/// A consumer was asked what became of its open dead letters.
pub(crate) fn inquired(group: &str, outcome: &'static str) {
    counter!(INQUIRIES, "consumer_group" => group.to_owned(), "outcome" => outcome).increment(1);
}

/// Open dead letters had ended at their consumer.
pub(crate) fn reconciled(state: &str, letters: i64) {
    counter!(RECONCILED, "outcome" => state.to_owned()).increment(letters.unsigned_abs());
}

/// Whether the file with the token for consumers is what it must be.
pub(crate) fn token_file_broken(is_broken: bool) {
    gauge!(TOKEN_FILE_BROKEN).set(if is_broken { 1.0 } else { 0.0 });
}

/// Members of a job came to be so.
pub(crate) fn settled(outcome: &'static str, members: u64) {
    counter!(REPLAYED, "outcome" => outcome).increment(members);
}

/// Dead letters of a dead-letter topic were written.
pub(crate) fn taken_in(topic: &str, letters: usize) {
    counter!(TAKEN_IN, "topic" => topic.to_owned()).increment(u64::try_from(letters).unwrap_or(u64::MAX));
}

/// Counts open dead letters, and forgets those that were settled more than `keep_days` ago (0: none), until `cancel` is cancelled.
pub(crate) async fn observe(pool: &Pool, clock: &SharedClock, keep_days: u32, cancel: CancellationToken) {
    let mut rounds = interval(OBSERVE_INTERVAL);
    let mut shown = Shown::default();
    while cancel.run_until_cancelled(rounds.tick()).await.is_some() {
        let observed = async {
            shown.count(pool, clock.now()).await?;
            if keep_days > 0 { forget(pool, clock.now(), keep_days).await } else { Ok(()) }
        };
        if let Some(Err(error)) = cancel.run_until_cancelled(observed).await {
            tracing::debug!(error = chain(&error), "open dead letters could not be counted");
        }
    }
}

/// The gauges that are shown: what is no more is shown as 0, not as it was last.
#[derive(Default)]
struct Shown {
    depths: BTreeSet<(String, String)>,
    topics: BTreeSet<String>,
}

impl Shown {
    async fn count(&mut self, pool: &Pool, now: Timestamp) -> Result<(), idempo_pg::Error> {
        let client = pool.get().await?;
        let statement = client.prepare_cached(include_str!("sql/count_open.sql")).await?;
        let mut depths: BTreeMap<(String, String), i64> = self.depths.iter().map(|labels| (labels.clone(), 0)).collect();
        let mut ages: BTreeMap<String, f64> = self.topics.iter().map(|topic| (topic.clone(), 0.0)).collect();
        for row in client.query(&statement, &[]).await? {
            let (topic, disposition, letters, oldest): (String, String, i64, Timestamp) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
            let age = now.duration_since(oldest).as_secs_f64().max(0.0);
            let known = ages.entry(topic.clone()).or_default();
            *known = known.max(age);
            depths.insert((topic, disposition), letters);
        }
        for ((topic, disposition), letters) in depths {
            // More than 2^32 are shown as so many.
            let shown = f64::from(u32::try_from(letters).unwrap_or(u32::MAX));
            gauge!(DEPTH, "topic" => topic.clone(), "disposition" => disposition.clone()).set(shown);
            self.depths.insert((topic, disposition));
        }
        for (topic, age) in ages {
            gauge!(OLDEST_AGE, "topic" => topic.clone()).set(age);
            self.topics.insert(topic);
        }
        Ok(())
    }
}

async fn forget(pool: &Pool, now: Timestamp, keep_days: u32) -> Result<(), idempo_pg::Error> {
    let kept = SignedDuration::from_hours(i64::from(keep_days) * HOURS_PER_DAY);
    let Ok(before) = now.checked_sub(kept) else { return Ok(()) };
    let client = pool.get().await?;
    let statement = client.prepare_cached(include_str!("sql/forget_settled.sql")).await?;
    let forgotten: i64 = client.query_one(&statement, &[&before, &FORGET_MAX]).await?.try_get(0)?;
    if forgotten > 0 {
        tracing::info!(forgotten, keep_days, "dead letters that were settled long ago are forgotten");
    }
    Ok(())
}
