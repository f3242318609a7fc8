//! Making the rows of one player anew, in a generation that is in use, while players go on.
//!
//! Most rows of a player follow from the player's own stream. Rows of *things*, which pass from player to player, follow from the streams of all who had them.
//! So what is made anew is: the player's own rows, and all rows of all things that the player's events tell of or that the generation's rows lay in the
//! player's hands, rightly or not. Rows that are as they should be are not touched, nor is anything else.
//!
//! **From what.** A generation's rows are those of each stream's events up to the version that it has of it, whatever the order of the streams
//! ([`Projector`]). So these events are folded, of the player's stream and of the streams of all who had one of the things, up to those versions and not
//! beyond: what comes later comes by the consumer, as ever.
//!
//! **Why nothing comes between.** The generation's checkpoints are locked from before the versions are read until the rows are in. A batch, a drain and
//! whoever takes a partition moves a checkpoint before anything else, so each of them is wholly before or wholly after: one that is held, one that
//! is not, and a zombie too. Nobody has to be told to stand still, and if this process dies, the server ends the transaction, and with it the locks.
//! They are had for as long as it takes to read the ends of some streams, fold them and write some rows; what takes long, to find the streams and read
//! them, comes before. [`FENCE_MAX`] bounds it in any case.
//!
//! **Why all streams are found that tell of a thing.** It passes in one append to the streams of both, and both legs name the other player. So from any
//! stream that tells of it one comes, from leg to leg, to all of them. Under the lock the ends of all streams found are read once more, of the event store
//! as it is then: it has every event that the generation has, and with it the leg that leads to its stream. A thing that no stream found tells of
//! is nobody's, or was laid in this player's hands with its history gone; either way its rows do not follow from this player's events, and go.
//!
//! **Parked keys** are no obstacle. A dead letter and what is parked behind it come after the version that the generation has of their stream, so they are not in
//! the fold, and are applied after it as they would have been before. A row that was damaged can be why a record is a dead letter: then this is the cure,
//! and the replay comes after.
//!
//! **Reactors** are not in it: there is no function here that takes one, and no event is sent to anybody.
//!
//! Twice is the same as once. Of a failure in the middle nothing is left: it is one transaction, with its audit entry.

pub(crate) mod found;

use std::collections::BTreeSet;
use std::time::Duration;

use idempo_ids::{PlayerId, StreamId, Uuid};
use idempo_pg::{Client, Pool, Transaction};
use tokio::time::timeout;

use crate::event::Event;
use crate::generations::Layout;
use crate::projector::Projector;
use crate::rebuild::Rebuildable;
use crate::rebuild::fold::{Fold, Stored};
use crate::rebuild::scan::{Failure, copy_versions};
use found::Found;

/// How long the consumers of the generation are kept from committing at most.
pub(crate) const FENCE_MAX: Duration = Duration::from_secs(3);
/// The most rows of the sample, of each table.
const SAMPLE_TABLE_ROWS_MAX: i32 = 25;

/// A read model of which the rows of one player can be made anew.
pub trait PlayerRows: Rebuildable {
    /// The stream whose events a player's own rows follow from.
    fn stream_of(player: PlayerId) -> StreamId;

    /// Which thing an event tells of, if it is one that passes between players; and the other player, if it does so by this event.
    fn thing_of(event: &Event) -> Option<(Uuid, Option<PlayerId>)>;

    /// Takes out of the writes whatever is neither of this player nor of these things.
    fn restrict(writes: &mut Self::Writes, player: PlayerId, things: &BTreeSet<Uuid>);
}

/// What was done to a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableMended {
    pub(crate) table: String,
    /// Rows of the player and of the things, as they are then.
    pub(crate) rows: i64,
    pub(crate) missing: i64,
    pub(crate) changed: i64,
    pub(crate) superfluous: i64,
}

/// A row that was not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RowMended {
    pub(crate) table: String,
    pub(crate) key: String,
    pub(crate) found: Option<String>,
    pub(crate) fold: Option<String>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mended {
    pub(crate) streams: usize,
    pub(crate) events: usize,
    pub(crate) things: usize,
    pub(crate) tables: Vec<TableMended>,
    pub(crate) sample: Vec<RowMended>,
}

