//! One comparison: a player's rows in one snapshot of the live generation, and the fold of the events up to the versions that it has.

use std::collections::BTreeSet;
use std::time::Duration;

use idempo_ids::{PlayerId, Uuid};
use idempo_pg::{Client, Transaction};
use tokio::time::Instant;
use tokio_postgres::{IsolationLevel, Row};

use super::draw::draw;
use super::{EVENTS_MAX, STREAMS_MAX, SampledRows, Sampler};
use crate::generations::known::Verdict;
use crate::generations::{Known, Live, Phase};
use crate::halt::Cause;
use crate::partition::BATCH_RECORDS_MAX;
use crate::player::Unmended;
use crate::player::found::Found;
use crate::progress::Progress;
use crate::projector::Projector;
use crate::rebuild::fold::Fold;
use crate::rebuild::scan::copy_versions;

/// The most rows of each table that are counted as wrong.
const TABLE_ROWS_MAX: i32 = 1_000;

/// A player was compared.
pub(super) struct Seen {
    pub(super) player: PlayerId,
    pub(super) generation: i32,
    /// The rows that the events say there are.
    pub(super) rows: i64,
    pub(super) took: Duration,
    pub(super) difference: Option<Difference>,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) wrong: Wrong,
    /// For people.
    pub(super) what: String,
}

/// In which way it is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrong {
    /// Rows are not those of the events.
    Rows,
    /// The generation has events that the event store does not have.
    BeyondStore,
}

impl Wrong {
    /// The stable name.
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Rows => "READ_MODEL_DIFFERS",
            Self::BeyondStore => "STREAM_BEYOND_STORE",
        }
    }

    /// What people can do.
    pub(super) const fn remedy(self) -> &'static str {
        match self {
            Self::Rows => {
                "idempo projection rebuild PROJECTION --player ID --dry-run --reason WHY shows the rows, without --dry-run it mends them"
            }
            Self::BeyondStore => {
                "the event store was restored to an earlier moment, or somebody else writes to the topic: find out, then rebuild the whole"
            }
        }
    }
}

/// Why a comparison was not made.
#[derive(Debug)]
pub(super) enum Skip {
    /// Nothing is live that this program may read.
    NotLive,
    /// People have paused the projection.
    Paused,
    /// A rebuild or a comparison is under way.
    Busy,
    /// The projection catches up.
    Behind,
    /// No player was drawn.
    Nobody,
    /// The player's rows follow from too much.
    TooLarge(String),
    /// This program can't take an event, or the database refuses something.
    Refused(String),
    /// What is needed is away, or somebody else holds it.
    Away(String),
}

impl Skip {
    /// The name in the metric.
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::NotLive => "not_live",
            Self::Paused => "paused",
            Self::Busy => "busy",
            Self::Behind => "behind",
            Self::Nobody => "nobody",
            Self::TooLarge(_) => "too_large",
            Self::Refused(_) => "refused",
            Self::Away(_) => "away",
        }
    }

    /// What more there is to say.
    pub(super) const fn detail(&self) -> &str {
        match self {
            Self::TooLarge(detail) | Self::Refused(detail) | Self::Away(detail) => detail.as_str(),
            Self::NotLive | Self::Paused | Self::Busy | Self::Behind | Self::Nobody => "",
        }
    }

    /// Whether another player might have been compared at that moment.
    pub(super) const fn is_of_player(&self) -> bool {
        matches!(self, Self::Nobody | Self::TooLarge(_))
    }
}

impl From<Unmended> for Skip {
    fn from(unmended: Unmended) -> Self {
        match unmended {
            Unmended::Unknown => Self::Nobody,
            Unmended::Refused("PLAYER_TOO_LARGE", reason) => Self::TooLarge(reason),
            Unmended::Refused("EVENT_STORE_STANDBY", reason) | Unmended::Away(reason) => Self::Away(reason),
            Unmended::Refused(code, reason) => Self::Refused(format!("{code}: {reason}")),
        }
    }
}

impl From<idempo_pg::Error> for Skip {
    fn from(error: idempo_pg::Error) -> Self {
        Unmended::from(error).into()
    }
}

