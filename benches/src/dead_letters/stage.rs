//! The dead-letter service and the inventory projector, and what both have of the same dead letters: as if a release had been wrong about many
//! players, long enough for their events to wait, and had been mended.
//!
//! A consumer that met so many at once would stop instead ([`idempo_projection::POISON_PER_MINUTE_MAX`]), so they are written where they would have
//! come to be in time; the records are in the topic, before the checkpoints.

use std::path::PathBuf;

use anyhow::ensure;
use bytes::Bytes;
use idempo_devstack::Service;
use idempo_devstack::testing::{self, TestDatabase};
use idempo_ids::{PlayerId, StreamId, Uuid, derive};
use idempo_inventory_projector::{Config, fold, read_rows};
use idempo_pg::Pool;
use idempo_projection::Event;
use idempo_proto::event::v1::event_envelope::Data;
use idempo_proto::event::v1::item_portion::What;
use idempo_proto::event::v1::{EventEnvelope, ItemGranted, ItemPortion};
use idempo_proto::ops::v1::dead_letter_service_client::DeadLetterServiceClient;
use idempo_rpc::CALLER_METADATA;
use prost::Message as _;
use tokio_postgres::Client;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};

use crate::database::session;
use crate::project::PARTITIONS;
use crate::project::topic;
use crate::project::world::Record;
use crate::usage::Postgres;

/// One dead letter in so many has a record parked behind it.
const FOLLOWED: u32 = 10;
/// Rows of one statement.
const ROWS_PER_STATEMENT: usize = 5_000;
/// How long one call may take.
const CALL_MAX: std::time::Duration = std::time::Duration::from_secs(60);
/// Answers of at most so many bytes are taken.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// How many records are parked behind so many dead letters.
pub(super) const fn followers(letters: u32) -> u32 {
    letters.div_ceil(FOLLOWED)
}

/// A record with its place.
struct Placed {
    record: Record,
    event: Event,
    offset: i64,
}

/// Both processes.
pub(super) struct Stage {
    pub(super) letters: u32,
    pub(super) topic: String,
    pub(super) view: Client,
    pub(super) postgres: Postgres,
    pub(super) service: DeadLetterServiceClient<Channel>,
    view_database: TestDatabase,
    _ops_database: TestDatabase,
    projector: Service,
    admin: Service,
    records: Vec<Placed>,
    logs: [PathBuf; 2],
}

impl Drop for Stage {
    fn drop(&mut self) {
        for log in &self.logs {
            // An error shows the end of it; nobody needs the rest.
            let _ = std::fs::remove_file(log);
        }
    }
}

