//! Apache Kafka's own broker, one node that is its own controller.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use idempo_kafka::{Copies, TopicSpec, ensure_topics, topic_specs};
use rustix::process::Signal;

use super::{Options, Started, program, ready};
use crate::home::{Home, Keep};
use crate::process::{Launch, Process};

/// How long formatting its folder may take.
const FORMAT_LIMIT: Duration = Duration::from_secs(60);
/// How long the broker may take to be ready.
const READY_LIMIT: Duration = Duration::from_secs(90);
/// How long it may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(20);
/// The port in `up`, and the controller's after it.
const FIXED_PORT: u16 = 54_392;
/// The identity of a local cluster: 16 bytes in base64url, the same each time, so that a kept folder fits.
const CLUSTER_ID: &str = "aWRlbXBvLWxvY2FsLTAwMQ";
/// Memory for its heap.
const HEAP: [&str; 2] = ["-Xms256m", "-Xmx512m"];

/// What it writes to its log.
const LOGGING: &str = "status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %c %m%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
";

pub(super) async fn start(options: &Options, home: Option<&Home>, given: Option<String>) -> Result<Started> {
    if let Some(brokers) = given {
        options.progress.tell("Kafka: using the brokers of KAFKA_BROKERS");
        return Ok(Started::given(brokers));
    }
    let home = home.context("our own broker needs a folder")?;
    let began = Instant::now();
    let java = java()?;
    let folder = home.folder("kafka")?;
    let libraries = libraries(&options.root, home)?;
    let port = options.ports.pick(FIXED_PORT)?;
    let controller = options.ports.pick(FIXED_PORT + 1)?;
    let (properties, logging) = (folder.join("server.properties"), folder.join("log4j2.properties"));
    fs::write(&properties, configuration(&folder, port, controller)).context("writing Kafka's configuration")?;
    fs::write(&logging, LOGGING).context("writing Kafka's log configuration")?;
    let launch = |name: &str, heap: &[&str], class: &str| {
        let launch = Launch { log: Some(folder.join("kafka.log")), user: home.user.clone(), ..Launch::new(name, &java, &folder) };
        launch
            .arguments(heap)
            .arguments(["-Djava.awt.headless=true", "-XX:+PerfDisableSharedMem"])
            .arguments([format!("-Dlog4j2.configurationFile={}", logging.display())])
            .arguments(["-cp".to_owned(), format!("{}/*", libraries.display()), class.to_owned()])
    };
    if !folder.join("data/meta.properties").exists() {
        let format = launch("Kafka's StorageTool", &["-XX:TieredStopAtLevel=1"], "kafka.tools.StorageTool");
        format.arguments(["format", "-t", CLUSTER_ID, "-c"]).arguments([&properties]).run(FORMAT_LIMIT).await?;
    }
    let launch = launch("Kafka", &HEAP, "kafka.Kafka").arguments([&properties]);
    let brokers = format!("127.0.0.1:{port}");
    let process = run(&launch, &brokers).await?;
    options.progress.tell(&format!("Kafka is ready on port {port} ({:.1} s)", began.elapsed().as_secs_f64()));
    Ok(Started::own(brokers, launch, process))
}

/// Starts the broker and waits until it works.
pub(super) async fn run(launch: &Launch, brokers: &str) -> Result<Process> {
    let config = client(brokers);
    // A topic is made by the controller and shown by the broker, so when that works, both do.
    let probe = topics().into_iter().take(1).collect::<Vec<_>>();
    let mut process = launch.spawn()?;
    ready(&mut process, "Kafka", READY_LIMIT, async || answers(brokers).await && ensure_topics(&config, &probe).await.is_ok()).await?;
    Ok(process)
}

pub(super) async fn stop(process: Option<Process>, keep: Keep) -> Result<()> {
    let Some(mut process) = process else { return Ok(()) };
    if keep == Keep::Nothing {
        return process.kill().map(|_| ());
    }
    process.stop(Signal::TERM, STOP_LIMIT).await.map(|_| ())
}

/// The platform's topics, as they are on one machine.
pub(super) fn topics() -> Vec<TopicSpec> {
    topic_specs(idempo_schemas::topics(), Copies::Local, "")
}

/// How our own tools reach the brokers.
pub(super) fn client(brokers: &str) -> idempo_kafka::Config {
    idempo_kafka::Config { brokers: brokers.to_owned(), client_id: "idempo-devstack".to_owned(), ..idempo_kafka::Config::default() }
}

/// Whether someone takes connections there: cheaper to ask than to let a client knock at a closed door.
async fn answers(address: &str) -> bool {
    tokio::net::TcpStream::connect(address).await.is_ok()
}

fn configuration(folder: &Path, port: u16, controller: u16) -> String {
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=16777216
",
        folder.join("data").display()
    )
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
