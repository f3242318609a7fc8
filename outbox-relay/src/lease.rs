//! The lease on an outbox: who relays it, until when, and how a relay that has lost it is kept from doing harm.
//!
//! The lease is a row of the outbox's own database, on that database's clock. Each take-over raises its epoch, in the lease and in the cursor
//! at once. The holder renews it long before it ends, and counts its end from *before* it sent the renewal, on a clock that only goes forward; so
//! by the time the database lets another one take the lease, the holder has stopped. A stand-by takes it as soon as it has expired or the
//! holder's session has ended: the server notices the death of a process at once, and a frozen machine by the lease's end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Row};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::position::{BatchEnd, Done, Mark, Position};
use crate::routes::Routes;
use crate::snapshot::{Snapshot, Xid};
use crate::tails::{Columns, Tails};
use crate::tracker::Acked;

/// How long a lease holds.
const LEASE: Duration = Duration::from_secs(3);
/// How long before its end the holder stops, for what it has handed over to stop moving.
const LEASE_MARGIN: Duration = Duration::from_millis(500);

/// Until when this process may publish.
#[derive(Debug)]
pub(crate) struct Fence {
    origin: Instant,
    until_us: AtomicU64,
}

impl Fence {
    /// A fence that holds for a lease that was asked for at `asked_at`.
    pub(crate) fn new(asked_at: Instant) -> Self {
        let fence = Self { origin: asked_at, until_us: AtomicU64::new(0) };
        fence.extend(asked_at);
        fence
    }

    /// The lease was given or renewed after `asked_at`.
    pub(crate) fn extend(&self, asked_at: Instant) {
        let until = asked_at.saturating_duration_since(self.origin) + (LEASE - LEASE_MARGIN);
        self.until_us.fetch_max(u64::try_from(until.as_micros()).unwrap_or(u64::MAX), Ordering::AcqRel);
    }

    /// When publishing has to stop.
    pub(crate) fn until(&self) -> Instant {
        self.origin + Duration::from_micros(self.until_us.load(Ordering::Acquire))
    }

    /// Whether publishing is allowed now.
    pub(crate) fn holds(&self) -> bool {
        Instant::now() < self.until()
    }
}

/// What a take-over gives.
pub(crate) struct Taken {
    pub(crate) epoch: i64,
    pub(crate) position: Position,
    pub(crate) tails: Tails,
    /// The database's snapshot at the take-over.
    pub(crate) now: Snapshot,
    pub(crate) fence: Arc<Fence>,
}

/// The session that the lease is kept with, and that hears the doorbell.
pub(crate) struct LeaseSession {
    client: Client,
    owner: String,
    /// The session has ended, and with it the lease.
    pub(crate) ended: CancellationToken,
    _driver: AbortOnDropHandle<()>,
}

impl LeaseSession {
    /// Connects, and rings `bell` from then on whenever a writer says that there is something new.
    ///
    /// # Errors
    /// Of the database.
    pub(crate) async fn connect(config: &idempo_pg::Config, owner: &str, bell: Arc<Notify>) -> Result<Self, idempo_pg::Error> {
        let (client, mut connection) = idempo_pg::connect(config).await?;
        let ended = CancellationToken::new();
        let end = ended.clone().drop_guard();
        let driver = tokio::spawn(async move {
            let _end = end;
            loop {
                match connection.message().await {
                    Ok(Some(AsyncMessage::Notification(_))) => bell.notify_one(),
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(error) => {
                        tracing::debug!(%error, "the lease's session has ended");
                        break;
                    }
                }
            }
        });
        let session = Self { client, owner: owner.to_owned(), ended, _driver: AbortOnDropHandle::new(driver) };
        session.client.batch_execute("LISTEN outbox").await?;
        Ok(session)
    }

