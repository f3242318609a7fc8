//! Apache Kafka's own brokers: one that is its own controller, or three that are a quorum.

mod properties;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use idempo_kafka::{Copies, TopicSpec, ensure_topics, topic_specs};
use rustix::process::Signal;

use self::properties::{NodePorts, properties};
use super::{Options, Started, program, ready};
use crate::home::{Home, Keep};
use crate::ports::Ports;
use crate::process::{Launch, Process};

/// How long formatting its folder may take.
const FORMAT_LIMIT: Duration = Duration::from_secs(60);
/// How long the brokers may take to be ready: seconds on a quiet machine, and more than a minute beside builds.
const READY_LIMIT: Duration = Duration::from_secs(180);
/// How long they may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// The port in `up`, and the controller's after it; the next broker's two follow.
const FIXED_PORT: u16 = 54_392;
/// The identity of a local cluster: 16 bytes in base64url, the same each time, so that a kept folder fits.
const CLUSTER_ID: &str = "aWRlbXBvLWxvY2FsLTAwMQ";
/// Memory for the heap of one broker, and of one of three.
const HEAP_ALONE: &[&str] = &["-Xms256m", "-Xmx512m"];
const HEAP_OF_THREE: &[&str] = &["-Xms128m", "-Xmx256m"];
/// Brokers here live for minutes, on a small machine that they share: the optimising compiler alone would take a quarter of a core of it all that time.
const FRUGAL: [&str; 2] = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"];

/// What a broker writes to its log.
const LOGGING: &str = "status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %c %m%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
";

/// How many brokers there are, and how clients reach them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Brokers {
    /// One, which clients reach directly.
    #[default]
    One,
    /// One, which clients reach through a proxy; see [`crate::Servers::broker_proxies`].
    OneBehindProxy,
    /// Three with three copies of every topic, which clients reach through a proxy each.
    ThreeBehindProxies,
}

impl Brokers {
    const fn count(self) -> u16 {
        match self {
            Self::One | Self::OneBehindProxy => 1,
            Self::ThreeBehindProxies => 3,
        }
    }

    const fn copies(self) -> Copies {
        match self {
            Self::One | Self::OneBehindProxy => Copies::Local,
            Self::ThreeBehindProxies => Copies::Production,
        }
    }

    /// The relay's setting that says the same.
    pub(crate) const fn copies_setting(self) -> &'static str {
        match self.copies() {
            Copies::Production => "production",
            Copies::Local => "local",
        }
    }
}

/// A proxy that a broker expects its clients to come through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerProxy {
    /// Where the broker tells clients to connect to: the proxy has to listen there.
    pub listen: SocketAddr,
    /// Where the proxy finds the broker, `host:port`.
    pub broker: String,
}

/// The brokers, by their number from 1. Where they are not ours, there is none.
#[derive(Debug)]
pub(super) struct Cluster {
    /// How our own tools reach them.
    pub(super) address: String,
    pub(super) nodes: Vec<Started>,
    pub(super) proxies: Vec<BrokerProxy>,
}

/// What all brokers are run with.
struct Toolbox<'a> {
    home: &'a Home,
    java: PathBuf,
    libraries: PathBuf,
    logging: PathBuf,
    heap: &'static [&'static str],
}

