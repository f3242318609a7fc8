//! A projector on real servers, with the event store and the topic that it is fed from, written as the inventory service and the relay do.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use idempo_clock::SystemClock;
use idempo_devstack::testing::{self, TestDatabase, eventually};
use idempo_ids::Uuid;
use idempo_inventory_projector::{Config, InventoryProjection};
use idempo_kafka::{ConsumerConfig, Delivery, Outgoing, Producer, ProducerConfig, SendError, TopicSpec, ensure_topics, partition_of};
use idempo_pg::{Client, Pool};
use idempo_projection::Outline;
use idempo_proto::event::v1::EventEnvelope;
use idempo_proto::inventory::v1::ListItemsRequest;
use idempo_proto::inventory::v1::inventory_query_service_client::InventoryQueryServiceClient;
use idempo_proto::ops::v1::parked_service_client::ParkedServiceClient;
use idempo_proto::ops::v1::projection_service_client::ProjectionServiceClient;
use idempo_proto::ops::v1::{
    Difference, Generation, GenerationState, GetGenerationRequest, GetProjectionRequest, GetVerificationRequest, GetVerificationResponse,
    ListProjectionAuditEntriesRequest, Projection, ProjectionAuditEntry, RebuildPhase, Verification, VerificationAgainst,
    VerificationState, VerifyGenerationRequest,
};
use idempo_runtime::{Launched, Platform, launch};
use prost::Message as _;
use tonic::Request;
use tonic::transport::Channel;

use crate::support::LIMIT;
use crate::world::player;

pub(crate) const PROJECTION: &str = "projections/inventory";
pub(crate) const PARTITIONS: i32 = 4;
pub(crate) const DEAD_LETTER_PARTITIONS: i32 = 3;
/// So few that the streams of a small world are in several parts.
const PART_EVENTS: u32 = 400;

pub(crate) fn generation_name(number: i32) -> String {
    format!("{PROJECTION}/generations/{number}")
}

/// A request by somebody with a name.
pub(crate) fn said<M>(message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("idempo-caller", "tester".parse().expect("a name"));
    request.set_timeout(LIMIT);
    request
}

pub(crate) fn kafka() -> idempo_kafka::Config {
    idempo_kafka::Config { brokers: testing::kafka_brokers(), ..idempo_kafka::Config::default() }
}

/// The settings of a projector on these databases.
pub(crate) fn config_of(topic: &str, database: idempo_pg::Config, event_store: idempo_pg::Config) -> Config {
    let (group_id, topics) = (topic.to_owned(), vec![topic.to_owned()]);
    Config {
        database,
        event_store,
        kafka: kafka(),
        consumer: ConsumerConfig { group_id, topics, ..ConsumerConfig::default() },
        partitions: PARTITIONS,
        rebuild_part_events: PART_EVENTS,
        sample_interval_ms: 0,
        operators: idempo_rpc::OperatorsConfig::open(),
        ..Config::default()
    }
}

pub(crate) struct Stage {
    pub(crate) config: Config,
    pub(crate) ops: ProjectionServiceClient<Channel>,
    pub(crate) queries: InventoryQueryServiceClient<Channel>,
    pub(crate) parked: ParkedServiceClient<Channel>,
    pub(crate) topic: String,
    launched: Launched,
    servers: Servers,
}

/// What outlives the projector's processes.
struct Servers {
    view: TestDatabase,
    store: TestDatabase,
    seq: AtomicI64,
}

/// Has generations compared.
pub(crate) struct Comparer {
    ops: ProjectionServiceClient<Channel>,
}

impl Comparer {
    /// Has a generation compared; gives what differs too.
    pub(crate) async fn compared(&mut self, number: i32, against: VerificationAgainst) -> (Verification, Vec<Difference>) {
        let asked = VerifyGenerationRequest { name: generation_name(number), reason: "a test".to_owned(), against: against.into() };
        self.ops.verify_generation(said(asked)).await.expect("it is compared");
        let mut last = GetVerificationResponse::default();
        eventually(LIMIT, "the comparison has ended", async || {
            let asked = GetVerificationRequest { name: generation_name(number) };
            last = self.ops.clone().get_verification(said(asked)).await.expect("a verification").into_inner();
            let state = last.verification.as_ref().expect("a verification").state();
            !matches!(state, VerificationState::Waiting | VerificationState::Running)
        })
        .await;
        (last.verification.expect("a verification"), last.differences)
    }
}