    /// Takes the lease if it is free.
    ///
    /// # Errors
    /// Of the database; then the lease may have been taken.
    pub(crate) async fn take(&self, routes: &Routes) -> Result<Option<Taken>, idempo_pg::Error> {
        let asked_at = Instant::now();
        let lease_ms = i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX);
        fail::fail_point!(crate::failpoint::RELAY_BEFORE_TAKE);
        let row = self.client.query_opt(include_str!("sql/take_lease.sql"), &[&self.owner, &lease_ms]).await?;
        let Some(row) = row else { return Ok(None) };
        fail::fail_point!(crate::failpoint::RELAY_TAKEN);
        let fence = Arc::new(Fence::new(asked_at));
        let tails = tails_of(&row, 10, routes)?;
        Ok(Some(Taken { epoch: row.try_get(0)?, position: position_of(&row)?, tails, now: row.try_get(9)?, fence }))
    }

    /// Renews the lease, and tells whether it was still this process'.
    ///
    /// # Errors
    /// Of the database; then the lease may have been renewed.
    pub(crate) async fn renew(&self, epoch: i64, fence: &Fence) -> Result<bool, idempo_pg::Error> {
        let asked_at = Instant::now();
        let lease_ms = i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX);
        fail::fail_point!(crate::failpoint::RELAY_BEFORE_RENEW);
        let renewed = self.client.execute(include_str!("sql/renew_lease.sql"), &[&self.owner, &epoch, &lease_ms]).await?;
        fail::fail_point!(crate::failpoint::RELAY_RENEWED);
        if renewed == 1 {
            fence.extend(asked_at);
        }
        Ok(renewed == 1)
    }

    /// Stores how far the outbox is relayed and where to look for what was sent beyond, and tells whether the lease was still this process'.
    ///
    /// # Errors
    /// Of the database; then the position may have been stored.
    pub(crate) async fn write_cursor(&self, epoch: i64, acked: &Acked, routes: &Routes) -> Result<bool, idempo_pg::Error> {
        let position = &acked.position;
        let done = &position.done;
        let mark_xids: Vec<Xid> = done.marks.iter().map(|mark| Xid(mark.xid)).collect();
        let mark_floors: Vec<i64> = done.marks.iter().map(|mark| mark.floor).collect();
        let end = position.batch.as_deref();
        let (s2, s2_xid, s2_floor) = (end.map(|end| &end.snapshot), end.map(|end| Xid(end.mark.xid)), end.map(|end| end.mark.floor));
        let tails = acked.tails.columns(routes);
        let parameters: [&(dyn ToSql + Sync); 13] = [
            &epoch,
            &done.snapshot,
            &done.xip_floors,
            &mark_xids,
            &mark_floors,
            &s2,
            &s2_xid,
            &s2_floor,
            &position.acked_seq,
            &tails.topics,
            &tails.partitions,
            &tails.offsets,
            &tails.ends,
        ];
        let written = self.client.execute(include_str!("sql/write_cursor.sql"), &parameters).await?;
        Ok(written == 1)
    }

    /// The tails as they are stored; `None` where another relay has taken the lease.
    ///
    /// # Errors
    /// Of the database.
    pub(crate) async fn read_tails(&self, epoch: i64, routes: &Routes) -> Result<Option<Tails>, idempo_pg::Error> {
        let row = self.client.query_opt(include_str!("sql/read_tails.sql"), &[&epoch]).await?;
        Ok(row.map(|row| tails_of(&row, 0, routes)).transpose()?)
    }

    /// Gives the lease back, so that a stand-by need not wait.
    ///
    /// # Errors
    /// Of the database.
    pub(crate) async fn release(&self, epoch: i64) -> Result<(), idempo_pg::Error> {
        fail::fail_point!(crate::failpoint::RELAY_BEFORE_RELEASE);
        self.client.execute(include_str!("sql/release_lease.sql"), &[&self.owner, &epoch]).await?;
        fail::fail_point!(crate::failpoint::RELAY_RELEASED);
        Ok(())
    }
}

/// The tails in a row, from a column on.
fn tails_of(row: &Row, at: usize, routes: &Routes) -> Result<Tails, tokio_postgres::Error> {
    let (topics, partitions) = (row.try_get(at)?, row.try_get(at + 1)?);
    Ok(Tails::of(&Columns { topics, partitions, offsets: row.try_get(at + 2)?, ends: row.try_get(at + 3)? }, routes))
}

/// The position in a row of the cursor, as `take_lease.sql` gives it.
fn position_of(row: &Row) -> Result<Position, tokio_postgres::Error> {
    let mark_xids: Vec<Xid> = row.try_get(3)?;
    let mark_floors: Vec<i64> = row.try_get(4)?;
    let marks = mark_xids.into_iter().zip(mark_floors).map(|(xid, floor)| Mark { xid: xid.0, floor }).collect();
    let done = Done { snapshot: row.try_get(1)?, xip_floors: row.try_get(2)?, marks };
    let end = (row.try_get::<_, Option<Snapshot>>(5)?, row.try_get::<_, Option<Xid>>(6)?, row.try_get::<_, Option<i64>>(7)?);
    let batch = match end {
        (Some(snapshot), Some(xid), Some(floor)) => Some(Arc::new(BatchEnd { snapshot, mark: Mark { xid: xid.0, floor } })),
        _ => None,
    };
    Ok(Position { done: Arc::new(done), batch, acked_seq: row.try_get(8)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishing_ends_before_the_lease_counted_from_before_the_renewal() {
        let asked_at = Instant::now();
        let fence = Fence::new(asked_at);
        assert_eq!(fence.until(), asked_at + Duration::from_millis(2_500));
        fence.extend(asked_at + Duration::from_secs(1));
        assert_eq!(fence.until(), asked_at + Duration::from_millis(3_500));
        fence.extend(asked_at);
        assert_eq!(fence.until(), asked_at + Duration::from_millis(3_500), "a late answer to an early renewal takes nothing away");
        assert!(fence.holds());
    }
}
