//! Beside relaying: outbox tables take turns and are emptied, and the backlog is measured.
//!
//! Rows are never deleted one by one. One of three tables is written; when it is large or old enough, writers are sent to another one, and it
//! is emptied as a whole once everything in it is in Kafka. A writer that looked before the switch may still write into the old table: so
//! `outbox.truncate_acked` looks again behind its lock, and the reader reads all three tables always. A table into which a long transaction
//! wrote can't be emptied before that ends; the other two go on taking turns.

use std::time::{Duration, Instant};

use tokio_postgres::{Client, Statement};
use tokio_util::task::AbortOnDropHandle;

use crate::Rotation;
use crate::metrics::Metrics;
use crate::status::Status;

/// How often the tables are looked at.
const TABLES_INTERVAL: Duration = Duration::from_secs(1);
/// How often the backlog is measured.
const BACKLOG_INTERVAL: Duration = Duration::from_secs(10);
/// Up to how many rows the backlog is counted; above, it is estimated by the numbers drawn.
const BACKLOG_ROWS_MAX: i64 = 10_000;
/// The shortest and the longest wait before a table that could not be locked is tried again.
const LOCK_RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// The SQLSTATE of a lock that was not to be had in time.
const LOCK_NOT_AVAILABLE: &str = "55P03";
/// The outbox tables, by number.
const TABLES: [&str; 3] = ["r0", "r1", "r2"];

/// Looks after the tables of one outbox.
pub(crate) struct Maintenance<'a> {
    pub(crate) database: &'a idempo_pg::Config,
    pub(crate) rotation: &'a Rotation,
    pub(crate) status: &'a Status,
    pub(crate) metrics: &'a Metrics,
}

/// When a table that could not be emptied is tried again.
#[derive(Debug, Clone, Copy)]
struct Retry {
    at: Instant,
    wait: Duration,
}

struct Session {
    client: Client,
    read_tables: Statement,
    has_writers: Statement,
    truncate_acked: Statement,
    rotate: Statement,
    read_backlog: Statement,
    _driver: AbortOnDropHandle<()>,
}

