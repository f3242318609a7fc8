//! The load: 32 clients that play with 1,000 players, seeded.

pub mod afflicted;
mod client;
mod dice;
#[cfg(test)]
mod fake;
mod inventory_moves;
mod looks;
mod malformed;
#[cfg(test)]
mod plan_tests;
mod planned;
mod recorder;
mod refusals;
mod wallet_moves;
mod world;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use idempo_checker::history::History;
use idempo_clock::SharedClock;
use idempo_ids::PlayerId;
use idempo_proto::event::v1::ItemKind;
use tokio::sync::Barrier;

use self::client::Client;
use self::dice::Dice;
use self::recorder::Recorder;
use self::world::{Player, Shelf, World};
use crate::wire::Wire;

/// The time to live of holds and reservations that are left to expire, in milliseconds: the least that is allowed.
pub const SHORT_TTL_MS: i64 = 1_000;
/// Item types of each sort.
const TYPES_PER_SORT: usize = 4;
/// The stream of chance that makes the players; clients have the streams from 0.
const PLAYERS_STREAM: u64 = u64::MAX;

/// How much is asked of the platform.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// How many players, at least 2 for each client.
    pub players: usize,
    /// How many clients at a time.
    pub clients: u16,
    /// How many commands, each with a key of its own; fewer where the load is told to stop before.
    pub commands: usize,
    /// How long a client thinks between two commands, on average.
    pub think: Duration,
    /// What everything random comes from.
    pub seed: u64,
}

/// How far the load is, for whoever watches, and whether it is to go on.
#[derive(Debug, Default)]
pub struct Progress {
    settled: AtomicU64,
    stopped: AtomicBool,
    given_up: AtomicBool,
    looking: AtomicBool,
    /// How many reads are under way, by the moments when they were sent, in microseconds since the load began.
    reads: Mutex<BTreeMap<u64, usize>>,
}

/// A read under way. It has ended when this is dropped.
struct UnderWay<'a> {
    progress: &'a Progress,
    invoked_us: u64,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut reads = self.progress.reads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = reads.get_mut(&self.invoked_us) {
            *count = count.saturating_sub(1);
        }
        reads.retain(|_, count| *count > 0);
    }
}

impl Progress {
    /// How many commands have got a definite answer.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.settled.load(Ordering::Relaxed)
    }

    /// When the oldest of the reads was sent that are under way, in microseconds since the load began; `None` where none is.
    #[must_use]
    pub fn oldest_read_us(&self) -> Option<u64> {
        self.reads.lock().unwrap_or_else(PoisonError::into_inner).first_key_value().map(|(invoked_us, _)| *invoked_us)
    }

    /// Has the clients read what each of their commands has changed from now on, and not what some have.
    pub fn look_always(&self) {
        self.looking.store(true, Ordering::Relaxed);
    }

    /// Tells the clients to begin nothing new. What they have begun, they settle.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Tells the clients to send nothing again: what has no definite answer by now, never gets one.
    pub fn give_up(&self) {
        self.stop();
        self.given_up.store(true, Ordering::Relaxed);
    }

    fn reading(&self, invoked_us: u64) -> UnderWay<'_> {
        *self.reads.lock().unwrap_or_else(PoisonError::into_inner).entry(invoked_us).or_default() += 1;
        UnderWay { progress: self, invoked_us }
    }

    fn is_looking_always(&self) -> bool {
        self.looking.load(Ordering::Relaxed)
    }

    fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    fn count_one(&self) {
        self.settled.fetch_add(1, Ordering::Relaxed);
    }
}

/// What a load left behind.
#[derive(Debug)]
pub struct Played {
    /// Everything that was sent and answered.
    pub history: History,
    /// The players.
    pub players: Arc<[PlayerId]>,
    /// How long it took, in microseconds.
    pub took_us: u64,
}

/// Plays until every client has sent its share of the commands, or the load is told to stop, and each command has a definite answer or its retries
/// are used up.
///
/// # Errors
/// Where a client meets a reply that it can't read.
pub async fn play(size: Size, wire: &Wire, clock: &SharedClock, began: Instant, progress: &Arc<Progress>) -> anyhow::Result<Played> {
    let mut dice = Dice::new(size.seed, PLAYERS_STREAM, clock.clone());
    let players: Arc<[PlayerId]> = (0..size.players).map(|_| PlayerId::new(dice.key())).collect();
    let mut first = client_of(size, wire, clock, began, progress, World::default(), 0)?;
    let shelf = Arc::new(stock_shelf(&mut first).await?);
    let mut history = first.finish();

    let barrier = Arc::new(Barrier::new(usize::from(size.clients)));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..size.clients {
        let own = players.iter().skip(usize::from(number)).step_by(usize::from(size.clients));
        let own = own.map(|id| Player { id: *id, available: [0, 0] });
        let world = World { players: own.collect(), everyone: players.clone(), shelf: shelf.clone(), ..World::default() };
        let client = client_of(size, wire, clock, began, progress, world, number)?;
        let quota = size.commands.div_ceil(usize::from(size.clients));
        tasks.spawn(client.run(quota, size.think, barrier.clone()));
    }
    while let Some(joined) = tasks.join_next().await {
        history.absorb(joined.context("a client died")??);
    }
    let took_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    Ok(Played { history, players, took_us })
}

fn client_of(
    size: Size,
    wire: &Wire,
    clock: &SharedClock,
    began: Instant,
    progress: &Arc<Progress>,
    world: World,
    number: u16,
) -> anyhow::Result<Client> {
    let recorder = Recorder::new(number, wire.line(number)?, began, progress.clone());
    // The item types are made by a client of its own stream, so that client 0 plays the same whether or not they are counted.
    let stream = if world.players.is_empty() { PLAYERS_STREAM - 1 } else { u64::from(number) };
    Ok(Client::new(Dice::new(size.seed, stream, clock.clone()), world, recorder))
}

/// Creates the item types of this run. Their ids carry a part of a fresh key: a type never changes, also not for the next run.
async fn stock_shelf(client: &mut Client) -> anyhow::Result<Shelf> {
    let mark = client.mark();
    let slugs = |sort: &str| (0..TYPES_PER_SORT).map(|number| format!("{sort}_{number}_{mark}")).collect::<Vec<_>>();
    let shelf = Shelf { weapons: slugs("sword"), trinkets: slugs("ring"), stacks: slugs("arrow") };
    for (bonus, slug) in (1..).zip(&shelf.weapons) {
        client.create_type(slug, ItemKind::Unique, bonus).await?;
    }
    for slug in &shelf.trinkets {
        client.create_type(slug, ItemKind::Unique, 0).await?;
    }
    for slug in &shelf.stacks {
        client.create_type(slug, ItemKind::Stackable, 0).await?;
    }
    Ok(shelf)
}