impl Stage {
    pub(super) async fn start(letters: u32) -> anyhow::Result<Self> {
        let (view_database, ops_database) = (testing::database("inventory_view_db").await, testing::database("ops_db").await);
        let (brokers, prefix) = (testing::kafka_brokers(), testing::topic_prefix());
        let topic = format!("{prefix}economy-events");
        topic::make(&brokers, &topic, PARTITIONS).await?;
        topic::make(&brokers, &dead_letter_topic(&topic), Config::default().dead_letter_partitions).await?;
        let records = records(letters)?;
        topic::write(&brokers, &topic, records.iter().map(|placed| &placed.record))?;
        let (view, ops) = (session(&view_database.superuser()).await?, session(&ops_database.superuser()).await?);
        let postgres = Postgres::of(&view).await?;
        park(&view, &topic, &records).await?;
        know(&ops, &topic, &records).await?;

        let kafka = ("IDEMPO_KAFKA__BROKERS", brokers);
        let json = ("IDEMPO_PLATFORM__LOG__FORMAT", "json".to_owned());
        let open = ("IDEMPO_OPERATORS__OPEN", "true".to_owned());
        let logs = ["projector", "dlq-admin"].map(|name| std::env::temp_dir().join(format!("{prefix}{name}.log")));
        let [projector_log, admin_log] = logs.clone();
        let variables = [
            ("IDEMPO_DATABASE__URL", testing::cluster().role_url(view_database.name(), "idempo_inventory_projector")),
            ("IDEMPO_CONSUMER__GROUP_ID", topic.clone()),
            ("IDEMPO_CONSUMER__TOPICS", format!("[\"{topic}\"]")),
            ("IDEMPO_PARTITIONS", PARTITIONS.to_string()),
            kafka.clone(),
            json.clone(),
            open.clone(),
        ];
        let projector = Service::run("the projector", "idempo-inventory-projector", owned(variables), projector_log).await?;
        let dead_letters = dead_letter_topic(&topic);
        let variables = [
            ("IDEMPO_DATABASE__URL", testing::cluster().role_url(ops_database.name(), "idempo_dlq_admin")),
            ("IDEMPO_CONSUMERS", format!(r#"[{{group_prefix = "{topic}", endpoint = "http://{}"}}]"#, projector.grpc())),
            ("IDEMPO_CONSUMER__GROUP_ID", dead_letters.clone()),
            ("IDEMPO_CONSUMER__TOPICS", format!("[\"{dead_letters}\"]")),
            ("IDEMPO_TOPICS__COPIES", "local".to_owned()),
            ("IDEMPO_TOPICS__PREFIX", prefix),
            kafka,
            json,
            open,
        ];
        let admin = Service::run("the dead-letter service", "idempo-dlq-admin", owned(variables), admin_log).await?;
        let channel = Endpoint::from_shared(format!("http://{}", admin.grpc()))?.tcp_nodelay(true).connect().await?;
        let service = DeadLetterServiceClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
        Ok(Self { letters, topic, view, postgres, service, view_database, _ops_database: ops_database, projector, admin, records, logs })
    }

    pub(super) fn projector_pid(&self) -> Option<u32> {
        self.projector.pid()
    }

    pub(super) fn service_pid(&self) -> Option<u32> {
        self.admin.pid()
    }

    /// Nothing is parked any more, each dead letter has ended once, and the read model is the fold of all records.
    pub(super) async fn check(&self) -> anyhow::Result<()> {
        let row = self.view.query_one(include_str!("../sql/dead_letters_left.sql"), &[]).await?;
        let (left, parked, ended): (i64, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        ensure!((left, parked) == (0, 0), "{left} dead letters and {parked} records are parked still");
        ensure!(ended == i64::from(self.letters), "{ended} dead letters have ended");
        let database = testing::cluster().role(self.view_database.name(), "idempo_inventory_projector");
        let config = Config { database: idempo_pg::Config { statement_timeout_ms: 0, ..database }, ..Config::default() };
        let found = read_rows(&Pool::open(&config.generation_database(1))?).await?;
        ensure!(found == fold(self.records.iter().map(|placed| &placed.event))?, "the read model is not the fold of the records");
        Ok(())
    }

    /// Ends both processes, with success.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.admin.stop().await?;
        self.projector.stop().await
    }
}

fn owned<const N: usize>(variables: [(&str, String); N]) -> Vec<(String, String)> {
    variables.map(|(name, value)| (name.to_owned(), value)).to_vec()
}

/// A request in somebody's name.
pub(super) fn said<T>(message: T) -> anyhow::Result<Request<T>> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_MAX);
    request.metadata_mut().insert(CALLER_METADATA, "bench".parse()?);
    Ok(request)
}

fn dead_letter_topic(topic: &str) -> String {
    format!("{topic}.dlq")
}

