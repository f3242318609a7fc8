//! A run: start, load, faults by the schedule, heal, drain, check.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use idempo_clock::{SharedClock, SystemClock};
use idempo_devstack::{Brokers, Progress as Tell};
use idempo_showcase::load::{self, Played, Size};
use idempo_showcase::wire::{Addresses, Wire};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::account::Account;
use crate::chance::Chance;
use crate::desk::Desk;
use crate::faults::Family;
use crate::schedule::{self, Order, Planned};
use crate::scrape::{Scraper, Totals};
use crate::settle;
use crate::stage::{DEAD_LETTERS, Instances, Stage, Undo};
use crate::timeline::Timeline;
use crate::verify::{self, Done};

/// Commands that the load begins with, for each player: a wallet and a grant of each asset.
const FIRST_COMMANDS: u64 = 3;
/// How long the load may take to begin.
const BEGIN_LIMIT: Duration = Duration::from_secs(60);
/// How long the load may take to settle what is open when it is told to stop. What is not settled then is given up, and for the checker to judge.
const SETTLE_LIMIT: Duration = Duration::from_secs(45);
/// How long the clients may take to give up: as long as they wait for an answer, and some more.
const GIVE_UP_LIMIT: Duration = Duration::from_secs(20);
/// The pause between two looks at processes and load.
const LOOK_PAUSE: Duration = Duration::from_millis(25);

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What everything random comes from.
    pub seed: u64,
    /// How long the load plays, from the moment when every wallet is open.
    pub length: Duration,
    /// The families of faults to choose from.
    pub families: Vec<Family>,
    /// The brokers.
    pub brokers: Brokers,
    /// The command services.
    pub instances: Instances,
    /// How many players, at least two for each client.
    pub players: usize,
    /// How many clients.
    pub clients: u16,
    /// How long a client thinks between two commands, on average.
    pub think: Duration,
    /// The folder for histories, dumps, the timeline and the logs; what an earlier run has left there is replaced.
    pub folder: PathBuf,
}

/// The folder of a run where none is given: `target/chaos/<seed>`, beside the running program.
///
/// # Errors
/// When the system does not tell where the running program is.
pub fn folder(seed: u64) -> Result<PathBuf> {
    let programs = idempo_devstack::binaries()?;
    Ok(programs.parent().unwrap_or(&programs).join("chaos").join(seed.to_string()))
}

/// Tells what is being done, with the seconds since the beginning.
#[derive(Debug, Clone, Copy)]
struct Narrator {
    began: Instant,
}

impl Narrator {
    fn say(self, line: &str) {
        // Nobody to tell is no reason to stop.
        let _ = writeln!(std::io::stderr(), "[{:6.1} s] {line}", self.began.elapsed().as_secs_f64());
    }
}

/// The time that each part took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Took {
    /// Servers and platform.
    pub start: Duration,
    /// Load and faults.
    pub play: Duration,
    /// From the load's end until everything was at rest.
    pub drain: Duration,
    /// Reading and checking what was left.
    pub check: Duration,
}

/// Runs everything on servers of its own and gives the account of it.
///
/// # Errors
/// When something could not be run to its end. What was run and is off stands in the account.
pub async fn run(plan: &Plan) -> Result<Account> {
    let began = Instant::now();
    let narrator = Narrator { began };
    let mut chance = Chance::of(plan.seed);
    let brokers = if plan.brokers == Brokers::ThreeBehindProxies { 3 } else { 1 };
    let order = Order { length: plan.length, families: plan.families.clone(), brokers, instances: plan.instances };
    let schedule = schedule::draw(&order, &mut chance)?;
    verify::clear(&plan.folder)?;
    let mut stage = Stage::start(plan.brokers, plan.instances, &mut chance, Tell::new(move |line| narrator.say(line))).await?;
    let mut took = Took { start: began.elapsed(), ..Took::default() };
    let last = chance.id();
    let result = play(plan, schedule, last, &mut stage, narrator).await;
    if result.is_err() {
        verify::save_logs(&stage, &plan.folder)?;
    }
    let (played, done) = result?;
    took.play = began.elapsed() - took.start;
    let mut account = verify::judge(plan, played, done, &mut stage, &mut took, |line| narrator.say(line)).await?;
    narrator.say("everything is checked; draining the platform");
    account.report.verdicts.push(verify::drained(stage).await?);
    account.took = took;
    verify::save(&account, &plan.folder)?;
    Ok(account)
}

