//! A reactor that tells players what they have received, its log, and a receiver that notes everything it is told.

use std::sync::Arc;
use std::time::Duration;

use idempo_clock::SystemClock;
use idempo_devstack::testing::{self, TestDatabase, eventually};
use idempo_errors::{Class, Classified};
use idempo_ids::Uuid;
use idempo_kafka::ConsumerConfig;
use idempo_pg::Pool;
use idempo_projection::{
    AfterFailure, EffectId, Event, Interest, Malformed, PostgresEffectLog, Reaction, ReactionOptions, ReactionProgress, Reactor,
};
use idempo_proto::event::v1::EventEnvelope;
use idempo_proto::event::v1::event_envelope::Data;
use idempo_schemas::{Database, REACTOR};
use prost::Message as _;
use prost::bytes::Bytes;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::stage::{PARTITIONS, kafka};
use crate::support::LIMIT;

/// The number of `ItemReceived` among the events.
const ITEM_RECEIVED: u16 = 206;

/// Tells whoever has received an item.
pub(crate) struct Notifier {
    receiver: Pool,
}

/// Who has received something, and with which version of the stream.
pub(crate) struct Notification {
    player: Uuid,
    version: i64,
}

#[derive(Debug, thiserror::Error)]
#[error("the receiver is away")]
pub(crate) struct Away(#[source] idempo_pg::Error);

impl Classified for Away {
    fn class(&self) -> Class {
        Class::Unavailable
    }

    fn code(&self) -> &'static str {
        "RECEIVER_AWAY"
    }
}

impl Reactor for Notifier {
    type Effect = Notification;
    type Error = Away;

    const NAME: &'static str = "notifier";
    const AFTER_FAILURE: AfterFailure = AfterFailure::Wait;
    const AGE_MAX: Duration = Duration::from_secs(20 * 365 * 86_400);
    const TIME_MAX: Duration = Duration::from_secs(30);

    fn interest(event_type: u16) -> Interest {
        match event_type {
            ITEM_RECEIVED => Interest::Consumed,
            100..=299 => Interest::PassedOver,
            _ => Interest::Unknown,
        }
    }

    fn react(event: &Event) -> Result<Vec<Notification>, Malformed> {
        let version = i64::try_from(event.version).map_err(|_| Malformed("version"))?;
        Ok(vec![Notification { player: event.partition_key, version }])
    }

    fn encode(notification: &Notification) -> Bytes {
        [notification.player.as_bytes(), &notification.version.to_be_bytes()[..]].concat().into()
    }

    fn decode(effect: &Bytes) -> Result<Notification, Malformed> {
        let (player, version) = effect.split_at_checked(16).ok_or(Malformed("length"))?;
        let version = i64::from_be_bytes(version.try_into().map_err(|_| Malformed("version"))?);
        Ok(Notification { player: Uuid::from_slice(player).map_err(|_| Malformed("player"))?, version })
    }

    async fn perform(&self, id: EffectId, Notification { player, version }: &Notification) -> Result<(), Away> {
        let told = async {
            let client = self.receiver.get().await?;
            client.execute("INSERT INTO receipt (effect_id, player, version) VALUES ($1, $2, $3)", &[&id.uuid(), player, version]).await?;
            Ok(())
        };
        told.await.map_err(Away)
    }
}

/// The notifier's log, and beside it what its receiver was told.
pub(crate) struct Office {
    database: TestDatabase,
    pool: Pool,
}

/// What the receiver was told: the effect, the player and the version, in the order in which it was.
pub(crate) type Receipts = Vec<(Uuid, Uuid, i64)>;

impl Office {
    pub(crate) async fn new() -> Self {
        let database = testing::database_like(&Database { name: "notifier", sets: &[REACTOR], connect_roles: &[] }).await;
        let pool = Pool::open(&database.superuser()).expect("a pool");
        let table = "CREATE TABLE receipt (place bigserial, effect_id uuid NOT NULL, player uuid NOT NULL, version bigint NOT NULL)";
        pool.get().await.expect("the database answers").batch_execute(table).await.expect("a table");
        Self { database, pool }
    }

    pub(crate) fn name(&self) -> &str {
        self.database.name()
    }

    pub(crate) async fn receipts(&self) -> Receipts {
        let client = self.pool.get().await.expect("the database answers");
        let rows = client.query("SELECT effect_id, player, version FROM receipt ORDER BY place", &[]).await.expect("rows");
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
    }

    /// Every effect in the log, whether it is done, and when it last changed.
    pub(crate) async fn effects(&self) -> Vec<(Uuid, bool, String)> {
        let client = self.pool.get().await.expect("the database answers");
        let sql = "SELECT effect_id, state = 'done', state_changed_at::text FROM reactor.effect ORDER BY effect_id";
        let rows = client.query(sql, &[]).await.expect("rows");
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
    }

    /// How many partitions have begun.
    pub(crate) async fn begun(&self) -> i64 {
        let client = self.pool.get().await.expect("the database answers");
        let sql = "SELECT count(*) FROM reactor.position WHERE next_offset IS NOT NULL";
        client.query_one(sql, &[]).await.expect("a row").get(0)
    }

    /// Waits until so many effects are in the log, and all of them are done.
    pub(crate) async fn all_done(&self, count: usize) {
        eventually(LIMIT, "the effects are done", async || {
            let effects = self.effects().await;
            effects.len() >= count && effects.iter().all(|(_, done, _)| *done)
        })
        .await;
    }
}

/// A process of the notifier, of which the database is known by its name.
pub(crate) fn reaction(database: &str, topic: &str) -> Reaction<Notifier, PostgresEffectLog> {
    let config = testing::cluster().superuser(database);
    let pool = Pool::open(&config).expect("a pool");
    let notifier = Arc::new(Notifier { receiver: Pool::open(&config).expect("a pool") });
    let log = Arc::new(PostgresEffectLog::new::<Notifier>(pool, topic.to_owned()));
    let progress = Arc::new(ReactionProgress::new(SystemClock::shared(), Notifier::NAME));
    let options = ReactionOptions {
        kafka: kafka(),
        consumer: ConsumerConfig { session_timeout_ms: 6_000, instance_id: "notifier".to_owned(), ..ConsumerConfig::default() },
        group_id: format!("{topic}-notifier"),
        topic: topic.to_owned(),
        partitions: PARTITIONS,
    };
    Reaction::new(notifier, log, progress, options)
}

/// The notifier within the test's own process.
pub(crate) struct Running {
    cancel: CancellationToken,
    task: JoinHandle<Result<(), idempo_projection::Error>>,
}

impl Running {
    pub(crate) fn start(office: &Office, topic: &str) -> Self {
        let (cancel, reaction) = (CancellationToken::new(), reaction(office.name(), topic));
        let task = tokio::spawn({
            let cancel = cancel.clone();
            async move { reaction.run(cancel).await }
        });
        Self { cancel, task }
    }

    pub(crate) async fn stop(self) {
        self.cancel.cancel();
        tokio::time::timeout(LIMIT, self.task).await.expect("it ends in time").expect("no panic").expect("no error");
    }
}

/// The effects that these events have, in their order.
pub(crate) fn expected(envelopes: &[EventEnvelope]) -> Vec<Uuid> {
    let received = envelopes.iter().filter(|envelope| matches!(envelope.data, Some(Data::ItemReceived(_))));
    let events = received.map(|envelope| Event::decode(&envelope.encode_to_vec().into()).expect("an event"));
    events.map(|event| EffectId::of(Notifier::NAME, event.event_id, 0).uuid()).collect()
}
