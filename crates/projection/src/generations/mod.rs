//! The generations of a projection as one process has them: a consumer for each that is followed, and the one that reads are answered from.
//!
//! What people want of generations stands in the database (`schemas/inventory_view_db/V4__generations.sql`); [`Generations::run`] looks there
//! several times a second and makes it so: begins and ends consumers, opens and shuts their gates, and says which generation is live.
//!
//! Why nobody who reads waits for a switch: a reader takes the generation that [`Generations::live`] names, which is a value in memory, and goes on with it
//! to its end; the generation that was live before keeps its tables and its consumer. So a read is answered wholly from one generation. Two
//! processes may name different ones for as long as a look takes; both have at least what the switch saw. Before a process names another one, it opens as
//! many connections to it as readers have, and prepares what they run, or the first of them would all wait for that at once.

pub(crate) mod known;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use idempo_clock::SharedClock;
use idempo_pg::Pool;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

pub(crate) use known::{Generation, Known, Phase, Source, State};

use crate::gate::Gate;
use crate::meters::generations::GenerationMeters;
use crate::meters::{hide_metrics, show_metrics};
use crate::patience::chain;
use crate::postgres::{PostgresStore, Scope, Tables};
use crate::progress::Progress;
use crate::projector::Projector;
use crate::runtime::{Error, Options, Projection};
use crate::view::View;

/// How often the database is asked what people want.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// How long the connections to a generation that becomes live may take to be opened. Beyond it readers open them.
const WARM_MAX: Duration = Duration::from_secs(2);
/// Connections that a process has for looking after generations, beside those of the generations themselves.
const CONTROL_CONNECTIONS_MAX: u32 = 8;
/// Connections over which a generation is written, and asked how far it is: large batches, one shared commit, one look, and one to spare. Readers have
/// their own, or commits would stand behind those who wait for them.
const WRITERS_MAX: u32 = 7;

/// Where a projection's generations are, and what they are read from.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The read model's database, without a search path: it follows from the generation.
    pub database: idempo_pg::Config,
    /// How the topic is read; group and generation follow from the generation.
    pub options: Options,
}

impl Layout {
    /// How connections to a generation's tables are made.
    #[must_use]
    pub fn database_of(&self, projection: &str, generation: i32) -> idempo_pg::Config {
        let search_path = Some(format!("{projection}_g{generation}, projection"));
        idempo_pg::Config { search_path, ..self.database.clone() }
    }

    /// The same for whoever writes them.
    fn writers_of(&self, projection: &str, generation: i32) -> idempo_pg::Config {
        let application_name = format!("{}-writer", self.database.application_name);
        idempo_pg::Config { application_name, max_connections: WRITERS_MAX, ..self.database_of(projection, generation) }
    }

    /// A pool for what is noted of generations.
    ///
    /// # Errors
    /// Where the configuration is unusable.
    pub fn control(&self) -> Result<Pool, idempo_pg::Error> {
        let search_path = Some("projection".to_owned());
        Pool::open(&idempo_pg::Config { search_path, max_connections: CONTROL_CONNECTIONS_MAX, ..self.database.clone() })
    }

    pub(crate) fn options_of(&self, generation: i32) -> Options {
        Options { group_id: format!("{}.g{generation}", self.options.group_id), generation, ..self.options.clone() }
    }
}

/// From where reads are answered in this process.
pub enum Live<T> {
    /// The database has not said yet which generation is live, or this process has not begun to follow it.
    Unknown,
    /// The live generation was made by other logic than this program's, which must not read it.
    OtherLogic {
        /// Its number.
        generation: i32,
        /// What its logic is called.
        logic: String,
    },
    /// A generation.
    Reading(Arc<Reading<T>>),
}

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Unknown => Self::Unknown,
            Self::OtherLogic { generation, logic } => Self::OtherLogic { generation: *generation, logic: logic.clone() },
            Self::Reading(reading) => Self::Reading(Arc::clone(reading)),
        }
    }
}