/// The records: of each player the first event; then the second ones, of some.
fn records(letters: u32) -> anyhow::Result<Vec<Placed>> {
    let mut ends = vec![0_i64; usize::try_from(PARTITIONS)?];
    let firsts = (0..letters).map(|number| (number, 1));
    let seconds = (0..letters).step_by(usize::try_from(FOLLOWED)?).map(|number| (number, 2));
    let mut records = Vec::new();
    for (number, version) in firsts.chain(seconds) {
        let player = PlayerId::new(derive(Uuid::nil(), "bench-letter", number));
        let key = player.uuid();
        let partition = idempo_kafka::partition_of(key.to_string().as_bytes(), PARTITIONS);
        let value = envelope(player, version).encode_to_vec();
        let event = Event::decode(&Bytes::copy_from_slice(&value))?;
        let mut offset = 0;
        if let Some(end) = usize::try_from(partition).ok().and_then(|partition| ends.get_mut(partition)) {
            offset = *end;
            *end += 1;
        }
        records.push(Placed { record: Record { partition, key, value }, event, offset });
    }
    Ok(records)
}

fn envelope(player: PlayerId, version: u64) -> EventEnvelope {
    let bytes = |id: Uuid| Bytes::copy_from_slice(id.as_bytes());
    let stream = StreamId::of("inventory", player.uuid());
    let id = derive(player.uuid(), "event", u32::try_from(version).unwrap_or(u32::MAX));
    let portion = ItemPortion { item_type: "ore_of_kind_1".to_owned(), what: Some(What::Quantity(3)) };
    EventEnvelope {
        event_id: bytes(id),
        stream_id: bytes(stream.uuid()),
        version,
        partition_key: bytes(player.uuid()),
        decided_at: Some(prost_types::Timestamp { seconds: 1_750_000_000, nanos: 0 }),
        command_id: bytes(id),
        correlation_id: bytes(id),
        data: Some(Data::ItemGranted(ItemGranted { portion: Some(portion), reason: "a quest was completed".to_owned() })),
        ..EventEnvelope::default()
    }
}

/// Parks the records in the read model's database, and puts the checkpoints behind them.
async fn park(view: &Client, topic: &str, records: &[Placed]) -> anyhow::Result<()> {
    for part in records.chunks(ROWS_PER_STATEMENT) {
        for (version, sql) in [(1, include_str!("../sql/dead_letters_park.sql")), (2, include_str!("../sql/dead_letters_follow.sql"))] {
            let part: Vec<&Placed> = part.iter().filter(|placed| placed.event.version == version).collect();
            let partitions: Vec<i32> = part.iter().map(|placed| placed.record.partition).collect();
            let offsets: Vec<i64> = part.iter().map(|placed| placed.offset).collect();
            let keys: Vec<String> = part.iter().map(|placed| placed.record.key.to_string()).collect();
            let values: Vec<&[u8]> = part.iter().map(|placed| placed.record.value.as_slice()).collect();
            let streams: Vec<Uuid> = part.iter().map(|placed| placed.event.stream_id.uuid()).collect();
            let events: Vec<Uuid> = part.iter().map(|placed| placed.event.event_id.uuid()).collect();
            view.execute(sql, &[&topic, &partitions, &offsets, &keys, &values, &streams, &events]).await?;
        }
    }
    view.execute(include_str!("../sql/dead_letters_pass.sql"), &[&topic]).await?;
    Ok(view.batch_execute("VACUUM ANALYZE").await?)
}

/// Has the dead-letter service know them.
async fn know(ops: &Client, topic: &str, records: &[Placed]) -> anyhow::Result<()> {
    let heads: Vec<&Placed> = records.iter().filter(|placed| placed.event.version == 1).collect();
    for part in heads.chunks(ROWS_PER_STATEMENT) {
        let partitions: Vec<i32> = part.iter().map(|placed| placed.record.partition).collect();
        let offsets: Vec<i64> = part.iter().map(|placed| placed.offset).collect();
        let keys: Vec<String> = part.iter().map(|placed| placed.record.key.to_string()).collect();
        let values: Vec<&[u8]> = part.iter().map(|placed| placed.record.value.as_slice()).collect();
        ops.execute(include_str!("../sql/dead_letters_know.sql"), &[&topic, &partitions, &offsets, &keys, &values]).await?;
    }
    Ok(ops.batch_execute("VACUUM ANALYZE").await?)
}
