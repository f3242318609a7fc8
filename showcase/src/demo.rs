//! The whole run: servers, platform, load, a killed relay, read-back, checks.

use std::collections::HashSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use idempo_clock::{SharedClock, SystemClock};
use idempo_devstack::{Cluster, Options, Platform, Progress as Tell, Servers};
use idempo_proto::event::v1::event_envelope::Data;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;

use crate::account::Account;
use crate::checks::vacuity::{Seen, not_vacuous};
use crate::checks::{Verdict, answers, effects, money, reads, rows, streams, topic};
use crate::facts::{Store, Tables, Topic};
use crate::figures::{self, Sent};
use crate::load::{self, Played, Size};
use crate::read_back::{self, Shown};
use crate::read_stores::Session;
use crate::takeover::{self, Killed, Outbox};
use crate::wire::{Addresses, Wire};
use crate::{ledger, logs, model, read_topic};

/// The number of the topic that wallet and inventory events go to.
const ECONOMY_TOPIC: i16 = 3;
/// The role that reads everything and changes nothing.
const AUDITOR: &str = "idempo_auditor";
/// The pause between two looks at something that is awaited.
const LOOK_PAUSE: Duration = Duration::from_millis(20);
/// How long the platform may take to come to rest after the load.
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

/// What was found at the end.
struct Found {
    wallet: Store,
    inventory: Store,
    topic: Topic,
    shown: Shown,
    wallet_tables: Tables,
    wallet_sums: money::Sums,
    view_tables: Tables,
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
    account.verdicts.push(logs::quiet(complaints.0, &complaints.1));
    let mut drained = Verdict::new("end", "every process drains on SIGTERM and ends with 0", "processes");
    drained.looked_at = u64::try_from(platform.services().filter(|(_, service)| service.pid().is_some()).count()).unwrap_or(u64::MAX);
    if let Err(error) = platform.stop().await {
        drained.require(false, || format!("{error:#}"));
    }
    account.verdicts.push(drained);
    servers.stop().await?;
    account.started_after = started_after;
    account.took = began.elapsed();
    Ok(account)
}

/// Runs the load on a running platform, kills the relay on the way, and checks what is left.
async fn run_on(plan: &Plan, servers: &Servers, platform: &mut Platform, narrator: Narrator) -> Result<Account> {
    let cluster = servers.cluster()?;
    let clock = SystemClock::shared();
    let wire = Wire::connect(&addresses(platform)?).await.context("connecting to the services")?;
    let outboxes = [
        Outbox { name: "wallet", session: session(&cluster, "wallet_db").await? },
        Outbox { name: "inventory", session: session(&cluster, "inventory_db").await? },
    ];
    narrator.say(&format!("{} clients begin to play, seed {}", plan.size.clients, plan.size.seed));
    let (played, killed) = play_and_kill(plan.size, &wire, &clock, platform, &outboxes, narrator).await?;
    narrator.say("all have played; reading back what they left");
    if let Some(path) = &plan.history {
        let file = std::fs::File::create(path).with_context(|| format!("making {}", path.display()))?;
        played.history.write_jsonl(&mut std::io::BufWriter::new(file)).context("writing the history")?;
    }
    let [wallet, inventory] = &outboxes;
    let found = look_back(servers, &cluster, &wire, &played, (&wallet.session, &inventory.session)).await?;
    narrator.say("everything is read back; checking it");
    account(plan.size, &played, killed, found)
}

fn addresses(platform: &Platform) -> Result<Addresses> {
    let address = |name| Ok::<_, anyhow::Error>(format!("http://{}", platform.service(name)?.grpc()));
    Ok(Addresses { wallet: address("wallet")?, inventory: address("inventory")?, inventory_query: address("inventory-projector")? })
}

async fn session(cluster: &Cluster, database: &str) -> Result<Session> {
    Session::open(cluster.role(database, AUDITOR)).await.with_context(|| format!("database {database}"))
}

