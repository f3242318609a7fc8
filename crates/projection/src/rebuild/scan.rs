//! Bringing one part of the event store into a generation.

use std::marker::PhantomData;
use std::pin::pin;
use std::sync::Arc;

use futures_util::TryStreamExt as _;
use idempo_errors::Classified as _;
use idempo_ids::{EventId, StreamId, Uuid};
use idempo_pg::{Pool, Transaction};
use prost::bytes::Bytes;
use tokio_postgres::types::ToSql;

use super::Rebuildable;
use super::fold::{Fold, Stored};
use super::part::Part;
use crate::copy::CopyRows;
use crate::halt::Cause;
use crate::patience::chain;
use crate::projector::Projector;
use crate::store::{StoreError, StreamEnd};

/// The columns and bytes of a row of `stream_version` in a COPY.
const VERSION_COLUMNS: i16 = 4;
const VERSION_BYTES: usize = 62;

/// Why a step of a rebuild was not done.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It may be done later: a database or the brokers are away.
    Away(String),
    /// It can't be done, whoever tries. With a stable name.
    Never(&'static str, String),
    /// The generation is given up.
    GivenUp,
}

impl From<idempo_pg::Error> for Failure {
    fn from(error: idempo_pg::Error) -> Self {
        match StoreError::from(error) {
            error if error.is_transient() => Self::Away(chain(&error)),
            error => Self::Never(error.code(), chain(&error)),
        }
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        idempo_pg::classify(error).into()
    }
}

/// Whether a part was brought in by this, or was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    Now,
    Before,
}

/// What all parts of a rebuild have in common.
pub(crate) struct Scan<P, T> {
    /// The event store's database, as a role that reads it.
    pub(crate) source: Pool,
    /// The generation's tables.
    pub(crate) target: Pool,
    pub(crate) tables: T,
    pub(crate) generation: i32,
    pub(crate) projector: PhantomData<fn() -> P>,
}

impl<P: Projector, T: Rebuildable<Writes = P::Writes>> Scan<P, T> {
    /// Brings a part in, if it is not there; gives how many events were read.
    pub(crate) async fn part(self: Arc<Self>, number: i32, part: Part) -> Result<usize, Failure> {
        let fold = self.read(part).await?;
        fail::fail_point!(crate::failpoint::REBUILD_FOLDED);
        let events = usize::try_from(fold.events).unwrap_or(0);
        if self.write(number, fold).await? == Written::Now {
            crate::meters::generations::rebuilt(P::NAME, i64::try_from(events).unwrap_or(i64::MAX));
        }
        fail::fail_point!(crate::failpoint::REBUILD_COMMITTED);
        Ok(events)
    }

    async fn read(&self, part: Part) -> Result<Fold<P>, Failure> {
        let client = self.source.get().await?;
        let statement = client.prepare_cached(include_str!("sql/read_events.sql")).await?;
        let bounds: [&(dyn ToSql + Sync); 2] = [&part.first, &part.last];
        let mut rows = pin!(client.query_raw(&statement, bounds).await?);
        let mut fold = Fold::new();
        while let Some(row) = rows.try_next().await? {
            let stream = StreamId::new(row.try_get::<_, Uuid>(0)?);
            let (version, envelope): (i64, &[u8]) = (row.try_get(1)?, row.try_get(2)?);
            let stored = Stored { stream, version, envelope: Bytes::copy_from_slice(envelope) };
            let said = |cause: Cause| Failure::Never(cause.code(), format!("stream {stream}, version {version}: {cause}"));
            fold.add(&stored).map_err(said)?;
        }
        Ok(fold)
    }

    async fn write(&self, number: i32, fold: Fold<P>) -> Result<Written, Failure> {
        let mut client = self.target.get().await?;
        let transaction = client.transaction().await?;
        transaction.batch_execute(include_str!("../sql/begin_batch.sql")).await?;
        let statement = transaction.prepare_cached(include_str!("../sql/still_building.sql")).await?;
        if transaction.query_opt(&statement, &[&P::NAME, &self.generation]).await?.is_none() {
            return Err(Failure::GivenUp);
        }
        let statement = transaction.prepare_cached(include_str!("../sql/enter_bucket.sql")).await?;
        if transaction.execute(&statement, &[&P::NAME, &self.generation, &number, &fold.events]).await? == 0 {
            // Somebody else was first, or the answer to our own commit was lost. Dropped, the transaction is rolled back.
            return Ok(Written::Before);
        }
        copy_versions(&transaction, self.generation, &fold.ends).await?;
        self.tables.copy(&transaction, &fold.writes).await?;
        fail::fail_point!(crate::failpoint::REBUILD_BEFORE_COMMIT);
        transaction.commit().await?;
        Ok(Written::Now)
    }
}

pub(crate) async fn copy_versions(transaction: &Transaction<'_>, generation: i32, ends: &[StreamEnd]) -> Result<(), idempo_pg::Error> {
    let mut rows = CopyRows::new(VERSION_COLUMNS, ends.len().saturating_mul(VERSION_BYTES));
    for StreamEnd { stream, version, event_id } in ends {
        rows.row();
        rows.integer(generation);
        rows.uuid(stream.uuid());
        rows.bigint(i64::try_from(*version).unwrap_or(i64::MAX));
        rows.optional_uuid(event_id.map(EventId::uuid));
    }
    rows.send(transaction, include_str!("../sql/copy_versions.sql")).await?;
    Ok(())
}
