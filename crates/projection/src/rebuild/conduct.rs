//! Doing what people asked for that takes long: rebuilds, comparisons, the removal of tables. One process of a projection at a time has the turn.
//!
//! The turn spares double work, and nothing rests on it: every step is one transaction that looks at where the rebuild stands, so a process that
//! lost its turn and has not noticed does at most what is done already.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use idempo_ids::Uuid;
use idempo_kafka::TopicEnds;
use idempo_pg::Pool;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, timeout};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use tokio_util::sync::CancellationToken;

use super::Rebuildable;
use super::background::Background;
use super::live_first::behind_at;
use super::part::{Cut, Part};
use super::readers::{Readers, reads};
use super::scan::{Failure, Scan};
use super::throttle::Throttle;
use crate::generations::known::Against;
use crate::generations::{Generation, Generations, Known, Layout, Live, Phase, Source, State};
use crate::patience::chain;
use crate::projector::Projector;

/// How often the database is asked whether there is something to do.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// How long a turn lasts that is not prolonged, in milliseconds. So long nothing is done after the process that had it was killed.
const TURN_MS: i64 = 5_000;
/// How often a turn is prolonged.
const TURN_INTERVAL: Duration = Duration::from_secs(1);
/// How long to wait before a step is tried again for which something was away.
const AWAY_WAIT: Duration = Duration::from_secs(1);
/// The most parts that are read at once.
const WORKERS_MAX: i32 = 8;

/// What a conductor works with.
pub struct Conducted {
    /// Where the generations are.
    pub layout: Layout,
    /// The event store that the topic is fed from, as a role that reads it; `None` where this process has no access to it.
    pub source: Option<Pool>,
    /// About how many events are folded at once, at least 1; [`super::PART_EVENTS_DEFAULT`] is a good number.
    pub part_events: u32,
    /// This process, as others are told of it. No two processes that run at the same time have the same.
    pub instance: String,
}

/// Does the long work of a projection, whenever there is some and this process has the turn.
///
/// It takes a [`Projector`]. What has effects is a [`crate::Reactor`], and has no way in here:
///
/// ```compile_fail
/// fn rebuilt<R: idempo_projection::Reactor, T: idempo_projection::Rebuildable>(of: idempo_projection::Conductor<R, T>) {}
/// ```
pub struct Conductor<P: Projector, T> {
    pub(super) conducted: Conducted,
    pub(super) control: Pool,
    pub(super) ends: TopicEnds,
    pub(super) tables: T,
    live: watch::Receiver<Live<T>>,
    readers: Mutex<Readers>,
    background: Background,
    bell: Arc<Notify>,
    projector: PhantomData<fn() -> P>,
}

