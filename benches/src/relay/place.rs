//! One database with an outbox, topics that no other run has, and the relay's own process between them.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::ensure;
use idempo_devstack::{Service, testing};
use rdkafka::consumer::BaseConsumer;
use tokio_postgres::Client;

use super::broker;
use super::rows::{Headers, Rows};
use crate::database::{session, settle};
use crate::usage::Postgres;

/// How long the relay may take to bring everything to Kafka.
const RELAY_MAX: Duration = Duration::from_secs(900);
/// The pause between two looks at the topic: how exactly a kill is placed, not how anything is measured.
const LOOK_PAUSE: Duration = Duration::from_millis(5);

/// Where one relay is measured.
pub(super) struct Place {
    database: testing::TestDatabase,
    pub(super) brokers: String,
    prefix: String,
    pub(super) client: Client,
    pub(super) postgres: Postgres,
    pub(super) consumer: BaseConsumer,
}

impl Drop for Place {
    fn drop(&mut self) {
        // An error shows the end of it; nobody needs the rest.
        let _ = std::fs::remove_file(self.log());
    }
}

impl Place {
    /// An empty outbox, and an empty topic on the broker's clock.
    pub(super) async fn new(rows: &Rows) -> anyhow::Result<Self> {
        let (database, brokers, prefix) = (testing::database("wallet_db").await, testing::kafka_brokers(), testing::topic_prefix());
        let client = session(&database.superuser()).await?;
        client.batch_execute(include_str!("../sql/relay_writer.sql")).await?;
        rows.prepare(&client).await?;
        let postgres = Postgres::of(&client).await?;
        let consumer = broker::consumer(&brokers)?;
        let place = Self { database, brokers, prefix, client, postgres, consumer };
        broker::make_topic(&place.brokers, &place.topic()).await?;
        Ok(place)
    }

    /// The topic that the relay sends to.
    pub(super) fn topic(&self) -> String {
        format!("{}economy-events", self.prefix)
    }

    fn log(&self) -> PathBuf {
        std::env::temp_dir().join(format!("{}relay.log", self.prefix))
    }

    /// Another topic of this place.
    pub(super) async fn other_topic(&self, name: &str) -> anyhow::Result<String> {
        let topic = format!("{}{name}", self.prefix);
        broker::make_topic(&self.brokers, &topic).await?;
        Ok(topic)
    }

    /// A session of its own.
    pub(super) async fn session(&self) -> anyhow::Result<Client> {
        session(&self.database.superuser()).await
    }

    /// Fills the outbox, and lets what that has written go to disk.
    pub(super) async fn fill(&self, rows: u32, headers: Headers) -> anyhow::Result<()> {
        Rows::fill(&self.client, rows, headers).await?;
        settle(&self.client).await
    }

    /// Starts the relay's binary, with these settings beside its defaults. Whatever else it makes topics of has the same prefix.
    pub(super) async fn relay(&self, settings: &[(&str, String)]) -> anyhow::Result<Service> {
        let url = testing::cluster().role_url(self.database.name(), "idempo_relay");
        let own = [
            ("IDEMPO_KAFKA__BROKERS", self.brokers.clone()),
            ("IDEMPO_TOPICS__COPIES", "local".to_owned()),
            ("IDEMPO_TOPICS__PREFIX", self.prefix.clone()),
            ("IDEMPO_OUTBOXES", format!(r#"[{{name = "bench", database = {{url = "{url}"}}}}]"#)),
            ("IDEMPO_PLATFORM__LOG__FORMAT", "json".to_owned()),
        ];
        let variables = own.iter().chain(settings).map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        Service::run("the relay", "idempo-outbox-relay", variables, self.log()).await
    }

    /// How many records the relay's topic has.
    pub(super) fn count(&self) -> anyhow::Result<u64> {
        tokio::task::block_in_place(|| broker::count(&self.consumer, &self.topic()))
    }

    /// Waits until the relay's topic has so many.
    pub(super) async fn wait_for(&self, records: u64) -> anyhow::Result<()> {
        let began = Instant::now();
        loop {
            let count = self.count()?;
            if count >= records {
                return Ok(());
            }
            ensure!(began.elapsed() < RELAY_MAX, "{count} of {records} records after {} s", RELAY_MAX.as_secs());
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }
}
