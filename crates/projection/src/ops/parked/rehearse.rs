//! What a replay or a discard would do: it is done, in a transaction that is rolled back.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use idempo_ids::{EventId, StreamId, Uuid};
use idempo_pg::{Pool, Transaction};
use idempo_proto::ops::v1::{
    ParkedDifference, ParkedLetterFailure, ParkedLetterRehearsal, RehearseParkedLettersRequest, RehearseParkedLettersResponse,
};
use idempo_rpc::Violations;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use tonic::{Request, Status};

use super::{ParkedOperations, Place};
use crate::batch::{Entry, Home, Queue, Version};
use crate::halt::Cause;
use crate::parking::letters::entry_of;
use crate::patience::chain;
use crate::postgres::{Tables, TouchedRow, is_of_data};
use crate::projector::Projector;
use crate::store::StoreError;

/// The most dead letters that are rehearsed at once.
const NAMES_MAX: usize = 100;
/// The most records behind each of them, and the longest of those, in bytes.
const FOLLOWERS_MAX: i64 = 8_192;
const RECORD_BYTES_MAX: i32 = 1 << 20;
/// The most rows that are compared, of each dead letter, and the most differences that are answered.
const ROWS_MAX: i64 = 1_000;
const DIFFERENCES_MAX: usize = 100;

/// Rows by table and key.
type Rows = BTreeMap<(String, String), String>;

/// The last versions of streams.
type Versions = HashMap<StreamId, Version>;

/// A dead letter in rehearsal.
struct Rehearsed {
    home: Home,
    /// What is to be applied.
    entries: Vec<Entry>,
    /// The streams that are in it, as they are.
    last: Versions,
}

/// Whether what was written is to stay until the end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Undone,
}

impl Rehearsed {
    /// The first records, so many at most.
    fn queue<P: Projector>(&self, most: usize) -> Queue {
        let entries = self.entries.get(..most).unwrap_or(&self.entries);
        Queue::of::<P>(entries, self.home, &|stream| self.last.get(&stream).copied().unwrap_or_default())
    }

    /// What the first records add, so many at most.
    fn writes<P: Projector>(&self, most: usize) -> P::Writes {
        let last = |stream: StreamId| self.last.get(&stream).copied().unwrap_or_default();
        Queue::fold_together::<P>([&self.queue::<P>(most)], &last).map(|added| added.writes).unwrap_or_default()
    }
}

impl<P: Projector, T: Tables<Writes = P::Writes> + Clone> ParkedOperations<P, T> {
    pub(super) async fn rehearse(&self, request: Request<RehearseParkedLettersRequest>) -> Result<RehearseParkedLettersResponse, Status> {
        let asked = request.get_ref();
        let mut violations = Violations::new();
        let places = self.places(&mut violations, &asked.names, NAMES_MAX);
        let mut generations = places.iter().flatten().map(|place| place.generation);
        let generation = generations.next();
        violations.check(generations.all(|other| Some(other) == generation), "names", || "must be of one generation".to_owned());
        violations.finish(self.operations.domain)?;
        if let Some(at) = places.iter().position(Option::is_none) {
            return Err(self.no_letter(asked.names.get(at).map_or("", String::as_str)));
        }
        let places: Vec<Place> = places.into_iter().flatten().collect();
        let generation = generation.unwrap_or_default();
        let known = self.operations.known().await?;
        self.operations.generation(&known, generation)?;
        let config = self.operations.layout.database_of(P::NAME, generation);
        let pool = Pool::open(&idempo_pg::Config { max_connections: 1, ..config }).map_err(|error| self.operations.failed(&error))?;
        let rehearsed = self.rehearse_in(&pool, &places, asked.discard).await;
        pool.close();
        let (mut rehearsals, rows) = rehearsed.map_err(|error| self.operations.failed(&error))?;
        for (rehearsal, name) in rehearsals.iter_mut().zip(&asked.names) {
            rehearsal.name.clone_from(name);
        }
        let rows_changed = i64::try_from(rows.len()).unwrap_or(i64::MAX);
        Ok(RehearseParkedLettersResponse { rehearsals, differences: rows.into_iter().take(DIFFERENCES_MAX).collect(), rows_changed })
    }

    async fn rehearse_in(
        &self,
        pool: &Pool,
        places: &[Place],
        is_discard: bool,
    ) -> Result<(Vec<ParkedLetterRehearsal>, Vec<ParkedDifference>), idempo_pg::Error> {
        let mut client = pool.get().await?;
        let transaction = client.transaction().await?;
        transaction.batch_execute(include_str!("../../sql/begin_rehearsal.sql")).await?;
        transaction.batch_execute(include_str!("../../sql/bound_rehearsal.sql")).await?;
        let mut rehearsals = Vec::with_capacity(places.len());
        let (mut before, mut after) = (Rows::new(), Rows::new());
        for place in places {
            let Some(mut rehearsed) = self.read_entries(&transaction, *place, is_discard).await? else {
                rehearsals.push(ParkedLetterRehearsal { gone: true, ..ParkedLetterRehearsal::default() });
                continue;
            };
            rehearsed.last = versions(&transaction, *place, Queue::streams::<P>(&rehearsed.entries, rehearsed.home)).await?;
            let writes = rehearsed.writes::<P>(usize::MAX);
            keep(&mut before, self.tables.touched(&transaction, &writes, ROWS_MAX).await?);
            let (good, would_fail) = self.apply(&transaction, &rehearsed).await?;
            keep(&mut after, self.tables.touched(&transaction, &writes, ROWS_MAX).await?);
            let would_apply_records = i64::try_from(good).unwrap_or(i64::MAX);
            rehearsals.push(ParkedLetterRehearsal { name: String::new(), would_apply_records, would_fail, gone: false });
        }
        transaction.rollback().await?;
        Ok((rehearsals, differences(&before, &after)))
    }

