//! Processes of the service, and dead letters for them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use idempo_dead_letter::{DeadLetter, DeadLetterId, Disposition, Original, Stage as FailedIn};
use idempo_devstack::testing::{self, Signal, TestDatabase};
use idempo_kafka::{Config, Delivery, Producer, ProducerConfig, SendError, TopicSpec, Verbatim, ensure_topics};
use idempo_proto::ops::v1::dead_letter_service_client::DeadLetterServiceClient;
use idempo_proto::ops::v1::{
    ApplyJobRequest, DeadLetter as Letter, DeadLetterAuditEntry, DeadLetterFilter, DeadLetterJob, GetJobRequest, JobState,
    ListDeadLetterAuditEntriesRequest, ListDeadLettersRequest, PlanJobRequest,
};
use jiff::{SignedDuration, Timestamp};
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::fake::{Fake, SERVICE_TOKEN};

/// A record's key, value and headers.
pub(crate) type RawRecord = (Option<Bytes>, Option<Bytes>, Vec<(String, Option<Bytes>)>);
pub(crate) type Client = DeadLetterServiceClient<Channel>;

/// The longest that anything here is waited for.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// The consumer group of the dead letters of these tests.
pub(crate) const GROUP: &str = "idempo.inventory.g1";
/// The partitions of the dead-letter topic of these tests.
pub(crate) const PARTITIONS: i32 = 3;

