//! The store in PostgreSQL: one call of one function for each batch, in a transaction of its own.
//!
//! The function (`es.append`, or a service's own around it) is a single statement outside any transaction block, so its transaction begins and
//! commits within one round trip, and a connection is never left in one.

mod backlog;
mod doorbell;
mod parameters;

use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use idempo_clock::SharedClock;
use idempo_ids::StreamId;
use idempo_pg::{Client, Pool};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use tokio_util::sync::CancellationToken;

use crate::inline::InlineProjection;
use crate::store::{Batch, CommandResult, LOAD_EVENTS_MAX, Settled, Store, StoreError, StoredEvent, Verdict};
use crate::submission::{IdempotencyKey, KEY_MEMORY_MS};
pub use backlog::backlog_age;
use doorbell::Doorbell;
use parameters::{Columns, stored_version};

/// How many weeks ahead of the clock partitions for idempotency keys are made.
const PARTITION_WEEKS_AHEAD: i64 = 2;
const WEEK_MS: i64 = 7 * 24 * 3_600 * 1_000;

/// How many connections appends keep out of the pool at most.
const APPENDERS_KEPT_MAX: usize = 3;
/// They keep at most this share of the pool, as a divisor. The rest stays for everything else, which may be another store.
const APPENDERS_POOL_SHARE: usize = 4;
/// How often appends use a connection before the pool gets it back, which replaces those that have become old.
const APPENDER_USES_MAX: u32 = 10_000;

/// Status of a row of `es.append` for a command whose key was bound before.
const STATUS_TAKEN: i16 = 1;

/// Events, outbox rows and answers in one domain's database.
#[derive(Debug)]
pub struct PostgresStore<I> {
    pool: Pool,
    /// Connections that appends use again and again, without the pool's clean-up in between.
    appenders: Mutex<Vec<Appender>>,
    appenders_max: usize,
    doorbell: Doorbell,
    inline: PhantomData<fn() -> I>,
}

#[derive(Debug)]
struct Appender {
    client: Client,
    /// How often it was used.
    uses: u32,
}

impl<I: InlineProjection> PostgresStore<I> {
    /// A store over `pool`. Its database is migrated.
    #[must_use]
    pub fn new(pool: Pool) -> Self {
        let appenders_max = (pool.max_connections() / APPENDERS_POOL_SHARE).min(APPENDERS_KEPT_MAX);
        Self { pool, appenders: Mutex::default(), appenders_max, doorbell: Doorbell::default(), inline: PhantomData }
    }

    async fn appender(&self) -> Result<Appender, idempo_pg::Error> {
        let kept = {
            let mut kept = self.appenders.lock().unwrap_or_else(PoisonError::into_inner);
            // One that was lost while it was idle is known to be, before anything is sent on it.
            kept.retain(|appender| !appender.client.is_closed());
            kept.pop()
        };
        match kept {
            Some(appender) => Ok(appender),
            None => Ok(Appender { client: self.pool.get().await?, uses: 0 }),
        }
    }

    fn keep(&self, mut appender: Appender) {
        appender.uses += 1;
        let mut kept = self.appenders.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < self.appenders_max && appender.uses < APPENDER_USES_MAX {
            kept.push(appender);
        }
    }

    /// Wakes the relay after commits, until `shutdown`. A task of its own, beside the executor.
    pub fn ring_doorbell(&self, shutdown: CancellationToken) -> impl Future<Output = ()> + Send + use<I> {
        self.doorbell.clone().run(self.pool.clone(), shutdown)
    }
}

/// Makes sure that keys made from the oldest that is remembered to some weeks ahead have a place, and forgets those before. To be run before a
/// service takes commands, and then at least once a week. Old keys are kept until the next time where forgetting them would hold up appends.
///
/// # Errors
/// Where the database is away.
pub async fn maintain_key_partitions(pool: &Pool, clock: &SharedClock) -> Result<(), idempo_pg::Error> {
    let client = pool.get().await?;
    let now = clock.now().as_millisecond();
    let memory = i64::try_from(KEY_MEMORY_MS).unwrap_or(i64::MAX);
    let at = |millis: i64| jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let ensure = client.prepare_cached(include_str!("../sql/ensure_dedup_partition.sql")).await.map_err(idempo_pg::classify)?;
    let mut week = now - memory;
    while week <= now + PARTITION_WEEKS_AHEAD * WEEK_MS {
        client.execute(&ensure, &[&at(week)]).await.map_err(idempo_pg::classify)?;
        week += WEEK_MS;
    }
    let drop = client.prepare_cached(include_str!("../sql/drop_dedup_partitions.sql")).await.map_err(idempo_pg::classify)?;
    match client.execute(&drop, &[&at(now - memory - WEEK_MS)]).await.map_err(idempo_pg::classify) {
        Err(idempo_pg::Error::Contention(_)) => tracing::debug!("old idempotency keys are kept for now, their table is in use"),
        dropped => {
            dropped?;
        }
    }
    Ok(())
}

impl<I: InlineProjection> Store for PostgresStore<I> {
    type Rows = I::Rows;

