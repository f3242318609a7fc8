//! Dead letters and parked records in PostgreSQL: `schemas/inventory_view_db/V6__dead_letters.sql` has the tables.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use idempo_dead_letter::DeadLetterId;
use idempo_ids::{StreamId, Uuid};
use idempo_pg::{Client, Transaction};
use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::{PostgresStore, Tables, as_count};
use crate::batch::Entry;
use crate::copy::Micros;
use crate::parking::Parked;
use crate::parking::letters::{Drain, Drainage, Drained, Failure, Letter, Next, ParkedCounts, Parking, Wished, Wishes, entry_of};

/// The most dead letters that one drain takes.
const LETTERS_MAX: i64 = 2_000;
/// The most records behind them.
const FOLLOWERS_MAX: usize = 8_192;
/// The most bytes of either, about: the last record can go beyond.
const BYTES_MAX: i64 = 32 << 20;

type Parameter<'a> = &'a (dyn ToSql + Sync);

/// The place of a table's rows: projection, generation, topic, partition.
type Place<'a> = [Parameter<'a>; 4];

/// Which records of a queue are drained.
#[derive(Debug, Clone, Copy)]
struct Cut {
    through: i64,
    has_more: bool,
}

async fn query(client: &Client, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>, idempo_pg::Error> {
    let statement = client.prepare_cached(sql).await?;
    Ok(client.query(&statement, parameters).await?)
}

async fn execute(transaction: &Transaction<'_>, sql: &str, place: &Place<'_>, more: &[Parameter<'_>]) -> Result<u64, idempo_pg::Error> {
    let statement = transaction.prepare_cached(sql).await?;
    Ok(transaction.execute(&statement, &[&place[..], more].concat()).await?)
}

fn micros(timestamp_ms: i64) -> Option<Micros> {
    Timestamp::from_millisecond(timestamp_ms).ok().filter(|_| timestamp_ms > 0).map(Micros)
}

/// What a text column takes.
fn text(reason: &str) -> String {
    reason.replace('\0', "\u{fffd}")
}

impl<T: Tables> PostgresStore<T> {
    fn place<'a>(&'a self, partition: &'a i32) -> Place<'a> {
        [&self.projection, &self.scope.generation, &self.scope.topic, partition]
    }

    /// Writes what a batch parks, in its transaction.
    pub(super) async fn park(&self, transaction: &Transaction<'_>, partition: i32, parking: &Parking) -> Result<(), idempo_pg::Error> {
        let place = self.place(&partition);
        if let Some(letter) = &parking.letter {
            insert_letter(transaction, &place, letter).await?;
        }
        if parking.followers.is_empty() {
            return Ok(());
        }
        let entries = &parking.followers;
        let offsets: Vec<i64> = entries.iter().map(|entry| entry.offset).collect();
        let keys: Vec<&[u8]> = entries.iter().map(|entry| entry.key.as_deref().unwrap_or_default()).collect();
        let values: Vec<Option<&[u8]>> = entries.iter().map(|entry| entry.value.as_deref()).collect();
        let headers: Vec<&[u8]> = entries.iter().map(|entry| entry.headers.as_bytes().as_ref()).collect();
        let times: Vec<Option<Micros>> = entries.iter().map(|entry| micros(entry.timestamp_ms)).collect();
        let more: [Parameter<'_>; 5] = [&offsets, &keys, &values, &headers, &times];
        execute(transaction, include_str!("../sql/park_followers.sql"), &place, &more).await?;
        Ok(())
    }

    pub(super) async fn read_parked(&self, partition: i32) -> Result<Parked, idempo_pg::Error> {
        let client = self.pool.get().await?;
        let mut parked = Parked::default();
        for row in query(&client, include_str!("../sql/parked_keys.sql"), &self.place(&partition)).await? {
            let (key, age_ms): (Option<Vec<u8>>, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
            parked.keys.extend(key.map(Bytes::from));
            parked.recent.extend(age_ms.map(|age| Duration::from_millis(age.unsigned_abs())));
        }
        if !parked.keys.is_empty() {
            let rows = query(&client, include_str!("../sql/count_parked.sql"), &self.place(&partition)).await?;
            parked.records = rows.first().map(|row| row.try_get::<_, i64>(0)).transpose()?.unwrap_or(0).unsigned_abs();
        }
        Ok(parked)
    }

    pub(super) async fn read_wished(&self, partition: i32) -> Result<Vec<Wished>, idempo_pg::Error> {
        let client = self.pool.get().await?;
        let place = self.place(&partition);
        let limits: [Parameter<'_>; 2] = [&LETTERS_MAX, &BYTES_MAX];
        let rows = query(&client, include_str!("../sql/wished.sql"), &[&place[..], &limits].concat()).await?;
        let mut wished = rows.iter().map(wished_of).collect::<Result<Vec<_>, _>>()?;
        let heads: Vec<i64> = wished.iter().map(|wished| wished.offset).collect();
        if heads.is_empty() {
            return Ok(wished);
        }
        let (cuts, last) = self.cuts(&client, &place, &heads).await?;
        wished.retain(|wished| wished.offset <= last);
        let (behind, through): (Vec<i64>, Vec<i64>) = cuts.iter().map(|(head, cut)| (*head, cut.through)).unzip();
        let more: [Parameter<'_>; 2] = [&behind, &through];
        let rows = query(&client, include_str!("../sql/parked_behind.sql"), &[&place[..], &more].concat()).await?;
        let mut queues: BTreeMap<i64, Vec<Entry>> = BTreeMap::new();
        for row in rows {
            queues.entry(row.try_get(0)?).or_default().push(entry(&row, 1)?);
        }
        for wished in &mut wished {
            wished.followers = queues.remove(&wished.offset).unwrap_or_default();
            wished.has_more = cuts.get(&wished.offset).is_some_and(|cut| cut.has_more);
        }
        Ok(wished)
    }

    /// How much of the queues behind some dead letters one drain takes, and the last dead letter that it takes.
    async fn cuts(&self, client: &Client, place: &Place<'_>, heads: &[i64]) -> Result<(BTreeMap<i64, Cut>, i64), idempo_pg::Error> {
        let limit = i64::try_from(FOLLOWERS_MAX).unwrap_or(i64::MAX);
        // One more, to see whether there is more.
        let more: [Parameter<'_>; 2] = [&heads, &limit.saturating_add(1)];
        let mut cuts: BTreeMap<i64, Cut> = BTreeMap::new();
        let mut bytes = 0_i64;
        for (number, row) in query(client, include_str!("../sql/parked_sizes.sql"), &[&place[..], &more].concat()).await?.iter().enumerate()
        {
            let (head, through, size): (i64, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            if number == FOLLOWERS_MAX || bytes >= BYTES_MAX {
                if let Some(cut) = cuts.get_mut(&head) {
                    cut.has_more = true;
                    return Ok((cuts, head));
                }
                // Those before it are whole; this one comes with the next part.
                return Ok((cuts, head.saturating_sub(1)));
            }
            bytes = bytes.saturating_add(size);
            cuts.insert(head, Cut { through, has_more: false });
        }
        Ok((cuts, i64::MAX))
    }

    pub(super) async fn write_drain(&self, drain: &Drain<T::Writes>) -> Result<Drainage, idempo_pg::Error> {
        let mut client = self.pool.get().await?;
        let transaction = client.transaction().await?;
        transaction.batch_execute(include_str!("../sql/begin_drain.sql")).await?;
        let place = self.place(&drain.partition);
        if execute(&transaction, include_str!("../sql/fence_drain.sql"), &place, &[&drain.epoch]).await? == 0 {
            transaction.rollback().await?;
            return Ok(Drainage::Fenced);
        }
        if !claim(&transaction, &place, &drain.letters).await? {
            transaction.rollback().await?;
            return Ok(Drainage::Stale);
        }
        self.move_versions(&transaction, include_str!("../sql/advance_versions.sql"), drain.versions.iter().collect()).await?;
        self.tables.write(&transaction, &drain.writes).await?;
        settle(&transaction, &place, &drain.letters).await?;
        fail::fail_point!(crate::failpoint::PROJECT_BEFORE_DRAIN_COMMIT);
        transaction.commit().await?;
        fail::fail_point!(crate::failpoint::PROJECT_DRAINED);
        Ok(Drainage::Done)
    }

    pub(super) async fn read_wishes(&self) -> Result<Wishes, idempo_pg::Error> {
        let client = self.pool.get().await?;
        let parameters: [Parameter<'_>; 3] = [&self.projection, &self.scope.generation, &self.scope.topic];
        let mut wishes = Wishes::default();
        for row in query(&client, include_str!("../sql/wishes.sql"), &parameters).await? {
            wishes.partitions.extend(row.try_get::<_, Option<i32>>(0)?);
            wishes.has_letters = true;
        }
        Ok(wishes)
    }

    pub(super) async fn count_parked(&self) -> Result<ParkedCounts, idempo_pg::Error> {
        let client = self.pool.get().await?;
        let parameters: [Parameter<'_>; 3] = [&self.projection, &self.scope.generation, &self.scope.topic];
        let rows = query(&client, include_str!("../sql/parked_counts.sql"), &parameters).await?;
        let Some(row) = rows.first() else { return Ok(ParkedCounts::default()) };
        let count = |at: usize| row.try_get::<_, i64>(at).map(i64::unsigned_abs);
        Ok(ParkedCounts { letters: count(0)?, keys: count(1)?, oldest_at: row.try_get(2)?, records: count(3)? })
    }

    pub(super) async fn read_parked_stream(&self, streams: &[StreamId]) -> Result<Option<DeadLetterId>, idempo_pg::Error> {
        let client = self.pool.get().await?;
        let ids: Vec<Uuid> = streams.iter().map(|stream| stream.uuid()).collect();
        let parameters: [Parameter<'_>; 4] = [&self.projection, &self.scope.generation, &self.scope.topic, &ids];
        let rows = query(&client, include_str!("../sql/parked_stream.sql"), &parameters).await?;
        let id = |row: &Row| -> Result<DeadLetterId, tokio_postgres::Error> {
            let (group, topic) = (row.try_get(0)?, self.scope.topic.clone());
            Ok(DeadLetterId { group, topic, partition: row.try_get(1)?, offset: row.try_get(2)? })
        };
        Ok(rows.first().map(id).transpose()?)
    }
}

/// Whether the dead letters are as they were read, and stay so until the transaction ends.
async fn claim(transaction: &Transaction<'_>, place: &Place<'_>, letters: &[Drained]) -> Result<bool, idempo_pg::Error> {
    let offsets: Vec<i64> = letters.iter().map(|letter| letter.offset).collect();
    let revisions: Vec<i64> = letters.iter().map(|letter| letter.revision).collect();
    let more: [Parameter<'_>; 2] = [&offsets, &revisions];
    let statement = transaction.prepare_cached(include_str!("../sql/claim_letters.sql")).await?;
    let claimed: i64 = transaction.query_one(&statement, &[&place[..], &more].concat()).await?.try_get(0)?;
    Ok(claimed.unsigned_abs() == as_count(letters.len()))
}

/// Does to dead letters and their queues what was drained of them.
async fn settle(transaction: &Transaction<'_>, place: &Place<'_>, letters: &[Drained]) -> Result<(), idempo_pg::Error> {
    let applied_of = |letter: &Drained| i64::try_from(letter.applied).unwrap_or(i64::MAX);
    let heads: Vec<i64> = letters.iter().map(|letter| letter.offset).collect();
    let through: Vec<i64> = letters.iter().map(|letter| letter.through).collect();
    execute(transaction, include_str!("../sql/leave_parking.sql"), place, &[&heads, &through]).await?;

    let ended: Vec<&Drained> = letters.iter().filter(|letter| matches!(letter.next, Next::Free | Next::Blocked(_))).collect();
    if !ended.is_empty() {
        let offsets: Vec<i64> = ended.iter().map(|letter| letter.offset).collect();
        let applied: Vec<i64> = ended.iter().map(|letter| applied_of(letter)).collect();
        let blocked_by: Vec<Option<i64>> = ended.iter().map(|letter| blocking(letter).map(|blocking| blocking.entry.offset)).collect();
        execute(transaction, include_str!("../sql/end_letters.sql"), place, &[&offsets, &applied, &blocked_by]).await?;
        transaction.batch_execute(include_str!("../sql/forget_ends.sql")).await?;
    }
    for blocking in ended.iter().filter_map(|letter| blocking(letter)) {
        let key = blocking.entry.key.as_deref().unwrap_or_default();
        execute(transaction, include_str!("../sql/leave_queue.sql"), place, &[&key, &blocking.entry.offset]).await?;
        insert_letter(transaction, place, blocking).await?;
    }
    let going_on: Vec<&Drained> = letters.iter().filter(|letter| letter.next == Next::More).collect();
    if !going_on.is_empty() {
        let offsets: Vec<i64> = going_on.iter().map(|letter| letter.offset).collect();
        let applied: Vec<i64> = going_on.iter().map(|letter| applied_of(letter)).collect();
        execute(transaction, include_str!("../sql/go_on_draining.sql"), place, &[&offsets, &applied]).await?;
    }
    let failed = |letter: &Drained| if let Next::Failed(failure) = &letter.next { Some((letter.offset, failure.clone())) } else { None };
    let failed: Vec<(i64, Failure)> = letters.iter().filter_map(failed).collect();
    if failed.is_empty() { Ok(()) } else { fail_again(transaction, place, &failed).await }
}

fn blocking(letter: &Drained) -> Option<&Letter> {
    if let Next::Blocked(blocking) = &letter.next { Some(blocking) } else { None }
}

async fn fail_again(transaction: &Transaction<'_>, place: &Place<'_>, failed: &[(i64, Failure)]) -> Result<(), idempo_pg::Error> {
    let integer = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
    let offsets: Vec<i64> = failed.iter().map(|(offset, _)| *offset).collect();
    let stages: Vec<&str> = failed.iter().map(|(_, failure)| failure.stage.name()).collect();
    let codes: Vec<&str> = failed.iter().map(|(_, failure)| failure.code).collect();
    let reasons: Vec<String> = failed.iter().map(|(_, failure)| text(&failure.reason)).collect();
    let attempts: Vec<i32> = failed.iter().map(|(_, failure)| integer(failure.attempts)).collect();
    let replays: Vec<i32> = failed.iter().map(|(_, failure)| integer(failure.replay_count)).collect();
    let times: Vec<Micros> = failed.iter().map(|(_, failure)| Micros(failure.failed_at)).collect();
    let more: [Parameter<'_>; 7] = [&offsets, &stages, &codes, &reasons, &attempts, &replays, &times];
    execute(transaction, include_str!("../sql/fail_letters.sql"), place, &more).await?;
    Ok(())
}

async fn insert_letter(transaction: &Transaction<'_>, place: &Place<'_>, letter: &Letter) -> Result<(), idempo_pg::Error> {
    let Letter { group, entry, failure, streams } = letter;
    let outline = letter.outline();
    let (key, value, headers) = (entry.key.as_deref(), entry.value.as_deref(), entry.headers.as_bytes().as_ref());
    let streams: Vec<Uuid> = streams.iter().map(|stream| stream.uuid()).collect();
    let event_type = outline.map(|outline| i32::from(outline.event_type));
    let event_id = outline.map(|outline| outline.event_id.uuid());
    let attempts = i32::try_from(failure.attempts).unwrap_or(i32::MAX);
    let more: [Parameter<'_>; 15] = [
        &entry.offset,
        &&**group,
        &key,
        &value,
        &headers,
        &micros(entry.timestamp_ms),
        &streams,
        &event_type,
        &event_id,
        &failure.stage.name(),
        &failure.code,
        &text(&failure.reason),
        &attempts,
        &Micros(failure.first_failed_at),
        &Micros(failure.failed_at),
    ];
    execute(transaction, include_str!("../sql/park_letter.sql"), place, &more).await?;
    Ok(())
}

/// The record in five columns: offset, key, value, headers and time; the offset is in column `at`.
fn entry(row: &Row, at: usize) -> Result<Entry, tokio_postgres::Error> {
    Ok(entry_of(row.try_get(at)?, row.try_get(at + 1)?, row.try_get(at + 2)?, row.try_get(at + 3)?, row.try_get(at + 4)?))
}

fn wished_of(row: &Row) -> Result<Wished, tokio_postgres::Error> {
    let count = |at: usize| row.try_get::<_, i32>(at).map(i32::unsigned_abs);
    let offset = row.try_get(0)?;
    Ok(Wished {
        offset,
        revision: row.try_get(1)?,
        is_discard: row.try_get(2)?,
        is_begun: row.try_get(3)?,
        head: entry_of(offset, row.try_get(4)?, row.try_get(5)?, row.try_get(6)?, row.try_get(7)?),
        followers: Vec::new(),
        has_more: false,
        attempts: count(8)?,
        replay_count: count(9)?,
        first_failed_at: row.try_get(10)?,
    })
}