/// A generation, for those who read it.
pub struct Reading<T> {
    /// Connections to its tables.
    pub pool: Pool,
    /// What its readers need to know of it.
    pub view: View<PostgresStore<T>>,
    /// What is known of its partitions.
    pub progress: Arc<Progress>,
}

/// The generations of a projection in this process.
pub struct Generations<T> {
    layout: Layout,
    tables: T,
    control: Pool,
    clock: SharedClock,
    live: watch::Sender<Live<T>>,
    bell: Arc<Notify>,
    wished: watch::Sender<u64>,
}

/// A generation that is followed.
struct Followed<T> {
    reading: Arc<Reading<T>>,
    gate: Arc<Gate>,
    cancel: CancellationToken,
}

impl<T: Tables + Clone> Generations<T> {
    /// The generations in `layout`, of which this process follows none yet.
    ///
    /// # Errors
    /// Where the configuration is unusable.
    pub fn new(layout: Layout, tables: T, clock: SharedClock) -> Result<Self, idempo_pg::Error> {
        let control = layout.control()?;
        Ok(Self {
            layout,
            tables,
            control,
            clock,
            live: watch::channel(Live::Unknown).0,
            bell: Arc::default(),
            wished: watch::channel(0).0,
        })
    }

    /// From where reads are answered, and what becomes of it.
    #[must_use]
    pub fn live(&self) -> watch::Receiver<Live<T>> {
        self.live.subscribe()
    }

    /// What makes this process look at once.
    pub(crate) fn bell(&self) -> Arc<Notify> {
        Arc::clone(&self.bell)
    }

    /// What makes this process look at once whether somebody wants dead letters drained: one more.
    pub(crate) fn wished(&self) -> watch::Sender<u64> {
        self.wished.clone()
    }

    /// Follows the generations that there are until `cancel` is cancelled.
    ///
    /// # Errors
    /// [`Error`], where the configuration is unusable, or by a defect.
    ///
    /// # Cancel safety
    /// As of [`Projection::run`].
    pub async fn run<P: Projector<Writes = T::Writes>>(&self, cancel: CancellationToken) -> Result<(), Error> {
        let mut followed = BTreeMap::new();
        let mut tasks = JoinSet::new();
        let mut meters = GenerationMeters::new(P::NAME);
        while !cancel.is_cancelled() {
            match Known::read(&self.control, P::NAME).await {
                Ok(Some(known)) => {
                    let read = known.events_read(&self.control, P::NAME).await.unwrap_or_default();
                    meters.show(&known, read, self.clock.now().as_millisecond());
                    self.follow::<P>(&known, &mut followed, &mut tasks).await?;
                }
                Ok(None) => tracing::error!(projection = P::NAME, "the database has no such projection"),
                Err(error) => tracing::debug!(error = chain(&error), "the read model does not say which generations there are"),
            }
            tokio::select! {
                () = cancel.cancelled() => {}
                Some(ended) = tasks.join_next() => {
                    let number = ended_well(ended?, &mut followed)?;
                    // It is dropped, so there is nothing more to say of it. In a process that stops all is said to its end.
                    hide_metrics(P::NAME, number);
                }
                _ = timeout(LOOK_INTERVAL, self.bell.notified()) => {}
            }
        }
        followed.values().for_each(|followed: &Followed<T>| followed.cancel.cancel());
        while let Some(ended) = tasks.join_next().await {
            ended_well(ended?, &mut followed)?;
        }
        Ok(())
    }

