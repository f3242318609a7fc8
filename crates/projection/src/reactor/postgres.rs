//! The effect log on PostgreSQL: `schemas/reactor` has the tables.

use std::collections::BTreeSet;

use idempo_ids::{EventId, Uuid};
use idempo_pg::{Client, Pool, Transaction};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::log::{EffectCounts, EffectLog, Ending, LogError, Look, Pending, Place, Recorded, Recording, Settlement, Taken};
use super::{EffectId, Reactor};
use crate::copy::Micros;
use crate::postgres::is_of_data;

/// The effects of one reactor in one topic.
#[derive(Debug)]
pub struct PostgresEffectLog {
    pool: Pool,
    reactor: &'static str,
    topic: String,
}

impl PostgresEffectLog {
    /// The log of the reactor `R`. Nothing is asked of the database yet.
    #[must_use]
    pub const fn new<R: Reactor>(pool: Pool, topic: String) -> Self {
        Self { pool, reactor: R::NAME, topic }
    }

    /// Enters a recording. `None` where the position is not where it begins, or is under another epoch.
    async fn enter(&self, client: &mut Client, recording: &Recording) -> Result<Option<BTreeSet<EffectId>>, idempo_pg::Error> {
        let Recording { partition, epoch, from, to, last_event, effects, .. } = recording;
        let transaction = client.transaction().await?;
        transaction.batch_execute(include_str!("sql/begin_recording.sql")).await?;
        let statement = transaction.prepare_cached(include_str!("sql/move_position.sql")).await?;
        let last_event = last_event.map(EventId::uuid);
        let parameters: [&(dyn ToSql + Sync); 7] = [&self.reactor, &self.topic, partition, epoch, from, to, &last_event];
        if transaction.execute(&statement, &parameters).await? == 0 {
            transaction.rollback().await?;
            return Ok(None);
        }
        let entered = if effects.is_empty() { BTreeSet::new() } else { self.enter_effects(&transaction, recording).await? };
        fail::fail_point!(crate::failpoint::REACT_BEFORE_RECORD);
        transaction.commit().await?;
        Ok(Some(entered))
    }

    async fn enter_effects(
        &self,
        transaction: &Transaction<'_>,
        Recording { partition, effects, expired, .. }: &Recording,
    ) -> Result<BTreeSet<EffectId>, idempo_pg::Error> {
        let statement = transaction.prepare_cached(include_str!("sql/enter_effects.sql")).await?;
        let ids: Vec<Uuid> = effects.iter().map(|effect| effect.id.uuid()).collect();
        let offsets: Vec<i64> = effects.iter().map(|effect| effect.place.offset).collect();
        let ordinals: Vec<i32> = effects.iter().map(|effect| effect.place.ordinal).collect();
        let events: Vec<Uuid> = effects.iter().map(|effect| effect.event.uuid()).collect();
        let keys: Vec<Uuid> = effects.iter().map(|effect| effect.key).collect();
        let times: Vec<Micros> = effects.iter().map(|effect| Micros(effect.decided_at)).collect();
        let traces: Vec<&str> = effects.iter().map(|effect| effect.traceparent.as_str()).collect();
        let bytes: Vec<&[u8]> = effects.iter().map(|effect| &*effect.effect).collect();
        let expired: Vec<bool> = effects.iter().map(|effect| expired.contains(&effect.id)).collect();
        let parameters: [&(dyn ToSql + Sync); 12] =
            [&self.reactor, &self.topic, partition, &ids, &offsets, &ordinals, &events, &keys, &times, &traces, &bytes, &expired];
        ids_of(&transaction.query(&statement, &parameters).await?)
    }

    /// What a recording entered whose answer was lost; `None` where it is not in.
    async fn entered(&self, client: &Client, recording: &Recording) -> Result<Option<BTreeSet<EffectId>>, idempo_pg::Error> {
        let Recording { partition, epoch, from, to, effects, .. } = recording;
        let look = self.read_look(client, *partition).await?;
        if look.is_none_or(|look| look.epoch != *epoch || look.next_offset != Some(*to)) {
            return Ok(None);
        }
        let statement = client.prepare_cached(include_str!("sql/entered_effects.sql")).await?;
        let ids: Vec<Uuid> = effects.iter().map(|effect| effect.id.uuid()).collect();
        Ok(Some(ids_of(&client.query(&statement, &[&self.reactor, &self.topic, partition, &ids, from]).await?)?))
    }

    async fn read_look(&self, client: &Client, partition: i32) -> Result<Option<Look>, idempo_pg::Error> {
        let statement = client.prepare_cached(include_str!("sql/look_at_partition.sql")).await?;
        let row = client.query_opt(&statement, &[&self.reactor, &self.topic, &partition]).await?;
        let read = |row: Row| Ok(Look { epoch: row.try_get(0)?, next_offset: row.try_get(1)?, settlements: row.try_get(2)? });
        row.map(read).transpose()
    }

    async fn query(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, idempo_pg::Error> {
        let client = self.pool.get().await?;
        let statement = client.prepare_cached(sql).await?;
        Ok(client.query(&statement, parameters).await?)
    }
}

impl EffectLog for PostgresEffectLog {
    async fn acquire(&self, partition: i32) -> Result<Taken, LogError> {
        let client = self.pool.get().await?;
        let taken = async {
            let statement = client.prepare_cached(include_str!("sql/acquire_partition.sql")).await?;
            let row = client.query_one(&statement, &[&self.reactor, &self.topic, &partition]).await?;
            let last_event = row.try_get::<_, Option<Uuid>>(2)?.map(EventId::new);
            Ok(Taken { epoch: row.try_get(0)?, next_offset: row.try_get(1)?, last_event, settlements: row.try_get(3)? })
        };
        taken.await.map_err(|error: tokio_postgres::Error| idempo_pg::classify(error).into())
    }