/// Why a player's rows were not made anew.
#[derive(Debug)]
pub(crate) enum Unmended {
    /// The event store has no event of the player.
    Unknown,
    /// With a stable name.
    Refused(&'static str, String),
    /// What is needed is away, or somebody else holds it.
    Away(String),
}

impl From<Failure> for Unmended {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Away(reason) => Self::Away(reason),
            Failure::Never(code, reason) => Self::Refused(code, reason),
            Failure::GivenUp => Self::Away("it was given up".to_owned()),
        }
    }
}

impl From<idempo_pg::Error> for Unmended {
    fn from(error: idempo_pg::Error) -> Self {
        Failure::from(error).into()
    }
}

impl From<tokio_postgres::Error> for Unmended {
    fn from(error: tokio_postgres::Error) -> Self {
        Failure::from(error).into()
    }
}

/// Whose rows are to be made anew, where, and who wants it.
pub(crate) struct Wish<'a> {
    pub(crate) generation: i32,
    pub(crate) player: PlayerId,
    /// Whether it is only to be said what would come of it.
    pub(crate) is_trial: bool,
    pub(crate) caller: &'a str,
    pub(crate) reason: &'a str,
}

/// Makes players' rows anew: whichever projection, whichever tables.
#[tonic::async_trait]
pub(crate) trait Menders: Send + Sync {
    async fn mend(&self, wish: &Wish<'_>) -> Result<Mended, Unmended>;
}

/// Makes the rows of one player anew.
pub struct PlayerMender<P, T> {
    layout: Layout,
    source: Pool,
    tables: T,
    projector: std::marker::PhantomData<fn() -> P>,
}

impl<P: Projector, T: PlayerRows<Writes = P::Writes>> PlayerMender<P, T> {
    /// For the generations in `layout`, from the event store `source`.
    #[must_use]
    pub const fn new(layout: Layout, source: Pool, tables: T) -> Self {
        Self { layout, source, tables, projector: std::marker::PhantomData }
    }

    /// A session that ends with whoever has it: what is made in it goes with it.
    fn session(&self) -> Result<Pool, idempo_pg::Error> {
        let database = &self.layout.database;
        Pool::open(&idempo_pg::Config {
            search_path: Some("projection".to_owned()),
            max_connections: 1,
            application_name: format!("{}-mender", database.application_name),
            ..database.clone()
        })
    }

    async fn mend_in(&self, client: &mut Client, wish: &Wish<'_>) -> Result<Mended, Unmended> {
        let store = self.source.get().await?;
        let mut found = Found::<T>::of(wish.player);
        found.look(client, wish.generation).await?;
        found.grow::<P>(&store).await?;
        if found.is_unknown() {
            return Err(Unmended::Unknown);
        }
        found.look_for_players(client, wish.generation).await?;
        found.grow::<P>(&store).await?;
        let fenced = self.mend_fenced(client, &store, &mut found, wish);
        timeout(FENCE_MAX, fenced).await.map_err(|_| Unmended::Away("it took too long to keep the consumers waiting for".to_owned()))?
    }

    async fn mend_fenced(&self, client: &mut Client, store: &Client, found: &mut Found<T>, wish: &Wish<'_>) -> Result<Mended, Unmended> {
        let (generation, player) = (wish.generation, wish.player.uuid());
        let transaction = client.transaction().await?;
        transaction.batch_execute(include_str!("../sql/bound_fence.sql")).await?;
        fence::<P>(&transaction, generation).await?;
        found.grow::<P>(store).await?;
        let fold = self.fold(&transaction, found, generation).await?;
        transaction.execute(include_str!("../sql/begin_fold.sql"), &[&generation]).await?;
        transaction.batch_execute(include_str!("../sql/only_fold.sql")).await?;
        copy_versions(&transaction, generation, &fold.ends).await?;
        self.tables.copy(&transaction, &fold.writes).await?;
        transaction.batch_execute(include_str!("../sql/end_fold.sql")).await?;
        let things: Vec<Uuid> = found.things().into_iter().collect();
        let sql = include_str!("../sql/player_differences.sql");
        let rows = transaction.query(sql, &[&generation, &player, &things, &SAMPLE_TABLE_ROWS_MAX]).await?;
        let row = |row: &tokio_postgres::Row| {
            Ok(RowMended { table: row.try_get(0)?, key: row.try_get(1)?, found: row.try_get(2)?, fold: row.try_get(3)? })
        };
        let sample = rows.iter().map(row).collect::<Result<_, tokio_postgres::Error>>()?;
        let rows = transaction.query(include_str!("../sql/replace_player.sql"), &[&generation, &player, &things]).await?;
        let table = |row: &tokio_postgres::Row| {
            let (table, rows, missing) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            Ok(TableMended { table, rows, missing, changed: row.try_get(3)?, superfluous: row.try_get(4)? })
        };
        let tables = rows.iter().map(table).collect::<Result<_, tokio_postgres::Error>>()?;
        let mended = Mended { streams: found.streams(), events: found.events(), things: things.len(), tables, sample };
        if wish.is_trial {
            transaction.rollback().await?;
            return Ok(mended);
        }
        note::<P>(&transaction, wish, &mended).await?;
        fail::fail_point!(crate::failpoint::PLAYER_BEFORE_COMMIT);
        transaction.commit().await?;
        Ok(mended)
    }

