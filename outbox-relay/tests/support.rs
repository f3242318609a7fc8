//! Relay processes, and what arrived in Kafka.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use idempo_devstack::testing::{self, Signal, TestDatabase};
use idempo_kafka::{
    Bounds, Config, Copies, LogReader, LogRecord, ReadLimit, Stretch, TopicPartition, Visibility, ensure_topics, topic_specs,
};
use idempo_proto::ops::v1::relay_service_client::RelayServiceClient;
use tokio_postgres::Client;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

/// A client of a relay's operations.
pub(crate) type Operations = RelayServiceClient<tonic::transport::Channel>;

/// The longest that anything here is waited for.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// The number of the topic that rows of these tests go to.
pub(crate) const TOPIC: i16 = 3;

/// A database with an outbox, and topics of its own.
pub(crate) struct Stage {
    pub(crate) database: TestDatabase,
    pub(crate) prefix: String,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        let stage = Self { database: testing::database("wallet_db").await, prefix: testing::topic_prefix() };
        let specs = topic_specs(idempo_schemas::topics(), Copies::Local, &stage.prefix);
        ensure_topics(&kafka(), &specs).await.expect("the topics can be made");
        stage
    }

    pub(crate) fn topic(&self) -> String {
        let topic = idempo_schemas::topics().by_number(TOPIC).expect("the topic exists");
        format!("{}{}", self.prefix, topic.name)
    }

    /// A session of the superuser, who may write raw rows.
    pub(crate) async fn session(&self) -> Session {
        let (client, connection) = idempo_pg::connect(&self.database.superuser()).await.expect("the database is there");
        let driver = AbortOnDropHandle::new(tokio::spawn(async move { connection.await.unwrap_or_default() }));
        // Some of these transactions stay open for long on purpose.
        client.batch_execute("SET idle_in_transaction_session_timeout = 0").await.expect("a setting");
        Session { client, _driver: driver }
    }

    pub(crate) fn relay(&self, name: &str) -> RelayBuilder<'_> {
        RelayBuilder { stage: self, name: name.to_owned(), brokers: testing::kafka_brokers(), extra: String::new(), exactly_once: "" }
    }

    /// Waits until the cursor says that everything is in Kafka.
    pub(crate) async fn relayed(&self, session: &Session) {
        testing::eventually(LIMIT * 2, "everything is relayed", async || self.backlog(session).await == 0).await;
    }

    /// Rows that the cursor does not have, 1,000 at most.
    pub(crate) async fn backlog(&self, session: &Session) -> i64 {
        session.client.query_one(include_str!("../src/sql/read_backlog.sql"), &[&1_000_i64]).await.expect("an answer").get(0)
    }

    /// Which relay holds the lease, and its epoch.
    pub(crate) async fn holder(&self, session: &Session) -> (Option<String>, i64) {
        let sql = "SELECT a.application_name, l.epoch FROM outbox.lease AS l
            LEFT JOIN pg_stat_activity AS a ON a.pid = l.backend_pid AND l.owner IS NOT NULL AND l.expires_at > clock_timestamp()";
        let row = session.client.query_one(sql, &[]).await.expect("an answer");
        (row.get(0), row.get(1))
    }

    /// Waits until the relay with this name holds the lease.
    pub(crate) async fn held_by(&self, session: &Session, name: &str) {
        let awaited = format!("{name} holds the lease");
        testing::eventually(LIMIT, &awaited, async || self.holder(session).await.0.as_deref() == Some(name)).await;
    }
}

/// A connection with its driver.
pub(crate) struct Session {
    pub(crate) client: Client,
    _driver: AbortOnDropHandle<()>,
}

pub(crate) fn kafka() -> Config {
    Config { brokers: testing::kafka_brokers(), ..Config::default() }
}

pub(crate) struct RelayBuilder<'a> {
    stage: &'a Stage,
    name: String,
    brokers: String,
    extra: String,
    exactly_once: &'static str,
}

impl RelayBuilder<'_> {
    pub(crate) fn brokers(mut self, brokers: &str) -> Self {
        self.brokers = brokers.to_owned();
        self
    }

    /// The rows of these tests go in transactions.
    pub(crate) fn exactly_once(mut self) -> Self {
        self.exactly_once = "exactly_once = [\"economy-events\"]";
        self
    }

    /// More TOML.
    pub(crate) fn with(mut self, toml: &str) -> Self {
        self.extra.push_str(toml);
        self.extra.push('\n');
        self
    }

    pub(crate) fn start(self) -> RelayProcess {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let file = std::env::temp_dir().join(format!("idempo-relay-test-{}-{number}", std::process::id()));
        let url = testing::cluster().role_url(self.stage.database.name(), "idempo_relay");
        let toml = format!(
            "{extra}\n[operators]\nopen = true\n[platform]\nadmin_listen = \"127.0.0.1:0\"\n[platform.log]\nformat = \"json\"\n[kafka]\nbrokers = \"{brokers}\"\n\
             [topics]\ncopies = \"local\"\nprefix = \"{prefix}\"\n{exactly_once}\n\
             [[outboxes]]\nname = \"test\"\n[outboxes.database]\nurl = \"{url}\"\napplication_name = \"{name}\"\n",
            extra = self.extra,
            exactly_once = self.exactly_once,
            brokers = self.brokers,
            prefix = self.stage.prefix,
            name = self.name,
        );
        std::fs::write(file.with_extension("toml"), toml).expect("the configuration can be written");
        let log = std::fs::File::create(file.with_extension("log")).expect("the log can be made");
        let child = Command::new(env!("CARGO_BIN_EXE_idempo-outbox-relay"))
            .arg("--config")
            .arg(file.with_extension("toml"))
            .env_remove("DATABASE_URL")
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .expect("the relay can be started");
        RelayProcess { child, file }
    }
}