impl From<tokio_postgres::Error> for Skip {
    fn from(error: tokio_postgres::Error) -> Self {
        Unmended::from(error).into()
    }
}

impl<P: Projector, T: SampledRows<Writes = P::Writes>> Sampler<P, T> {
    /// Compares this player, or one who is drawn.
    pub(super) async fn compare(&self, player: Option<PlayerId>) -> Result<Seen, Skip> {
        let began = Instant::now();
        self.is_free().await?;
        let store = self.source.get().await?;
        let player = match player {
            Some(player) => player,
            None => draw::<T>(&store).await?,
        };
        let mut client = self.sessions.get().await?;
        let compared = self.compare_in(&mut client, &store, player).await;
        // Whatever came of it, and with it all that was made there.
        client.discard();
        let (generation, rows, difference) = compared?;
        Ok(Seen { player, generation, rows, took: began.elapsed(), difference })
    }

    /// Whether there is nothing that comes before it.
    async fn is_free(&self) -> Result<(), Skip> {
        match &*self.live.borrow() {
            Live::Reading(reading) if is_behind(&reading.progress) => return Err(Skip::Behind),
            Live::Reading(_) => {}
            Live::Unknown | Live::OtherLogic { .. } => return Err(Skip::NotLive),
        }
        let known = Known::read(&self.sessions, P::NAME).await?.ok_or(Skip::NotLive)?;
        if known.pause.is_some() {
            return Err(Skip::Paused);
        }
        let is_built = |phase| !matches!(phase, Phase::Done | Phase::Failed);
        let mut rebuilds = known.generations.iter().filter_map(|generation| generation.rebuild.as_ref());
        let mut verdicts = known.generations.iter().filter_map(|generation| generation.verification.as_ref());
        let is_compared = |verdict| matches!(verdict, Verdict::Waiting | Verdict::Running);
        if rebuilds.any(|rebuild| is_built(rebuild.phase)) || verdicts.any(|found| is_compared(found.verdict)) {
            return Err(Skip::Busy);
        }
        Ok(())
    }

    async fn compare_in(&self, client: &mut Client, store: &Client, player: PlayerId) -> Result<(i32, i64, Option<Difference>), Skip> {
        let transaction = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).start().await?;
        // The first look takes the snapshot; the event store is read after it.
        let generation = live_generation::<P>(&transaction).await?;
        let mut found = Found::<T>::within(player, STREAMS_MAX, EVENTS_MAX);
        self.find(&transaction, store, &mut found, generation).await?;
        let fold = match fold::<P, T>(&transaction, &found, generation).await? {
            Ok(fold) => fold,
            Err(difference) => return Ok((generation, 0, Some(difference))),
        };
        transaction.execute(include_str!("../sql/begin_fold.sql"), &[&generation]).await?;
        transaction.batch_execute(include_str!("../sql/only_fold.sql")).await?;
        copy_versions(&transaction, generation, &fold.ends).await?;
        self.tables.copy(&transaction, &fold.writes).await?;
        transaction.batch_execute(include_str!("../sql/end_fold.sql")).await?;
        let rows: i64 = transaction.query_one(T::FOLDED, &[]).await?.try_get(0)?;
        let things: Vec<Uuid> = found.things().into_iter().collect();
        let sql = include_str!("../sql/player_differences.sql");
        let wrong = transaction.query(sql, &[&generation, &player.uuid(), &things, &TABLE_ROWS_MAX]).await?;
        transaction.rollback().await?;
        Ok((generation, rows, described(&wrong)?))
    }

    /// Finds the streams that the player's rows follow from, and reads them.
    async fn find(&self, transaction: &Transaction<'_>, store: &Client, found: &mut Found<T>, generation: i32) -> Result<(), Skip> {
        transaction.query_one(include_str!("../sql/use_generation.sql"), &[&P::NAME, &generation]).await?;
        let held = transaction.query(T::HELD, &[&found.player().uuid()]).await?;
        found.lay(ids(&held)?);
        found.grow::<P>(store).await?;
        let things: Vec<Uuid> = found.things().into_iter().collect();
        let named = transaction.query(include_str!("../sql/players_of_things.sql"), &[&generation, &things]).await?;
        found.name(ids(&named)?);
        found.grow::<P>(store).await?;
        Ok(())
    }
}

