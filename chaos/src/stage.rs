//! What faults befall: servers, the platform's processes, and the networks between them; and how each fault is undone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use idempo_checker::facts::CursorMove;
use idempo_checker::poison::Injected;
use idempo_devstack::{Brokers, Cluster, Options, Platform, Progress, Proxy, Server, Servers, Surroundings};
use idempo_pg::Config;
use idempo_showcase::poison::kinds::ForgottenTrigger;
use serde::Serialize;
use tokio_postgres::Client;

use crate::chance::Chance;
use crate::faults::{Link, transactions};
use crate::logs;

/// The platform's processes, each of which reaches PostgreSQL through a proxy of its own. The last ones are there where each command service has
/// two instances.
const PROCESSES: [&str; 9] = [
    "wallet",
    "inventory",
    PROJECTORS[0],
    PROJECTORS[1],
    "relay-1",
    "relay-2",
    DEAD_LETTERS,
    SECOND_SERVICES[0].name,
    SECOND_SERVICES[1].name,
];
/// The command services.
const SERVICES: [&str; 4] = ["wallet", "inventory", SECOND_SERVICES[0].name, SECOND_SERVICES[1].name];
/// The second instances of the command services.
const SECOND_SERVICES: [Second; 2] = [
    Second { of: "wallet", name: "wallet-2", database: "wallet_db", role: "idempo_wallet" },
    Second { of: "inventory", name: "inventory-2", database: "inventory_db", role: "idempo_inventory" },
];
/// The second projector.
const PROJECTOR: Second =
    Second { of: PROJECTORS[0], name: PROJECTORS[1], database: "inventory_view_db", role: "idempo_inventory_projector" };
/// The processes that relay.
const RELAYS: [&str; 2] = ["relay-1", "relay-2"];
/// The projectors: two, so that one takes over from the other.
pub(crate) const PROJECTORS: [&str; 2] = ["inventory-projector", "inventory-projector-2"];
/// The dead-letter service.
pub(crate) const DEAD_LETTERS: &str = "dlq-admin";
/// The number of the topic that wallet and inventory events go to.
pub(crate) const ECONOMY_TOPIC: i16 = 3;
/// The databases with an outbox.
pub(crate) const OUTBOXES: [&str; 2] = ["wallet_db", "inventory_db"];
/// How long finding out may take who holds an outbox, or what is under way: after that the first relay is as good as any, and nothing is.
const HOLDER_LIMIT: Duration = Duration::from_millis(500);
/// How much longer a commit is waited for whose answer is to be lost, where none came in time: a service that sheds load, since the brokers were away,
/// makes none.
const COMMIT_LIMIT: Duration = Duration::from_secs(3);
/// The pause between two looks at what is awaited.
const LOOK_PAUSE: Duration = Duration::from_millis(25);
/// The age at which an outbox table is left, in seconds: rotations and truncations belong to what faults meet.
const TABLE_AGE_S: &str = "3";
/// After how long without a heartbeat a projector's partitions are another's, in milliseconds: the least that brokers allow.
const SESSION_TIMEOUT_MS: &str = "6000";
/// After how long a job of a process that is gone is another's, in milliseconds: so that what a kill has interrupted goes on within the run.
const JOB_LEASE_MS: &str = "1000";

/// How many instances each command service has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Instances {
    /// One: nobody else writes what it writes.
    #[default]
    One,
    /// Two on one database, each of which gets every other send of every client: a stream's writers are in different processes, and a command that is
    /// sent again goes to the other one.
    Two,
}

impl Instances {
    /// The platform's processes.
    pub(crate) fn processes(self) -> &'static [&'static str] {
        self.of(&PROCESSES)
    }

    /// The command services.
    pub(crate) fn services(self) -> &'static [&'static str] {
        self.of(&SERVICES)
    }

    fn of(self, all: &'static [&'static str]) -> &'static [&'static str] {
        let left_out = if self == Self::One { SECOND_SERVICES.len() } else { 0 };
        all.get(..all.len().saturating_sub(left_out)).unwrap_or_default()
    }
}

/// The second instance of a process.
#[derive(Debug, Clone, Copy)]
struct Second {
    of: &'static str,
    name: &'static str,
    database: &'static str,
    role: &'static str,
}