    /// What the events of the streams add, up to the versions that the generation has of them.
    async fn fold(&self, transaction: &Transaction<'_>, found: &Found<T>, generation: i32) -> Result<Fold<P>, Unmended> {
        let versions = found.versions(transaction, P::NAME, generation).await?;
        let mut fold = Fold::<P>::new();
        for (stream, events) in found.stored() {
            let last = versions.get(&stream).copied().unwrap_or(0);
            if stream == T::stream_of(found.player()) && last == 0 {
                let text = "the generation has no event of the player yet, so there is nothing that its rows follow from";
                return Err(Unmended::Refused("PLAYER_NOT_IN_GENERATION", text.to_owned()));
            }
            if last > events.last().map_or(0, |stored| stored.version) {
                let text = format!("the generation has version {last} of stream {stream}, which the event store does not have");
                return Err(Unmended::Refused("STREAM_BEYOND_STORE", text));
            }
            for stored in events.iter().take_while(|stored| stored.version <= last) {
                let Stored { stream, version, .. } = stored;
                let said =
                    |cause: crate::halt::Cause| Unmended::Refused(cause.code(), format!("stream {stream}, version {version}: {cause}"));
                fold.add(stored).map_err(said)?;
            }
        }
        T::restrict(&mut fold.writes, found.player(), &found.things());
        Ok(fold)
    }
}

#[tonic::async_trait]
impl<P: Projector, T: PlayerRows<Writes = P::Writes>> Menders for PlayerMender<P, T> {
    async fn mend(&self, wish: &Wish<'_>) -> Result<Mended, Unmended> {
        let session = self.session()?;
        let mut client = session.get().await?;
        let mended = self.mend_in(&mut client, wish).await;
        // Whatever came of it, and with it all that was made there.
        client.discard();
        mended
    }
}

/// Keeps the generation's consumers, if it is one that may be used.
async fn fence<P: Projector>(transaction: &Transaction<'_>, generation: i32) -> Result<(), Unmended> {
    let row = transaction.query_one(include_str!("../sql/fence_generation.sql"), &[&P::NAME, &generation]).await?;
    let (logic, state): (Option<String>, Option<String>) = (row.try_get(0)?, row.try_get(1)?);
    let state = state.unwrap_or_default();
    if !matches!(state.as_str(), "live" | "ready" | "retired") {
        let text = format!("generation {generation} is {state}, in which state this can't be done to it");
        return Err(Unmended::Refused("GENERATION_STATE", text));
    }
    if let Some(logic) = logic.filter(|logic| logic != P::LOGIC) {
        let text = format!("generation {generation} is of logic {logic}, not of this program's ({})", P::LOGIC);
        return Err(Unmended::Refused("GENERATION_OF_OTHER_LOGIC", text));
    }
    Ok(())
}

/// The audit entry, in the transaction of the rows.
async fn note<P: Projector>(transaction: &Transaction<'_>, wish: &Wish<'_>, mended: &Mended) -> Result<(), Unmended> {
    let sum = |of: fn(&TableMended) -> i64| mended.tables.iter().map(of).sum::<i64>();
    let detail = format!(
        "generation {}: of {} rows {} were missing, {} other than they should be, {} too many",
        wish.generation,
        sum(|table| table.rows),
        sum(|table| table.missing),
        sum(|table| table.changed),
        sum(|table| table.superfluous),
    );
    let target = format!("players/{}", wish.player);
    let sql = include_str!("../sql/record_audit.sql");
    transaction.query_one(sql, &[&P::NAME, &wish.caller, &"rebuild_player", &target, &wish.reason, &"DONE", &detail]).await?;
    Ok(())
}