    /// Writes what can be of a queue. Gives how many records that is, and what would fail then.
    async fn apply(
        &self,
        transaction: &Transaction<'_>,
        rehearsed: &Rehearsed,
    ) -> Result<(usize, Option<ParkedLetterFailure>), idempo_pg::Error> {
        let (whole, mut cause) = {
            let queue = rehearsed.queue::<P>(usize::MAX);
            (queue.good(), queue.cause().cloned())
        };
        let mut good = whole;
        if let Some(mut reason) = self.try_write(transaction, rehearsed, whole, Fate::Kept).await? {
            // With so many records it is refused, and without any it can't be.
            let mut bad = whole;
            good = 0;
            while bad - good > 1 {
                let middle = good + (bad - good) / 2;
                match self.try_write(transaction, rehearsed, middle, Fate::Undone).await? {
                    None => good = middle,
                    Some(refused) => (bad, reason) = (middle, refused),
                }
            }
            cause = Some(Cause::Refused(reason));
            self.try_write(transaction, rehearsed, good, Fate::Kept).await?;
        }
        let failing = rehearsed.entries.get(good).zip(cause);
        let failure = |(entry, cause): (&Entry, Cause)| {
            let (code, reason) = (cause.code().to_owned(), cause.to_string());
            ParkedLetterFailure { offset: entry.offset, code, reason }
        };
        Ok((good, failing.map(failure)))
    }

    /// Writes what the first records of a queue add. `Some` is why the read model refuses it; nothing of it is there then.
    async fn try_write(
        &self,
        transaction: &Transaction<'_>,
        rehearsed: &Rehearsed,
        most: usize,
        fate: Fate,
    ) -> Result<Option<String>, idempo_pg::Error> {
        transaction.batch_execute("SAVEPOINT queue").await?;
        let refused = match self.tables.write(transaction, &rehearsed.writes::<P>(most)).await {
            Ok(()) => None,
            Err(error) if is_of_data(&error) => Some(chain(&StoreError::from(error))),
            Err(error) => return Err(error),
        };
        let is_kept = refused.is_none() && fate == Fate::Kept;
        let end = if is_kept { "RELEASE SAVEPOINT queue" } else { "ROLLBACK TO SAVEPOINT queue" };
        transaction.batch_execute(end).await?;
        Ok(refused)
    }

    /// What is to be applied of a dead letter; `None` where there is no such one.
    async fn read_entries(
        &self,
        transaction: &Transaction<'_>,
        place: Place,
        is_discard: bool,
    ) -> Result<Option<Rehearsed>, idempo_pg::Error> {
        let (projection, topic) = (self.operations.projection, self.topic());
        let Place { generation, partition, offset } = place;
        let statement = transaction.prepare_cached(include_str!("../../sql/rehearsed_letter.sql")).await?;
        let found = transaction.query_opt(&statement, &[&projection, &generation, &topic, &partition, &offset]).await?;
        let Some(row) = found else { return Ok(None) };
        let is_begun: bool = row.try_get(5)?;
        let head = if is_begun || is_discard { None } else { Some(entry(&row)?) };
        let statement = transaction.prepare_cached(include_str!("../../sql/behind_letter.sql")).await?;
        let parameters: [&(dyn ToSql + Sync); 7] =
            [&projection, &generation, &topic, &partition, &offset, &FOLLOWERS_MAX, &RECORD_BYTES_MAX];
        let mut entries: Vec<Entry> = head.into_iter().collect();
        for row in transaction.query(&statement, &parameters).await? {
            entries.push(entry(&row)?);
        }
        let home = Home { partition, partitions: self.operations.layout.options.partitions };
        Ok(Some(Rehearsed { home, entries, last: Versions::new() }))
    }
}

async fn versions(transaction: &Transaction<'_>, place: Place, streams: Vec<StreamId>) -> Result<Versions, idempo_pg::Error> {
    let ids: Vec<Uuid> = streams.into_iter().map(StreamId::uuid).collect();
    let statement = transaction.prepare_cached(include_str!("../../sql/versions.sql")).await?;
    let mut last = Versions::new();
    for row in transaction.query(&statement, &[&place.generation, &ids]).await? {
        let (stream, number, event_id): (Uuid, i64, Option<Uuid>) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        last.insert(StreamId::new(stream), Version { number: number.unsigned_abs(), event_id: event_id.map(EventId::new) });
    }
    Ok(last)
}

fn entry(row: &Row) -> Result<Entry, tokio_postgres::Error> {
    Ok(entry_of(row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?, row.try_get(4)?))
}

fn keep(rows: &mut Rows, touched: Vec<TouchedRow>) {
    rows.extend(touched.into_iter().map(|TouchedRow { table, key, row }| ((table, key), row)));
}

/// The rows that are not the same.
fn differences(before: &Rows, after: &Rows) -> Vec<ParkedDifference> {
    let all: BTreeSet<&(String, String)> = before.keys().chain(after.keys()).collect();
    let row = |rows: &Rows, key: &(String, String)| rows.get(key).cloned().unwrap_or_default();
    let changed = all.into_iter().filter(|key| before.get(*key) != after.get(*key));
    let difference = |key: &(String, String)| ParkedDifference {
        table: key.0.clone(),
        key: key.1.clone(),
        before: row(before, key),
        after: row(after, key),
    };
    changed.map(difference).collect()
}
