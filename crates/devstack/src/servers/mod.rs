//! PostgreSQL, Kafka and Redis: our own as child processes, or those that the environment names.

mod kafka;
mod postgres;
mod redis;

use std::env;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;

use crate::cluster::Cluster;
use crate::home::{Home, Keep, remove_stale};
use crate::ports::Ports;
use crate::process::{Launch, Process};
use crate::progress::Progress;

pub use kafka::{BrokerProxy, Brokers};

/// The pause between two looks at whether a server is ready, in milliseconds.
const READY_PAUSE_MS: u64 = 20;

/// What the folder of a process's operators is called; the number of the process follows.
const OPERATORS_PREFIX: &str = "operators-";

/// What becomes of `DATABASE_URL`, `KAFKA_BROKERS` and `REDIS_URL`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// The servers that they name are used.
    Used,
    /// All servers are our own.
    Ignored,
}

/// A server that can fail on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// PostgreSQL.
    Postgres,
    /// Kafka: every broker.
    Kafka,
    /// One of Kafka's brokers, by its number from 1.
    Broker(u8),
}

/// How the servers are run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder for everything; see [`default_root`].
    pub root: PathBuf,
    /// Which ports are used.
    pub ports: Ports,
    /// Whether what the servers wrote is there the next time.
    pub keep: Keep,
    /// Whether servers that the environment names are used.
    pub given: Given,
    /// How many brokers there are, and how clients reach them.
    pub brokers: Brokers,
    /// Who is told what happens.
    pub progress: Progress,
}

impl Options {
    /// For tests and the demo: free ports, and nothing is kept.
    #[must_use]
    pub fn throwaway(progress: Progress) -> Self {
        Self { root: default_root(), ports: Ports::Free, keep: Keep::Nothing, given: Given::Used, brokers: Brokers::One, progress }
    }

    /// For tests that make servers fail: free ports, nothing is kept, and nobody else's servers are touched.
    #[must_use]
    pub fn isolated(progress: Progress) -> Self {
        Self { given: Given::Ignored, ..Self::throwaway(progress) }
    }

    /// For people who stay: fixed ports, and everything is kept.
    #[must_use]
    pub fn lasting(progress: Progress) -> Self {
        Self { root: default_root(), ports: Ports::Fixed, keep: Keep::Everything, given: Given::Used, brokers: Brokers::One, progress }
    }
}

/// `.idempo` in the workspace this was built in, or what `IDEMPO_HOME` says.
#[must_use]
pub fn default_root() -> PathBuf {
    env::var_os("IDEMPO_HOME").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.idempo"), PathBuf::from)
}

/// Running servers. Our own are killed, and what is not kept is deleted, when this is dropped; [`Servers::stop`] does it in order.
#[derive(Debug)]
pub struct Servers {
    // In the order they are stopped. They go before the folder they live in.
    redis: Started,
    kafka: kafka::Cluster,
    postgres: Started,
    home: Option<Home>,
    options: Options,
}

impl Servers {
    /// Starts what `DATABASE_URL`, `KAFKA_BROKERS` and `REDIS_URL` don't name (or all, as the options say) at once, and waits until each answers.
    ///
    /// # Errors
    /// When a program is missing, or a server is not ready in time; the message has the end of its log.
    pub async fn start(options: Options) -> Result<Self> {
        let given = |variable| env::var(variable).ok().filter(|value| !value.is_empty() && options.given == Given::Used);
        let (database_url, kafka_brokers, redis_url) = (given("DATABASE_URL"), given("KAFKA_BROKERS"), given("REDIS_URL"));
        let home = match (&database_url, &kafka_brokers, &redis_url) {
            (Some(_), Some(_), Some(_)) => None,
            _ => Some(Home::make(&options.root, options.keep)?),
        };
        let (postgres, kafka, redis) = tokio::try_join!(
            postgres::start(&options, home.as_ref(), database_url),
            kafka::start(&options, home.as_ref(), kafka_brokers),
            redis::start(&options, home.as_ref(), redis_url),
        )?;
        Ok(Self { redis, kafka, postgres, home, options })
    }

    /// The superuser's URL of the cluster's `postgres` database.
    #[must_use]
    pub fn database_url(&self) -> &str {
        &self.postgres.address
    }

    /// The cluster, as its superuser sees it.
    ///
    /// # Errors
    /// When `DATABASE_URL` is not a URL.
    pub fn cluster(&self) -> Result<Cluster> {
        Cluster::new(&self.postgres.address)
    }

