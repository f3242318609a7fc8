//! The whole run: servers, platform, load, a killed relay, poison and its mending, a rebuild, read-back, checks.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use idempo_checker::checks::rows;
use idempo_checker::checks::vacuity::{Seen, Trouble};
use idempo_checker::databases::Session;
use idempo_checker::evidence::wait_until_quiet;
use idempo_checker::facts::{Rows, Tables, Topic};
use idempo_checker::poison::take_out;
use idempo_checker::{Evidence, Rules, Sources, Verdict, check, ledger};
use idempo_clock::{SharedClock, SystemClock};
use idempo_devstack::{Cluster, Options, Platform, Progress as Tell, Servers};
use idempo_ids::PlayerId;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;

use crate::account::Account;
use crate::figures::{self, Sent};
use crate::load::{self, Played, Size};
use crate::logs;
use crate::poison::mended::Mended;
use crate::poison::{self, Stage};
use crate::read_back::{self, Shown};
use crate::takeover::{self, Killed, Outbox};
use crate::wire::{Addresses, Wire};

/// The number of the topic that wallet and inventory events go to.
const ECONOMY_TOPIC: i16 = 3;
/// The role that reads everything and changes nothing.
const AUDITOR: &str = "idempo_auditor";
/// The pause between two looks at something that is awaited.
const LOOK_PAUSE: Duration = Duration::from_millis(20);
/// How long the platform may take to come to rest after the load. What is still behind then stands in the account.
const QUIET_LIMIT: Duration = Duration::from_secs(30);
/// How long the load may settle nothing before the run is given up.
const STALL_LIMIT: Duration = Duration::from_secs(45);
/// After which share of the commands the relay is killed: one of this many.
const KILL_AFTER_ONE_OF: u64 = 2;

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How much.
    pub size: Size,
    /// Where to write the client history, if anywhere.
    pub history: Option<PathBuf>,
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

/// Runs everything on servers of its own and gives the account of it.
///
/// # Errors
/// When something could not be run to its end. What was run and is off stands in the account.
pub async fn run(plan: &Plan) -> Result<Account> {
    let began = Instant::now();
    let narrator = Narrator { began };
    let servers = Servers::start(Options::throwaway(Tell::new(move |line| narrator.say(line)))).await?;
    servers.prepare().await?;
    let mut platform = Platform::start(&servers).await?;
    let started_after = began.elapsed();
    let result = run_on(plan, &servers, &mut platform, narrator).await;
    if let Err(error) = &result
        && let Some(fallen) = platform.fallen()?
        && fallen != error.to_string()
    {
        anyhow::bail!("{error:#}; {fallen}");
    }
    let mut account = result?;
    narrator.say("everything is checked; draining the platform");
    let complaints = read_logs(&platform)?;
    account.report.verdicts.push(logs::quiet(complaints.0, &complaints.1));
    let mut drained = Verdict::new("end", "every process drains on SIGTERM and ends with 0", "processes");
    drained.looked_at = u64::try_from(platform.services().filter(|(_, service)| service.pid().is_some()).count()).unwrap_or(u64::MAX);
    if let Err(error) = platform.stop().await {
        drained.require(false, || format!("{error:#}"));
    }
    account.report.verdicts.push(drained);
    servers.stop().await?;
    account.started_after = started_after;
    account.took = began.elapsed();
    Ok(account)
}

