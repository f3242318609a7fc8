//! The continuous look whether a read model is right: the rows of one player after the other, drawn at random, beside the fold of their events.
//!
//! A comparison of the whole generation ([`crate::Conductor`]) says whether every row is right, and takes as long as the event store is large; nobody does it
//! every minute. This does a little of it all the time, for as long as the process runs, so that damage that spreads is seen soon, without anybody
//! who asks. What it finds it says: in the log, once, and in the metrics. It mends nothing: whether it is the row or the event that is wrong is for people.
//!
//! **Nobody waits for it.** Unlike [`crate::PlayerMender`], which writes and so keeps the consumers away, it has one snapshot of the read model, and reads and
//! folds in temporary tables of a session of its own, which go with its transaction. It takes no lock that a batch, a reader or a switch waits for. It
//! holds its snapshot for milliseconds, [`COMPARISON_MAX`] at most. One player at a time; those whose rows follow from more than [`EVENTS_MAX`] events or
//! [`STREAMS_MAX`] streams are left out and counted (`too_large`): the comparison of the whole has them. So are all while there is something more
//! urgent: the projection is paused, catches up, or a rebuild or a comparison is under way.
//!
//! **Why a difference is one.** Each of these could look like one:
//! * *A batch in between.* Rows and versions of streams are written in one transaction, and both are read in one snapshot. So the rows are, or should be,
//!   those of the events up to these versions, whichever batches, drains and zombies come and go.
//! * *A player who is being created, or is behind.* The generation has version 0 of the stream then, and should have no row of it: that is compared as any
//!   other version is. What the event store has beyond is not folded.
//! * *A key that is parked.* What is parked comes after the version.
//! * *An event that was in the generation before it was in the store.* There is none: the relay reads what is committed, and the event store is read, on the
//!   primary, after the snapshot was taken. So a version that the store does not have is no matter of time: the store was restored to an earlier
//!   moment, or somebody else writes to the topic. That is a difference too, with a reason of its own ([`Wrong::BeyondStore`]).
//! * *A switch in between.* The live generation is read in the same snapshot as its rows.
//! * *Other logic.* A generation of other logic than this program's is not compared, and neither is a player with an event that it can't take (`refused`).
//! * *An item that passes from hand to hand.* Both legs are appended together and name each other's player, so from the streams that are known one comes to
//!   all of them, as the module `player` argues; and an item that passes while this looks is, in the snapshot, with exactly one of the two.
//!
//! **What it does not see.** It looks where the player's events and `items` say that there is something: rows of the history of an item of which neither tells
//! are found with nobody, for no index leads to them. Events that never came through are beyond the version. Both are what the comparison of the whole
//! generation is for.

mod compare;
mod draw;
mod meters;

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::time::Duration;

use idempo_ids::PlayerId;
use idempo_pg::Pool;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::generations::{Generations, Layout, Live};
use crate::player::PlayerRows;
use crate::projector::Projector;
use compare::{Difference, Seen, Skip};
use meters::Meters;

/// How long it takes on average from one comparison to the next, in milliseconds, where nobody says anything else.
pub const SAMPLE_INTERVAL_MS_DEFAULT: u64 = 30_000;
/// How long a comparison may take, with all that is read for it. Beyond that it is given up.
const COMPARISON_MAX: Duration = Duration::from_secs(5);
/// How long a statement of it may take in the read model, and wait for a lock, in milliseconds.
const STATEMENT_MAX_MS: u64 = 1_000;
const LOCK_MAX_MS: u64 = 250;
/// The most events and streams that are folded for a player.
const EVENTS_MAX: usize = 5_000;
const STREAMS_MAX: usize = 100;
/// The most players that are looked at again because their rows were wrong.
const DIFFERENT_MAX: usize = 32;
/// While something is away the pauses double, up to so many times.
const DOUBLINGS_MAX: u32 = 4;

/// A read model of which the rows of single players can be compared all the time.
pub trait SampledRows: PlayerRows {
    /// Selects the things that a generation's rows lay in the hands of player $1, among the names of its tables, by an index.
    const HELD: &'static str;

    /// Selects how many rows the session's fold has.
    const FOLDED: &'static str;
}

/// Compares players' rows in the live generation with the fold of their events, one after the other.
pub struct Sampler<P, T> {
    source: Pool,
    sessions: Pool,
    live: watch::Receiver<Live<T>>,
    tables: T,
    interval: Duration,
    projector: PhantomData<fn() -> P>,
}

/// What is known from earlier comparisons.
struct SoFar {
    meters: Meters,
    /// Players whose rows were wrong when they were looked at last.
    different: VecDeque<PlayerId>,
    /// How many comparisons on end something was away for.
    away: u32,
    /// Why the last one was not made.
    skipped: Option<&'static str>,
    compared_at: Instant,
}

