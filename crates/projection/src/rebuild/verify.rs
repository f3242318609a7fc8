//! Comparing a generation with the live one, row by row.
//!
//! Both follow the topic, so at most moments they have different events, and their rows differ as they should. For a moment both consumers are held:
//! first where they stand, then at the greater of their offsets, for each partition. When they have come to it, one snapshot shows both with the same
//! events, the consumers go on, and the comparison takes its time on the snapshot. The live generation stands still for about a second.
//!
//! That the two have the same events is read in that snapshot and not believed of the consumers: where the offsets are not the same there, the versions
//! of the streams decide. If those are the same, so are the events. If they are not, nothing is said about the rows: the comparison has failed,
//! and can be asked for again. If the offsets are the same and the versions are not, one of the two lost an event or has one too many, and that is a
//! difference like any other.
//!
//! Tables are compared in 256 parts by 128 bits of fingerprint that follow from the part's rows in any order; a sample of what differs is read of the parts
//! whose fingerprints do. Against the fold of the event store a generation is compared by having that fold: a rebuild from the event store.

use std::collections::BTreeMap;
use std::time::Duration;

use idempo_pg::{Client, Transaction};
use tokio::time::{Instant, sleep};
use tokio_postgres::IsolationLevel;

use super::Rebuildable;
use super::conduct::Conductor;
use super::scan::Failure;
use crate::generations::Known;
use crate::projector::Projector;

/// How long consumers are held at most when whoever holds them is killed, in milliseconds.
const HOLD_MS: i64 = 15_000;
/// How long it may take until both generations stand at the same offsets.
const MEETING_MAX: Duration = Duration::from_secs(10);
/// How long consumers are given to hear that they are held, and to end their batches.
const HEARD_AFTER: Duration = Duration::from_millis(600);
/// How often it is looked whether they stand.
const STAND_INTERVAL: Duration = Duration::from_millis(50);
/// The most rows of a sample, of one table and of all.
const SAMPLE_TABLE_ROWS_MAX: i32 = 25;
const SAMPLE_ROWS_MAX: usize = 100;
/// The table of the streams' versions.
const VERSIONS: &str = "stream_version";

/// Offsets by partition, of two generations.
type Positions = BTreeMap<i32, (i64, i64)>;

/// A table's fingerprint of a part: rows, and 128 bits.
type Fingerprint = (i64, i64, i64);

/// What came of it.
#[derive(Default)]
struct Findings {
    rows: i64,
    buckets: i32,
    different: i32,
    sample: Vec<serde_json::Value>,
    /// Whether the streams' versions differ.
    versions_differ: bool,
}

impl<P: Projector, T: Rebuildable<Writes = P::Writes>> Conductor<P, T> {
    pub(super) async fn verify(&self, known: &Known, generation: i32) -> Result<(), Failure> {
        let live = known.live;
        let control = self.control.get().await?;
        let statement = control.prepare_cached(include_str!("../sql/begin_verification.sql")).await?;
        control.execute(&statement, &[&P::NAME, &generation, &live]).await?;
        let mut client = self.control.get().await?;
        let transaction = self.meet(&control, &mut client, live, generation).await;
        // Whatever came of it, nobody is held any longer.
        let statement = control.prepare_cached(include_str!("../sql/release.sql")).await?;
        control.execute(&statement, &[&P::NAME, &vec![live, generation]]).await?;
        let (transaction, met) = transaction?;
        let findings = compare::<P>(&transaction, live, generation).await?;
        transaction.rollback().await?;
        if findings.versions_differ && !met {
            return Err(Failure::Never(
                "NOT_AT_THE_SAME_EVENTS",
                "the two generations did not come to the same offsets in time".to_owned(),
            ));
        }
        let state = if findings.different == 0 { "equal" } else { "different" };
        tracing::info!(projection = P::NAME, generation, live, state, findings.rows, findings.different, "the generation is compared");
        let sample = serde_json::Value::Array(findings.sample).to_string();
        self.end_verification(generation, state, (findings.rows, findings.buckets, findings.different), &sample, None).await?;
        Ok(())
    }

    /// Says that a comparison could not be done.
    pub(super) async fn end_unverified(&self, generation: i32, failure: &str) -> Result<(), idempo_pg::Error> {
        self.end_verification(generation, "failed", (0, 0, 0), "[]", Some(failure)).await
    }

    async fn end_verification(
        &self,
        generation: i32,
        state: &str,
        (rows, buckets, different): (i64, i32, i32),
        sample: &str,
        failure: Option<&str>,
    ) -> Result<(), idempo_pg::Error> {
        let client = self.control.get().await?;
        let statement = client.prepare_cached(include_str!("../sql/end_verification.sql")).await?;
        client.execute(&statement, &[&P::NAME, &generation, &state, &rows, &buckets, &different, &sample, &failure]).await?;
        Ok(())
    }

