//! Drawing a player, whoever it is.
//!
//! Ids of streams begin with a time, so the stream at or after a random id would nearly always be one of those after a long pause, or the first of all. So a
//! block of the table is drawn, and a stream of those in it: one page is read however many there are, and each is drawn about as often as any other.

use idempo_ids::{PlayerId, StreamId, Uuid};
use idempo_pg::Client;
use tokio_postgres::Row;

use super::compare::Skip;
use crate::player::PlayerRows;

/// How many blocks are drawn until one has the stream of a player.
const DRAWS_MAX: usize = 4;

/// Draws a player of whom the event store has events.
pub(super) async fn draw<T: PlayerRows>(store: &Client) -> Result<PlayerId, Skip> {
    let statement = store.prepare_cached(include_str!("sql/stream_blocks.sql")).await?;
    let row = store.query_one(&statement, &[]).await?;
    let (blocks, is_standby): (i64, bool) = (row.try_get(0)?, row.try_get(1)?);
    if is_standby {
        return Err(Skip::Away("the event store is a standby, which may be behind the relay".to_owned()));
    }
    let statement = store.prepare_cached(include_str!("sql/streams_of_block.sql")).await?;
    for _ in 0..DRAWS_MAX {
        let block = rand::random_range(0..blocks.max(1));
        let rows = store.query(&statement, &[&block]).await?;
        let players = rows.iter().filter_map(|row| player_of::<T>(row).transpose()).collect::<Result<Vec<PlayerId>, _>>()?;
        if let Some(player) = players.get(rand::random_range(0..players.len().max(1))) {
            return Ok(*player);
        }
    }
    Err(Skip::Nobody)
}

/// Whose stream it is, if it is the stream of a player.
fn player_of<T: PlayerRows>(row: &Row) -> Result<Option<PlayerId>, tokio_postgres::Error> {
    let (stream, key) = (StreamId::new(row.try_get::<_, Uuid>(0)?), PlayerId::new(row.try_get::<_, Uuid>(1)?));
    Ok(Some(key).filter(|player| T::stream_of(*player) == stream))
}