/// Whether it has more before it than a batch.
fn is_behind(progress: &Progress) -> bool {
    progress.lag(None).events > i64::try_from(BATCH_RECORDS_MAX).unwrap_or(i64::MAX)
}

/// The generation that is live, if it is of this program's logic.
async fn live_generation<P: Projector>(transaction: &Transaction<'_>) -> Result<i32, Skip> {
    let row = transaction.query_opt(include_str!("../sql/sampled_generation.sql"), &[&P::NAME]).await?.ok_or(Skip::NotLive)?;
    let (generation, logic): (i32, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
    if logic.as_deref() == Some(P::LOGIC) { Ok(generation) } else { Err(Skip::NotLive) }
}

/// What the events of the streams add, up to the versions that the generation has of them.
async fn fold<P: Projector, T: SampledRows<Writes = P::Writes>>(
    transaction: &Transaction<'_>,
    found: &Found<T>,
    generation: i32,
) -> Result<Result<Fold<P>, Difference>, Skip> {
    let versions = found.versions(transaction, P::NAME, generation).await?;
    let mut fold = Fold::<P>::new();
    for (stream, events) in found.stored() {
        let last = versions.get(&stream).copied().unwrap_or(0);
        let beyond = |has: i64| {
            let what =
                format!("the generation has version {last} of stream {stream}, of which the event store has version {has} and no next one");
            Ok(Err(Difference { wrong: Wrong::BeyondStore, what }))
        };
        let has = events.last().map_or(0, |stored| stored.version);
        if last > has {
            return beyond(has);
        }
        for stored in events.iter().take_while(|stored| stored.version <= last) {
            match fold.add(stored) {
                Ok(()) => {}
                Err(Cause::Gap { last, .. }) => return beyond(i64::try_from(last).unwrap_or(i64::MAX)),
                Err(cause) => return Err(Skip::Refused(format!("stream {stream}, version {}: {}: {cause}", stored.version, cause.code()))),
            }
        }
    }
    T::restrict(&mut fold.writes, found.player(), &found.things());
    Ok(Ok(fold))
}

fn ids(rows: &[Row]) -> Result<BTreeSet<Uuid>, tokio_postgres::Error> {
    rows.iter().map(|row| row.try_get(0)).collect()
}

/// What is wrong, table by table.
fn described(rows: &[Row]) -> Result<Option<Difference>, tokio_postgres::Error> {
    let mut tables: Vec<(String, [u32; 3])> = Vec::new();
    for row in rows {
        let (table, found, fold): (String, Option<&str>, Option<&str>) = (row.try_get(0)?, row.try_get(2)?, row.try_get(3)?);
        if tables.last().is_none_or(|(last, _)| *last != table) {
            tables.push((table, [0; 3]));
        }
        if let Some((_, [missing, changed, superfluous])) = tables.last_mut() {
            let count = match (found, fold) {
                (None, _) => missing,
                (Some(_), Some(_)) => changed,
                (Some(_), None) => superfluous,
            };
            *count = count.saturating_add(1);
        }
    }
    let said = |(table, [missing, changed, superfluous]): &(String, [u32; 3])| {
        format!("{table}: {missing} missing, {changed} changed, {superfluous} superfluous")
    };
    let what = tables.iter().map(said).collect::<Vec<_>>().join("; ");
    Ok(Some(what).filter(|what| !what.is_empty()).map(|what| Difference { wrong: Wrong::Rows, what }))
}

#[cfg(test)]
mod tests {
    use idempo_clock::SystemClock;

    use super::*;
    use crate::store::Lease;

    #[test]
    fn a_projection_with_more_before_it_than_a_batch_is_behind() {
        let progress = Progress::new(SystemClock::shared(), "test", 1);
        progress.held(0, Lease { epoch: 1, next_offset: 10, last_event: None });
        let batch = i64::try_from(BATCH_RECORDS_MAX).expect("small");
        progress.heads([10 + batch]);
        assert!(!is_behind(&progress));
        progress.heads([11 + batch]);
        assert!(is_behind(&progress));
    }
}