/// What faults befall.
pub(crate) struct Stage {
    pub(crate) instances: Instances,
    pub(crate) platform: Platform,
    pub(crate) servers: Servers,
    postgres_links: BTreeMap<&'static str, Proxy>,
    pub(crate) broker_links: Vec<Proxy>,
    cluster: Cluster,
    pub(crate) poison: Poisoned,
}

/// What people will have to settle, and whether they were disturbed.
#[derive(Debug, Default)]
pub(crate) struct Poisoned {
    /// The records that were put into the topic.
    pub(crate) injected: Vec<Injected>,
    /// How often a job was under way when its service was killed.
    pub(crate) interrupted: u64,
}

/// A fault that has begun.
pub(crate) struct Begun {
    /// What was found out only then, for people; may be empty.
    pub(crate) note: String,
    /// How it is undone.
    pub(crate) undo: Undo,
}

/// How a fault is undone.
pub(crate) enum Undo {
    /// A process is started.
    StartProcess(&'static str),
    /// A process is thawed.
    ThawProcess(&'static str),
    /// A server is started.
    StartServer(Server),
    /// Brokers are thawed.
    ThawBrokers(Vec<u8>),
    /// The networks to the brokers are open again.
    OpenBrokers,
    /// A network does nothing any more.
    Calm(Link),
    /// Connections are cut once more, with this likelihood.
    CutAgain(Link, u32),
    /// A network loses no answer any more; it had lost so many before.
    CountSwallowed(Link, usize),
    /// Nothing is to be undone.
    Nothing,
    /// The read model takes all rows again.
    TakeRows(ForgottenTrigger),
    /// Transactions are ended, the inner ones first, by this statement.
    EndTransactions(Vec<Client>, &'static str),
}

impl Stage {
    /// Starts servers, networks and the platform.
    pub(crate) async fn start(brokers: Brokers, instances: Instances, chance: &mut Chance, progress: Progress) -> Result<Self> {
        let servers = Servers::start(Options { brokers, ..Options::isolated(progress) }).await?;
        let cluster = servers.cluster()?;
        let mut surroundings = Surroundings::default();
        let mut broker_links = Vec::new();
        for expected in servers.broker_proxies() {
            let mut proxy = Proxy::at(expected.listen, expected.broker.clone(), chance.seed());
            proxy.open().await?;
            broker_links.push(proxy);
        }
        let addresses: Vec<String> = broker_links.iter().map(|proxy| proxy.address().to_string()).collect();
        surroundings = surroundings.kafka_at(addresses.join(","));
        let mut postgres_links = BTreeMap::new();
        for process in instances.processes().iter().copied() {
            let mut proxy = Proxy::new(cluster.address(), chance.seed())?;
            proxy.open().await?;
            surroundings = surroundings.postgres_at(process, proxy.address());
            postgres_links.insert(process, proxy);
        }
        for relay in RELAYS {
            surroundings = surroundings.with(relay, "IDEMPO_ROTATION__TABLE_AGE_MAX_S", TABLE_AGE_S);
        }
        surroundings = surroundings.with(PROJECTORS[0], "IDEMPO_CONSUMER__SESSION_TIMEOUT_MS", SESSION_TIMEOUT_MS);
        surroundings = surroundings.with(DEAD_LETTERS, "IDEMPO_CONSUMER__SESSION_TIMEOUT_MS", SESSION_TIMEOUT_MS);
        surroundings = surroundings.with(DEAD_LETTERS, "IDEMPO_JOB_LEASE_MS", JOB_LEASE_MS);
        servers.prepare().await?;
        for database in OUTBOXES {
            open(&cluster.superuser(database)).await?.batch_execute(include_str!("sql/prepare.sql")).await?;
        }
        let mut platform = Platform::start_in(&servers, &surroundings).await?;
        for Second { of, name, database, role } in seconds(instances) {
            let proxy = postgres_links.get(name).context("every process has a proxy")?;
            let url = cluster.clone().at(proxy.address()).role_url(database, role);
            platform.start_replica(of, name, &[("IDEMPO_DATABASE__URL", &url)]).await?;
        }
        Ok(Self { instances, platform, servers, postgres_links, broker_links, cluster, poison: Poisoned::default() })
    }

    /// The cluster, reached directly.
    pub(crate) const fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// A session of the superuser's in a database, reached directly, for a statement or two.
    pub(crate) async fn session(&self, database: &str) -> Result<Client> {
        open(&self.superuser(database)).await
    }

    /// How many members of jobs on dead letters are not settled yet; 0 also where that can't be found out.
    pub(crate) async fn unsettled_members(&self) -> u64 {
        let asked = async {
            let row = self.session("ops_db").await?.query_one(include_str!("sql/job_under_way.sql"), &[]).await?;
            anyhow::Ok(u64::try_from(row.try_get::<_, i64>("unsettled")?)?)
        };
        tokio::time::timeout(HOLDER_LIMIT, asked).await.ok().and_then(Result::ok).unwrap_or(0)
    }

    /// Notes whether a job is under way, now that its service or a process is dead that it may need, and gives how many of its members are not
    /// settled.
    pub(crate) async fn note_interrupted(&mut self, process: &str) -> u64 {
        let left = self.unsettled_members().await;
        // What is left may all be for another consumer than one that was killed.
        self.poison.interrupted += u64::from(left > 0 && process == DEAD_LETTERS);
        left
    }

    /// The superuser's configuration for a database, reached directly.
    pub(crate) fn superuser(&self, database: &str) -> Config {
        self.cluster.superuser(database)
    }

    /// The auditor's URL of a database, reached directly.
    pub(crate) fn auditor_url(&self, database: &str) -> String {
        self.cluster.role_url(database, "idempo_auditor")
    }

    /// The proxy of a network.
    pub(crate) fn proxy(&mut self, link: Link) -> Result<&mut Proxy> {
        let found = match link {
            Link::Postgres(process) => self.postgres_links.get_mut(process),
            Link::Broker(number) => usize::from(number).checked_sub(1).and_then(|index| self.broker_links.get_mut(index)),
        };
        found.with_context(|| format!("there is no proxy for {link}"))
    }

    /// The platform's processes.
    pub(crate) fn processes(&self) -> &'static [&'static str] {
        self.instances.processes()
    }

    /// Where the instances of a command service take commands: `http://host:port`, with commas between.
    pub(crate) fn addresses(&self, service: &str) -> Result<String> {
        let is_one = |name: &&str| *name == service || SECOND_SERVICES.iter().any(|second| second.of == service && second.name == *name);
        let names = self.instances.services().iter().copied().filter(is_one);
        let addresses = names.map(|name| Ok(format!("http://{}", self.platform.service(name)?.grpc()))).collect::<Result<Vec<_>>>()?;
        Ok(addresses.join(","))
    }

    /// How many answers were lost on the way to a command service.
    pub(crate) fn swallowed(&self) -> usize {
        let services = self.instances.services();
        self.postgres_links.iter().filter(|(process, _)| services.contains(process)).map(|(_, proxy)| proxy.swallowed()).sum()
    }

    /// The relay that holds the outbox of a database; the first one where that can't be found out.
    pub(crate) async fn relay_of(&self, database: &str) -> &'static str {
        let owner = async {
            let row = open(&self.superuser(database)).await?.query_one(include_str!("sql/lease_owner.sql"), &[]).await?;
            anyhow::Ok(row.try_get::<_, Option<String>>("owner")?.unwrap_or_default())
        };
        let Ok(Ok(owner)) = tokio::time::timeout(HOLDER_LIMIT, owner).await else { return RELAYS[0] };
        let is_holder = |relay: &&&str| {
            let service = self.platform.service(relay).ok();
            service.and_then(|service| logs::instance(service.log())).is_some_and(|instance| instance == owner)
        };
        RELAYS.iter().find(is_holder).copied().unwrap_or(RELAYS[0])
    }

    /// How often the leases of the outboxes were taken from one relay by another, or by its next life.
    pub(crate) async fn takeovers(&self) -> Result<u64> {
        let mut takeovers = 0;
        for database in OUTBOXES {
            let row = open(&self.superuser(database)).await?.query_one(include_str!("sql/takeovers.sql"), &[]).await?;
            // The first one was no take-over.
            takeovers += u64::try_from(row.try_get::<_, i64>("epoch")?)?.saturating_sub(1);
        }
        Ok(takeovers)
    }

    /// Every move of the outboxes' cursors.
    pub(crate) async fn cursor_moves(&self) -> Result<Vec<CursorMove>> {
        let mut moves = Vec::new();
        for database in OUTBOXES {
            let rows = open(&self.superuser(database)).await?.query(include_str!("sql/cursor_moves.sql"), &[]).await?;
            for row in rows {
                moves.push(CursorMove {
                    outbox: database.to_owned(),
                    number: row.try_get("number")?,
                    session: row.try_get("session")?,
                    epoch: row.try_get("epoch")?,
                    by_holder: row.try_get("by_holder")?,
                    done: row.try_get("s1")?,
                    done_xmax: row.try_get("s1_xmax")?,
                    batch: row.try_get("s2")?,
                    acked_seq: row.try_get("acked_seq")?,
                });
            }
        }
        Ok(moves)
    }

    /// Starts what has ended by itself, and says what it was.
    pub(crate) fn pick_up(&mut self) -> Result<Option<String>> {
        let Some(fallen) = self.platform.fallen()? else { return Ok(None) };
        let name =
            self.processes().iter().copied().find(|name| fallen.starts_with(&format!("{name} ended"))).context("a process of ours")?;
        self.platform.kill(name)?;
        self.platform.begin_life(name, &[])?;
        Ok(Some(fallen))
    }

    /// Lets every network be, and waits until every server and every process works; says how long each took where that is not at once.
    pub(crate) async fn heal(&mut self, say: impl Fn(&str)) -> Result<()> {
        let began = Instant::now();
        let tell = |what: &str| say(&format!("  {what} works again {:.1} s after the last fault", began.elapsed().as_secs_f64()));
        for proxy in self.postgres_links.values_mut().chain(&mut self.broker_links) {
            calm(proxy).await?;
        }
        self.servers.wait_ready(Server::Postgres).await?;
        tell("PostgreSQL");
        self.servers.wait_ready(Server::Kafka).await?;
        tell("Kafka");
        for process in self.processes() {
            self.platform.wait_ready(process).await?;
            tell(process);
        }
        Ok(())
    }
}

impl Undo {
    /// Undoes the fault, and gives what was found out by that, for people; may be empty.
    pub(crate) async fn end(self, stage: &mut Stage) -> Result<String> {
        match self {
            Self::StartProcess(name) => stage.platform.begin_life(name, &[])?,
            Self::ThawProcess(name) => stage.platform.thaw(name)?,
            Self::StartServer(server) => stage.servers.relaunch(server)?,
            Self::ThawBrokers(numbers) => numbers.into_iter().try_for_each(|number| stage.servers.thaw(Server::Broker(number)))?,
            Self::OpenBrokers => {
                for proxy in &mut stage.broker_links {
                    proxy.open().await?;
                }
            }
            Self::Calm(link) => calm(stage.proxy(link)?).await?,
            Self::CutAgain(link, per_thousand) => return Ok(format!("and {}", stage.proxy(link)?.cut(per_thousand))),
            Self::CountSwallowed(link, before) => {
                let proxy = stage.proxy(link)?;
                let began = Instant::now();
                while proxy.swallowed() == before && began.elapsed() < COMMIT_LIMIT {
                    tokio::time::sleep(LOOK_PAUSE).await;
                }
                proxy.swallow_nothing();
                return Ok(format!("{} lost", proxy.swallowed() - before));
            }
            Self::Nothing => {}
            Self::TakeRows(trigger) => trigger.take_away().await?,
            Self::EndTransactions(sessions, ending) => transactions::end(sessions, ending).await?,
        }
        Ok(String::new())
    }
}

/// The second instances that there are.
fn seconds(instances: Instances) -> impl Iterator<Item = Second> {
    let services = if instances == Instances::Two { &SECOND_SERVICES[..] } else { &[] };
    std::iter::once(PROJECTOR).chain(services.iter().copied())
}

async fn calm(proxy: &mut Proxy) -> Result<()> {
    proxy.delay(None);
    proxy.hold(idempo_devstack::Held::Nothing);
    proxy.swallow_nothing();
    proxy.open().await
}

/// A session of the superuser's, for a statement or two.
async fn open(config: &Config) -> Result<Client> {
    let (client, connection) = idempo_pg::connect(config).await?;
    tokio::spawn(connection);
    Ok(client)
}
