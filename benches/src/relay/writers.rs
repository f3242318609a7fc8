//! Writers of outbox rows: at a fixed rate, which does not follow how fast anything is, or as fast as they can.

use std::sync::Arc;
use std::time::Duration;

use idempo_ids::Uuid;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};

use super::place::Place;
use super::rows::Rows;
use crate::since_1970;

/// Connections that write in turn. The rows of a key always come from the same one, as a stream's rows come from one transaction at a time.
const WRITERS: u32 = 16;
/// Rows a second that writers without a rate are taken not to reach.
pub(super) const RATE_MAX: u32 = 200_000;

/// What is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offered {
    /// Rows a second; `None`: as many as the writers manage.
    pub(super) per_second: Option<u32>,
    /// Rows of one transaction.
    pub(super) per_transaction: u32,
    /// For how long.
    pub(super) seconds: u32,
}

impl Offered {
    /// How many rows that is where the rate is fixed, and at most otherwise.
    pub(super) fn rows_max(self) -> u32 {
        self.per_second.unwrap_or(RATE_MAX) * self.seconds / self.per_transaction * self.per_transaction
    }
}

/// A transaction that was committed; times are since 1970.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    /// The number of its first row.
    pub(super) first: u32,
    /// When it was to begin.
    pub(super) due: Duration,
    /// When its COMMIT was sent: it can't have happened before.
    pub(super) sent: Duration,
    /// When the COMMIT was answered: it can't have happened later.
    pub(super) answered: Duration,
}

/// Writes rows numbered from `from` on, and returns each transaction.
pub(super) async fn write(place: &Place, rows: &Arc<Rows>, offered: Offered, from: u32) -> anyhow::Result<Vec<Written>> {
    let period = offered.per_second.map(|rate| Duration::from_secs(offered.per_transaction.into()) / rate);
    let mut prepared = Vec::new();
    for turn in 0..WRITERS {
        let client = place.session().await?;
        let statement = client.prepare(include_str!("../sql/relay_write.sql")).await?;
        prepared.push(Writer { client, statement, rows: Arc::clone(rows), offered, from, turn });
    }
    let began = Instant::now() + period.unwrap_or_default();
    let mut writers = tokio::task::JoinSet::new();
    for writer in prepared {
        writers.spawn(writer.run(began, period));
    }
    let mut all = Vec::new();
    while let Some(written) = writers.join_next().await {
        all.extend(written??);
    }
    Ok(all)
}

struct Writer {
    client: Client,
    statement: Statement,
    rows: Arc<Rows>,
    offered: Offered,
    from: u32,
    turn: u32,
}

impl Writer {
    /// Every `WRITERS`-th transaction, each when it is due: one that is late does not make the next one later.
    async fn run(self, began: Instant, period: Option<Duration>) -> anyhow::Result<Vec<Written>> {
        let until = began + Duration::from_secs(self.offered.seconds.into());
        let mut ticks = period.map(|period| ticks(began + period * self.turn, period * WRITERS));
        let mut written = Vec::new();
        for transaction in (self.turn..self.offered.rows_max() / self.offered.per_transaction).step_by(usize::try_from(WRITERS)?) {
            let late = match &mut ticks {
                Some(ticks) => ticks.tick().await.elapsed(),
                None if Instant::now() >= until => break,
                None => Duration::ZERO,
            };
            written.push(self.transaction(transaction, late).await?);
        }
        Ok(written)
    }

    async fn transaction(&self, transaction: u32, late: Duration) -> anyhow::Result<Written> {
        let due = since_1970()?.saturating_sub(late);
        let first = self.from + transaction * self.offered.per_transaction;
        let (mut keys, mut payloads) = (Vec::<Uuid>::new(), Vec::<Vec<u8>>::new());
        for number in first..first + self.offered.per_transaction {
            let mut payload = Vec::new();
            self.rows.payload(number, &mut payload)?;
            keys.push(self.rows.key(number)?.id);
            payloads.push(payload);
        }
        let headers: Option<&[u8]> = None;
        // Both are sent at once, and the COMMIT apart from them: so the moment of the commit is known as exactly as a client can know it.
        let parameters: [&(dyn ToSql + Sync); 3] = [&keys, &headers, &payloads];
        tokio::try_join!(self.client.batch_execute("BEGIN"), self.client.execute(&self.statement, &parameters))?;
        let sent = since_1970()?;
        self.client.batch_execute("COMMIT").await?;
        Ok(Written { first, due, sent, answered: since_1970()? })
    }
}

fn ticks(first: Instant, period: Duration) -> Interval {
    let mut ticks = tokio::time::interval_at(first, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    ticks
}
