//! Comparing a generation, row by row: with the live one, or with the fold of the event store (module [`fold`]).
//!
//! Two generations follow the topic, so at most moments they have different events, and their rows differ as they should. For a moment both consumers are
//! held: first where they stand, then at the greater of their offsets, for each partition. When they have come to it, one snapshot shows both with the same
//! events, the consumers go on, and the comparison takes its time on the snapshot. The live generation stands still for about a second.
//!
//! That the two have the same events is read in that snapshot and not believed of the consumers: where the offsets are not the same there, the versions
//! of the streams decide. If those are the same, so are the events. If they are not, nothing is said about the rows: the comparison has failed,
//! and can be asked for again. If the offsets are the same and the versions are not, one of the two lost an event or has one too many, and that is a
//! difference like any other.
//!
//! Tables are compared in 256 parts by 128 bits of fingerprint that follow from the part's rows in any order; a sample of what differs is read of the parts
//! whose fingerprints do.
//!
//! To be equal to the live generation says that the two are alike. Where it is the live one that is wrong, the right one differs from it: that is what
//! the comparison with the fold is for.

mod compare;
mod fold;

use std::collections::BTreeMap;
use std::time::Duration;

use idempo_pg::{Client, Transaction};
use serde_json::Value;
use tokio::time::{Instant, sleep};
use tokio_postgres::IsolationLevel;
use tokio_postgres::types::ToSql;

use super::Rebuildable;
use super::conduct::Conductor;
use super::scan::Failure;
use crate::generations::Known;
use crate::generations::known::Against;
use crate::projector::Projector;
use compare::{Findings, Pair, tables_of};

/// How long consumers are held at most when whoever holds them is killed, in milliseconds.
const HOLD_MS: i64 = 15_000;
/// How long it may take until both generations stand at the same offsets.
const MEETING_MAX: Duration = Duration::from_secs(10);
/// How long consumers are given to hear that they are held, and to end their batches.
const HEARD_AFTER: Duration = Duration::from_millis(600);
/// How often it is looked whether they stand.
const STAND_INTERVAL: Duration = Duration::from_millis(50);
/// The most rows of the sample.
const SAMPLE_ROWS_MAX: usize = 100;

/// Offsets by partition, of two generations.
type Positions = BTreeMap<i32, (i64, i64)>;

/// What came of a comparison.
struct Verdict<'a> {
    /// By its name at rest.
    state: &'a str,
    findings: &'a Findings,
    /// Of a comparison with the fold: parts that differ from those of the live generation.
    live_different: i32,
    failure: Option<&'a str>,
}

impl<P: Projector, T: Rebuildable<Writes = P::Writes>> Conductor<P, T> {
    pub(super) async fn verify(&self, known: &Known, generation: i32, against: Against) -> Result<(), Failure> {
        let live = known.live;
        let control = self.control.get().await?;
        let statement = control.prepare_cached(include_str!("../../sql/begin_verification.sql")).await?;
        if control.execute(&statement, &[&P::NAME, &generation, &live, &against.name()]).await? == 0 {
            return Err(Failure::GivenUp);
        }
        let (findings, live_different) = match against {
            Against::Live => (self.verify_with_live(&control, live, generation).await?, 0),
            Against::Fold => self.verify_with_fold(&control, live, generation).await?,
        };
        fail::fail_point!(crate::failpoint::VERIFY_COMPARED);
        let state = if findings.different == 0 { "equal" } else { "different" };
        let against_what = against.name();
        tracing::info!(
            projection = P::NAME,
            generation,
            live,
            against = against_what,
            state,
            findings.rows,
            findings.different,
            "the generation is compared"
        );
        self.end_verification(generation, against, &Verdict { state, findings: &findings, live_different, failure: None }).await?;
        Ok(())
    }

    /// Compares with the live generation.
    async fn verify_with_live(&self, control: &Client, live: i32, generation: i32) -> Result<Findings, Failure> {
        let mut client = self.control.get().await?;
        let met = self.bring_together(control, (live, generation), MEETING_MAX).await;
        let transaction = match met {
            Ok(()) => self.snapshot(&mut client).await,
            Err(failure) => Err(failure),
        };
        // Whatever came of it, nobody is held any longer.
        self.release(&[live, generation]).await?;
        let transaction = transaction?;
        transaction.batch_execute(include_str!("../../sql/read_only.sql")).await?;
        let have_met = self.have_met(&transaction, (live, generation)).await?;
        let pair = Pair { projection: P::NAME, expected: live, generation, against: Against::Live, sample_rows_max: SAMPLE_ROWS_MAX };
        let findings = pair.compare(&transaction, &tables_of(&transaction, P::NAME, generation).await?).await?;
        transaction.rollback().await?;
        if findings.versions_differ && !have_met {
            return Err(Failure::Never(
                "NOT_AT_THE_SAME_EVENTS",
                "the two generations did not come to the same offsets in time".to_owned(),
            ));
        }
        Ok(findings)
    }

