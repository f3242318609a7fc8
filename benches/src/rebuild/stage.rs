//! The projector's own process, with an event store and a topic that have the same history.

use std::collections::HashMap;
use std::path::PathBuf;
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use idempo_devstack::Service;
use idempo_devstack::testing::{self, TestDatabase};
use idempo_ids::Uuid;
use idempo_inventory_projector::{Config, InventoryProjector, Rows, Writes, read_rows};
use idempo_pg::Pool;
use idempo_projection::memory::Model as _;
use idempo_projection::{Event, Projector as _};
use idempo_proto::ops::v1::projection_service_client::ProjectionServiceClient;
use idempo_proto::ops::v1::{
    DropGenerationRequest, Generation, GenerationState, GetGenerationRequest, GetVerificationRequest, ListGenerationsRequest,
    PauseProjectionRequest, RebuildPhase, ResumeProjectionRequest, RollBackGenerationRequest, StartRebuildRequest, SwitchGenerationRequest,
    VerificationState, VerifyGenerationRequest,
};
use idempo_rpc::CALLER_METADATA;
use tokio_postgres::Client;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

use crate::database::{session, settle, url_of};
use crate::project::PARTITIONS;
use crate::project::topic;
use crate::project::world::Record;
use crate::usage::Postgres;

const PROJECTION: &str = "projections/inventory";
/// The generation that a read model begins with.
pub(super) const FIRST: i32 = 1;
/// Why everything is done.
const REASON: &str = "a bench";
/// How long anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(1_800);
/// How long one call may take.
const CALL_MAX: Duration = Duration::from_secs(15);
/// How often it is looked how far something is: how exactly its end is known.
const LOOK_PAUSE: Duration = Duration::from_millis(20);
/// Events of one COPY into the event store.
const EVENTS_PER_COPY: usize = 100_000;
/// How long the process may take to hear that it is paused; it looks five times a second.
const HEARD_AFTER: Duration = Duration::from_secs(1);

/// Everything that a rebuild needs.
pub(super) struct Stage {
    view_database: TestDatabase,
    store_database: TestDatabase,
    /// Sessions of the superuser.
    pub(super) view: Client,
    pub(super) store: Client,
    pub(super) postgres: Postgres,
    brokers: String,
    topic: String,
    projector: Service,
    operations: ProjectionServiceClient<Channel>,
    log: PathBuf,
    /// Records that are in the topic.
    published: i64,
}

impl Drop for Stage {
    fn drop(&mut self) {
        // An error shows the end of it; nobody needs the rest.
        let _ = std::fs::remove_file(&self.log);
    }
}