impl<P: Projector, T: SampledRows<Writes = P::Writes>> Sampler<P, T> {
    /// A sampler of the generation of `generations` that is live, from the event store `source`, with `interval` between comparisons on average.
    ///
    /// # Errors
    /// Where the settings of the database are unusable.
    pub fn new(
        layout: &Layout,
        source: Pool,
        generations: &Generations<T>,
        tables: T,
        interval: Duration,
    ) -> Result<Self, idempo_pg::Error> {
        let database = &layout.database;
        let sessions = Pool::open(&idempo_pg::Config {
            search_path: Some("projection".to_owned()),
            max_connections: 1,
            statement_timeout_ms: STATEMENT_MAX_MS,
            lock_timeout_ms: LOCK_MAX_MS,
            application_name: format!("{}-sampler", database.application_name),
            ..database.clone()
        })?;
        Ok(Self { source, sessions, live: generations.live(), tables, interval, projector: PhantomData })
    }

    /// Compares until `cancel` is cancelled. Whatever is away costs a comparison and nothing else.
    ///
    /// # Cancel safety
    /// Safe: nothing is written. A comparison that is under way is given up, and the server rolls it back.
    pub async fn run(&self, cancel: CancellationToken) {
        let mut so_far =
            SoFar { meters: Meters::new(P::NAME), different: VecDeque::new(), away: 0, skipped: None, compared_at: Instant::now() };
        while timeout(self.pause(so_far.away), cancel.cancelled()).await.is_err() {
            let _ = cancel.run_until_cancelled(self.turn(&mut so_far)).await;
        }
    }

    /// How long until the next comparison: half to one and a half of the interval, so that processes that began together don't stay together.
    fn pause(&self, away: u32) -> Duration {
        let doubled = self.interval.saturating_mul(1 << away.min(DOUBLINGS_MAX));
        doubled.mul_f64(rand::random_range(0.5..1.5))
    }

    /// Compares a player who is drawn, and one whose rows were wrong before.
    async fn turn(&self, so_far: &mut SoFar) {
        let seen = self.looked(None).await;
        if let Some((player, generation, found)) = so_far.note(P::NAME, seen) {
            match found {
                Some(difference) => so_far.differs(P::NAME, (player, generation), &difference),
                None => so_far.is_right(P::NAME, player),
            }
        }
        if let Some(again) = so_far.different.pop_front() {
            so_far.different.push_back(again);
            if let Some((player, _, None)) = so_far.note(P::NAME, self.looked(Some(again)).await) {
                so_far.is_right(P::NAME, player);
            }
        }
        so_far.meters.different(so_far.different.len());
        so_far.meters.age(so_far.compared_at.elapsed());
    }

    async fn looked(&self, player: Option<PlayerId>) -> Result<Seen, Skip> {
        let too_long = |_| Err(Skip::Away("it took too long".to_owned()));
        timeout(COMPARISON_MAX, self.compare(player)).await.unwrap_or_else(too_long)
    }
}

impl SoFar {
    /// Counts what came of a comparison; gives whose rows were compared in which generation, and what was wrong with them.
    fn note(&mut self, projection: &'static str, seen: Result<Seen, Skip>) -> Option<(PlayerId, i32, Option<Difference>)> {
        match seen {
            Ok(Seen { player, generation, rows, took, difference }) => {
                if self.skipped.take().is_some() {
                    tracing::info!(projection, "rows of players are compared with their events");
                }
                (self.away, self.compared_at) = (0, Instant::now());
                self.meters.compared(rows, took);
                Some((player, generation, difference))
            }
            Err(skip) => {
                let (reason, detail) = (skip.reason(), skip.detail());
                self.away = if matches!(skip, Skip::Away(_)) { self.away.saturating_add(1) } else { 0 };
                self.meters.skipped(reason);
                // A player more that is large, or that is none, is no news.
                if !skip.is_of_player() && self.skipped.replace(reason) != Some(reason) {
                    tracing::info!(projection, reason, detail, "rows of players can't be compared with their events now");
                } else {
                    tracing::debug!(projection, reason, detail, "a player was left out");
                }
                None
            }
        }
    }

    /// A player's rows are wrong: said once.
    fn differs(&mut self, projection: &'static str, (player, generation): (PlayerId, i32), difference: &Difference) {
        if self.different.contains(&player) {
            return;
        }
        let (reason, what) = (difference.wrong.reason(), &difference.what);
        self.meters.found(reason);
        tracing::error!(
            projection,
            generation,
            player = %player,
            reason,
            what,
            remedy = difference.wrong.remedy(),
            "rows of a player are not as the events say"
        );
        if self.different.len() < DIFFERENT_MAX {
            self.different.push_back(player);
        }
    }

    /// A player's rows are right.
    fn is_right(&mut self, projection: &'static str, player: PlayerId) {
        let before = self.different.len();
        self.different.retain(|known| *known != player);
        if self.different.len() < before {
            tracing::info!(projection, player = %player, "the rows of the player are as the events say again");
        }
    }
}