/// A database, a dead-letter topic, and a consumer.
pub(crate) struct Stage {
    pub(crate) database: TestDatabase,
    pub(crate) fake: Fake,
    prefix: String,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        let stage = Self { database: testing::database("ops_db").await, fake: Fake::start().await, prefix: testing::topic_prefix() };
        let spec = TopicSpec { name: stage.dlq(), partitions: PARTITIONS, retention_hours: 1, replication: 1, min_insync: 1 };
        ensure_topics(&kafka(), &[spec]).await.expect("the topic can be made");
        stage
    }

    /// The topic of the failed records.
    pub(crate) fn topic(&self) -> String {
        format!("{}economy-events", self.prefix)
    }

    pub(crate) fn dlq(&self) -> String {
        format!("{}.dlq", self.topic())
    }

    /// A session of the superuser, who may write raw rows.
    pub(crate) async fn session(&self) -> Session {
        let config = idempo_pg::Config { statement_timeout_ms: 60_000, ..self.database.superuser() };
        let (client, connection) = idempo_pg::connect(&config).await.expect("the database is there");
        let driver = AbortOnDropHandle::new(tokio::spawn(async move { connection.await.unwrap_or_default() }));
        Session { client, _driver: driver }
    }

    /// A process of the service, that kills itself at a point where one is given. It asks nobody what became of open dead letters.
    pub(crate) fn start(&self, kill_at: Option<&str>) -> Process {
        self.start_with(kill_at, &format!("consumer_token = \"{SERVICE_TOKEN}\"\nconsumer_check_interval_ms = 0"))
    }

    /// A process that asks its consumer often what became of open dead letters.
    pub(crate) fn start_asking(&self) -> Process {
        self.start_with(None, &format!("consumer_token = \"{SERVICE_TOKEN}\"\nconsumer_check_interval_ms = 100"))
    }

    /// A process with such settings.
    pub(crate) fn start_with(&self, kill_at: Option<&str>, settings: &str) -> Process {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let file = std::env::temp_dir().join(format!("idempo-dlq-admin-test-{}-{number}", std::process::id()));
        let url = testing::cluster().role_url(self.database.name(), "idempo_dlq_admin");
        let toml = format!(
            "job_lease_ms = 1000\n{settings}\n\
             consumers = [{{group_prefix = \"idempo.inventory\", endpoint = \"http://{fake}\"}}]\n\
             [operators]\nopen = true\n[platform]\nadmin_listen = \"127.0.0.1:0\"\n[platform.log]\nformat = \"json\"\n[kafka]\nbrokers = \"{brokers}\"\n\
             [consumer]\ngroup_id = \"{dlq}\"\ntopics = [\"{dlq}\"]\nsession_timeout_ms = 6000\n[topics]\ncopies = \"local\"\nprefix = \"{prefix}\"\n\
             [database]\nurl = \"{url}\"\n",
            fake = self.fake.address,
            brokers = testing::kafka_brokers(),
            dlq = self.dlq(),
            prefix = self.prefix,
        );
        std::fs::write(file.with_extension("toml"), toml).expect("the configuration can be written");
        let log = std::fs::File::create(file.with_extension("log")).expect("the log can be made");
        let mut command = Command::new(env!("CARGO_BIN_EXE_idempo-dlq-admin"));
        command.arg("--config").arg(file.with_extension("toml")).env_remove("DATABASE_URL").stdin(Stdio::null());
        command.envs(kill_at.map(|point| ("IDEMPO_KILL_AT", point)));
        let child = command.stdout(log.try_clone().expect("a second handle")).stderr(log).spawn().expect("it can be started");
        Process { child, file }
    }

    /// Writes dead letters to the topic; waits until they are there.
    pub(crate) async fn produce(&self, letters: &[DeadLetter]) {
        let records: Vec<_> =
            letters.iter().map(|letter| (letter.original.key.clone(), letter.original.value.clone(), letter.headers())).collect();
        self.produce_raw(&records).await;
    }

    pub(crate) async fn produce_raw(&self, records: &[RawRecord]) {
        let (sender, mut deliveries) = tokio::sync::mpsc::unbounded_channel();
        // Nobody listens any more when the test is over.
        let on_delivery = move |_, delivery| drop(sender.send(delivery));
        let producer = Producer::start(&kafka(), &ProducerConfig::default(), on_delivery).expect("a producer");
        for (number, (key, value, headers)) in records.iter().enumerate() {
            let headers: Vec<(&str, Option<&[u8]>)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
            let partition = key.as_deref().map_or(0, |key| idempo_kafka::partition_of(key, PARTITIONS));
            let (key, value) = (key.as_deref(), value.as_deref());
            let record = Verbatim { topic: &self.dlq(), partition, key, value, headers: &headers };
            while let Err(error) = producer.send_verbatim(&record, number) {
                assert!(matches!(error, SendError::Full), "{error:?}");
                tokio::task::yield_now().await;
            }
        }
        for _ in records {
            let delivery = deliveries.recv().await.expect("a delivery");
            assert!(matches!(delivery, Delivery::Acknowledged { .. }), "{delivery:?}");
        }
    }

    /// Writes open dead letters straight into the database, of four kinds of error in turn, and gives them to the consumer.
    pub(crate) async fn fill(&self, session: &Session, count: i64) {
        let sql = "WITH letters AS (
                SELECT jsonb_agg(jsonb_build_object(
                    'consumer_group', $1::text, 'topic', $2::text, 'partition', n % 12, 'record_offset', n, 'state', 'open',
                    'code', (ARRAY['UNDECODABLE', 'UNKNOWN_TYPE', 'ROWS_REFUSED', 'VERSION_GAP'])[1 + n % 4],
                    'event_type', (ARRAY['', 'field_317', 'item_sent', 'item_granted'])[1 + n % 4],
                    'disposition', 'poison_domain', 'reason', 'a reason', 'stage', 'apply', 'first_code', 'X', 'first_reason', 'first',
                    'attempts', 3, 'replay_count', 0, 'key_text', 'key ' || n, 'key', encode(convert_to('key ' || n, 'UTF8'), 'base64'),
                    'value', encode(decode(repeat('ab', 200), 'hex'), 'base64'), 'header_keys', '[]'::jsonb, 'header_values', '[]'::jsonb,
                    'recorded_at', now(), 'first_failed_at', now() - n * interval '1 millisecond', 'last_failed_at', now(),
                    'app_version', '0.1.0', 'traceparent', '')) AS part
                FROM generate_series(1, $3::bigint) AS n GROUP BY n / 5000
            ) SELECT sum(ops.put_letters(part))::bigint FROM letters";
        let row = session.client.query_one(sql, &[&GROUP, &self.topic(), &count]).await.expect("they are written");
        assert_eq!(row.get::<_, i64>(0), count);
        session.client.batch_execute("VACUUM ANALYZE ops.dead_letter").await.expect("vacuumed");
        self.fake.holds((1..=count).map(|n| self.name(n)), 0);
    }

    /// The name of the n-th of [`Self::fill`].
    pub(crate) fn name(&self, n: i64) -> String {
        format!("deadLetters/{GROUP}.{}.{}.{n}", self.topic(), n % 12)
    }

    /// A dead letter of a key.
    pub(crate) fn letter(&self, offset: i64, key: &str, value: Option<&[u8]>) -> DeadLetter {
        let at = Timestamp::from_second(1_760_000_000).expect("a time");
        DeadLetter {
            id: DeadLetterId { group: GROUP.to_owned(), topic: self.topic(), partition: 3, offset },
            original: Original {
                key: Some(Bytes::copy_from_slice(key.as_bytes())),
                value: value.map(Bytes::copy_from_slice),
                headers: vec![("traceparent".to_owned(), Some(Bytes::from_static(b"00-x")))],
            },
            timestamp: Some(at),
            stage: FailedIn::Decode,
            code: "UNDECODABLE".to_owned(),
            message: "no event".to_owned(),
            trace: String::new(),
            attempts: 3,
            first_failed_at: at,
            last_failed_at: at + SignedDuration::from_secs(1),
            disposition: Disposition::PoisonDecode,
            replay_count: 0,
            app_version: "0.1.0".to_owned(),
        }
    }
}

/// A connection with its driver.
pub(crate) struct Session {
    pub(crate) client: tokio_postgres::Client,
    _driver: AbortOnDropHandle<()>,
}