/// Plays, and kills the relay when half of the commands are settled.
async fn play_and_kill(
    size: Size,
    wire: &Wire,
    clock: &SharedClock,
    platform: &mut Platform,
    outboxes: &[Outbox],
    narrator: Narrator,
) -> Result<(Played, Killed)> {
    let progress = Arc::new(load::Progress::default());
    let half = u64::try_from(size.commands)? / KILL_AFTER_ONE_OF;
    let (wire, clock, load_progress) = (wire.clone(), clock.clone(), progress.clone());
    let mut playing = Playing {
        load: tokio::spawn(async move { load::play(size, &wire, &clock, Instant::now(), &load_progress).await }),
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

/// Waits until the platform is at rest, and reads everything.
async fn look_back(servers: &Servers, cluster: &Cluster, wire: &Wire, played: &Played, sessions: (&Session, &Session)) -> Result<Found> {
    let (wallet_db, inventory_db) = sessions;
    wait_for_timers(wallet_db, inventory_db).await?;
    let (wallet, inventory) = tokio::try_join!(wallet_db.store("wallet_db"), inventory_db.store("inventory_db"))?;
    let stores = [&wallet, &inventory];
    let (topic, shown) = tokio::try_join!(whole_topic(servers, &stores), read_back::read(wire, &played.players, &stores))?;
    let generation = session(cluster, "inventory_view_db").await?.live_generation().await?;
    let search_path = Some(format!("inventory_g{generation}, projection"));
    let view = Session::open(idempo_pg::Config { search_path, ..cluster.role("inventory_view_db", AUDITOR) }).await?;
    Ok(Found {
        topic,
        shown,
        wallet_tables: wallet_db.wallet_tables().await?,
        wallet_sums: wallet_db.wallet_sums().await?,
        view_tables: view.view_tables().await?,
        wallet,
        inventory,
    })
}

/// Waits until every hold and reservation that is past its time has expired.
async fn wait_for_timers(wallet: &Session, inventory: &Session) -> Result<()> {
    let began = Instant::now();
    // What was placed last with a short life is not past its time yet.
    tokio::time::sleep(Duration::from_millis(load::SHORT_TTL_MS.unsigned_abs())).await;
    loop {
        let overdue = (wallet.overdue_holds().await?, inventory.overdue_reservations().await?);
        if overdue == (0, 0) {
            return Ok(());
        }
        anyhow::ensure!(
            began.elapsed() < QUIET_LIMIT,
            "{} holds and {} reservations should have expired and have not",
            overdue.0,
            overdue.1
        );
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

/// Reads the topic until it has every stored event, or until it had time enough.
async fn whole_topic(servers: &Servers, stores: &[&Store]) -> Result<Topic> {
    let economy =
        idempo_schemas::topics().topics.iter().find(|topic| topic.number == ECONOMY_TOPIC).context("economy-events is in topics.yaml")?;
    let config = idempo_kafka::Config {
        brokers: servers.kafka_brokers().to_owned(),
        client_id: "idempo-showcase".to_owned(),
        ..idempo_kafka::Config::default()
    };
    let began = Instant::now();
    for attempt in 0_u32.. {
        let group = format!("showcase-{}-{attempt}", std::process::id());
        let topic = read_topic::read(&config, economy.name, economy.partitions, &group).await?;
        let there: HashSet<&Bytes> = topic.records.iter().map(|record| &record.value).collect();
        let complete = stores.iter().flat_map(|store| &store.events).all(|event| there.contains(&event.envelope));
        if complete || began.elapsed() > QUIET_LIMIT {
            return Ok(topic);
        }
    }
    anyhow::bail!("the topic was never read")
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
fn account(size: Size, played: &Played, killed: Killed, found: Found) -> Result<Account> {
    let Found { wallet, inventory, topic, shown, wallet_tables, wallet_sums, view_tables } = found;
    let (history, stores) = (&played.history, [&wallet, &inventory]);
    let ledger = ledger::fold(&wallet.events);
    let from_store = model::fold(inventory.events.iter().map(|event| &event.envelope))?;
    let mut seen_once = HashSet::new();
    let from_kafka = model::fold(topic.records.iter().map(|record| &record.value).filter(|value| seen_once.insert((*value).clone())))?;

    let mut seen = Seen::of(history);
    seen.takeovers = u64::try_from(killed.takeovers.len())?;
    seen.expired = expired(&stores);
    let verdicts = vec![
        not_vacuous(seen),
        answers::as_expected(history),
        money::events_balance(&ledger),
        money::tables_balance(&wallet_sums, &ledger),
        answers::equal_for_equal_keys(history),
        effects::at_most_once(&stores),
        answers::settled(history),
        effects::none_where_refused(history, &stores),
        effects::all_where_acknowledged(history, &stores),
        topic::same_events(&stores, &topic),
        topic::in_order(&topic, idempo_kafka::partition_of),
        rows::same_rows("the read model's rows = fold of the store's events", &model::tables(&from_store), &view_tables),
        rows::same_rows("the read model's rows = fold of Kafka's events", &model::tables(&from_kafka), &view_tables),
        rows::same_rows(
            "what ListItems shows = fold of the events",
            &table("items", model::listed(&from_store)),
            &table("items", shown.items),
        ),
        rows::same_rows("the wallet's tables = fold of the events", &ledger.tables, &wallet_tables),
        rows::same_rows(
            "what GetWallet shows = fold of the events",
            &table("wallets", read_back::wallets_due(&ledger, &played.players)),
            &table("wallets", shown.wallets),
        ),
        streams::gapless(&stores),
        reads::include_their_position(history),
    ];
    Ok(Account {
        size,
        load_took: Duration::from_micros(played.took_us),
        sent: Sent::of(history)?,
        seen,
        killed,
        events: [wallet.events.len(), inventory.events.len()],
        records: topic.records.len(),
        duplicates: topic::duplicates(&topic),
        to_kafka: figures::to_kafka(&stores, &topic)?,
        lag_events_max: history.reads.iter().filter_map(|read| read.lag_events).max().unwrap_or_default(),
        read_back: shown.reads,
        system: ledger.system,
        verdicts,
        started_after: Duration::ZERO,
        took: Duration::ZERO,
    })
}

fn table(name: &'static str, rows: crate::facts::Rows) -> Tables {
    Tables::from([(name, rows)])
}

fn expired(stores: &[&Store]) -> u64 {
    let expired = |data: Option<&Data>| matches!(data, Some(Data::HoldExpired(_) | Data::ReservationExpired(_)));
    let count = stores.iter().flat_map(|store| &store.events).filter(|event| expired(event.data())).count();
    u64::try_from(count).unwrap_or(u64::MAX)
}