    async fn begin(&self, partition: i32, epoch: i64, head: i64) -> Result<Option<i64>, LogError> {
        let rows = self.query(include_str!("sql/begin_partition.sql"), &[&self.reactor, &self.topic, &partition, &epoch, &head]).await?;
        Ok(rows.first().map(|row| row.try_get(0)).transpose().map_err(idempo_pg::classify)?)
    }

    async fn record(&self, recording: &Recording) -> Result<Recorded, LogError> {
        let mut client = self.pool.get().await?;
        let entered = match self.enter(&mut client, recording).await? {
            Some(entered) => Some(entered),
            None => self.entered(&client, recording).await?,
        };
        Ok(entered.map_or(Recorded::Fenced, Recorded::Entered))
    }

    async fn done(&self, ids: &[EffectId]) -> Result<(), LogError> {
        let ids: Vec<Uuid> = ids.iter().map(|id| id.uuid()).collect();
        self.query(include_str!("sql/done_effects.sql"), &[&ids]).await?;
        Ok(())
    }

    async fn end(&self, partition: i32, epoch: i64, id: EffectId, ending: &Ending) -> Result<bool, LogError> {
        let (state, attempts, code, reason) = match ending {
            Ending::Expired => ("expired", 0, None, None),
            Ending::Failed { attempts, code, reason } => {
                ("failed", i32::try_from(*attempts).unwrap_or(i32::MAX), Some(code.as_str()), Some(reason.as_str()))
            }
        };
        let id = id.uuid();
        let parameters: [&(dyn ToSql + Sync); 9] = [&self.reactor, &self.topic, &partition, &epoch, &id, &state, &attempts, &code, &reason];
        let rows = self.query(include_str!("sql/end_effect.sql"), &parameters).await?;
        Ok(rows.first().map(|row| row.try_get(0)).transpose().map_err(idempo_pg::classify)?.unwrap_or(false))
    }

    async fn unfinished(&self, partition: i32, after: Option<Place>, max: usize) -> Result<Vec<Pending>, LogError> {
        let Place { offset, ordinal } = after.unwrap_or(Place { offset: -1, ordinal: 0 });
        let max = i64::try_from(max).unwrap_or(i64::MAX);
        let parameters: [&(dyn ToSql + Sync); 6] = [&self.reactor, &self.topic, &partition, &offset, &ordinal, &max];
        let rows = self.query(include_str!("sql/unfinished_effects.sql"), &parameters).await?;
        Ok(rows.iter().map(pending).collect::<Result<_, _>>().map_err(idempo_pg::classify)?)
    }

    async fn failed_keys(&self, partition: i32) -> Result<BTreeSet<Uuid>, LogError> {
        let rows = self.query(include_str!("sql/failed_keys.sql"), &[&self.reactor, &self.topic, &partition]).await?;
        Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(idempo_pg::classify)?)
    }

    async fn look(&self, partition: i32) -> Result<Option<Look>, LogError> {
        let client = self.pool.get().await?;
        Ok(self.read_look(&client, partition).await?)
    }

    async fn counts(&self) -> Result<EffectCounts, LogError> {
        let rows = self.query(include_str!("sql/count_effects.sql"), &[&self.reactor, &self.topic]).await?;
        let Some(row) = rows.first() else { return Ok(EffectCounts::default()) };
        let read = || {
            let (unfinished, failed): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
            Ok(EffectCounts { unfinished: unfinished.unsigned_abs(), failed: failed.unsigned_abs(), oldest_at: row.try_get(2)? })
        };
        read().map_err(|error: tokio_postgres::Error| idempo_pg::classify(error).into())
    }

    async fn settle(&self, id: EffectId, settlement: Settlement, caller: &str, reason: &str) -> Result<bool, LogError> {
        let state = match settlement {
            Settlement::Again => "pending",
            Settlement::Dropped => "dropped",
        };
        let rows = self.query(include_str!("sql/settle_effect.sql"), &[&id.uuid(), &state, &caller, &reason]).await?;
        Ok(rows.first().map(|row| row.try_get(0)).transpose().map_err(idempo_pg::classify)?.unwrap_or(false))
    }
}

fn ids_of(rows: &[Row]) -> Result<BTreeSet<EffectId>, idempo_pg::Error> {
    Ok(rows.iter().map(|row| row.try_get(0).map(EffectId::new)).collect::<Result<_, _>>()?)
}

fn pending(row: &Row) -> Result<Pending, tokio_postgres::Error> {
    Ok(Pending {
        id: EffectId::new(row.try_get(0)?),
        place: Place { offset: row.try_get(1)?, ordinal: row.try_get(2)? },
        event: EventId::new(row.try_get(3)?),
        key: row.try_get(4)?,
        decided_at: row.try_get(5)?,
        traceparent: row.try_get(6)?,
        effect: row.try_get::<_, Vec<u8>>(7)?.into(),
    })
}

impl From<idempo_pg::Error> for LogError {
    fn from(error: idempo_pg::Error) -> Self {
        if is_of_data(&error) { Self::Refused(error.into()) } else { Self::Unavailable(error.into()) }
    }
}