    /// Begins to follow what is to be followed, ends what is not, and says what is live.
    async fn follow<P: Projector<Writes = T::Writes>>(
        &self,
        known: &Known,
        followed: &mut BTreeMap<i32, Followed<T>>,
        tasks: &mut JoinSet<(i32, Result<(), Error>)>,
    ) -> Result<(), Error> {
        for generation in known.generations.iter().filter(|generation| generation.is_followed() && generation.is_of(P::LOGIC)) {
            if !followed.contains_key(&generation.number)
                && let Some(begun) = self.begin::<P>(generation, known, tasks).await
            {
                followed.insert(generation.number, begun);
            }
        }
        for (number, followed) in &*followed {
            match known.generation(*number).filter(|generation| generation.is_followed()) {
                Some(generation) => {
                    followed.gate.set(known.limits(*number));
                    followed.gate.set_pace(generation.consumer_pace());
                }
                None => followed.cancel.cancel(),
            }
        }
        self.name_live::<P>(known, followed).await;
        Ok(())
    }

    /// Begins to follow a generation. `None` where that has to wait for the next look.
    async fn begin<P: Projector<Writes = T::Writes>>(
        &self,
        generation: &Generation,
        known: &Known,
        tasks: &mut JoinSet<(i32, Result<(), Error>)>,
    ) -> Option<Followed<T>> {
        let number = generation.number;
        let pool = Pool::open(&self.layout.database_of(P::NAME, number)).ok()?;
        let writers = Pool::open(&self.layout.writers_of(P::NAME, number)).ok()?;
        let scope = Scope { generation: number, topic: self.layout.options.topic.clone() };
        let store = Arc::new(PostgresStore::new::<P>(writers, scope, self.tables.clone()));
        if let Err(error) = store.claim::<P>().await {
            tracing::debug!(generation = number, error = chain(&error), "the generation can't be claimed now");
            return None;
        }
        show_metrics(P::NAME, number);
        let progress = Arc::new(Progress::new(self.clock.clone(), P::NAME, number));
        let gate = Arc::new(Gate::new(generation.consumer_pace()));
        gate.set(known.limits(number));
        let projection = Projection::new(store, Arc::clone(&progress), self.layout.options_of(number));
        let projection = projection.behind(Arc::clone(&gate)).heeding(self.wished.subscribe());
        let reading = Arc::new(Reading { pool, view: projection.view(), progress });
        let cancel = CancellationToken::new();
        tracing::info!(projection = P::NAME, generation = number, "the generation is followed");
        let token = cancel.clone();
        tasks.spawn(async move { (number, projection.run::<P>(token).await) });
        Some(Followed { reading, gate, cancel })
    }

    async fn name_live<P: Projector<Writes = T::Writes>>(&self, known: &Known, followed: &BTreeMap<i32, Followed<T>>) {
        let other = known.generation(known.live).and_then(|generation| generation.logic.clone()).filter(|logic| logic != P::LOGIC);
        let next = match (followed.get(&known.live), other) {
            (Some(followed), _) => Live::Reading(Arc::clone(&followed.reading)),
            (None, Some(logic)) => Live::OtherLogic { generation: known.live, logic },
            // Until it is followed, what was live before answers: it has its tables still.
            (None, None) => return,
        };
        let (is_same, connections) = match (&*self.live.borrow(), &next) {
            (Live::Reading(live), Live::Reading(next)) => (Arc::ptr_eq(live, next), live.pool.connections()),
            (Live::OtherLogic { generation, .. }, Live::OtherLogic { generation: next, .. }) => (generation == next, 0),
            _ => (false, 0),
        };
        if is_same {
            return;
        }
        if let Live::Reading(reading) = &next
            && let Ok(Err(error)) = timeout(WARM_MAX, reading.pool.warm(connections, T::READS)).await
        {
            tracing::debug!(
                projection = P::NAME,
                generation = known.live,
                error = chain(&error),
                "readers will open their connections themselves"
            );
        }
        tracing::info!(projection = P::NAME, generation = known.live, "reads are answered from this generation");
        self.live.send_replace(next);
    }
}

/// A consumer that has ended, as it was told to, leaves nothing behind. Answers which it was.
fn ended_well<T>((number, result): (i32, Result<(), Error>), followed: &mut BTreeMap<i32, Followed<T>>) -> Result<i32, Error> {
    if let Some(followed) = followed.remove(&number) {
        followed.reading.pool.close();
    }
    result.map(|()| number)
}
