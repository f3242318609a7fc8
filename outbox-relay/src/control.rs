//! What people want of an outbox: that it pauses, that its holder steps down, that refused rows are sent again or never.
//!
//! Any process may take such a wish: it is stored in the outbox's own database, where it outlives every process, and each process looks there twice a
//! second. So a wish is heeded within a second by whoever holds the lease, also by one that has taken it meanwhile.

use std::time::{Duration, Instant};

use idempo_pg::{Error, Pool};
use tokio::sync::watch;

use crate::metrics::{Metrics, Waiting};

/// How often wishes are looked for.
const CONTROL_INTERVAL: Duration = Duration::from_millis(500);
/// How often the rows in quarantine are counted.
const COUNT_INTERVAL: Duration = Duration::from_secs(5);

/// What people want of an outbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Control {
    /// Rises with every wish about rows in quarantine.
    pub(crate) revision: i64,
    /// Who has paused the outbox, and why.
    pub(crate) paused: Option<(String, String)>,
    /// The holder of the lease with this epoch is to give it up.
    pub(crate) step_down_epoch: Option<i64>,
}

/// Looks for wishes for as long as it is polled. Nothing is known before the first look.
pub(crate) async fn follow(pool: &Pool, known: &watch::Sender<Option<Control>>, metrics: &Metrics) {
    let mut counted: Option<Instant> = None;
    loop {
        let is_due = counted.is_none_or(|at| at.elapsed() >= COUNT_INTERVAL);
        match look(pool, is_due).await {
            Ok((control, waiting)) => {
                known.send_if_modified(|known| {
                    let is_new = known.as_ref() != Some(&control);
                    *known = Some(control);
                    is_new
                });
                if let Some(waiting) = waiting {
                    metrics.quarantined(&waiting);
                    counted = Some(Instant::now());
                }
            }
            // Whoever holds the lease loses it with the database.
            Err(error) => tracing::debug!(%error, "what people want of the outbox could not be read"),
        }
        tokio::time::sleep(CONTROL_INTERVAL).await;
    }
}

async fn look(pool: &Pool, count: bool) -> Result<(Control, Option<Waiting>), Error> {
    let client = pool.get().await?;
    let statement = client.prepare_cached(include_str!("sql/read_wishes.sql")).await?;
    let row = client.query_one(&statement, &[]).await?;
    let paused: bool = row.try_get(1)?;
    let by = (row.try_get::<_, Option<String>>(2)?.unwrap_or_default(), row.try_get::<_, Option<String>>(3)?.unwrap_or_default());
    let control = Control { revision: row.try_get(0)?, paused: paused.then_some(by), step_down_epoch: row.try_get(4)? };
    let waiting = if count { Some(count_quarantined(&client).await?) } else { None };
    Ok((control, waiting))
}

/// How many rows wait in the quarantine.
///
/// # Errors
/// Of the database.
pub(crate) async fn count_quarantined(client: &idempo_pg::Client) -> Result<Waiting, Error> {
    let statement = client.prepare_cached(include_str!("sql/count_quarantined.sql")).await?;
    let row = client.query_one(&statement, &[]).await?;
    Ok(Waiting { held: row.try_get(0)?, parked: row.try_get(1)?, diverted: row.try_get(2)?, requeued: row.try_get(3)? })
}
