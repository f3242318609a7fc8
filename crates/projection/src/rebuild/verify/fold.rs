//! Comparing a generation with the fold: the events of the event store, folded anew by this process' logic.
//!
//! One snapshot of the read model shows the generation with its streams at some versions. Rows, versions and checkpoint are written together, so its rows
//! are, or should be, those of the events up to these versions and of no other. So that is what is folded: of each stream of the event store, the events up
//! to the version that the snapshot has of it. Nobody is held for that, nothing has to catch up, and there is no second consumer whose own fault could be
//! the same one: what is compared with comes from the event store alone.
//!
//! Why each event that the generation should have is in the fold, and no other:
//! * An event that the snapshot has was published, so it was committed in the event store before the snapshot was taken. The event store is read after
//!   that, by plain statements on the primary, which show all that is committed. Where such an event is not there (a store that was restored to an
//!   earlier moment, a row that nobody wrote), the fold's version of the stream is lower, and that is a difference.
//! * What the snapshot does not have is left out by its version. Parts of the event store are read at different moments, and it does not matter.
//! * An event that never came through (the relay or the consumer lost it) is beyond the version of its stream, where the fold does not look. So each
//!   stream of which the event store has more is noted with how much; at the end the generation must have come to have that, within
//!   [`ARRIVAL_MAX`]. What was only on its way has come by then. If something has not, nothing is said: the comparison has failed, and names a stream.
//!   That is so for a key that is parked, too: the rows are not those of all events, and people should settle that first.
//!
//! **No trace.** The fold's rows are in temporary tables of one session, which go with the session: when this ends, when it is dropped because the
//! generation is, or when the process is killed. Another process that has the turn then begins anew, from the same request. A witness in tables of its
//! own, as a rebuild has them, would have to be found and removed after a kill, would be written ahead to the log, and needed a consumer and a
//! meeting of three. Temporary tables are neither logged nor synchronised.
//!
//! **What it costs.** The snapshot is held for as long as the event store is read and compared, and keeps VACUUM of the read model from removing what died
//! meanwhile, as the comparison with the live generation does. Disk as the generation has, without indexes. Memory: [`READERS`] parts, some 16,000 events
//! each, and the one that is being written.
//!
//! **The live generation** is compared too, for people: what readers will see change. For that sample alone the two are brought together for a moment
//! ([`MEETING_MAX`]); where they don't come together, because the live one has stopped perhaps, what is under way shows in the sample as well. It is no
//! part of the verdict.

use std::collections::HashMap;
use std::pin::pin;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use idempo_ids::{StreamId, Uuid};
use idempo_pg::{Client, Pool, Transaction};
use prost::bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_postgres::types::ToSql;

use super::compare::{Findings, Pair, tables_of};
use crate::copy::CopyRows;
use crate::event::Outline;
use crate::generations::known::Against;
use crate::halt::Cause;
use crate::projector::{Interest, Projector};
use crate::rebuild::Rebuildable;
use crate::rebuild::conduct::Conductor;
use crate::rebuild::fold::{Fold, Stored};
use crate::rebuild::part::Part;
use crate::rebuild::scan::{Failure, copy_versions};

/// The number that stands for the session's fold among those of generations.
const FOLD: i32 = 0;
/// How many parts of the event store are read at once.
const READERS: usize = 2;
/// How long the live generation and the other one are held at most, so that they are compared as of the same events.
const MEETING_MAX: Duration = Duration::from_secs(2);
/// How long may take to arrive what the event store had beyond the generation when it was read.
const ARRIVAL_MAX: Duration = Duration::from_secs(10);
/// How often it is looked whether it has.
const ARRIVAL_INTERVAL: Duration = Duration::from_millis(200);
/// How long the session's transaction may be idle, in milliseconds: while a part of the event store is read.
const IDLE_MAX_MS: u64 = 60_000;
/// The most rows of the sample: of what differs from the fold, and from the live generation.
const SAMPLE_ROWS_MAX: usize = 50;
/// The columns and bytes of a row of `fold_beyond` in a COPY.
const BEYOND_COLUMNS: i16 = 2;
const BEYOND_BYTES: usize = 34;

/// A part of the event store, as far as the generation has it.
struct Read<P: Projector> {
    fold: Fold<P>,
    /// Streams of which there is more, with the last version that there is.
    beyond: Vec<(Uuid, i64)>,
}

impl<P: Projector, T: Rebuildable<Writes = P::Writes>> Conductor<P, T> {
    /// What differs from the fold, with a sample of what differs from the live generation; and in how many parts it does from that one.
    pub(super) async fn verify_with_fold(&self, control: &Client, live: i32, generation: i32) -> Result<(Findings, i32), Failure> {
        let database = &self.conducted.layout.database;
        let session = Pool::open(&idempo_pg::Config {
            search_path: Some("projection".to_owned()),
            max_connections: 1,
            idle_in_transaction_timeout_ms: IDLE_MAX_MS,
            application_name: format!("{}-verifier", database.application_name),
            ..database.clone()
        })?;
        let mut client = session.get().await?;
        let compared = self.compare_with_fold(control, &mut client, (live, generation)).await;
        // Whatever came of it, and with it all that was made there.
        client.discard();
        compared
    }

