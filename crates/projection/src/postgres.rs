//! The store on PostgreSQL: `schemas/inventory_view_db` has the tables, ARCHITECTURE.md §4 says why they are so.

mod parking;

use std::future::Future;
use std::sync::Arc;

use idempo_dead_letter::DeadLetterId;
use idempo_errors::{Class, Classified as _};
use idempo_ids::{EventId, StreamId, Uuid};
use idempo_pg::{Client, Pool, Transaction};
use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;

use crate::copy::Micros;
use crate::parking::Parked;
use crate::parking::letters::{Drain, Drainage, ParkedCounts, Wished, Wishes};
use crate::projector::Projector;
use crate::store::{Batch, Checkpoint, Commit, Lease, Store, StoreError, StreamEnd};

/// The tables of a read model: how its writes become rows. Set-based: a few statements, whatever the size of the batch.
pub trait Tables: Send + Sync + 'static {
    /// What a batch adds.
    type Writes: Default + Send + Sync + 'static;

    /// The statements that readers run most: prepared on all connections of a generation before the first of them comes to it.
    const READS: &'static [&'static str];

    /// Writes a batch's rows within its transaction. Rows that batches of two partitions share are locked in the order of their keys.
    ///
    /// # Errors
    /// What the database says; the batch is rolled back then.
    fn write(&self, transaction: &Transaction<'_>, writes: &Self::Writes) -> impl Future<Output = Result<(), idempo_pg::Error>> + Send;

    /// What batches of different partitions add together, so that it can be written at once; `None` where that can't be said.
    fn together(writes: &[&Self::Writes]) -> Option<Self::Writes>;

    /// The rows that a batch's writes can change, as they are within the transaction: to be compared with how they are after it. At most `limit`.
    ///
    /// # Errors
    /// What the database says.
    fn touched(
        &self,
        transaction: &Transaction<'_>,
        writes: &Self::Writes,
        limit: i64,
    ) -> impl Future<Output = Result<Vec<TouchedRow>, idempo_pg::Error>> + Send;
}

/// A row of a read model, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TouchedRow {
    /// The table, without its schema.
    pub table: String,
    /// The row's key, as a JSON object.
    pub key: String,
    /// The whole row, as a JSON object.
    pub row: String,
}

/// Whose rows a store writes.
#[derive(Debug, Clone)]
pub struct Scope {
    /// The generation, which the pool's search path must name too.
    pub generation: i32,
    /// The topic.
    pub topic: String,
}

/// A read model in PostgreSQL. Its batches commit asynchronously: a crash of the server may lose the last ones, positions and rows together,
/// and they are read again. A lease is durable at once.
#[derive(Debug)]
pub struct PostgresStore<T> {
    pool: Pool,
    projection: &'static str,
    scope: Scope,
    tables: T,
}

impl<T: Tables> PostgresStore<T> {
    /// The store of the projection `P`. Nothing is asked of the database yet.
    #[must_use]
    pub const fn new<P: Projector<Writes = T::Writes>>(pool: Pool, scope: Scope, tables: T) -> Self {
        Self { pool, projection: P::NAME, scope, tables }
    }

    /// Claims the generation for the logic of `P`: to be done before anything is written to it.
    ///
    /// # Errors
    /// [`StoreError::OtherLogic`] where the generation is missing or was begun by other logic; [`StoreError::Unavailable`].
    pub async fn claim<P: Projector<Writes = T::Writes>>(&self) -> Result<(), StoreError> {
        let (client, generation) = (self.pool.get().await?, self.scope.generation);
        let statement = client.prepare_cached(include_str!("sql/claim_generation.sql")).await.map_err(idempo_pg::classify)?;
        match client.execute(&statement, &[&self.projection, &generation, &P::LOGIC]).await.map_err(idempo_pg::classify)? {
            0 => Err(StoreError::OtherLogic { projection: self.projection, generation, logic: P::LOGIC }),
            _ => Ok(()),
        }
    }