/// Lets the clients play and the faults happen. `last` decides who is poisoned when all is healed.
async fn play(plan: &Plan, schedule: Vec<Planned>, last: Uuid, stage: &mut Stage, narrator: Narrator) -> Result<(Played, Done)> {
    let admin = stage.processes().iter().map(|name| Ok(stage.platform.service(name)?.admin())).collect::<Result<Vec<_>>>()?;
    let scraper = Scraper::start(admin);
    let mut load = Load::start(plan, &addresses(stage)?).await?;
    load.begun(u64::try_from(plan.players)?.saturating_mul(FIRST_COMMANDS)).await?;
    narrator.say(&format!("every wallet is open; {} faults in {} s, seed {}", schedule.len(), plan.length.as_secs(), plan.seed));
    let mut desk = if plan.families.contains(&Family::Poison) { Some(open_desk(stage)?) } else { None };
    let mut director = Director {
        zero: Instant::now(),
        slip: Duration::ZERO,
        narrator,
        timeline: Timeline::default(),
        flaws: Vec::new(),
        fallen: Vec::new(),
    };
    director.perform(schedule, stage, &load).await?;
    narrator.say("the last fault has ended; the load goes on while everything heals");
    let healed = stage.heal(|line| narrator.say(line)).await;
    director.until(plan.length + director.slip, stage, &load).await?;
    let zero_us = u64::try_from((director.zero - load.began).as_micros())?;
    let calm = match &mut desk {
        Some(desk) => settle::calm(desk, stage, (&*load.progress, load.began), last, |line| narrator.say(line)).await.map(Some),
        None => Ok(None),
    };
    let healthy = director.zero.elapsed();
    narrator.say("the clients begin nothing new");
    let played = load.end(narrator).await?;
    if let Some(desk) = &mut desk {
        settle::all(desk, stage, |line| narrator.say(line)).await;
    }
    let swallowed = stage.swallowed();
    let counters: Totals = scraper.finish().await;
    let Director { timeline, mut flaws, fallen, .. } = director;
    // What is the matter then is for the checker to find out.
    flaws.extend(healed.err().map(|error| format!("not everything healed: {error:#}")));
    let calm = calm.unwrap_or_else(|error| {
        flaws.push(format!("poison did not park its keys when all was healed: {error:#}"));
        None
    });
    Ok((played, Done { timeline, flaws, fallen, counters, swallowed, zero_us, healthy, calm }))
}

fn open_desk(stage: &Stage) -> Result<Desk> {
    let address = format!("http://{}", stage.platform.service(DEAD_LETTERS)?.grpc());
    Desk::open(&address, stage.platform.operator_token().clone())
}

pub(crate) fn addresses(stage: &Stage) -> Result<Addresses> {
    let inventory_query = format!("http://{}", stage.platform.service("inventory-projector")?.grpc());
    Ok(Addresses { wallet: stage.addresses("wallet")?, inventory: stage.addresses("inventory")?, inventory_query })
}

/// The clients at play.
struct Load {
    began: Instant,
    progress: Arc<load::Progress>,
    playing: JoinHandle<Result<Played>>,
}

impl Load {
    async fn start(plan: &Plan, addresses: &Addresses) -> Result<Self> {
        let wire = Wire::connect(addresses).await.context("connecting to the services")?;
        let size = Size { players: plan.players, clients: plan.clients, commands: usize::MAX, think: plan.think, seed: plan.seed };
        let (clock, began, progress): (SharedClock, _, Arc<load::Progress>) = (SystemClock::shared(), Instant::now(), Arc::default());
        let playing = tokio::spawn({
            let progress = Arc::clone(&progress);
            async move { load::play(size, &wire, &clock, began, &progress).await }
        });
        Ok(Self { began, progress, playing })
    }