/// A transaction of the event store that is not over.
pub(crate) struct Open(Client);

impl Open {
    pub(crate) async fn commit(self) {
        self.0.batch_execute("COMMIT").await.expect("it commits");
    }
}

impl Stage {
    pub(crate) async fn start() -> Self {
        let (view, store) = (testing::database("inventory_view_db").await, testing::database("inventory_db").await);
        let topic = format!("{}economy-events", testing::topic_prefix());
        let spec = |name, partitions| TopicSpec { name, partitions, retention_hours: 1, replication: 1, min_insync: 1 };
        let specs = [spec(topic.clone(), PARTITIONS), spec(format!("{topic}.dlq"), DEAD_LETTER_PARTITIONS)];
        ensure_topics(&kafka(), &specs).await.expect("the topics can be made");
        Self::launch(topic, Servers { view, store, seq: AtomicI64::new(1) }).await
    }

    async fn launch(topic: String, servers: Servers) -> Self {
        let config = config_of(&topic, servers.view.config("idempo_inventory_projector"), servers.store.config("idempo_rebuilder"));
        let platform = Platform::new("inventory-projector", SystemClock::shared());
        let launched = launch::<InventoryProjection>(config.clone(), platform, None).await.expect("it starts");
        let address = format!("http://{}", launched.running.address("grpc").expect("an address"));
        let ops = ProjectionServiceClient::connect(address.clone()).await.expect("it is reached");
        let parked = ParkedServiceClient::connect(address.clone()).await.expect("it is reached");
        let queries = InventoryQueryServiceClient::connect(address).await.expect("it is reached");
        tokio::time::timeout(LIMIT, launched.platform.readiness.wait_ready()).await.expect("it gets ready");
        Self { config, ops, queries, parked, topic, launched, servers }
    }

    pub(crate) async fn stop(self) {
        self.launched.stop(Duration::from_secs(10)).await.expect("it stops in time");
    }

    /// Another process in the place of this one.
    pub(crate) async fn replaced(self) -> Self {
        self.replaced_after(async |_, _| ()).await
    }

    /// The same; between the two there is whoever `between` starts on the databases of these names, the read model's and the event store's.
    pub(crate) async fn replaced_after(self, between: impl AsyncFnOnce(&str, &str)) -> Self {
        self.launched.stop(Duration::from_secs(10)).await.expect("it stops in time");
        between(self.servers.view.name(), self.servers.store.name()).await;
        Self::launch(self.topic, self.servers).await
    }

    /// Stores events as the inventory service does, in transactions with this number.
    pub(crate) async fn append(&self, envelopes: &[EventEnvelope], xid: &str) {
        let client = self.superuser(&self.servers.store).await;
        client.batch_execute("BEGIN").await.expect("a transaction");
        self.insert(&client, envelopes, xid).await;
        client.batch_execute("COMMIT").await.expect("it commits");
    }

