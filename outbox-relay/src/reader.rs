//! Reading the outbox page by page.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::try_join;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};
use uuid::Uuid;

use crate::position::{BatchEnd, Done, Mark, Position};
use crate::snapshot::{DatabaseTime, Snapshot, Xid, next_xid};

/// The most bytes of rows that a page is meant to have. One that has more is followed by a shorter one.
const PAGE_BYTES: usize = 1 << 20;
/// The fewest rows that a page may have for that.
const PAGE_ROWS_MIN: usize = 16;

/// What the database's clock showed at a moment of ours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DatabaseClock {
    shown: DatabaseTime,
    at: Instant,
}

impl DatabaseClock {
    /// How long ago the database's clock showed `past`; nothing for what is to come.
    pub(crate) fn since(&self, past: DatabaseTime, now: Instant) -> Duration {
        let elapsed = i64::try_from(now.saturating_duration_since(self.at).as_micros()).unwrap_or(i64::MAX);
        let micros = self.shown.0.saturating_add(elapsed).saturating_sub(past.0);
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }
}

#[cfg(test)]
impl DatabaseClock {
    pub(crate) fn for_tests() -> Self {
        Self { shown: DatabaseTime(0), at: Instant::now() }
    }
}

/// Rows that follow each other in the outbox. It may have none: then only the position moves.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) rows: Vec<Row>,
    /// What was done before the batch that the page belongs to, and that batch.
    pub(crate) done: Arc<Done>,
    pub(crate) batch: Arc<BatchEnd>,
    /// The position when all rows are acknowledged.
    pub(crate) after: Position,
    /// It ends a batch that this reader has opened: all that an earlier reader can have read stands before its end.
    pub(crate) passes_predecessors: bool,
    pub(crate) clock: DatabaseClock,
}

/// A row of the outbox, borrowed from a page.
#[derive(Debug)]
pub(crate) struct OutboxRow<'a> {
    pub(crate) seq: i64,
    pub(crate) recorded_at: DatabaseTime,
    pub(crate) topic: i16,
    pub(crate) key: Uuid,
    pub(crate) headers: &'a [u8],
    pub(crate) payload: &'a [u8],
}

impl<'a> OutboxRow<'a> {
    /// Takes a row of a page apart.
    ///
    /// # Errors
    /// When a column is not what the migration says.
    pub(crate) fn of(row: &'a Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            seq: row.try_get(1)?,
            recorded_at: row.try_get(2)?,
            topic: row.try_get(3)?,
            key: row.try_get(4)?,
            headers: row.try_get::<_, Option<&[u8]>>(5)?.unwrap_or_default(),
            payload: row.try_get(6)?,
        })
    }

    /// Takes a row of `read_released.sql` apart.
    ///
    /// # Errors
    /// When a column is not what the migration says.
    pub(crate) fn of_quarantine(row: &'a Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            seq: row.try_get(0)?,
            recorded_at: row.try_get(1)?,
            topic: row.try_get(2)?,
            key: row.try_get(3)?,
            headers: row.try_get::<_, Option<&[u8]>>(4)?.unwrap_or_default(),
            payload: row.try_get(5)?,
        })
    }
}

/// Reads an outbox from a position on. See [`crate::position`] for what it reads and why.
pub(crate) struct Reader {
    client: Client,
    read_mark: Statement,
    open_batch: Statement,
    read_batch: Statement,
    position: Position,
    /// Whether the batch that is read was opened by this reader, not by the one that stored the position.
    opened: bool,
    clock: DatabaseClock,
    rows_max: usize,
    page_rows: usize,
}

impl Reader {
    /// Prepares to read behind `position`, pages of `rows_max` rows at most.
    ///
    /// # Errors
    /// Of the database.
    pub(crate) async fn new(client: Client, position: Position, rows_max: usize) -> Result<Self, idempo_pg::Error> {
        client.batch_execute(include_str!("sql/session.sql")).await?;
        let read_mark = client.prepare(include_str!("sql/read_mark.sql")).await?;
        let open_batch = client.prepare(include_str!("sql/open_batch.sql")).await?;
        let read_batch = client.prepare(include_str!("sql/read_batch.sql")).await?;
        let clock = DatabaseClock { shown: DatabaseTime(0), at: Instant::now() };
        Ok(Self { client, read_mark, open_batch, read_batch, position, opened: false, clock, rows_max, page_rows: rows_max })
    }