    /// A snapshot, and whether it shows both generations at the same offsets.
    async fn meet<'a>(
        &self,
        control: &Client,
        client: &'a mut Client,
        live: i32,
        generation: i32,
    ) -> Result<(Transaction<'a>, bool), Failure> {
        let partitions = self.conducted.layout.options.partitions;
        let deadline = Instant::now() + MEETING_MAX;
        // Where they stand; an offset of 0 is beyond nothing.
        self.hold(control, (live, generation), &(0..partitions).map(|partition| (partition, (0, 0))).collect()).await?;
        sleep(HEARD_AFTER).await;
        let stand = positions::<P>(control, live, generation).await?;
        let goal: Positions = stand.iter().map(|(partition, (a, b))| (*partition, (*a.max(b), *a.max(b)))).collect();
        self.hold(control, (live, generation), &goal).await?;
        while Instant::now() < deadline && positions::<P>(control, live, generation).await?.values().any(|(a, b)| a != b) {
            sleep(STAND_INTERVAL).await;
        }
        let transaction = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true).start().await?;
        transaction.batch_execute(include_str!("../sql/no_statement_timeout.sql")).await?;
        let rows = transaction.query(include_str!("../sql/positions.sql"), &[&P::NAME, &vec![live, generation]]).await?;
        let met = by_partition(&rows, live)?.values().all(|(a, b)| a == b);
        Ok((transaction, met))
    }

    async fn hold(&self, control: &Client, (live, generation): (i32, i32), before: &Positions) -> Result<(), Failure> {
        let generations: Vec<i32> = before.iter().flat_map(|_| [live, generation]).collect();
        let partitions: Vec<i32> = before.keys().flat_map(|partition| [*partition, *partition]).collect();
        let offsets: Vec<i64> = before.values().flat_map(|(a, b)| [*a, *b]).collect();
        let statement = control.prepare_cached(include_str!("../sql/hold.sql")).await?;
        control.execute(&statement, &[&P::NAME, &generations, &partitions, &offsets, &HOLD_MS]).await?;
        Ok(())
    }
}

async fn positions<P: Projector>(client: &Client, live: i32, generation: i32) -> Result<Positions, Failure> {
    let statement = client.prepare_cached(include_str!("../sql/positions.sql")).await?;
    let rows = client.query(&statement, &[&P::NAME, &vec![live, generation]]).await?;
    Ok(by_partition(&rows, live)?)
}

/// The offsets of both, 0 where one has not begun.
fn by_partition(rows: &[tokio_postgres::Row], live: i32) -> Result<Positions, tokio_postgres::Error> {
    let mut positions = Positions::new();
    for row in rows {
        let (generation, partition, next_offset): (i32, i32, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let both = positions.entry(partition).or_default();
        *(if generation == live { &mut both.0 } else { &mut both.1 }) = next_offset;
    }
    Ok(positions)
}

/// Compares all tables of two generations as one snapshot shows them.
async fn compare<P: Projector>(transaction: &Transaction<'_>, live: i32, generation: i32) -> Result<Findings, Failure> {
    let mut findings = Findings::default();
    for row in transaction.query(include_str!("../sql/compared_tables.sql"), &[]).await? {
        let (table, keys): (String, Vec<String>) = (row.try_get(0)?, row.try_get(1)?);
        let key = keys.first().cloned().unwrap_or_default();
        let expected = fingerprints::<P>(transaction, live, &table, &key).await?;
        let found = fingerprints::<P>(transaction, generation, &table, &key).await?;
        let all: std::collections::BTreeSet<i32> = expected.keys().chain(found.keys()).copied().collect();
        let different: Vec<i32> = all.iter().copied().filter(|bucket| expected.get(bucket) != found.get(bucket)).collect();
        findings.rows = findings.rows.saturating_add(found.values().map(|(rows, ..)| *rows).sum());
        findings.buckets = findings.buckets.saturating_add(count(all.len()));
        findings.different = findings.different.saturating_add(count(different.len()));
        findings.versions_differ |= table == VERSIONS && !different.is_empty();
        if !different.is_empty() && findings.sample.len() < SAMPLE_ROWS_MAX {
            let sql = include_str!("../sql/differences.sql");
            let rows = transaction.query(sql, &[&P::NAME, &live, &generation, &table, &keys, &different, &SAMPLE_TABLE_ROWS_MAX]).await?;
            for row in rows.iter().take(SAMPLE_ROWS_MAX - findings.sample.len()) {
                let (key, live_row, other): (String, Option<String>, Option<String>) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
                findings.sample.push(serde_json::json!({"table": table, "key": key, "live_row": live_row, "row": other}));
            }
        }
    }
    Ok(findings)
}

async fn fingerprints<P: Projector>(
    transaction: &Transaction<'_>,
    generation: i32,
    table: &str,
    key: &str,
) -> Result<BTreeMap<i32, Fingerprint>, Failure> {
    let rows = transaction.query(include_str!("../sql/fingerprints.sql"), &[&P::NAME, &generation, &table, &key]).await?;
    let read = |row: &tokio_postgres::Row| Ok((row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?)));
    Ok(rows.iter().map(read).collect::<Result<_, tokio_postgres::Error>>()?)
}

fn count(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}