impl Maintenance<'_> {
    /// Looks after the tables for as long as it is polled. The backlog is measured by every process, the tables are turned by the holder.
    pub(crate) async fn run(&self) {
        loop {
            if let Err(error) = self.run_session().await {
                tracing::debug!(%error, "maintenance of the outbox was interrupted");
            }
            tokio::time::sleep(TABLES_INTERVAL).await;
        }
    }

    async fn run_session(&self) -> Result<(), idempo_pg::Error> {
        let session = Session::open(self.database).await?;
        let mut measured: Option<Instant> = None;
        let mut retries: [Option<Retry>; 3] = [None; 3];
        loop {
            if measured.is_none_or(|at| at.elapsed() >= BACKLOG_INTERVAL) {
                self.measure_backlog(&session).await?;
                measured = Some(Instant::now());
            }
            if self.status.is_leader() {
                self.turn_tables(&session, &mut retries).await?;
            }
            tokio::time::sleep(Duration::from_millis(self.rotation.check_interval_ms)).await;
        }
    }

    async fn measure_backlog(&self, session: &Session) -> Result<(), idempo_pg::Error> {
        let row = session.client.query_one(&session.read_backlog, &[&(BACKLOG_ROWS_MAX + 1)]).await?;
        let (rows, age_ms, numbers): (i64, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let pending = if rows > BACKLOG_ROWS_MAX { rows.max(numbers) } else { rows };
        let oldest = Duration::from_millis(u64::try_from(age_ms).unwrap_or(0));
        self.metrics.backlog(u32::try_from(pending).unwrap_or(u32::MAX), oldest);
        Ok(())
    }

    /// Empties what can be emptied, then switches if it is time and there is an empty table to switch to.
    async fn turn_tables(&self, session: &Session, retries: &mut [Option<Retry>; 3]) -> Result<(), idempo_pg::Error> {
        let row = session.client.query_one(&session.read_tables, &[]).await?;
        let (current, age_s): (i16, i64) = (row.try_get(0)?, row.try_get(1)?);
        let mut sizes: [i64; 3] = [row.try_get(2)?, row.try_get(3)?, row.try_get(4)?];
        for (number, ((size, table), retry)) in (0_i16..).zip(sizes.iter_mut().zip(TABLES).zip(retries)) {
            if number != current && *size > 0 && retry.is_none_or(|retry| retry.at <= Instant::now()) {
                let emptied = self.empty(session, number).await?;
                *retry = if emptied { None } else { Some(later(*retry)) };
                if emptied {
                    *size = 0;
                }
            }
            self.metrics.table(table, u64::try_from(*size).unwrap_or(0));
        }
        let Some(written) = usize::try_from(current).ok().and_then(|at| sizes.get(at)).copied() else { return Ok(()) };
        let large = u64::try_from(written).unwrap_or(0) >= self.rotation.table_bytes_max;
        let old = written > 0 && u64::try_from(age_s).unwrap_or(0) >= self.rotation.table_age_max_s;
        let next = (0_i16..)
            .zip(sizes)
            .map(|(number, size)| ((number - current).rem_euclid(3), number, size))
            .filter(|(turn, _, size)| *turn != 0 && *size == 0)
            .min();
        if let (true, Some((_, next, _))) = (large || old, next) {
            fail::fail_point!(crate::failpoint::RELAY_BEFORE_ROTATE);
            session.client.execute(&session.rotate, &[&current, &next]).await?;
            fail::fail_point!(crate::failpoint::RELAY_ROTATED);
            self.metrics.rotated();
            tracing::debug!(from = current, to = next, "writers go to the next outbox table");
        }
        Ok(())
    }

    /// Empties a table if that is possible at once.
    async fn empty(&self, session: &Session, number: i16) -> Result<bool, idempo_pg::Error> {
        if session.client.query_one(&session.has_writers, &[&number]).await?.try_get(0)? {
            self.metrics.truncation("pinned");
            return Ok(false);
        }
        let began = Instant::now();
        fail::fail_point!(crate::failpoint::RELAY_BEFORE_TRUNCATE);
        let answer = session.client.query_one(&session.truncate_acked, &[&number]).await.map_err(idempo_pg::Error::from);
        fail::fail_point!(crate::failpoint::RELAY_TRUNCATED);
        match answer {
            Ok(row) => {
                let emptied: bool = row.try_get(0)?;
                if emptied {
                    self.metrics.storage("truncate", began.elapsed());
                    self.metrics.truncation("emptied");
                }
                Ok(emptied)
            }
            Err(error) if error.sqlstate() == Some(LOCK_NOT_AVAILABLE) => {
                self.metrics.truncation("locked");
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

fn later(retry: Option<Retry>) -> Retry {
    let wait = retry.map_or(LOCK_RETRY.0, |retry| (retry.wait * 2).min(LOCK_RETRY.1));
    Retry { at: Instant::now() + wait, wait }
}

impl Session {
    async fn open(database: &idempo_pg::Config) -> Result<Self, idempo_pg::Error> {
        let (client, connection) = idempo_pg::connect(database).await?;
        let driver = AbortOnDropHandle::new(tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the maintenance connection has ended");
            }
        }));
        client.batch_execute(include_str!("sql/session.sql")).await?;
        Ok(Self {
            read_tables: client.prepare(include_str!("sql/read_tables.sql")).await?,
            has_writers: client.prepare(include_str!("sql/has_writers.sql")).await?,
            truncate_acked: client.prepare(include_str!("sql/truncate_acked.sql")).await?,
            rotate: client.prepare(include_str!("sql/rotate.sql")).await?,
            read_backlog: client.prepare(include_str!("sql/read_backlog.sql")).await?,
            client,
            _driver: driver,
        })
    }
}