    /// The next page; `None` where nothing has happened since the last one.
    ///
    /// # Errors
    /// Of the database. The reader is not to be used again.
    pub(crate) async fn next(&mut self) -> Result<Option<Page>, idempo_pg::Error> {
        match self.position.batch.clone() {
            Some(batch) => self.read_on(&batch).await.map(Some),
            None => self.open().await,
        }
    }

    /// Reads a page of the batch that is begun.
    async fn read_on(&mut self, batch: &Arc<BatchEnd>) -> Result<Page, idempo_pg::Error> {
        let done = Arc::clone(&self.position.done);
        let behind = match self.position.acked_seq {
            0 => done.floor_of_batch(&batch.snapshot),
            seq => seq,
        };
        let limit = self.page_rows;
        let parameters: [&(dyn ToSql + Sync); 4] = [&done.snapshot, &batch.snapshot, &behind, &as_bigint(limit)];
        let rows = self.client.query(&self.read_batch, &parameters).await?;
        self.page(rows, &done, batch, limit)
    }

    /// Takes the next snapshot and reads the first page of what it shows.
    async fn open(&mut self) -> Result<Option<Page>, idempo_pg::Error> {
        let done = Arc::clone(&self.position.done);
        let running: Vec<Xid> = done.snapshot.xip.iter().copied().map(Xid).collect();
        let limit = self.page_rows;
        let (floor, rows_wanted) = (done.later_floor(), as_bigint(limit));
        let parameters: [&(dyn ToSql + Sync); 5] = [&done.snapshot, &running, &done.xip_floors, &floor, &rows_wanted];
        // Both are sent at once, the mark first.
        let (mark, mut rows) =
            try_join(self.client.query_one(&self.read_mark, &[]), self.client.query(&self.open_batch, &parameters)).await?;
        let answered = Instant::now();
        let head = if rows.is_empty() { None } else { Some(rows.remove(0)) };
        let snapshot = head.as_ref().map_or(Ok(None), |head| head.try_get::<_, Option<Snapshot>>(0))?;
        let Some((head, snapshot)) = head.zip(snapshot) else {
            return Err(idempo_pg::Error::Config("open_batch.sql gave no snapshot".to_owned()));
        };
        self.clock = DatabaseClock { shown: head.try_get(2)?, at: answered };
        let mark = Mark { floor: mark.try_get(0)?, xid: next_xid(mark.try_get(1)?, snapshot.xmax) };
        if rows.is_empty() && snapshot == done.snapshot {
            return Ok(None);
        }
        let batch = Arc::new(BatchEnd { snapshot, mark });
        self.opened = true;
        self.page(rows, &done, &batch, limit).map(Some)
    }

    fn page(&mut self, rows: Vec<Row>, done: &Arc<Done>, batch: &Arc<BatchEnd>, limit: usize) -> Result<Page, idempo_pg::Error> {
        let after = match rows.last() {
            Some(last) if rows.len() >= limit => Position::within(done, batch, last.try_get(1)?),
            _ => Position::behind(Arc::new(done.followed_by(&batch.snapshot, batch.mark))),
        };
        self.position = after.clone();
        // The next page is as long as it may be if its rows are like the largest of this one.
        let largest = rows.iter().map(Row::raw_size_bytes).max().unwrap_or(1).max(1);
        self.page_rows = (PAGE_BYTES / largest).clamp(PAGE_ROWS_MIN.min(self.rows_max), self.rows_max);
        let passes_predecessors = self.opened && after.batch.is_none();
        Ok(Page { rows, done: Arc::clone(done), batch: Arc::clone(batch), after, passes_predecessors, clock: self.clock })
    }
}

fn as_bigint(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