/// A relay as a process of its own. It is killed with this value.
pub(crate) struct RelayProcess {
    child: Child,
    file: PathBuf,
}

impl RelayProcess {
    /// Kills it as kill -9 does, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }

    pub(crate) fn signal(&self, signal: Signal) {
        testing::signal(&self.child, signal);
    }

    /// Waits for its end and gives its exit code.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        testing::eventually(LIMIT, "the relay ends", async || self.child.try_wait().is_ok_and(|status| status.is_some())).await;
        self.child.wait().ok().and_then(|status| status.code())
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.file.with_extension("log")).unwrap_or_default()
    }

    /// The address of a listener, once it is logged.
    fn listener(&self, name: &str) -> Option<SocketAddr> {
        let log = self.log();
        let name = format!("\"name\":\"{name}\"");
        let line = log.lines().find(|line| line.contains("\"listening\"") && line.contains(&name))?;
        line.split_once("\"address\":\"")?.1.split('"').next()?.parse().ok()
    }

    /// A client of its operations.
    pub(crate) async fn operations(&self) -> Operations {
        testing::eventually(LIMIT, "the relay serves gRPC", async || self.listener("grpc").is_some()).await;
        let address = self.listener("grpc").expect("an address");
        RelayServiceClient::connect(format!("http://{address}")).await.expect("a connection")
    }

    /// Asks the admin listener; gives the whole answer.
    pub(crate) fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.listener("admin")?).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.get("/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    /// The value of a metric of the outbox, summed over its other labels.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let metrics = self.get("/metrics")?;
        let values: Vec<f64> = metrics
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('{') && rest.contains("domain=\"test\"")))
            .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
            .collect();
        if values.is_empty() { None } else { Some(values.iter().sum()) }
    }
}

impl Drop for RelayProcess {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            tracing::error!(log = self.log(), "the relay's log");
        } else {
            let _ = std::fs::remove_file(self.file.with_extension("toml"));
            let _ = std::fs::remove_file(self.file.with_extension("log"));
        }
    }
}

/// Everything in a topic that is committed, per partition in order: key and value.
pub(crate) async fn dump(topic: &str, partitions: i32) -> Vec<(Uuid, Vec<u8>)> {
    let reader = LogReader::new(&kafka(), Visibility::Committed).expect("a reader");
    let partitions: Vec<TopicPartition> = (0..partitions).map(|partition| TopicPartition::new(topic, partition)).collect();
    let bounds = reader.bounds(&partitions, LIMIT).await.expect("the broker answers");
    let stretches =
        partitions.into_iter().zip(bounds).map(|(partition, Bounds { start, end })| Stretch { partition, from: start, to: end });
    let limit = ReadLimit { records: usize::MAX, time: LIMIT };
    let keep = |all: &mut Vec<(Uuid, Vec<u8>)>, _, record: LogRecord<'_>| {
        let key = str::from_utf8(record.key).expect("text");
        all.push((Uuid::try_parse(key).expect("a UUID"), record.value.to_vec()));
    };
    let (all, end) = reader.read(stretches.collect(), limit, Vec::new(), keep).await.expect("the topic can be read");
    assert!(end.complete, "{end:?}");
    all
}

/// What arrived, held against what was committed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) committed: usize,
    pub(crate) arrived: usize,
    pub(crate) lost: usize,
    pub(crate) inverted: usize,
    pub(crate) duplicates: usize,
    /// Arrived, though never committed.
    pub(crate) ghosts: usize,
}

/// Checks that the first occurrence of each version of each key arrived, in order. A value is a version in decimal digits, padded.
pub(crate) async fn check(stage: &Stage, session: &Session) -> Report {
    let rows = session.client.query("SELECT stream_id, version FROM es.streams", &[]).await.expect("an answer");
    let committed: HashMap<Uuid, i64> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    let mut report =
        Report { committed: committed.values().filter_map(|version| usize::try_from(*version).ok()).sum(), ..Report::default() };
    let mut seen: HashMap<Uuid, Vec<bool>> = HashMap::new();
    let mut highest: HashMap<Uuid, i64> = HashMap::new();
    for (key, value) in dump(&stage.topic(), 12).await {
        report.arrived += 1;
        let version: i64 = str::from_utf8(&value).expect("text").trim().parse().expect("a version");
        let last = committed.get(&key).copied().unwrap_or(0);
        if version < 1 || version > last {
            report.ghosts += 1;
            continue;
        }
        let versions = seen.entry(key).or_insert_with(|| vec![false; usize::try_from(last).unwrap_or(0) + 1]);
        let Some(first) = usize::try_from(version).ok().and_then(|at| versions.get_mut(at)) else { continue };
        if *first {
            report.duplicates += 1;
            continue;
        }
        *first = true;
        let highest = highest.entry(key).or_insert(0);
        if version < *highest {
            report.inverted += 1;
        }
        *highest = (*highest).max(version);
    }
    let distinct: usize = seen.values().map(|versions| versions.iter().filter(|seen| **seen).count()).sum();
    report.lost = report.committed - distinct;
    report
}