impl Stage {
    /// A projector whose live generation has these events.
    pub(super) async fn start(records: &[Record]) -> anyhow::Result<Self> {
        let (view_database, store_database) = (testing::database("inventory_view_db").await, testing::database("inventory_db").await);
        let (brokers, prefix) = (testing::kafka_brokers(), testing::topic_prefix());
        let topic = format!("{prefix}economy-events");
        topic::make(&brokers, &topic, PARTITIONS).await?;
        let (view, store) = (session(&view_database.superuser()).await?, session(&store_database.superuser()).await?);
        let postgres = Postgres::of(&store).await?;
        put_events(&store, records, 0).await?;
        topic::write(&brokers, &topic, records)?;
        store.batch_execute("VACUUM ANALYZE").await?;
        settle(&store).await?;
        let log = std::env::temp_dir().join(format!("{prefix}projector.log"));
        let variables = [
            ("IDEMPO_DATABASE__URL", testing::cluster().role_url(view_database.name(), "idempo_inventory_projector")),
            ("IDEMPO_EVENT_STORE__URL", testing::cluster().role_url(store_database.name(), "idempo_rebuilder")),
            ("IDEMPO_KAFKA__BROKERS", brokers.clone()),
            ("IDEMPO_CONSUMER__GROUP_ID", topic.clone()),
            ("IDEMPO_CONSUMER__TOPICS", format!("[\"{topic}\"]")),
            ("IDEMPO_PARTITIONS", PARTITIONS.to_string()),
            ("IDEMPO_PLATFORM__LOG__FORMAT", "json".to_owned()),
            ("IDEMPO_OPERATORS__OPEN", "true".to_owned()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let projector = Service::run("the projector", "idempo-inventory-projector", variables, log.clone()).await?;
        let operations = ProjectionServiceClient::new(Endpoint::from_shared(format!("http://{}", projector.grpc()))?.connect().await?);
        let published = i64::try_from(records.len())?;
        let stage = Self { view_database, store_database, view, store, postgres, brokers, topic, projector, operations, log, published };
        stage.caught_up(FIRST).await?;
        Ok(stage)
    }

    /// Ends the process, with success.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.projector.stop().await
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.projector.pid()
    }

    /// A connection to the process.
    pub(super) async fn channel(&self) -> anyhow::Result<Channel> {
        Ok(Endpoint::from_shared(format!("http://{}", self.projector.grpc()))?.tcp_nodelay(true).connect().await?)
    }

    /// The superuser's address of the event store.
    pub(super) fn store_url(&self) -> anyhow::Result<String> {
        url_of(&self.store_database)
    }

    /// Appends events and publishes them.
    pub(super) async fn append(&mut self, records: &[Record]) -> anyhow::Result<()> {
        put_events(&self.store, records, self.published).await?;
        topic::write(&self.brokers, &self.topic, records)?;
        self.published += i64::try_from(records.len())?;
        Ok(())
    }

    /// How many records of the topic a generation has.
    pub(super) async fn position(&self, generation: i32) -> anyhow::Result<i64> {
        Ok(self.view.query_one(include_str!("../sql/rebuild_position.sql"), &[&generation, &self.topic]).await?.try_get(0)?)
    }

    /// Waits until a generation has everything.
    pub(super) async fn caught_up(&self, generation: i32) -> anyhow::Result<()> {
        let began = Instant::now();
        while self.position(generation).await? < self.published {
            ensure!(began.elapsed() < PATIENCE, "generation {generation} is not done after {} s", PATIENCE.as_secs());
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        Ok(())
    }

    /// Has a generation built from the event store, with the defaults; gives its number.
    pub(super) async fn start_rebuild(&self) -> anyhow::Result<i32> {
        let asked = StartRebuildRequest { name: PROJECTION.to_owned(), reason: REASON.to_owned(), ..StartRebuildRequest::default() };
        let begun = self.operations().start_rebuild(said(asked)?).await?.into_inner();
        Ok(begun.generation.context("it names no generation")?.generation)
    }

    /// A generation, as the process tells of it.
    pub(super) async fn generation(&self, number: i32) -> anyhow::Result<Generation> {
        let asked = GetGenerationRequest { name: name_of(number) };
        self.operations().get_generation(said(asked)?).await?.into_inner().generation.context("it tells of no generation")
    }

    /// Whether the event store is being read for a generation: work that takes what it can get.
    pub(super) async fn is_scanning(&self, number: i32) -> anyhow::Result<bool> {
        let rebuild = self.generation(number).await?.rebuild.context("it was not rebuilt")?;
        ensure!(rebuild.phase() != RebuildPhase::Failed, "the rebuild has failed: {} {}", rebuild.failure_code, rebuild.failure);
        Ok(matches!(rebuild.phase(), RebuildPhase::Scanning | RebuildPhase::Indexing))
    }

    /// Waits until a rebuild reads the event store.
    pub(super) async fn scanning(&self, number: i32) -> anyhow::Result<()> {
        let began = Instant::now();
        while !self.is_scanning(number).await? {
            ensure!(began.elapsed() < PATIENCE, "the rebuild does not begin");
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        Ok(())
    }

    /// Waits until a generation that is being built is ready.
    pub(super) async fn ready(&self, number: i32) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let generation = self.generation(number).await?;
            let rebuild = generation.rebuild.as_ref().context("it was not rebuilt")?;
            ensure!(rebuild.phase() != RebuildPhase::Failed, "the rebuild has failed: {} {}", rebuild.failure_code, rebuild.failure);
            if generation.state() == GenerationState::Ready {
                return Ok(());
            }
            ensure!(began.elapsed() < PATIENCE, "the rebuild is not done after {} s", PATIENCE.as_secs());
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    /// Compares a generation with the live one, which it must be equal to; gives how many rows were compared.
    pub(super) async fn verify(&self, number: i32) -> anyhow::Result<u64> {
        let asked = VerifyGenerationRequest { name: name_of(number), reason: REASON.to_owned(), ..VerifyGenerationRequest::default() };
        self.operations().verify_generation(said(asked)?).await?;
        let began = Instant::now();
        loop {
            let asked = GetVerificationRequest { name: name_of(number) };
            let found = self.operations().get_verification(said(asked)?).await?.into_inner();
            let verification = found.verification.context("it tells of no comparison")?;
            match verification.state() {
                VerificationState::Equal => return Ok(verification.rows.unsigned_abs()),
                VerificationState::Waiting | VerificationState::Running => {}
                other => bail!("generation {number} is {}: {verification:?} {:?}", other.as_str_name(), found.differences),
            }
            ensure!(began.elapsed() < PATIENCE, "the comparison is not done after {} s", PATIENCE.as_secs());
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    /// Makes a generation the live one.
    pub(super) async fn switch_to(&self, number: i32) -> anyhow::Result<()> {
        let asked = SwitchGenerationRequest { name: name_of(number), reason: REASON.to_owned(), ..SwitchGenerationRequest::default() };
        self.operations().switch_generation(said(asked)?).await?;
        Ok(())
    }

    /// Makes the one live again that was before.
    pub(super) async fn roll_back(&self) -> anyhow::Result<()> {
        let asked =
            RollBackGenerationRequest { name: PROJECTION.to_owned(), reason: REASON.to_owned(), ..RollBackGenerationRequest::default() };
        self.operations().roll_back_generation(said(asked)?).await?;
        Ok(())
    }

    /// Removes a generation, and waits until it is gone.
    pub(super) async fn remove(&self, number: i32) -> anyhow::Result<()> {
        let asked = DropGenerationRequest { name: name_of(number), reason: REASON.to_owned() };
        self.operations().drop_generation(said(asked)?).await?;
        let began = Instant::now();
        loop {
            let asked = ListGenerationsRequest { parent: PROJECTION.to_owned() };
            let left = self.operations().list_generations(said(asked)?).await?.into_inner().generations;
            if left.iter().all(|generation| generation.generation != number) {
                return Ok(());
            }
            ensure!(began.elapsed() < PATIENCE, "generation {number} is not removed");
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    /// Stops all consumers, and waits until they have heard it.
    pub(super) async fn pause(&self) -> anyhow::Result<()> {
        let asked = PauseProjectionRequest { name: PROJECTION.to_owned(), reason: REASON.to_owned() };
        self.operations().pause_projection(said(asked)?).await?;
        tokio::time::sleep(HEARD_AFTER).await;
        Ok(())
    }

    /// Has the consumers go on.
    pub(super) async fn resume(&self) -> anyhow::Result<()> {
        let asked = ResumeProjectionRequest { name: PROJECTION.to_owned(), reason: REASON.to_owned() };
        self.operations().resume_projection(said(asked)?).await?;
        Ok(())
    }

    /// A generation's rows are the fold of the records.
    pub(super) async fn check_fold(&self, number: i32, records: &[Record]) -> anyhow::Result<()> {
        let mut writes = Writes::default();
        for record in records {
            InventoryProjector::apply(&Event::decode(&Bytes::copy_from_slice(&record.value))?, &mut writes)?;
        }
        let mut expected = Rows::default();
        expected.merge(&writes).map_err(|problem| anyhow::anyhow!(problem))?;
        let database = testing::cluster().role(self.view_database.name(), "idempo_inventory_projector");
        let config = Config { database: idempo_pg::Config { statement_timeout_ms: 0, ..database }, ..Config::default() };
        let found = read_rows(&Pool::open(&config.generation_database(number))?).await?;
        ensure!(found == expected, "generation {number} is not the fold of the records");
        Ok(())
    }

    fn operations(&self) -> ProjectionServiceClient<Channel> {
        self.operations.clone()
    }
}

fn name_of(number: i32) -> String {
    format!("{PROJECTION}/generations/{number}")
}

fn said<T>(message: T) -> anyhow::Result<Request<T>> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_MAX);
    request.metadata_mut().insert(CALLER_METADATA, "bench".parse()?);
    Ok(request)
}

/// Puts the records' events into the event store behind `before` others, in their order: as it would have come to be, with the streams of all players mixed.
async fn put_events(store: &Client, records: &[Record], before: i64) -> anyhow::Result<()> {
    let mut streams: HashMap<Uuid, (Uuid, i64)> = HashMap::new();
    let mut seq = before;
    for part in records.chunks(EVENTS_PER_COPY) {
        let sink = store.copy_in(include_str!("../sql/rebuild_put_events.sql")).await?;
        let types = [Type::INT8, Type::UUID, Type::INT8, Type::UUID, Type::INT2, Type::BYTEA];
        let mut rows = pin!(BinaryCopyInWriter::new(sink, &types));
        for record in part {
            let event = Event::decode(&Bytes::copy_from_slice(&record.value))?;
            seq += 1;
            let (stream, version) = (event.stream_id.uuid(), i64::try_from(event.version)?);
            let event_type = i16::try_from(event.event_type)?;
            rows.as_mut().write(&[&seq, &stream, &version, &event.event_id.uuid(), &event_type, &record.value]).await?;
            streams.insert(stream, (record.key, version));
        }
        rows.finish().await?;
    }
    let ids: Vec<Uuid> = streams.keys().copied().collect();
    let (keys, versions): (Vec<Uuid>, Vec<i64>) = streams.into_values().unzip();
    store.execute(include_str!("../sql/rebuild_put_streams.sql"), &[&ids, &keys, &versions]).await?;
    Ok(())
}
