//! How far behind the relay is, as the database that events are written to tells.

use std::time::Duration;

use idempo_pg::{Error, Pool, classify};

/// How long the oldest event has waited that was appended and is not known to be in Kafka; 0 where there is none. It needs no relay to be alive, and
/// costs the database a few pages however many events wait.
///
/// # Errors
/// Where the database is away.
///
/// # Cancel safety
/// Cancel safe: it changes nothing.
pub async fn backlog_age(pool: &Pool) -> Result<Duration, Error> {
    let client = pool.get().await?;
    let statement = client.prepare_cached(include_str!("../sql/backlog_age.sql")).await.map_err(classify)?;
    let row = client.query_one(&statement, &[]).await.map_err(classify)?;
    let age_ms: i64 = row.try_get("age_ms").map_err(classify)?;
    Ok(Duration::from_millis(u64::try_from(age_ms).unwrap_or(0)))
}