    async fn compare_with_fold(&self, control: &Client, client: &mut Client, both: (i32, i32)) -> Result<(Findings, i32), Failure> {
        let (live, generation) = both;
        let transaction = if live == generation {
            self.snapshot(client).await?
        } else {
            let met = self.bring_together(control, both, MEETING_MAX).await;
            let transaction = match met {
                Ok(()) => self.snapshot(client).await,
                Err(failure) => Err(failure),
            };
            self.release(&[live, generation]).await?;
            transaction?
        };
        self.fold_events(&transaction, generation).await?;
        let pair = Pair { projection: P::NAME, expected: FOLD, generation, against: Against::Fold, sample_rows_max: SAMPLE_ROWS_MAX };
        let mut findings = pair.compare(&transaction, &tables_of(&transaction, P::NAME, generation).await?).await?;
        let mut live_different = 0;
        if live != generation {
            let pair = Pair { expected: live, against: Against::Live, ..pair };
            let of_live = pair.compare(&transaction, &tables_of(&transaction, P::NAME, live).await?).await?;
            live_different = of_live.different;
            findings.sample.extend(of_live.sample);
        }
        // What was noted stays in the session, and what arrives from here on is seen.
        transaction.commit().await?;
        if findings.different == 0 {
            arrived::<P>(client, generation).await?;
        }
        Ok((findings, live_different))
    }

    /// Fills the session's fold with the events up to the versions that the transaction's snapshot has.
    async fn fold_events(&self, transaction: &Transaction<'_>, generation: i32) -> Result<(), Failure> {
        transaction.execute(include_str!("../../sql/begin_fold.sql"), &[&generation]).await?;
        // What is written goes into the fold or nowhere: no other table can be named.
        transaction.batch_execute(include_str!("../../sql/only_fold.sql")).await?;
        let source = self.source()?;
        let mut parts = self.cut().await?.1.into_iter();
        // Dropped, it ends its tasks.
        let mut reading = JoinSet::new();
        loop {
            while reading.len() < READERS
                && let Some(part) = parts.next()
            {
                let versions = versions_between::<P>(transaction, generation, part).await?;
                reading.spawn(read_up_to::<P>(source.clone(), part, versions));
            }
            let Some(read) = reading.join_next().await else { break };
            let Read { fold, beyond } = read.map_err(|failed| Failure::Never("WORKER_FAILED", failed.to_string()))??;
            copy_versions(transaction, generation, &fold.ends).await?;
            self.tables.copy(transaction, &fold.writes).await?;
            copy_beyond(transaction, &beyond).await?;
            fail::fail_point!(crate::failpoint::VERIFY_FOLDED);
        }
        transaction.batch_execute(include_str!("../../sql/end_fold.sql")).await?;
        Ok(())
    }
}

/// The versions of a part's streams that the generation has.
async fn versions_between<P: Projector>(
    transaction: &Transaction<'_>,
    generation: i32,
    part: Part,
) -> Result<HashMap<StreamId, i64>, Failure> {
    let statement = transaction.prepare_cached(include_str!("../../sql/versions_between.sql")).await?;
    let rows = transaction.query(&statement, &[&P::NAME, &generation, &part.first, &part.last]).await?;
    let version = |row: &tokio_postgres::Row| Ok((StreamId::new(row.try_get::<_, Uuid>(0)?), row.try_get(1)?));
    Ok(rows.iter().map(version).collect::<Result<_, tokio_postgres::Error>>()?)
}

/// Reads a part of the event store up to these versions.
async fn read_up_to<P: Projector>(source: Pool, part: Part, versions: HashMap<StreamId, i64>) -> Result<Read<P>, Failure> {
    let client = source.get().await?;
    let statement = client.prepare_cached(include_str!("../sql/read_events.sql")).await?;
    let bounds: [&(dyn ToSql + Sync); 2] = [&part.first, &part.last];
    let mut rows = pin!(client.query_raw(&statement, bounds).await?);
    let mut read = Read { fold: Fold::new(), beyond: Vec::new() };
    while let Some(row) = rows.try_next().await? {
        let id: Uuid = row.try_get(0)?;
        let stream = StreamId::new(id);
        let (version, envelope): (i64, &[u8]) = (row.try_get(1)?, row.try_get(2)?);
        let stored = Stored { stream, version, envelope: Bytes::copy_from_slice(envelope) };
        let said = |cause: Cause| Failure::Never(cause.code(), format!("stream {stream}, version {version}: {cause}"));
        if version <= versions.get(&stream).copied().unwrap_or(0) {
            read.fold.add(&stored).map_err(said)?;
        } else if P::interest(Outline::read(&stored.envelope).map_err(|error| said(error.into()))?.event_type) != Interest::PassedOver {
            match read.beyond.last_mut().filter(|(last, _)| *last == id) {
                Some(last) => last.1 = version,
                None => read.beyond.push((id, version)),
            }
        }
    }
    Ok(read)
}

async fn copy_beyond(transaction: &Transaction<'_>, beyond: &[(Uuid, i64)]) -> Result<(), idempo_pg::Error> {
    let mut rows = CopyRows::new(BEYOND_COLUMNS, beyond.len().saturating_mul(BEYOND_BYTES));
    for (stream, version) in beyond {
        rows.row();
        rows.uuid(*stream);
        rows.bigint(*version);
    }
    rows.send(transaction, include_str!("../../sql/copy_beyond.sql")).await?;
    Ok(())
}

/// Waits until the generation has what the fold saw beyond it.
async fn arrived<P: Projector>(client: &Client, generation: i32) -> Result<(), Failure> {
    let deadline = Instant::now() + ARRIVAL_MAX;
    loop {
        let row = client.query_one(include_str!("../../sql/behind_fold.sql"), &[&P::NAME, &generation]).await?;
        let streams: i64 = row.try_get(0)?;
        if streams == 0 {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let (stream, version, store): (Uuid, i64, i64) = (row.try_get(1)?, row.try_get(2)?, row.try_get(3)?);
            return Err(Failure::Never(
                "NOT_AT_THE_SAME_EVENTS",
                format!(
                    "{streams} streams have not come to where the event store is: of {stream} it has version {store}, the generation {version}"
                ),
            ));
        }
        sleep(ARRIVAL_INTERVAL).await;
    }
}