    /// The brokers, `host:port[,host:port…]`.
    #[must_use]
    pub fn kafka_brokers(&self) -> &str {
        &self.kafka.address
    }

    /// The URL of Redis.
    #[must_use]
    pub fn redis_url(&self) -> &str {
        &self.redis.address
    }

    /// Where the brokers expect proxies, in the order of their numbers; empty where clients reach them directly.
    #[must_use]
    pub fn broker_proxies(&self) -> &[BrokerProxy] {
        &self.kafka.proxies
    }

    /// The process ids of our own servers, by name; empty where the environment names all of them.
    #[must_use]
    pub fn pids(&self) -> Vec<(&'static str, u32)> {
        let named = [("redis", &self.redis), ("postgres", &self.postgres)];
        let named = named.into_iter().chain(self.kafka.nodes.iter().map(|node| ("kafka", node)));
        named.filter_map(|(name, server)| server.process.as_ref().map(|process| (name, process.pid()))).collect()
    }

    /// Where our own servers write their logs, by a name for each.
    #[must_use]
    pub fn logs(&self) -> Vec<(String, &Path)> {
        let brokers = (1..).zip(&self.kafka.nodes).map(|(number, node): (u8, _)| (format!("broker-{number}"), node));
        let named = [("redis".to_owned(), &self.redis), ("postgres".to_owned(), &self.postgres)].into_iter().chain(brokers);
        named.filter_map(|(name, server)| Some((name, server.launch.as_ref()?.log.as_deref()?))).collect()
    }

    /// Ends one of our own servers as a failure would: PostgreSQL by an immediate shutdown, a broker by SIGKILL. Waits until it is gone.
    ///
    /// # Errors
    /// When it is not ours, or is not running.
    pub async fn crash(&mut self, server: Server) -> Result<()> {
        match server {
            Server::Postgres => {
                postgres::crash(self.postgres.running()?).await?;
                self.postgres.process = None;
            }
            Server::Kafka => self.kafka.kill()?,
            Server::Broker(number) => {
                let node = self.kafka.node(number)?;
                node.running()?.kill()?;
                node.process = None;
            }
        }
        Ok(())
    }

    /// Starts a server that was crashed, where it was and with what it had written, and waits until it answers.
    ///
    /// # Errors
    /// When it is not ours, is running, or is not ready in time.
    pub async fn start_again(&mut self, server: Server) -> Result<()> {
        self.relaunch(server)?;
        self.wait_ready(server).await
    }

    /// Starts a server that was crashed and does not wait; of Kafka, every broker that does not run.
    ///
    /// # Errors
    /// When it is not ours, or is running.
    pub fn relaunch(&mut self, server: Server) -> Result<()> {
        match server {
            Server::Postgres => self.postgres.launch(),
            Server::Kafka => self.kafka.launch(),
            Server::Broker(number) => self.kafka.node(number)?.launch(),
        }
    }

    /// Waits until a server of ours answers.
    ///
    /// # Errors
    /// When it is not running, ends, or is not ready in time.
    pub async fn wait_ready(&mut self, server: Server) -> Result<()> {
        match server {
            Server::Postgres => postgres::answers(&mut self.postgres).await,
            Server::Kafka => self.kafka.ready(self.options.brokers).await,
            Server::Broker(number) => self.kafka.node_ready(number).await,
        }
    }

    /// Stops a server of ours where it is, as a frozen machine would: of PostgreSQL, only the process that takes connections.
    ///
    /// # Errors
    /// When it is not ours, or is not running.
    pub fn freeze(&mut self, server: Server) -> Result<()> {
        self.signal(server, Signal::STOP)
    }

    /// Lets a frozen server go on.
    ///
    /// # Errors
    /// When it is not ours, or is not running.
    pub fn thaw(&mut self, server: Server) -> Result<()> {
        self.signal(server, Signal::CONT)
    }

    fn signal(&mut self, server: Server, signal: Signal) -> Result<()> {
        match server {
            Server::Postgres => self.postgres.running()?.signal(signal),
            Server::Kafka => self.kafka.nodes.iter_mut().try_for_each(|node| node.running()?.signal(signal)),
            Server::Broker(number) => self.kafka.node(number)?.running()?.signal(signal),
        }
    }