/// Something to do.
enum Work<'a> {
    Remove(i32),
    Build(&'a Generation),
    Verify(&'a Generation, Against),
}

impl<P: Projector, T: Rebuildable<Writes = P::Writes>> Conductor<P, T> {
    /// A conductor for the generations that this process follows.
    ///
    /// # Errors
    /// Where the settings of the brokers or the database are unusable.
    pub fn new(conducted: Conducted, generations: &Generations<T>, tables: T) -> Result<Self, Unusable> {
        let options = &conducted.layout.options;
        let ends = TopicEnds::new(&options.kafka, &options.topic, options.partitions)?;
        let control = conducted.layout.control()?;
        let (live, bell) = (generations.live(), generations.bell());
        let (readers, background) = (Mutex::new(Readers::new()), Background::default());
        Ok(Self { conducted, control, ends, tables, live, readers, background, bell, projector: PhantomData })
    }

    /// Works until `cancel` is cancelled. What is away is waited for.
    ///
    /// # Cancel safety
    /// Dropped, it leaves a step half done, which the database rolls back; whoever has the turn next does it anew.
    pub async fn run(&self, cancel: CancellationToken) {
        while let Some(looked) = cancel.run_until_cancelled(self.look()).await {
            let pause = match looked {
                Ok(true) => Duration::ZERO,
                Ok(false) => LOOK_INTERVAL,
                Err(error) => {
                    tracing::debug!(projection = P::NAME, error = chain(&error), "the read model does not say what there is to do");
                    AWAY_WAIT
                }
            };
            let _ = timeout(pause, cancel.cancelled()).await;
        }
        // Else the next one waits until it has run out.
        let _ = timeout(AWAY_WAIT, self.give_turn_up()).await;
    }

    /// Does one thing, where there is one and this process has the turn. Whether something was done.
    async fn look(&self) -> Result<bool, idempo_pg::Error> {
        // So that it is known when a rebuild begins.
        self.has_readers();
        let Some(known) = Known::read(&self.control, P::NAME).await? else { return Ok(false) };
        let Some(work) = next_work::<P>(&known) else { return Ok(false) };
        if !self.take_turn().await? {
            return Ok(false);
        }
        let outcome = tokio::select! {
            outcome = self.work(&known, &work) => outcome,
            () = self.keep_turn() => return Ok(false),
        };
        self.give_turn_up().await?;
        self.bell.notify_waiters();
        match (outcome, work) {
            (Ok(progressed), _) => Ok(progressed),
            (Err(Failure::GivenUp), _) => Ok(false),
            (Err(Failure::Away(reason)), _) => {
                tracing::info!(projection = P::NAME, reason, "what a rebuild or a comparison needs is away, it waits");
                sleep(AWAY_WAIT).await;
                Ok(false)
            }
            (Err(Failure::Never(code, reason)), Work::Build(generation)) => {
                tracing::warn!(projection = P::NAME, generation = generation.number, code, reason, "a rebuild can't go on");
                let client = self.control.get().await?;
                let statement = client.prepare_cached(include_str!("../sql/fail_rebuild.sql")).await?;
                client.execute(&statement, &[&P::NAME, &generation.number, &code, &reason]).await?;
                Ok(true)
            }
            (Err(Failure::Never(code, reason)), Work::Verify(generation, against)) => {
                self.end_unverified(generation.number, against, &format!("{code}: {reason}")).await?;
                Ok(true)
            }
            (Err(Failure::Never(code, reason)), Work::Remove(generation)) => {
                tracing::warn!(projection = P::NAME, generation, code, reason, "a generation can't be removed, it is tried again");
                Ok(false)
            }
        }
    }

    /// Whether there may be more to do at once.
    async fn work(&self, known: &Known, work: &Work<'_>) -> Result<bool, Failure> {
        match work {
            Work::Remove(generation) => self.call(include_str!("../sql/remove_generation.sql"), *generation).await,
            // An operator who drops the generation does not wait for what it is compared with, and holds nobody up by it.
            Work::Verify(generation, against) => tokio::select! {
                done = self.verify(known, generation.number, *against) => done.map(|()| true),
                () = self.given_up(generation.number, |found| found.to_be_compared() == Some(*against)) => {
                    self.release(&[known.live, generation.number]).await?;
                    Err(Failure::GivenUp)
                }
            },
            // Nor does one who cancels wait for the indexes.
            Work::Build(generation) => tokio::select! {
                done = self.build(generation) => done,
                () = self.given_up(generation.number, |found| found.state != State::Dropping) => Err(Failure::GivenUp),
            },
        }
    }

    /// The next step of a rebuild.
    async fn build(&self, generation: &Generation) -> Result<bool, Failure> {
        let Some(rebuild) = &generation.rebuild else { return Ok(false) };
        match (rebuild.phase, rebuild.source) {
            (Phase::Waiting, Source::EventStore) => self.enter_seam(generation.number).await,
            (Phase::Scanning, _) => self.scan(generation.number, rebuild.workers, rebuild.pace()).await,
            (Phase::Waiting, Source::Kafka) | (Phase::Indexing, _) => {
                fail::fail_point!(crate::failpoint::REBUILD_SCANNED);
                self.index(generation.number).await?;
                self.finish(generation.number).await
            }
            (Phase::CatchingUp, _) => self.call(include_str!("../sql/settle_rebuild.sql"), generation.number).await,
            (Phase::Done | Phase::Failed, _) => Ok(false),
        }
    }

    /// Where the topic ends, before anything is read of the event store; then the parts in which that is read.
    async fn enter_seam(&self, generation: i32) -> Result<bool, Failure> {
        let ends = self.topic_ends().await?;
        let (events, parts) = self.cut().await?;
        let (firsts, lasts): (Vec<Uuid>, Vec<Uuid>) = parts.iter().map(|part| (part.first, part.last)).unzip();
        let client = self.control.get().await?;
        let statement = client.prepare_cached(include_str!("../sql/enter_seam.sql")).await?;
        Ok(client.execute(&statement, &[&P::NAME, &generation, &ends, &firsts, &lasts, &events]).await? > 0)
    }

    /// How many events there are, and the parts.
    pub(super) async fn cut(&self) -> Result<(i64, Vec<Part>), Failure> {
        let mut client = self.source()?.get().await?;
        let transaction = client.transaction().await?;
        transaction.batch_execute(include_str!("../sql/no_statement_timeout.sql")).await?;
        let row = transaction.query_one(include_str!("sql/count_events.sql"), &[]).await?;
        let (events, is_standby): (i64, bool) = (row.try_get(0)?, row.try_get(1)?);
        if is_standby {
            return Err(Failure::Never("EVENT_STORE_STANDBY", "the event store is a standby, which may be behind the relay".to_owned()));
        }
        let mut cut = Cut::new(events, self.conducted.part_events);
        let none: [&(dyn ToSql + Sync); 0] = [];
        let mut rows = pin!(transaction.query_raw(include_str!("sql/read_streams.sql"), none).await?);
        while let Some(row) = rows.try_next().await? {
            cut.add(row.try_get(0)?, row.try_get(1)?);
        }
        Ok((events, cut.parts()))
    }

    /// Brings in the parts that are missing, `workers` at once.
    async fn scan(&self, generation: i32, workers: i32, events_per_second: u32) -> Result<bool, Failure> {
        let client = self.control.get().await?;
        let statement = client.prepare_cached(include_str!("../sql/missing_buckets.sql")).await?;
        let rows = client.query(&statement, &[&P::NAME, &generation]).await?;
        let part = |row: &Row| Ok((row.try_get(0)?, Part { first: row.try_get(1)?, last: row.try_get(2)? }));
        let mut missing = rows.iter().map(part).collect::<Result<VecDeque<(i32, Part)>, tokio_postgres::Error>>()?;
        drop(client);
        let target = Pool::open(&self.conducted.layout.database_of(P::NAME, generation))?;
        let (source, tables) = (self.source()?.clone(), self.tables.clone());
        let scan = Arc::new(Scan::<P, T> { source, target, tables, generation, projector: PhantomData });
        let workers = usize::try_from(workers.clamp(1, WORKERS_MAX)).unwrap_or(1);
        let threads = self.background.handle().map_err(|error| Failure::Away(error.to_string()))?;
        let live = self.live.clone();
        let mut throttle = Throttle::new(events_per_second, || self.has_readers(), move || behind_at(&live));
        // Dropped, it ends its tasks.
        let mut running = JoinSet::new();
        loop {
            while running.len() < throttle.at_once(workers)
                && let Some((number, part)) = missing.pop_front()
            {
                throttle.ready().await;
                running.spawn_on(Arc::clone(&scan).part(number, part), &threads);
            }
            let began = Instant::now();
            match running.join_next().await {
                None => break,
                Some(Ok(events)) => throttle.took(events?, began.elapsed()),
                Some(Err(failed)) => return Err(Failure::Never("WORKER_FAILED", failed.to_string())),
            }
        }
        let client = self.control.get().await?;
        let statement = client.prepare_cached(include_str!("../sql/enter_scanned.sql")).await?;
        Ok(client.execute(&statement, &[&P::NAME, &generation]).await? > 0)
    }

    /// Whether somebody reads the live generation in this process.
    fn has_readers(&self) -> bool {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).are_there(reads(&self.live))
    }

    /// Makes the indexes of tables that are filled, by two sessions at once. Nothing where a rebuild fills them through the consumer.
    async fn index(&self, generation: i32) -> Result<(), Failure> {
        // A step that fails does not end the other one, whose work would be lost.
        let (items, others) = tokio::join!(self.index_step(generation, 0), self.index_step(generation, 1));
        items.and(others)?;
        fail::fail_point!(crate::failpoint::REBUILD_INDEXED);
        Ok(())
    }

    async fn index_step(&self, generation: i32, step: i32) -> Result<(), Failure> {
        let mut client = self.control.get().await?;
        let transaction = client.transaction().await?;
        transaction.batch_execute(include_str!("../sql/no_statement_timeout.sql")).await?;
        let statement = transaction.prepare_cached(include_str!("../sql/index_beforehand.sql")).await?;
        transaction.query_one(&statement, &[&P::NAME, &generation, &step]).await?;
        transaction.commit().await?;
        fail::fail_point!(crate::failpoint::REBUILD_INDEXED_PARTLY);
        Ok(())
    }

    /// Makes what indexes are missing, and lets the consumers begin.
    async fn finish(&self, generation: i32) -> Result<bool, Failure> {
        let ends = self.topic_ends().await?;
        let mut client = self.control.get().await?;
        let transaction = client.transaction().await?;
        transaction.batch_execute(include_str!("../sql/no_statement_timeout.sql")).await?;
        let statement = transaction.prepare_cached(include_str!("../sql/finish_tables.sql")).await?;
        let is_done = transaction.query_one(&statement, &[&P::NAME, &generation, &ends]).await?.try_get(0)?;
        transaction.commit().await?;
        fail::fail_point!(crate::failpoint::REBUILD_FINISHED);
        Ok(is_done)
    }

    pub(super) async fn topic_ends(&self) -> Result<Vec<i64>, Failure> {
        let ends = self.ends.watermarks().await.map_err(|error| Failure::Away(chain(&error)))?;
        Ok(ends.into_iter().map(|(_, high)| high).collect())
    }

    pub(super) fn source(&self) -> Result<&Pool, Failure> {
        let missing = || Failure::Never("EVENT_STORE_NOT_CONFIGURED", "this projector is not told where the event store is".to_owned());
        self.conducted.source.as_ref().ok_or_else(missing)
    }

    /// Calls a function of the schema that says whether it did what it is for.
    async fn call(&self, sql: &str, generation: i32) -> Result<bool, Failure> {
        let client = self.control.get().await?;
        let statement = client.prepare_cached(sql).await?;
        Ok(client.query_one(&statement, &[&P::NAME, &generation]).await?.try_get(0)?)
    }

    /// Ends when a generation is gone, or is not as it must be any more. A database that does not answer says nothing.
    async fn given_up(&self, generation: i32, is_wanted: impl Fn(&Generation) -> bool) {
        let mut looks = interval(TURN_INTERVAL);
        loop {
            looks.tick().await;
            if let Ok(Some(known)) = Known::read(&self.control, P::NAME).await
                && !known.generation(generation).is_some_and(&is_wanted)
            {
                return;
            }
        }
    }

    async fn take_turn(&self) -> Result<bool, idempo_pg::Error> {
        let client = self.control.get().await?;
        let statement = client.prepare_cached(include_str!("../sql/take_turn.sql")).await?;
        Ok(client.execute(&statement, &[&P::NAME, &self.conducted.instance, &TURN_MS]).await? > 0)
    }

    /// Prolongs the turn again and again. Ends when another process has it.
    async fn keep_turn(&self) {
        let mut beats = interval(TURN_INTERVAL);
        loop {
            beats.tick().await;
            if let Ok(false) = self.take_turn().await {
                return;
            }
        }
    }

    async fn give_turn_up(&self) -> Result<(), idempo_pg::Error> {
        let client = self.control.get().await?;
        let statement = client.prepare_cached(include_str!("../sql/give_turn_up.sql")).await?;
        client.execute(&statement, &[&P::NAME, &self.conducted.instance]).await?;
        Ok(())
    }
}