    /// Commits batches of different partitions, with all that they write, if every checkpoint is where its batch begins.
    ///
    /// Everything is sent before the first answer is waited for; only BEGIN and COMMIT are round trips of their own. So rows are written before it is
    /// known whether the checkpoints move, and what they say counts only if they do: a zombie's rows can contradict what is there.
    async fn commit_all(
        &self,
        client: &mut Client,
        batches: &[Arc<Batch<T::Writes>>],
        writes: &T::Writes,
    ) -> Result<bool, idempo_pg::Error> {
        let transaction = client.transaction().await?;
        // Asked for at a connection's first batch only, and before anything is sent: the checkpoints must be answered for before the rows are.
        let advance = transaction.prepare_cached(include_str!("sql/advance_checkpoints.sql")).await?;
        let parking = batches.iter().find(|batch| !batch.parking.is_empty());
        let begin = if parking.is_some() { include_str!("sql/begin_drain.sql") } else { include_str!("sql/begin_batch.sql") };
        let move_versions = include_str!("sql/advance_versions.sql");
        transaction.prepare_cached(move_versions).await?;
        let (settings, advanced, versions, rows) = tokio::join!(
            biased;
            async { Ok::<_, idempo_pg::Error>(transaction.batch_execute(begin).await?) },
            self.advance(&transaction, &advance, batches),
            self.move_versions(&transaction, move_versions, batches.iter().flat_map(|batch| &batch.versions).collect()),
            self.tables.write(&transaction, writes),
        );
        settings?;
        if advanced? != as_count(batches.len()) {
            transaction.rollback().await?;
            return Ok(false);
        }
        versions.and(rows)?;
        if let Some(batch) = parking {
            self.park(&transaction, batch.partition, &batch.parking).await?;
        }
        fail::fail_point!(crate::failpoint::PROJECT_BEFORE_COMMIT);
        transaction.commit().await?;
        fail::fail_point!(crate::failpoint::PROJECT_COMMITTED);
        Ok(true)
    }

    /// Moves the checkpoints that are where their batches begin, and counts them.
    async fn advance(
        &self,
        transaction: &Transaction<'_>,
        statement: &Statement,
        batches: &[Arc<Batch<T::Writes>>],
    ) -> Result<u64, idempo_pg::Error> {
        let Scope { generation, topic } = &self.scope;
        let partitions: Vec<i32> = batches.iter().map(|batch| batch.partition).collect();
        let epochs: Vec<i64> = batches.iter().map(|batch| batch.epoch).collect();
        let froms: Vec<i64> = batches.iter().map(|batch| batch.from).collect();
        let tos: Vec<i64> = batches.iter().map(|batch| batch.to).collect();
        let times: Vec<Option<Micros>> = batches.iter().map(|batch| batch.newest_at.map(Micros)).collect();
        let last_events: Vec<Option<Uuid>> = batches.iter().map(|batch| batch.last_event.map(EventId::uuid)).collect();
        let parameters: [&(dyn ToSql + Sync); 9] =
            [&self.projection, generation, topic, &partitions, &epochs, &froms, &tos, &times, &last_events];
        Ok(transaction.execute(statement, &parameters).await?)
    }

    async fn move_versions(&self, transaction: &Transaction<'_>, sql: &str, mut ends: Vec<&StreamEnd>) -> Result<(), idempo_pg::Error> {
        if ends.is_empty() {
            return Ok(());
        }
        let statement = transaction.prepare_cached(sql).await?;
        // Neighbours in the index are written together.
        ends.sort_unstable_by_key(|end| end.stream);
        let streams: Vec<Uuid> = ends.iter().map(|end| end.stream.uuid()).collect();
        let versions: Vec<i64> = ends.iter().map(|end| i64::try_from(end.version).unwrap_or(i64::MAX)).collect();
        let events: Vec<Option<Uuid>> = ends.iter().map(|end| end.event_id.map(EventId::uuid)).collect();
        transaction.execute(&statement, &[&self.scope.generation, &streams, &versions, &events]).await?;
        Ok(())
    }

    /// What a compare-and-set that found nothing means: the batch is in already (the answer to its commit was lost), or the partition is not
    /// ours any more, or the server has lost what it had.
    async fn why_not(&self, client: &Client, batch: &Batch<T::Writes>) -> Result<Commit, idempo_pg::Error> {
        let Scope { generation, topic } = &self.scope;
        let statement = client.prepare_cached(include_str!("sql/checkpoint.sql")).await?;
        let row = client.query_opt(&statement, &[&self.projection, generation, topic, &batch.partition]).await?;
        let Some(row) = row else { return Ok(Commit::Fenced) };
        let (epoch, next_offset): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        Ok(if epoch == batch.epoch && next_offset == batch.to { Commit::Committed } else { Commit::Fenced })
    }
}

impl<T: Tables> Store for PostgresStore<T> {
    type Writes = T::Writes;

    async fn acquire(&self, partition: i32) -> Result<Lease, StoreError> {
        let client = self.pool.get().await?;
        let statement = client.prepare_cached(include_str!("sql/acquire.sql")).await.map_err(idempo_pg::classify)?;
        let Scope { generation, topic } = &self.scope;
        let row = client.query_one(&statement, &[&self.projection, generation, topic, &partition]).await.map_err(idempo_pg::classify)?;
        let read = || {
            let last_event = row.try_get::<_, Option<Uuid>>(2)?.map(EventId::new);
            Ok(Lease { epoch: row.try_get(0)?, next_offset: row.try_get(1)?, last_event })
        };
        read().map_err(|error: tokio_postgres::Error| idempo_pg::classify(error).into())
    }