pub(super) async fn start(options: &Options, home: Option<&Home>, given: Option<String>) -> Result<Cluster> {
    if let Some(brokers) = given {
        options.progress.tell("Kafka: using the brokers of KAFKA_BROKERS");
        return Ok(Cluster { address: brokers, nodes: Vec::new(), proxies: Vec::new() });
    }
    let home = home.context("our own broker needs a folder")?;
    let began = Instant::now();
    let toolbox = Toolbox::open(options, home)?;
    let ports = (0..options.brokers.count()).map(|index| pick(options, index)).collect::<Result<Vec<_>>>()?;
    let nodes = (1..).zip(&ports).map(|(number, own)| toolbox.prepare(number, own, &ports));
    let nodes = futures_util::future::try_join_all(nodes).await?;
    let addresses: Vec<&str> = nodes.iter().map(|node| node.address.as_str()).collect();
    let proxies = ports.iter().filter_map(|ports| {
        let (listen, broker) = ports.proxied?;
        Some(BrokerProxy { listen: (Ipv4Addr::LOCALHOST, listen).into(), broker: format!("127.0.0.1:{broker}") })
    });
    let mut cluster = Cluster { address: addresses.join(","), proxies: proxies.collect(), nodes };
    cluster.launch()?;
    cluster.ready(options.brokers).await?;
    let (noun, verb) = if ports.len() == 1 { ("Kafka", "is") } else { ("Kafka's brokers", "are") };
    options.progress.tell(&format!("{noun} {verb} ready at {} ({:.1} s)", cluster.address, began.elapsed().as_secs_f64()));
    Ok(cluster)
}

fn pick(options: &Options, index: u16) -> Result<NodePorts> {
    let fixed = FIXED_PORT + 2 * index;
    let proxied = match options.brokers {
        Brokers::One => None,
        Brokers::OneBehindProxy | Brokers::ThreeBehindProxies => Some((Ports::Free.pick(0)?, Ports::Free.pick(0)?)),
    };
    Ok(NodePorts { clients: options.ports.pick(fixed)?, controller: options.ports.pick(fixed + 1)?, proxied })
}

impl Cluster {
    /// Starts every broker that does not run.
    pub(super) fn launch(&mut self) -> Result<()> {
        self.nodes.iter_mut().filter(|node| node.process.is_none()).try_for_each(Started::launch)
    }

    /// Waits until all of them work.
    pub(super) async fn ready(&mut self, brokers: Brokers) -> Result<()> {
        for node in &mut self.nodes {
            let address = node.address.clone();
            ready(node.running()?, "Kafka", READY_LIMIT, async || answers(&address).await).await?;
        }
        // A topic is made by the controller and shown by the brokers, so when that works, all do.
        let (config, probe) = (client(&self.address), topics(brokers).into_iter().take(1).collect::<Vec<_>>());
        let first = self.nodes.first_mut().context("there is a broker")?;
        ready(first.running()?, "Kafka", READY_LIMIT, async || ensure_topics(&config, &probe).await.is_ok()).await
    }

    /// Waits until one of them takes connections.
    pub(super) async fn node_ready(&mut self, number: u8) -> Result<()> {
        let node = self.node(number)?;
        let address = node.address.clone();
        ready(node.running()?, "Kafka", READY_LIMIT, async || answers(&address).await).await
    }

    /// Kills every broker that runs.
    pub(super) fn kill(&mut self) -> Result<()> {
        anyhow::ensure!(self.nodes.iter().any(|node| node.process.is_some()), "no broker of ours is running");
        self.nodes.iter_mut().filter_map(|node| node.process.take()).try_for_each(|mut process| process.kill().map(|_| ()))
    }

    pub(super) fn node(&mut self, number: u8) -> Result<&mut Started> {
        let index = usize::from(number).checked_sub(1).context("brokers are numbered from 1")?;
        self.nodes.get_mut(index).with_context(|| format!("there is no broker {number} of ours"))
    }

    pub(super) async fn stop(&mut self, keep: Keep) -> Result<()> {
        let mut processes: Vec<Process> = self.nodes.iter_mut().filter_map(|node| node.process.take()).collect();
        if keep == Keep::Nothing {
            return processes.iter_mut().try_for_each(|process| process.kill().map(|_| ()));
        }
        let stopping = processes.iter_mut().map(|process| process.stop(Signal::TERM, STOP_LIMIT));
        futures_util::future::try_join_all(stopping).await.map(|_| ())
    }
}