impl Session {
    pub(crate) async fn count(&self, sql: &str) -> i64 {
        self.client.query_one(sql, &[]).await.expect("an answer").get(0)
    }
}

pub(crate) fn kafka() -> Config {
    Config { brokers: testing::kafka_brokers(), ..Config::default() }
}

/// A process of the service. It is killed with this value.
pub(crate) struct Process {
    child: Child,
    file: PathBuf,
}

impl Process {
    pub(crate) fn signal(&self, signal: Signal) {
        testing::signal(&self.child, signal);
    }

    /// Waits for its end and gives its exit code.
    pub(crate) async fn ended(&mut self) -> Option<i32> {
        testing::eventually(LIMIT, "the process ends", async || self.child.try_wait().is_ok_and(|status| status.is_some())).await;
        self.child.wait().ok().and_then(|status| status.code())
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.file.with_extension("log")).unwrap_or_default()
    }

    fn listener(&self, name: &str) -> Option<SocketAddr> {
        let log = self.log();
        let name = format!("\"name\":\"{name}\"");
        let line = log.lines().find(|line| line.contains("\"listening\"") && line.contains(&name))?;
        line.split_once("\"address\":\"")?.1.split('"').next()?.parse().ok()
    }

    pub(crate) async fn client(&self) -> Client {
        testing::eventually(LIMIT, "the process serves gRPC", async || self.listener("grpc").is_some()).await;
        let address = self.listener("grpc").expect("an address");
        Client::connect(format!("http://{address}")).await.expect("a connection").max_decoding_message_size(64 << 20)
    }

    /// Asks the admin listener; gives the whole answer.
    pub(crate) fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.listener("admin")?).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: dlq\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    pub(crate) async fn ready(&self) {
        let is_ready = || self.get("/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 200"));
        testing::eventually(LIMIT, "the process is ready", async || is_ready()).await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            // Shown with the test's own output, which is of no use without it.
            let _ = writeln!(std::io::stderr(), "{}", self.log());
        }
        let _ = std::fs::remove_file(self.file.with_extension("toml"));
        let _ = std::fs::remove_file(self.file.with_extension("log"));
    }
}

/// A request in an operator's name.
pub(crate) fn by_operator<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("idempo-caller", "operator".parse().expect("ASCII"));
    request
}

/// All dead letters that fit, page by page.
pub(crate) async fn list(client: &mut Client, filter: DeadLetterFilter, page_size: i32) -> Vec<Letter> {
    let mut request = ListDeadLettersRequest { page_size, filter: Some(filter), ..Default::default() };
    let mut letters = Vec::new();
    loop {
        let page = client.list_dead_letters(request.clone()).await.expect("an answer").into_inner();
        letters.extend(page.dead_letters);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return letters;
        }
    }
}

pub(crate) async fn plan_all(client: &mut Client) -> DeadLetterJob {
    let filter = Some(DeadLetterFilter { consumer_group: GROUP.to_owned(), ..Default::default() });
    let request = PlanJobRequest { filter, reason: "a test".to_owned(), ..Default::default() };
    client.plan_job(by_operator(request)).await.expect("planned").into_inner().job.expect("a job")
}

pub(crate) async fn plan_names(client: &mut Client, names: Vec<String>) -> DeadLetterJob {
    let request = PlanJobRequest { names, reason: "a test".to_owned(), ..Default::default() };
    client.plan_job(by_operator(request)).await.expect("planned").into_inner().job.expect("a job")
}

pub(crate) fn apply_of(job: &DeadLetterJob) -> ApplyJobRequest {
    ApplyJobRequest { name: job.name.clone(), reason: "a test".to_owned(), ..Default::default() }
}

pub(crate) async fn apply(client: &mut Client, job: &DeadLetterJob) -> Result<DeadLetterJob, Status> {
    Ok(client.apply_job(by_operator(apply_of(job))).await?.into_inner().job.expect("a job"))
}

pub(crate) async fn job(client: &mut Client, name: &str) -> DeadLetterJob {
    client.get_job(GetJobRequest { name: name.to_owned() }).await.expect("an answer").into_inner().job.expect("a job")
}

/// Waits until a job is in this state, and gives it.
pub(crate) async fn comes_to(client: &mut Client, name: &str, state: JobState) -> DeadLetterJob {
    let found = std::cell::RefCell::new(client.clone());
    testing::eventually(LIMIT, &format!("{name} is {}", state.as_str_name()), async || {
        let mut client = found.borrow().clone();
        job(&mut client, name).await.state() == state
    })
    .await;
    job(client, name).await
}

pub(crate) async fn audit(client: &mut Client) -> Vec<DeadLetterAuditEntry> {
    let request = ListDeadLetterAuditEntriesRequest { page_size: 1_000, ..Default::default() };
    let mut entries = client.list_dead_letter_audit_entries(request).await.expect("an answer").into_inner().audit_entries;
    entries.reverse();
    entries
}