    async fn versions(&self, streams: &[StreamId]) -> Result<Vec<StreamEnd>, StoreError> {
        let client = self.pool.get().await?;
        let statement = client.prepare_cached(include_str!("sql/versions.sql")).await.map_err(idempo_pg::classify)?;
        let ids: Vec<Uuid> = streams.iter().map(|stream| stream.uuid()).collect();
        let rows = client.query(&statement, &[&self.scope.generation, &ids]).await.map_err(idempo_pg::classify)?;
        let read = |row: &tokio_postgres::Row| {
            let (stream, version, event_id): (Uuid, i64, Option<Uuid>) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            Ok(StreamEnd { stream: StreamId::new(stream), version: version.unsigned_abs(), event_id: event_id.map(EventId::new) })
        };
        rows.iter().map(read).collect::<Result<_, tokio_postgres::Error>>().map_err(|error| idempo_pg::classify(error).into())
    }

    async fn commit(&self, batch: &Arc<Batch<T::Writes>>) -> Result<Commit, StoreError> {
        let mut client = self.pool.get().await?;
        if self.commit_all(&mut client, std::slice::from_ref(batch), &batch.writes).await? {
            return Ok(Commit::Committed);
        }
        Ok(self.why_not(&client, batch).await?)
    }

    async fn commit_together(&self, batches: &[Arc<Batch<T::Writes>>]) -> Result<bool, StoreError> {
        let writes: Vec<&T::Writes> = batches.iter().map(|batch| &batch.writes).collect();
        let Some(writes) = T::together(&writes) else { return Ok(false) };
        let mut client = self.pool.get().await?;
        Ok(self.commit_all(&mut client, batches, &writes).await?)
    }

    async fn note_stop(&self, partition: i32, epoch: i64, code: &str, reason: &str) -> Result<(), StoreError> {
        let client = self.pool.get().await?;
        let statement = client.prepare_cached(include_str!("sql/note_stop.sql")).await.map_err(idempo_pg::classify)?;
        let Scope { generation, topic } = &self.scope;
        let parameters: [&(dyn ToSql + Sync); 7] = [&self.projection, generation, topic, &partition, &epoch, &code, &reason];
        client.execute(&statement, &parameters).await.map_err(idempo_pg::classify)?;
        Ok(())
    }

    async fn checkpoints(&self) -> Result<Vec<Checkpoint>, StoreError> {
        let client = self.pool.get().await?;
        let statement = client.prepare_cached(include_str!("sql/checkpoints.sql")).await.map_err(idempo_pg::classify)?;
        let Scope { generation, topic } = &self.scope;
        let rows = client.query(&statement, &[&self.projection, generation, topic]).await.map_err(idempo_pg::classify)?;
        let read = |row: &tokio_postgres::Row| {
            Ok(Checkpoint {
                partition: row.try_get(0)?,
                epoch: row.try_get(1)?,
                next_offset: row.try_get(2)?,
                newest_at: row.try_get(3)?,
                stopped: row.try_get(4)?,
            })
        };
        rows.iter().map(read).collect::<Result<_, tokio_postgres::Error>>().map_err(|error| idempo_pg::classify(error).into())
    }

    async fn parked(&self, partition: i32) -> Result<Parked, StoreError> {
        Ok(self.read_parked(partition).await?)
    }

    async fn wished(&self, partition: i32) -> Result<Vec<Wished>, StoreError> {
        Ok(self.read_wished(partition).await?)
    }

    async fn drain(&self, drain: &Drain<T::Writes>) -> Result<Drainage, StoreError> {
        Ok(self.write_drain(drain).await?)
    }

    async fn wishes(&self) -> Result<Wishes, StoreError> {
        Ok(self.read_wishes().await?)
    }

    async fn parked_counts(&self) -> Result<ParkedCounts, StoreError> {
        Ok(self.count_parked().await?)
    }

    async fn parked_stream(&self, streams: &[StreamId]) -> Result<Option<DeadLetterId>, StoreError> {
        Ok(self.read_parked_stream(streams).await?)
    }
}

impl From<idempo_pg::Error> for StoreError {
    fn from(error: idempo_pg::Error) -> Self {
        if is_of_data(&error) { Self::Refused(error.into()) } else { Self::Unavailable(error.into()) }
    }
}

/// Whether it is the data that is refused. A role that is refused now says nothing about the data: it is asked again until an operator has mended it.
pub(crate) fn is_of_data(error: &idempo_pg::Error) -> bool {
    error.class() == Class::Internal && !matches!(error, idempo_pg::Error::Refused(_))
}

fn as_count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