impl<'a> Toolbox<'a> {
    fn open(options: &Options, home: &'a Home) -> Result<Self> {
        let folder = home.folder("kafka")?;
        let logging = folder.join("log4j2.properties");
        fs::write(&logging, LOGGING).context("writing Kafka's log configuration")?;
        let heap = if options.brokers.count() == 1 { HEAP_ALONE } else { HEAP_OF_THREE };
        Ok(Self { home, java: java()?, libraries: libraries(&options.root, home)?, logging, heap })
    }

    /// Prepares the folder of one broker.
    async fn prepare(&self, number: u8, own: &NodePorts, all: &[NodePorts]) -> Result<Started> {
        let folder = self.home.folder(&if all.len() == 1 { "kafka".to_owned() } else { format!("kafka-{number}") })?;
        let file = folder.join("server.properties");
        fs::write(&file, properties(&folder, number, own, all)).context("writing Kafka's configuration")?;
        if !folder.join("data/meta.properties").exists() {
            let format = self.launch("Kafka's StorageTool", &folder, &["-XX:TieredStopAtLevel=1"], "kafka.tools.StorageTool");
            format.arguments(["format", "-t", CLUSTER_ID, "-c"]).arguments([&file]).run(FORMAT_LIMIT).await?;
        }
        let launch = self.launch("Kafka", &folder, self.heap, "kafka.Kafka").arguments([&file]);
        Ok(Started { address: format!("127.0.0.1:{}", own.clients), launch: Some(launch), process: None })
    }

    fn launch(&self, name: &str, folder: &Path, heap: &[&str], class: &str) -> Launch {
        let launch = Launch { log: Some(folder.join("kafka.log")), user: self.home.user.clone(), ..Launch::new(name, &self.java, folder) };
        launch
            .arguments(heap)
            .arguments(FRUGAL)
            .arguments(["-Djava.awt.headless=true", "-XX:+PerfDisableSharedMem"])
            .arguments([format!("-Dlog4j2.configurationFile={}", self.logging.display())])
            .arguments(["-cp".to_owned(), format!("{}/*", self.libraries.display()), class.to_owned()])
    }
}

/// The platform's topics, with as many copies as there are brokers for.
pub(super) fn topics(brokers: Brokers) -> Vec<TopicSpec> {
    topic_specs(idempo_schemas::topics(), brokers.copies(), "")
}

/// How our own tools reach the brokers.
pub(super) fn client(brokers: &str) -> idempo_kafka::Config {
    idempo_kafka::Config { brokers: brokers.to_owned(), client_id: "idempo-devstack".to_owned(), ..idempo_kafka::Config::default() }
}

/// Whether someone takes connections there: cheaper to ask than to let a client knock at a closed door.
async fn answers(address: &str) -> bool {
    tokio::net::TcpStream::connect(address).await.is_ok()
}

fn java() -> Result<PathBuf> {
    let home = std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin"));
    program(
        "java",
        &home.into_iter().collect::<Vec<_>>(),
        "`cargo xtask setup` installs the package default-jre-headless, or set KAFKA_BROKERS",
    )
}

/// Kafka's jars, where the servers' user can read them.
fn libraries(root: &Path, home: &Home) -> Result<PathBuf> {
    let fetched = root.join("kafka/libs");
    let jars = fs::read_dir(&fetched).with_context(|| {
        format!("Kafka's jars are not in {}: `cargo xtask setup` fetches them, or set KAFKA_BROKERS", fetched.display())
    })?;
    let fetched = fs::canonicalize(&fetched)?;
    let jars: Vec<PathBuf> = jars.map(|entry| entry.map(|entry| fetched.join(entry.file_name()))).collect::<Result<_, _>>()?;
    if jars.iter().all(|jar| home.reaches(jar)) {
        return Ok(fetched);
    }
    let copied = home.folder("kafka-libs")?;
    for jar in &jars {
        let copy = copied.join(jar.file_name().context("a jar without a name")?);
        fs::copy(jar, &copy).with_context(|| format!("copying {}", jar.display()))?;
        home.give(&copy)?;
    }
    Ok(copied)
}