    /// Waits until so many commands are settled.
    async fn begun(&mut self, settled: u64) -> Result<()> {
        while self.progress.settled() < settled {
            ensure!(!self.playing.is_finished(), "the load ended at its beginning");
            ensure!(self.began.elapsed() < BEGIN_LIMIT, "only {} commands were settled in {BEGIN_LIMIT:?}", self.progress.settled());
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        Ok(())
    }

    /// Lets the clients settle what they have begun.
    async fn end(mut self, narrator: Narrator) -> Result<Played> {
        self.progress.stop();
        if let Ok(played) = tokio::time::timeout(SETTLE_LIMIT, &mut self.playing).await {
            return played.context("the load died")?;
        }
        narrator.say(&format!("the clients give up: not everything was settled after {} s", SETTLE_LIMIT.as_secs()));
        self.progress.give_up();
        let played = tokio::time::timeout(GIVE_UP_LIMIT, &mut self.playing).await;
        played.with_context(|| format!("the clients have not given up after {GIVE_UP_LIMIT:?}"))?.context("the load died")?
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.playing.abort();
    }
}

/// Lets faults begin and end in time, and looks after the processes meanwhile.
struct Director {
    zero: Instant,
    /// How long beginning and ending faults has taken so far: what is to come is put off by it, so that faults that were drawn one after the other
    /// stay so on a machine where a server takes its time to stop.
    slip: Duration,
    narrator: Narrator,
    timeline: Timeline,
    /// Faults that could not be begun or ended.
    flaws: Vec<String>,
    /// Processes that ended by themselves.
    fallen: Vec<String>,
}

/// A fault that lasts.
struct Lasting {
    ends: Duration,
    place: usize,
    what: String,
    undo: Undo,
}

impl Director {
    async fn perform(&mut self, schedule: Vec<Planned>, stage: &mut Stage, load: &Load) -> Result<()> {
        let mut coming = schedule.into_iter().peekable();
        let mut lasting: Vec<Lasting> = Vec::new();
        loop {
            let next_end = lasting.iter().map(|lasting| lasting.ends).min();
            let next_begin = coming.peek().map(|planned| planned.at + self.slip);
            // Whatever ends comes before what begins at the same moment: it may need what is given back.
            match (next_end, next_begin) {
                (None, None) => return Ok(()),
                (Some(end), begin) if begin.is_none_or(|begin| end <= begin) => {
                    self.until(end, stage, load).await?;
                    let Some(index) = lasting.iter().position(|lasting| lasting.ends == end) else { continue };
                    self.end(lasting.swap_remove(index), stage).await;
                }
                _ => {
                    let Some(planned) = coming.next() else { continue };
                    self.until(planned.at + self.slip, stage, load).await?;
                    lasting.extend(self.begin(&planned, stage).await);
                }
            }
        }
    }

    async fn begin(&mut self, planned: &Planned, stage: &mut Stage) -> Option<Lasting> {
        let at = self.zero.elapsed();
        let what = format!("{} · {}", planned.fault, planned.fault.target());
        let begun = planned.fault.begin(stage).await;
        self.slip += self.zero.elapsed().saturating_sub(at);
        match begun {
            Ok(begun) => {
                self.narrator.say(&format!("  {what} {}", begun.note));
                let place = self.timeline.begun(&planned.fault, at, begun.note);
                Some(Lasting { ends: self.zero.elapsed() + planned.lasts, place, what, undo: begun.undo })
            }
            Err(error) => {
                self.flaws.push(format!("{what} could not be begun: {error:#}"));
                None
            }
        }
    }

    async fn end(&mut self, lasting: Lasting, stage: &mut Stage) {
        let at = self.zero.elapsed();
        let ended = lasting.undo.end(stage).await;
        self.slip += self.zero.elapsed().saturating_sub(at);
        match ended {
            Ok(note) => {
                self.narrator.say(&format!("  {} is over {note}", lasting.what));
                self.timeline.ended(lasting.place, self.zero.elapsed(), &note);
            }
            Err(error) => self.flaws.push(format!("{} could not be ended: {error:#}", lasting.what)),
        }
    }

    /// Waits until a moment of the run. Processes that end by themselves are noted and started again, as a cluster would.
    async fn until(&mut self, moment: Duration, stage: &mut Stage, load: &Load) -> Result<()> {
        loop {
            if let Some(fallen) = stage.pick_up()? {
                self.narrator.say(&fallen);
                self.fallen.push(fallen);
            }
            if let Some(fallen) = stage.servers.fallen()? {
                bail!("{fallen}");
            }
            ensure!(!load.playing.is_finished(), "the load ended by itself");
            let left = moment.saturating_sub(self.zero.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            tokio::time::sleep(left.min(LOOK_PAUSE)).await;
        }
    }
}