    /// The name of a server of ours that ended by itself, and the end of its log; `None` while all run that were not crashed on purpose.
    ///
    /// # Errors
    /// When a process can't be looked after.
    pub fn fallen(&mut self) -> Result<Option<String>> {
        for started in [&mut self.redis, &mut self.postgres].into_iter().chain(&mut self.kafka.nodes) {
            if let Some(process) = &mut started.process
                && let Some(status) = process.ended()?
            {
                return Ok(Some(format!("the server at {} ended ({status}){}", started.address, process.log_tail())));
            }
        }
        Ok(None)
    }

    /// Where the platform's processes write their logs.
    pub(crate) fn log_folder(&self) -> Result<PathBuf> {
        let folder = self.home.as_ref().map_or_else(|| self.options.root.join("logs"), |home| home.directory.join("logs"));
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(folder)
    }

    /// Where the operators of platforms that this process starts have their files. What killed processes have left there is removed.
    pub(crate) fn operators_folder(&self) -> PathBuf {
        let parent = self.home.as_ref().map_or(&self.options.root, |home| &home.directory);
        remove_stale(parent, OPERATORS_PREFIX);
        parent.join(format!("{OPERATORS_PREFIX}{}", std::process::id()))
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// Makes the roles, the databases with everything migrated, and the topics; what is there already stays.
    ///
    /// # Errors
    /// When a migration fails, or a topic is there with another number of partitions.
    pub async fn prepare(&self) -> Result<()> {
        let progress = &self.options.progress;
        let cluster = self.cluster()?;
        let databases = async {
            cluster.make_roles().await?;
            for database in idempo_schemas::databases() {
                cluster.make_database(database, database.name).await?;
            }
            anyhow::Ok(())
        };
        let topics = async {
            let config = kafka::client(&self.kafka.address);
            idempo_kafka::ensure_topics(&config, &kafka::topics(self.options.brokers)).await.context("making the topics")
        };
        tokio::try_join!(
            progress.timed("roles, databases and migrations are in place", databases),
            progress.timed("topics are in place", topics)
        )?;
        Ok(())
    }

    /// Stops our own servers, in order where what they wrote is kept.
    ///
    /// # Errors
    /// When a process can't be waited for.
    pub async fn stop(mut self) -> Result<()> {
        let keep = self.options.keep;
        let redis = redis::stop(self.redis.process.take(), keep);
        let kafka = self.kafka.stop(keep);
        let postgres = postgres::stop(self.postgres.process.take(), keep);
        tokio::try_join!(redis, kafka, postgres)?;
        Ok(())
    }
}

/// A server and how it is reached; without a process where it is not ours, or was crashed.
#[derive(Debug)]
struct Started {
    address: String,
    /// How it is run; `None` where it is not ours.
    launch: Option<Launch>,
    process: Option<Process>,
}

impl Started {
    fn given(address: String) -> Self {
        Self { address, launch: None, process: None }
    }

    fn own(address: String, launch: Launch, process: Process) -> Self {
        Self { address, launch: Some(launch), process: Some(process) }
    }

    /// Starts it, without waiting until it answers.
    fn launch(&mut self) -> Result<()> {
        anyhow::ensure!(self.process.is_none(), "the server at {} is running", self.address);
        let launch = self.launch.as_ref().with_context(|| format!("the server at {} is not ours", self.address))?;
        self.process = Some(launch.spawn()?);
        Ok(())
    }

    fn running(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("not a running server of ours")
    }
}

/// Asks again and again until `ready` says yes, the process ends, or `limit` is over.
async fn ready(process: &mut Process, name: &str, limit: Duration, mut ready: impl AsyncFnMut() -> bool) -> Result<()> {
    let began = Instant::now();
    loop {
        if ready().await {
            return Ok(());
        }
        if let Some(status) = process.ended()? {
            bail!("{name} ended while starting ({status}){}", process.log_tail());
        }
        if began.elapsed() > limit {
            bail!("{name} is not ready after {} s{}", limit.as_secs(), process.log_tail());
        }
        tokio::time::sleep(Duration::from_millis(READY_PAUSE_MS)).await;
    }
}

/// A program of this machine: from the search path, or one of `places`.
fn program(name: &str, places: &[PathBuf], hint: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut candidates = places.iter().cloned().chain(env::split_paths(&path)).map(|folder| folder.join(name));
    candidates.find(|candidate| candidate.is_file()).with_context(|| format!("{name} is not on this machine: {hint}"))
}