/// Runs the load on a running platform, kills the relay on the way, poisons the topic and mends it, and checks what is left.
async fn run_on(plan: &Plan, servers: &Servers, platform: &mut Platform, narrator: Narrator) -> Result<Account> {
    let cluster = servers.cluster()?;
    let clock = SystemClock::shared();
    let wire = Wire::connect(&addresses(platform)?).await.context("connecting to the services")?;
    let outboxes = [
        Outbox { name: "wallet", session: session(&cluster, "wallet_db").await? },
        Outbox { name: "inventory", session: session(&cluster, "inventory_db").await? },
    ];
    narrator.say(&format!("{} clients begin to play, seed {}", plan.size.clients, plan.size.seed));
    let began = Instant::now();
    let (mut played, killed) = play_and_kill(plan.size, (&wire, &clock), began, platform, &outboxes, narrator).await?;
    let load_took = Duration::from_micros(played.took_us);
    let (tell, topic) = (|line: &str| narrator.say(line), economy()?);
    let seed = plan.size.seed.wrapping_add(1);
    let stage = Stage { seed, began, wire: &wire, clock: &clock, servers, platform, cluster: &cluster, topic, tell: &tell };
    let act = poison::play(&stage).await.context("the act with the poison")?;
    played.history.absorb(act.history);
    let players: Vec<PlayerId> = played.players.iter().chain(&act.players).copied().collect();
    narrator.say("all have played; reading back what they left");
    if let Some(path) = &plan.history {
        let file = std::fs::File::create(path).with_context(|| format!("making {}", path.display()))?;
        played.history.write_jsonl(&mut std::io::BufWriter::new(file)).context("writing the history")?;
    }
    // What was placed last with a short life is not past its time yet.
    tokio::time::sleep(Duration::from_millis(load::SHORT_TTL_MS.unsigned_abs())).await;
    let sources = sources(servers, &cluster)?;
    wait_until_quiet(&sources, QUIET_LIMIT).await?;
    let mut evidence = Evidence::read(&sources, played.history).await?;
    evidence.met.add(Trouble::Takeover, u64::try_from(killed.takeovers.len())?);
    let shown = read_back::read(&wire, &players, &evidence.stores).await?;
    narrator.say("everything is read back; checking it");
    let mut kept = Verdict::new("I5", "Kafka has what was put in by hand still, beside the stores' events", "records");
    kept.looked_at(take_out(&mut evidence.topics, &act.injected).len());
    let due = u64::try_from(act.injected.len())?;
    kept.require(kept.looked_at == due, || format!("{due} were put in"));
    let mut account = account(plan.size, load_took, &players, (killed, act.mended), &evidence, shown)?;
    account.report.verdicts.extend(act.verdicts.into_iter().chain([kept]));
    Ok(account)
}

/// The topic of the economy, without its records.
fn economy() -> Result<Topic> {
    let economy = idempo_schemas::topics().topics.iter().find(|topic| topic.number == ECONOMY_TOPIC);
    let economy = economy.context("economy-events is in topics.yaml")?;
    Ok(Topic { name: economy.name.to_owned(), partitions: economy.partitions, records: Vec::new() })
}

/// Where the run's traces are, for the auditor.
fn sources(servers: &Servers, cluster: &Cluster) -> Result<Sources> {
    let topic = economy()?.name;
    Ok(Sources {
        wallet: cluster.role_url("wallet_db", AUDITOR),
        inventory: cluster.role_url("inventory_db", AUDITOR),
        inventory_view: cluster.role_url("inventory_view_db", AUDITOR),
        brokers: servers.kafka_brokers().to_owned(),
        dead_letters: vec![format!("{topic}.dlq")],
        ops: None,
        topics: vec![topic],
    })
}

fn addresses(platform: &Platform) -> Result<Addresses> {
    let address = |name| Ok::<_, anyhow::Error>(format!("http://{}", platform.service(name)?.grpc()));
    Ok(Addresses { wallet: address("wallet")?, inventory: address("inventory")?, inventory_query: address("inventory-projector")? })
}

async fn session(cluster: &Cluster, database: &str) -> Result<Session> {
    Session::open(&cluster.role_url(database, AUDITOR)).await.with_context(|| format!("database {database}"))
}