    async fn append(&self, batch: Batch<I::Rows>) -> Result<Vec<CommandResult>, StoreError> {
        let commands = batch.commands.len();
        let mut columns = Columns::default();
        for (number, command) in (1..).zip(batch.commands) {
            columns.push(number, command);
        }
        let mut parameters = columns.into_parameters();
        parameters.extend(I::parameters(batch.rows));
        let references: Vec<&(dyn ToSql + Sync)> = parameters.iter().map(|parameter| &**parameter as &(dyn ToSql + Sync)).collect();
        let appender = self.appender().await.map_err(before_sending)?;
        let client = &appender.client;
        let statement = client.prepare_cached(I::statement()).await.map_err(|error| before_sending(idempo_pg::classify(error)))?;
        fail::fail_point!(crate::failpoint::APPEND_BEFORE_CALL);
        let rows = client.query(&statement, &references).await.map_err(|error| after_sending(idempo_pg::classify(error)))?;
        fail::fail_point!(crate::failpoint::APPEND_ANSWERED);
        // Only a connection whose statement succeeded is used again: it is outside any transaction and has no state.
        self.keep(appender);
        let mut results = vec![CommandResult::Appended; commands];
        for row in rows {
            read_exception(&row, &mut results).map_err(|error| after_sending(idempo_pg::classify(error)))?;
        }
        Ok(results)
    }

    async fn load(&self, after: Vec<(StreamId, u64)>) -> Result<Vec<StoredEvent>, StoreError> {
        let client = self.pool.get().await.map_err(before_sending)?;
        let (ids, versions): (Vec<_>, Vec<_>) = after.into_iter().map(|(id, version)| (id.uuid(), stored_version(version))).unzip();
        let limit = i64::try_from(LOAD_EVENTS_MAX).unwrap_or(i64::MAX);
        let read = async {
            let statement = client.prepare_cached(include_str!("../sql/load.sql")).await?;
            let rows = client.query(&statement, &[&ids, &versions, &limit]).await?;
            rows.iter().map(|row| stored_event(row, ["stream_id", "version", "envelope"])).collect::<Result<Vec<_>, _>>()
        };
        read.await.map_err(|error| before_sending(idempo_pg::classify(error)))
    }

    async fn lookup(&self, key: &IdempotencyKey) -> Result<Option<Settled>, StoreError> {
        let client = self.pool.get().await.map_err(before_sending)?;
        let read = async {
            let statement = client.prepare_cached(include_str!("../sql/lookup.sql")).await?;
            let row = client.query_opt(&statement, &[&key.key, &key.scope.as_slice()]).await?;
            row.as_ref().map(settled).transpose()
        };
        read.await.map_err(|error| before_sending(idempo_pg::classify(error)))
    }

    fn ring(&self) {
        self.doorbell.ring();
    }
}

/// Puts one returned row where it belongs.
fn read_exception(row: &Row, results: &mut [CommandResult]) -> Result<(), tokio_postgres::Error> {
    let number: i32 = row.try_get("command")?;
    let status: i16 = row.try_get("status")?;
    let Some(result) = usize::try_from(number).ok().and_then(|number| results.get_mut(number.checked_sub(1)?)) else { return Ok(()) };
    if status == STATUS_TAKEN {
        *result = CommandResult::Taken(settled(row)?);
        return Ok(());
    }
    if !matches!(result, CommandResult::Conflict { .. }) {
        *result = CommandResult::Conflict { since: Vec::new() };
    }
    if let CommandResult::Conflict { since } = result
        && row.try_get::<_, Option<&[u8]>>("envelope")?.is_some()
    {
        since.push(stored_event(row, ["stream_id", "version", "envelope"])?);
    }
    Ok(())
}

fn settled(row: &Row) -> Result<Settled, tokio_postgres::Error> {
    let number: i16 = row.try_get("outcome")?;
    Ok(Settled {
        // The table's only writer writes known numbers; an unknown one is from a newer version and is read as a refusal.
        verdict: Verdict::from_number(number).unwrap_or(Verdict::Refused),
        fingerprint: Bytes::copy_from_slice(row.try_get("fingerprint")?),
        reply: Bytes::copy_from_slice(row.try_get("reply")?),
    })
}

fn stored_event(row: &Row, [stream_id, version, envelope]: [&str; 3]) -> Result<StoredEvent, tokio_postgres::Error> {
    Ok(StoredEvent {
        stream_id: StreamId::new(row.try_get(stream_id)?),
        version: u64::try_from(row.try_get::<_, i64>(version)?).unwrap_or(0),
        envelope: Bytes::copy_from_slice(row.try_get(envelope)?),
    })
}

/// A failure before the batch was on its way: whatever it was, nothing was changed.
fn before_sending(error: idempo_pg::Error) -> StoreError {
    StoreError::Away(Box::new(error))
}

/// A failure of the call itself.
fn after_sending(error: idempo_pg::Error) -> StoreError {
    use idempo_pg::Error;
    match error {
        Error::Unknown(_) => StoreError::Unknown(Box::new(error)),
        Error::Contention(_) => StoreError::Contention(Box::new(error)),
        Error::Constraint { .. } | Error::Data { .. } => StoreError::Refused(Box::new(error)),
        _ => StoreError::Away(Box::new(error)),
    }
}
