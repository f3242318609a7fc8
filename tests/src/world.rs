//! The stack that the tests share: servers, the platform's processes, and ways to look at both.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use idempo_clock::{Clock as _, SystemClock};
use idempo_devstack::{Cluster, Options, Platform, Progress, Servers};
use idempo_ids::{Uuid, derive};
use idempo_inventory_projector::Rows;
use idempo_projection::Event;
use idempo_proto::inventory::v1::inventory_query_service_client::InventoryQueryServiceClient;
use idempo_proto::inventory::v1::inventory_service_client::InventoryServiceClient;
use idempo_proto::wallet::v1::wallet_service_client::WalletServiceClient;
use idempo_rpc::operators::Authorize;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};

use crate::session::Session;
use crate::topic::{self, Record};

/// The role that reads everything and changes nothing.
const AUDITOR: &str = "idempo_auditor";
/// How long a connection to a process may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The topic that wallets' and inventories' events go to, by its number in `topics.yaml`.
const ECONOMY_EVENTS: i16 = 3;

/// A connection over which the platform's operator speaks.
pub type Operated = InterceptedService<Channel, Authorize>;

/// The stack that the tests share.
pub struct World {
    /// PostgreSQL, Kafka and Redis: nobody else's.
    pub servers: Servers,
    /// The platform's processes.
    pub platform: Platform,
    cluster: Cluster,
    count: AtomicU32,
}

impl World {
    /// Starts everything, and waits until it is ready.
    pub(crate) async fn start() -> Result<Self> {
        let servers = Servers::start(Options::isolated(Progress::to_stderr())).await?;
        servers.prepare().await?;
        let platform = Platform::start(&servers).await?;
        let cluster = servers.cluster()?;
        Ok(Self { servers, platform, cluster, count: AtomicU32::new(0) })
    }

    /// A new UUIDv7: an idempotency key, or a player's id.
    #[must_use]
    pub fn id(&self) -> Uuid {
        let time = u128::from(SystemClock.now().as_millisecond().unsigned_abs()) << 80;
        derive(Uuid::from_u128(time), "idempo-tests", self.count.fetch_add(1, Ordering::Relaxed))
    }

    /// A new idempotency key.
    #[must_use]
    pub fn request_id(&self) -> String {
        self.id().to_string()
    }

    /// A connection to a process, made when it is first used, and again when it was lost.
    ///
    /// # Errors
    /// When the platform has no process with this name.
    pub fn channel(&self, process: &str) -> Result<Channel> {
        channel(self.platform.service(process)?.grpc())
    }

    /// A connection to a process as [`World::channel`], over which the platform's operator speaks.
    ///
    /// # Errors
    /// As [`World::channel`].
    pub fn operated(&self, process: &str) -> Result<Operated> {
        Ok(InterceptedService::new(self.channel(process)?, Authorize(Some(self.platform.operator_token().clone()))))
    }

    /// A client of the wallet service.
    ///
    /// # Errors
    /// As [`World::channel`].
    pub fn wallets(&self) -> Result<WalletServiceClient<Channel>> {
        Ok(WalletServiceClient::new(self.channel("wallet")?))
    }

    /// A client of the inventory service.
    ///
    /// # Errors
    /// As [`World::channel`].
    pub fn inventories(&self) -> Result<InventoryServiceClient<Channel>> {
        Ok(InventoryServiceClient::new(self.channel("inventory")?))
    }

    /// A client of the inventory read model.
    ///
    /// # Errors
    /// As [`World::channel`].
    pub fn queries(&self) -> Result<InventoryQueryServiceClient<Channel>> {
        Ok(InventoryQueryServiceClient::new(self.channel("inventory-projector")?))
    }

    /// A session of the auditor's in a database.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn auditor(&self, database: &str) -> Result<Session> {
        Session::open(&self.cluster.role(database, AUDITOR)).await
    }

    /// A session of the superuser's in a database, for what a test does to it.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn superuser(&self, database: &str) -> Result<Session> {
        Session::open(&self.cluster.superuser(database)).await
    }

    /// The envelope of every event of a database, those of one stream in the order of their versions.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn envelopes(&self, database: &str) -> Result<Vec<Bytes>> {
        let rows = self.auditor(database).await?.query(include_str!("sql/envelopes.sql"), &[]).await?;
        rows.iter().map(|row| Ok(Bytes::from(row.try_get::<_, Vec<u8>>("envelope")?))).collect()
    }

    /// Everything on the topic of wallets and inventories.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn records(&self) -> Result<Vec<Record>> {
        let topic = idempo_schemas::topics().by_number(ECONOMY_EVENTS).context("the economy's events have a topic")?;
        let group = format!("idempo-tests-{}", self.count.fetch_add(1, Ordering::Relaxed));
        topic::read(self.servers.kafka_brokers(), topic.name, topic.partitions, &group).await
    }

    /// The inventory read model as it follows from the stored events.
    ///
    /// # Errors
    /// When they can't be read, or folded.
    pub async fn folded(&self) -> Result<Rows> {
        let events: Vec<Event> = self.envelopes("inventory_db").await?.iter().map(Event::decode).collect::<Result<_, _>>()?;
        idempo_inventory_projector::fold(&events).map_err(|malformed| anyhow::anyhow!("an event can't be folded: {malformed:?}"))
    }

    /// The inventory read model as it is.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn projected(&self) -> Result<Rows> {
        let search_path = Some("inventory_g1, projection".to_owned());
        let config = idempo_pg::Config { search_path, ..self.cluster.role("inventory_view_db", AUDITOR) };
        let pool = idempo_pg::Pool::open(&config)?;
        Ok(idempo_inventory_projector::read_rows(&pool).await?)
    }
}

/// A connection to this address, made when it is first used.
fn channel(address: SocketAddr) -> Result<Channel> {
    Ok(Endpoint::from_shared(format!("http://{address}"))?.connect_timeout(CONNECT_TIMEOUT).connect_lazy())
}