/// Why a conductor or an operators' service can't be made.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// By the settings of the brokers.
    #[error("the settings of the brokers are unusable")]
    Kafka(#[from] idempo_kafka::Error),
    /// By those of the database.
    #[error("the settings of the read model's database are unusable")]
    Database(#[from] idempo_pg::Error),
}

/// What is to be done first: tables that are in the way, then what is built, then comparisons; a rebuild that only waits for its consumer comes last.
/// What is of other logic is another program's.
fn next_work<P: Projector>(known: &Known) -> Option<Work<'_>> {
    let own = || known.generations.iter().filter(|generation| generation.is_of(P::LOGIC));
    let building = |is_wanted: fn(Phase) -> bool| {
        let phase = |generation: &Generation| generation.rebuild.as_ref().map(|rebuild| rebuild.phase);
        own().find(|generation| generation.state == State::Building && phase(generation).is_some_and(is_wanted)).map(Work::Build)
    };
    let compared = || own().find_map(|generation| Some(Work::Verify(generation, generation.to_be_compared()?)));
    let due = known.generations.iter().find(|generation| generation.is_drop_due).map(|generation| Work::Remove(generation.number));
    due.or_else(|| building(|phase| matches!(phase, Phase::Waiting | Phase::Scanning | Phase::Indexing)))
        .or_else(compared)
        .or_else(|| building(|phase| phase == Phase::CatchingUp))
}
