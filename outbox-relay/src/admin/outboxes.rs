//! What the outboxes are doing.

use idempo_proto::ops::v1::{GetRelayStatusRequest, GetRelayStatusResponse, Outbox, OutboxState, OutboxTable, QuarantineCounts};
use idempo_rpc::timestamp;
use jiff::Timestamp;
use tokio_postgres::Row;
use tonic::{Request, Status};

use super::{Operated, Operations, failed, failed_statement};
use crate::control::count_quarantined;
use crate::metrics::Waiting;
use crate::status::State;

/// Up to how many rows the backlog is counted; above, it is estimated by the numbers drawn.
const BACKLOG_ROWS_MAX: i64 = 10_000;

impl Operations {
    pub(super) async fn read_status(&self, request: Request<GetRelayStatusRequest>) -> Result<GetRelayStatusResponse, Status> {
        let asked = request.get_ref();
        let mut outboxes = Vec::new();
        if asked.name.is_empty() {
            for outbox in &self.outboxes {
                outboxes.push(self.status_of(outbox).await?);
            }
        } else {
            outboxes.push(self.status_of(self.outbox(&asked.name)?).await?);
        }
        Ok(GetRelayStatusResponse { instance: self.instance.clone(), outboxes })
    }

    /// Where the database is away, what this process knows by itself is answered: that is when people look.
    async fn status_of(&self, operated: &Operated) -> Result<Outbox, Status> {
        let (state, last_error) = operated.status.told();
        let mut outbox = Outbox { name: operated.resource(), state: state_of(&state).into(), ..Outbox::default() };
        if let Some((text, at)) = last_error {
            outbox.last_error = text;
            outbox.last_error_time = Some(timestamp::to_proto(at));
        }
        let client = match operated.pool.get().await {
            Ok(client) => client,
            Err(error) => {
                outbox.state = OutboxState::Connecting.into();
                outbox.last_error = error.to_string();
                return Ok(outbox);
            }
        };
        client.batch_execute(include_str!("../sql/session.sql")).await.map_err(failed_statement)?;
        let row = client.query_one(include_str!("../sql/read_outbox.sql"), &[]).await.map_err(failed_statement)?;
        self.fill(&mut outbox, &row).map_err(failed_statement)?;
        let row = client.query_one(include_str!("../sql/read_backlog.sql"), &[&(BACKLOG_ROWS_MAX + 1)]).await.map_err(failed_statement)?;
        backlog(&mut outbox, &row).map_err(failed_statement)?;
        let Waiting { held, parked, diverted, requeued } = count_quarantined(&client).await.map_err(|error| failed(&error))?;
        outbox.quarantine = Some(QuarantineCounts { held, parked, diverted, requeued });
        Ok(outbox)
    }

    fn fill(&self, outbox: &mut Outbox, row: &Row) -> Result<(), tokio_postgres::Error> {
        let time = |at: usize| row.try_get::<_, Option<Timestamp>>(at).map(|time| time.map(timestamp::to_proto));
        let is_held: bool = row.try_get(3)?;
        outbox.holder = row.try_get::<_, Option<String>>(0)?.filter(|_| is_held).unwrap_or_default();
        outbox.held_here = outbox.holder == self.instance;
        outbox.epoch = row.try_get(1)?;
        outbox.lease_expire_time = time(2)?.filter(|_| is_held);
        outbox.position = row.try_get(4)?;
        outbox.position_time = time(5)?;
        let current: i16 = row.try_get(6)?;
        for (number, at) in (0_i16..).zip(7..10) {
            let table = format!("r{number}");
            outbox.tables.push(OutboxTable { table, size_bytes: row.try_get(at)?, current: number == current });
        }
        outbox.paused = row.try_get(10)?;
        outbox.paused_by = row.try_get::<_, Option<String>>(11)?.unwrap_or_default();
        outbox.pause_reason = row.try_get::<_, Option<String>>(12)?.unwrap_or_default();
        outbox.pause_time = time(13)?;
        Ok(())
    }
}

fn backlog(outbox: &mut Outbox, row: &Row) -> Result<(), tokio_postgres::Error> {
    let (rows, age_ms, numbers): (i64, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    outbox.backlog_rows = if rows > BACKLOG_ROWS_MAX { rows.max(numbers) } else { rows };
    outbox.backlog_age_ms = age_ms;
    Ok(())
}

const fn state_of(state: &State) -> OutboxState {
    match state {
        State::Connecting => OutboxState::Connecting,
        State::Standby => OutboxState::Standby,
        State::Starting => OutboxState::Starting,
        State::Relaying => OutboxState::Relaying,
        State::BrokerAway => OutboxState::BrokerAway,
        State::Blocked { .. } => OutboxState::Blocked,
        State::Paused => OutboxState::Paused,
    }
}