/// Plays, and kills the relay when half of the commands are settled.
async fn play_and_kill(
    size: Size,
    (wire, clock): (&Wire, &SharedClock),
    began: Instant,
    platform: &mut Platform,
    outboxes: &[Outbox],
    narrator: Narrator,
) -> Result<(Played, Killed)> {
    let progress = Arc::new(load::Progress::default());
    let half = u64::try_from(size.commands)? / KILL_AFTER_ONE_OF;
    let (wire, clock, load_progress) = (wire.clone(), clock.clone(), progress.clone());
    let mut playing = Playing {
        load: tokio::spawn(async move { load::play(size, &wire, &clock, began, &load_progress).await }),
        bar: ProgressBar::new(u64::try_from(size.commands)?)
            .with_style(ProgressStyle::with_template("{bar:40} {pos}/{len} commands · {per_sec}")?),
        progress,
    };
    playing.watch(half, platform).await?;
    if playing.load.is_finished() {
        (&mut playing.load).await.context("the load died")??;
        anyhow::bail!("the load ended before the relay was killed");
    }
    let killed = takeover::kill_and_watch(platform, outboxes).await?;
    playing.bar.suspend(|| narrator.say(&format!("{} was killed in the middle of it, and the stand-by has taken over", killed.relay)));
    playing.watch(u64::MAX, platform).await?;
    playing.bar.finish_and_clear();
    let played = (&mut playing.load).await.context("the load died")??;
    Ok((played, killed))
}

/// A load under way.
struct Playing {
    load: JoinHandle<Result<Played>>,
    bar: ProgressBar,
    progress: Arc<load::Progress>,
}

impl Playing {
    /// Waits until so many commands are settled or the load has ended. Fails when a process falls, or nothing is settled for too long.
    async fn watch(&mut self, settled: u64, platform: &mut Platform) -> Result<()> {
        let mut moved = (self.progress.settled(), Instant::now());
        while self.progress.settled() < settled && !self.load.is_finished() {
            let now = self.progress.settled();
            self.bar.set_position(now);
            if now > moved.0 {
                moved = (now, Instant::now());
            }
            if let Some(fallen) = platform.fallen()? {
                anyhow::bail!(fallen);
            }
            anyhow::ensure!(moved.1.elapsed() < STALL_LIMIT, "nothing was settled for {} s, after {now} commands", STALL_LIMIT.as_secs());
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        Ok(())
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        self.load.abort();
    }
}

fn read_logs(platform: &Platform) -> Result<(usize, Vec<logs::Complaint>)> {
    let mut complaints = Vec::new();
    let mut services = 0;
    for (name, service) in platform.services() {
        complaints.extend(logs::read(name, service.log())?);
        services += 1;
    }
    Ok((services, complaints))
}

/// Checks everything and adds up the figures.
fn account(
    size: Size,
    load_took: Duration,
    players: &[PlayerId],
    (killed, mended): (Killed, Mended),
    evidence: &Evidence,
    shown: Shown,
) -> Result<Account> {
    let Evidence { history, stores, topics, .. } = evidence;
    let poison_injected = u64::try_from(mended.injected.iter().map(|(_, count)| count).sum::<usize>())?;
    let mut report = check(evidence, &Rules { must_meet: Trouble::DEMO.to_vec(), poison_injected, ..Rules::default() });
    let ledger = ledger::fold(stores.iter().flat_map(|store| &store.events));
    let listed = table("items", rows::fold_stores(stores).listed());
    report.verdicts.push(rows::same_rows("what ListItems shows = fold of the events", &listed, &table("items", shown.items)));
    let due = table("wallets", read_back::wallets_due(&ledger, players));
    report.verdicts.push(rows::same_rows("what GetWallet shows = fold of the events", &due, &table("wallets", shown.wallets)));
    let seen = Seen::of(evidence);
    Ok(Account {
        size,
        load_took,
        sent: Sent::of(history)?,
        killed,
        mended,
        events: stores.iter().map(|store| (store.name.clone(), store.events.len())).collect(),
        records: topics.iter().map(|topic| topic.records.len()).sum(),
        duplicates: seen.count(Trouble::Duplicate),
        seen,
        to_kafka: figures::to_kafka(stores, topics)?,
        lag_events_max: history.reads.iter().filter_map(|read| read.lag_events).max().unwrap_or_default(),
        read_back: shown.reads,
        system: ledger.system,
        report,
        started_after: Duration::ZERO,
        took: Duration::ZERO,
    })
}

fn table(name: &'static str, rows: Rows) -> Tables {
    Tables::from([(name, rows)])
}