    /// Says that a comparison could not be done.
    pub(super) async fn end_unverified(&self, generation: i32, against: Against, failure: &str) -> Result<(), idempo_pg::Error> {
        let verdict = Verdict { state: "failed", findings: &Findings::default(), live_different: 0, failure: Some(failure) };
        self.end_verification(generation, against, &verdict).await
    }

    async fn end_verification(&self, generation: i32, against: Against, verdict: &Verdict<'_>) -> Result<(), idempo_pg::Error> {
        let Verdict { state, findings, live_different, failure } = *verdict;
        let Findings { rows, buckets, different, sample, .. } = findings;
        let sample = Value::Array(sample.clone()).to_string();
        let client = self.control.get().await?;
        let statement = client.prepare_cached(include_str!("../../sql/end_verification.sql")).await?;
        let parameters: [&(dyn ToSql + Sync); 10] =
            [&P::NAME, &generation, &against.name(), &state, rows, buckets, different, &sample, &failure, &live_different];
        client.execute(&statement, &parameters).await?;
        Ok(())
    }

    /// Holds two generations until they stand at the same offsets, for so long at most. They are held still when this ends.
    async fn bring_together(&self, control: &Client, both: (i32, i32), longest: Duration) -> Result<(), Failure> {
        let partitions = self.conducted.layout.options.partitions;
        let deadline = Instant::now() + longest;
        // Where they stand; an offset of 0 is beyond nothing.
        self.hold(control, both, &(0..partitions).map(|partition| (partition, (0, 0))).collect()).await?;
        sleep(HEARD_AFTER).await;
        let stand = positions::<P>(control, both).await?;
        let goal: Positions = stand.iter().map(|(partition, (a, b))| (*partition, (*a.max(b), *a.max(b)))).collect();
        self.hold(control, both, &goal).await?;
        while Instant::now() < deadline && positions::<P>(control, both).await?.values().any(|(a, b)| a != b) {
            sleep(STAND_INTERVAL).await;
        }
        Ok(())
    }

    /// A snapshot, which the transaction takes now and not at its first look.
    async fn snapshot<'a>(&self, client: &'a mut Client) -> Result<Transaction<'a>, Failure> {
        let transaction = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).start().await?;
        transaction.batch_execute(include_str!("../../sql/no_statement_timeout.sql")).await?;
        transaction.batch_execute(include_str!("../../sql/take_snapshot.sql")).await?;
        Ok(transaction)
    }

    /// Whether a snapshot shows two generations at the same offsets.
    async fn have_met(&self, transaction: &Transaction<'_>, both: (i32, i32)) -> Result<bool, Failure> {
        let rows = transaction.query(include_str!("../../sql/positions.sql"), &[&P::NAME, &vec![both.0, both.1]]).await?;
        Ok(by_partition(&rows, both.0)?.values().all(|(a, b)| a == b))
    }

    async fn hold(&self, control: &Client, (live, generation): (i32, i32), before: &Positions) -> Result<(), Failure> {
        let generations: Vec<i32> = before.iter().flat_map(|_| [live, generation]).collect();
        let partitions: Vec<i32> = before.keys().flat_map(|partition| [*partition, *partition]).collect();
        let offsets: Vec<i64> = before.values().flat_map(|(a, b)| [*a, *b]).collect();
        let statement = control.prepare_cached(include_str!("../../sql/hold.sql")).await?;
        control.execute(&statement, &[&P::NAME, &generations, &partitions, &offsets, &HOLD_MS]).await?;
        Ok(())
    }

    /// Lets generations go on.
    pub(super) async fn release(&self, generations: &[i32]) -> Result<(), Failure> {
        let client = self.control.get().await?;
        let statement = client.prepare_cached(include_str!("../../sql/release.sql")).await?;
        client.execute(&statement, &[&P::NAME, &generations]).await?;
        Ok(())
    }
}

async fn positions<P: Projector>(client: &Client, (live, generation): (i32, i32)) -> Result<Positions, Failure> {
    let statement = client.prepare_cached(include_str!("../../sql/positions.sql")).await?;
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