    /// The same for many events, in which each stream's are in order; in one statement.
    pub(crate) async fn append_at_once(&self, envelopes: &[EventEnvelope], xid: &str) {
        let client = self.superuser(&self.servers.store).await;
        client.batch_execute("SET statement_timeout = 0").await.expect("it is set");
        let bytes: Vec<Vec<u8>> = envelopes.iter().map(EventEnvelope::encode_to_vec).collect();
        let of = |pick: fn(&EventEnvelope) -> &[u8]| envelopes.iter().map(|envelope| id(pick(envelope))).collect::<Vec<Uuid>>();
        let (streams, events, keys) = (of(|one| &one.stream_id), of(|one| &one.event_id), of(|one| &one.partition_key));
        let seqs: Vec<i64> = envelopes.iter().map(|_| self.servers.seq.fetch_add(1, Ordering::SeqCst)).collect();
        let versions: Vec<i64> = envelopes.iter().map(|envelope| i64::try_from(envelope.version).expect("small")).collect();
        let event_type = |bytes: &Vec<u8>| Outline::read(&bytes.clone().into()).expect("an event").event_type;
        let types: Vec<i16> = bytes.iter().map(|bytes| i16::try_from(event_type(bytes)).expect("small")).collect();
        let sql = format!(
            "WITH e AS (
                INSERT INTO es.events (xid, seq, stream_id, version, event_id, event_type, envelope)
                SELECT '{xid}', * FROM unnest($1::bigint[], $2::uuid[], $3::bigint[], $4::uuid[], $5::smallint[], $6::bytea[])
            )
            INSERT INTO es.streams (stream_id, category, partition_key, version)
            SELECT s.stream_id, 0, s.key, max(s.version) FROM unnest($2::uuid[], $7::uuid[], $3::bigint[]) AS s (stream_id, key, version)
            GROUP BY 1, 3"
        );
        let rows: [&(dyn tokio_postgres::types::ToSql + Sync); 7] = [&seqs, &streams, &versions, &events, &types, &bytes, &keys];
        client.execute(&sql, &rows).await.expect("events");
    }

    pub(crate) async fn append_and_stay_open(&self, envelope: &EventEnvelope) -> Open {
        let client = self.superuser(&self.servers.store).await;
        client
            .batch_execute("SET idle_in_transaction_session_timeout = 0; BEGIN; SET LOCAL lock_timeout = 0")
            .await
            .expect("a transaction");
        let sql = "INSERT INTO es.events (seq, stream_id, version, event_id, event_type, envelope) VALUES ($1, $2, $3, $4, $5, $6)";
        self.insert_one(&client, sql, envelope).await;
        Open(client)
    }

    async fn insert(&self, client: &Client, envelopes: &[EventEnvelope], xid: &str) {
        let sql = format!(
            "INSERT INTO es.events (xid, seq, stream_id, version, event_id, event_type, envelope) VALUES ('{xid}', $1, $2, $3, $4, $5, $6)"
        );
        for envelope in envelopes {
            self.insert_one(client, &sql, envelope).await;
            let stream = "INSERT INTO es.streams (stream_id, category, partition_key, version) VALUES ($1, 0, $2, $3)
                ON CONFLICT (stream_id) DO UPDATE SET version = excluded.version";
            let statement = client.prepare_cached(stream).await.expect("a statement");
            let version = i64::try_from(envelope.version).expect("small");
            client.execute(&statement, &[&id(&envelope.stream_id), &id(&envelope.partition_key), &version]).await.expect("a stream");
        }
    }

    async fn insert_one(&self, client: &Client, sql: &str, envelope: &EventEnvelope) {
        let bytes = envelope.encode_to_vec();
        let event_type = Outline::read(&bytes.clone().into()).expect("an event").event_type;
        let seq = self.servers.seq.fetch_add(1, Ordering::SeqCst);
        let (version, event_type) = (i64::try_from(envelope.version).expect("small"), i16::try_from(event_type).expect("small"));
        let statement = client.prepare_cached(sql).await.expect("a statement");
        let row: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
            [&seq, &id(&envelope.stream_id), &version, &id(&envelope.event_id), &event_type, &bytes];
        client.execute(&statement, &row).await.expect("an event");
    }

    /// Writes records as the relay does, and waits until the broker has them.
    pub(crate) async fn publish(&self, envelopes: &[EventEnvelope]) {
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&acknowledged);
        let producer = Producer::start(&kafka(), &ProducerConfig::default(), move |_, delivery| {
            assert!(matches!(delivery, Delivery::Acknowledged { .. }), "{delivery:?}");
            seen.fetch_add(1, Ordering::SeqCst);
        })
        .expect("a producer");
        for (number, envelope) in envelopes.iter().enumerate() {
            let (key, value) = (id(&envelope.partition_key).to_string(), envelope.encode_to_vec());
            let partition = partition_of(key.as_bytes(), PARTITIONS);
            let record = Outgoing { topic: &self.topic, partition, key: key.as_bytes(), value: &value, headers: &[] };
            while let Err(error) = producer.send(&record, number) {
                assert!(matches!(error, SendError::Full), "{error:?}");
                tokio::task::yield_now().await;
            }
        }
        eventually(LIMIT, "every record is acknowledged", async || acknowledged.load(Ordering::SeqCst) == envelopes.len()).await;
    }

    /// Has Kafka forget the first record of every partition that has one.
    pub(crate) async fn forget_first_record(&self) {
        let ends = idempo_kafka::watermarks(&kafka(), &self.topic, PARTITIONS).await.expect("the ends");
        for (partition, _) in (0..PARTITIONS).zip(ends).filter(|(_, (_, high))| *high > 0) {
            idempo_kafka::by_hand::delete_before(&kafka(), &self.topic, partition, 1).await.expect("they are deleted");
        }
    }

    /// Changes the read model behind the projector's back.
    pub(crate) async fn damage(&self, sql: &str) {
        self.superuser(&self.servers.view).await.batch_execute(sql).await.expect("it is damaged");
    }

    async fn superuser(&self, database: &TestDatabase) -> Client {
        Pool::open(&database.superuser()).expect("a pool").get().await.expect("a connection")
    }

    pub(crate) async fn projection(&self) -> Projection {
        let asked = GetProjectionRequest { name: PROJECTION.to_owned() };
        self.ops.clone().get_projection(said(asked)).await.expect("a projection").into_inner().projection.expect("a projection")
    }

    pub(crate) async fn generation(&self, number: i32) -> Generation {
        let asked = GetGenerationRequest { name: generation_name(number) };
        self.ops.clone().get_generation(said(asked)).await.expect("a generation").into_inner().generation.expect("a generation")
    }

    /// A generation that is built, or can't be.
    pub(crate) async fn settled(&mut self, number: i32) -> Generation {
        let mut last = Generation::default();
        eventually(LIMIT, "the generation is settled", async || {
            last = self.generation(number).await;
            let phase = last.rebuild.as_ref().map(|rebuild| rebuild.phase());
            last.state() != GenerationState::Building || phase == Some(RebuildPhase::Failed)
        })
        .await;
        last
    }

    /// Has a generation compared with the live one.
    pub(crate) async fn verified(&mut self, number: i32) -> Verification {
        self.compared(number, VerificationAgainst::Unspecified).await.0
    }

    /// Has a generation compared; gives what differs too.
    pub(crate) async fn compared(&mut self, number: i32, against: VerificationAgainst) -> (Verification, Vec<Difference>) {
        self.twin().compared(number, against).await
    }

    /// Another client of the same process.
    pub(crate) fn twin(&self) -> Comparer {
        Comparer { ops: self.ops.clone() }
    }

    /// Takes an event out of the event store.
    pub(crate) async fn forget_event(&self, envelope: &EventEnvelope) {
        let client = self.superuser(&self.servers.store).await;
        let version = i64::try_from(envelope.version).expect("small");
        client.batch_execute("SET session_replication_role = replica").await.expect("no trigger keeps it");
        let sql = "WITH e AS (DELETE FROM es.events WHERE stream_id = $1 AND version = $2)
            UPDATE es.streams SET version = $2 - 1 WHERE stream_id = $1";
        client.execute(sql, &[&id(&envelope.stream_id), &version]).await.expect("it is gone");
    }

    /// Keeps everybody from reading the events, until it is dropped with its answer.
    pub(crate) async fn lock_events(&self) -> Open {
        let client = self.superuser(&self.servers.store).await;
        let sql = "SET idle_in_transaction_session_timeout = 0; BEGIN; LOCK TABLE es.events IN ACCESS EXCLUSIVE MODE";
        client.batch_execute(sql).await.expect("a lock");
        Open(client)
    }

    /// The names of the databases: the read model's, and the event store's.
    pub(crate) fn databases(&self) -> (&str, &str) {
        (self.servers.view.name(), self.servers.store.name())
    }

    /// Sessions of comparisons with the fold, which have what such a comparison makes.
    pub(crate) async fn comparing_sessions(&self) -> i64 {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE '%-verifier'";
        self.superuser(&self.servers.view).await.query_one(sql, &[]).await.expect("a row").get(0)
    }

    /// Whether anybody waits for a lock in the event store.
    pub(crate) async fn waits_for_lock(&self) -> bool {
        self.wait_for_events().await > 0
    }

    /// How many sessions wait for a lock in the event store.
    pub(crate) async fn wait_for_events(&self) -> i64 {
        waiting(&self.superuser(&self.servers.store).await).await
    }

    /// How many sessions wait for a lock in the read model.
    pub(crate) async fn wait_for_rows(&self) -> i64 {
        waiting(&self.superuser(&self.servers.view).await).await
    }

    /// Keeps everybody from reading the live generation's items, until it is dropped with its answer.
    pub(crate) async fn lock_items(&self) -> Open {
        let client = self.superuser(&self.servers.view).await;
        let sql = "SET idle_in_transaction_session_timeout = 0; BEGIN; LOCK TABLE inventory_g1.items IN ACCESS EXCLUSIVE MODE";
        client.batch_execute(sql).await.expect("a lock");
        Open(client)
    }

    /// Reads the items of a generation, until it is dropped with its answer.
    pub(crate) async fn read_items_of(&self, number: i32) -> Open {
        let client = self.superuser(&self.servers.view).await;
        let sql = format!("SET idle_in_transaction_session_timeout = 0; BEGIN; SELECT FROM inventory_g{number}.items LIMIT 1");
        client.batch_execute(&sql).await.expect("it is read");
        Open(client)
    }

    /// The sessions of those who read and look after the read model, writers apart.
    pub(crate) async fn sessions(&self) -> i64 {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = $1";
        let name = &self.config.database.application_name;
        self.superuser(&self.servers.view).await.query_one(sql, &[name]).await.expect("a row").get(0)
    }

    pub(crate) async fn audit(&mut self) -> Vec<ProjectionAuditEntry> {
        self.twin_audit().await
    }

    /// The audit, newest first.
    pub(crate) async fn twin_audit(&self) -> Vec<ProjectionAuditEntry> {
        let asked = ListProjectionAuditEntriesRequest { parent: PROJECTION.to_owned(), ..ListProjectionAuditEntriesRequest::default() };
        self.ops.clone().list_projection_audit_entries(said(asked)).await.expect("entries").into_inner().audit_entries
    }

    /// The generation that a read is answered from.
    pub(crate) async fn read_generation(&self) -> i32 {
        let asked = ListItemsRequest { parent: format!("players/{}", player(0)), ..ListItemsRequest::default() };
        let answer = self.queries.clone().list_items(asked).await.expect("an answer").into_inner();
        answer.freshness.expect("it says how fresh it is").generation
    }

    /// Records that the live generation does not have.
    pub(crate) async fn lag(&self) -> i64 {
        self.projection().await.lag_events
    }

    /// Whether every process that is to has looked since the projection was paused.
    pub(crate) async fn looked_since_paused(&self) -> bool {
        let sql = "SELECT paused_at < clock_timestamp() - interval '1 second' FROM projection.projection";
        self.superuser(&self.servers.view).await.query_one(sql, &[]).await.expect("a row").get(0)
    }

    /// What is left of a generation: schemas, and rows of the tables that say something of generations.
    pub(crate) async fn traces(&self, number: i32) -> i64 {
        let client = self.superuser(&self.servers.view).await;
        let sql = format!("SELECT count(*) FROM pg_namespace WHERE nspname = 'inventory_g{number}'");
        let mut traces: i64 = client.query_one(&sql, &[]).await.expect("a row").get(0);
        for table in [
            "generation",
            "checkpoint",
            "stream_version",
            "rebuild",
            "rebuilt_bucket",
            "verification",
            "hold",
            "dead_letter",
            "parked_record",
            "dead_letter_end",
        ] {
            let sql = format!("SELECT count(*) FROM projection.{table} WHERE generation = {number}");
            traces += client.query_one(&sql, &[]).await.expect("a row").get::<_, i64>(0);
        }
        traces
    }
}

/// How many sessions of a client's database wait for a lock.
async fn waiting(client: &Client) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    client.query_one(sql, &[]).await.expect("a row").get(0)
}

fn id(bytes: &[u8]) -> Uuid {
    Uuid::from_slice(bytes).expect("an id")
}
