//! Sending without gaps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext as _, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext, PurgeConfig};
use serde::{Deserialize, Serialize};

use crate::opening::{Openings, Way};
use crate::{Config, Error, Refusal};

/// The longest that one poll for deliveries waits. Deliveries end it; the rest is for noticing that the producer is gone.
const POLL_WAIT: Duration = Duration::from_millis(500);
/// How long a look for the brokers waits for an answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// The most connections to a broker.
const CONNECTIONS_MAX: u32 = 8;
/// Set in the number of a record that opens its partition. Nobody has so many records under way.
const OPENS: usize = 1 << (usize::BITS - 1);

/// How a producer batches, and how much it holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProducerConfig {
    /// How long a record may wait for others to share its request, in microseconds.
    pub linger_us: u32,
    /// The most bytes of one request for one partition.
    pub batch_bytes: u32,
    /// The most records that are not yet acknowledged; each connection has an equal part of it.
    pub queue_records_max: u32,
    /// The most bytes that are not yet acknowledged, in KiB; each connection has an equal part of it.
    pub queue_kib_max: u32,
    /// The most records of one request for one partition.
    pub batch_records_max: u32,
    /// The largest record, in bytes. A larger one is refused before it is sent.
    pub record_bytes_max: u32,
    /// How requests are compressed: `none`, `lz4` or `zstd`.
    pub compression: String,
    /// Connections to each broker, 1 to 8, each for its own part of the partitions. On one of them five requests are under way at most, each for one
    /// partition: where few records come for each of many partitions, that is what bounds their rate and makes them wait.
    pub connections: u32,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            linger_us: 500,
            batch_bytes: 524_288,
            batch_records_max: 10_000,
            record_bytes_max: 1_000_000,
            queue_records_max: 65_536,
            queue_kib_max: 65_536,
            compression: "lz4".to_owned(),
            connections: 2,
        }
    }
}

impl ProducerConfig {
    /// Checks what the types can't say.
    ///
    /// # Errors
    /// The setting that can't be used, and why.
    pub const fn validate(&self) -> Result<(), (&'static str, &'static str)> {
        if self.connections < 1 || self.connections > CONNECTIONS_MAX {
            return Err(("connections", "must be 1 to 8"));
        }
        Ok(())
    }
}

/// A record to be sent.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Its partition; see [`crate::partition_of`].
    pub partition: i32,
    /// Its key.
    pub key: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
    /// Its headers. They are dear: two of them can halve a producer's rate.
    pub headers: &'a [(&'a str, &'a [u8])],
}

/// A record to be sent as it is, whatever it lacks: a copy of one that came from elsewhere.
#[derive(Debug, Clone, Copy)]
pub struct Verbatim<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Its partition; see [`crate::partition_of`].
    pub partition: i32,
    /// Its key, if any.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` for a tombstone.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
}

/// Why a record was not taken over for sending.
#[derive(Debug)]
pub enum SendError {
    /// The queue is full, or the partition's first record is not acknowledged yet; there is room after the next deliveries.
    Full,
    /// The broker would never take it.
    Refused(Refusal),
    /// The client has stopped for good.
    Fatal(Error),
}

/// What became of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// All in-sync replicas have it.
    Acknowledged {
        /// Its offset in its partition; unknown where the broker had it already from an earlier try of the same request.
        offset: Option<i64>,
    },
    /// It was thrown out of the queue by [`Producer::purge`]; the broker may have it or not.
    Purged,
    /// The broker will never take it.
    Refused(Refusal),
    /// The client has given up; the broker may have it or not. Nothing after it is to be sent by this producer.
    Failed(RDKafkaErrorCode),
}

/// Hears of deliveries, on the producer's own thread: by partition in the order of sending. The number is the one given to [`Producer::send`].
pub(crate) type OnDelivery = dyn Fn(usize, Delivery) + Send + Sync;

pub(crate) struct Context {
    on_delivery: Arc<OnDelivery>,
    openings: Openings,
    brokers_down: AtomicBool,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        crate::config::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            if !self.brokers_down.swap(true, Ordering::AcqRel) {
                tracing::warn!(reason, "every Kafka broker is away");
            }
            return;
        }
        tracing::debug!(%error, reason, "the Kafka producer reports an error");
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        if number & OPENS != 0 {
            // Before anybody is told, who may send the next one then.
            match result {
                Ok(message) => self.openings.opened(message.topic(), message.partition()),
                Err((_, message)) => self.openings.failed(message.topic(), message.partition()),
            }
        }
        let number = number & !OPENS;
        let delivery = match result {
            Ok(message) => {
                self.brokers_down.store(false, Ordering::Release);
                let offset = message.offset();
                Delivery::Acknowledged { offset: (offset >= 0).then_some(offset) }
            }
            Err((error, _)) => match error.rdkafka_error_code() {
                Some(RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight) => Delivery::Purged,
                Some(code) => Refusal::of(code).map_or(Delivery::Failed(code), Delivery::Refused),
                None => Delivery::Failed(RDKafkaErrorCode::Fail),
            },
        };
        (self.on_delivery)(number, delivery);
    }
}

/// An idempotent producer: per partition, what the broker has is a gapless beginning of what was sent. Brokers and client keep that between records
/// of which the broker has one before; that the first one is never overtaken is kept here, by sending it alone (see `opening.rs`).
///
/// Nothing times out: a record waits until the broker takes it, however long that is. What can't be sent at all is fatal for the producer, so
/// that nothing behind it passes. One with transactions ([`Producer::start_transactional`]) is different in both: a transaction in which a
/// record fails or is too late can't be committed.
///
/// It is made of clients, each with a connection of its own to each broker. A partition has one of them for as long as the producer lives, so what is
/// true of one client for each of its partitions is true of the producer; between partitions nothing is promised either way.
pub struct Producer {
    clients: Vec<Client>,
}

/// One of a producer's clients, with its thread.
struct Client {
    inner: Arc<BaseProducer<Context>>,
    ending: Arc<AtomicBool>,
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Producer").field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}

impl Client {
    fn start(config: &ClientConfig, on_delivery: Arc<OnDelivery>) -> Result<Self, Error> {
        let context = Context { on_delivery, openings: Openings::default(), brokers_down: AtomicBool::new(false) };
        let inner = BaseProducer::from_config_and_context(config, context)
            .map_err(|source| Error::Configuration { context: "creating a producer", source })?;
        let inner = Arc::new(inner);
        let ending = Arc::new(AtomicBool::new(false));
        let (polled, ends) = (Arc::clone(&inner), Arc::clone(&ending));
        std::thread::Builder::new()
            .name("kafka-producer".to_owned())
            .spawn(move || {
                while !ends.load(Ordering::Acquire) {
                    polled.poll(POLL_WAIT);
                }
            })
            .map_err(Error::Thread)?;
        Ok(Self { inner, ending })
    }

    fn brokers_down(&self) -> bool {
        self.inner.client().context().brokers_down.load(Ordering::Acquire)
    }

    fn purge(&self) {
        self.inner.purge(PurgeConfig::default().queue().inflight());
    }
}

impl Drop for Client {
    /// Throws away what is not acknowledged. The thread tells of it, then ends by itself.
    fn drop(&mut self) {
        self.purge();
        self.ending.store(true, Ordering::Release);
    }
}

impl Producer {
    /// Starts the clients, and the threads on which `on_delivery` is called.
    ///
    /// # Errors
    /// [`Error::Configuration`], [`Error::ForbiddenProperty`], [`Error::Thread`].
    pub fn start(
        kafka: &Config,
        config: &ProducerConfig,
        on_delivery: impl Fn(usize, Delivery) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let connections = config.connections.clamp(1, CONNECTIONS_MAX);
        let mut client = client_config(kafka, config, connections)?;
        client.set("enable.gapless.guarantee", "true").set("message.timeout.ms", "0");
        Self::start_with(&client, connections, Arc::new(on_delivery))
    }

    pub(crate) fn start_with(client: &ClientConfig, connections: u32, on_delivery: Arc<OnDelivery>) -> Result<Self, Error> {
        let clients = (0..connections).map(|_| Client::start(client, Arc::clone(&on_delivery)));
        Ok(Self { clients: clients.collect::<Result<_, _>>()? })
    }

    /// The client of a partition.
    fn client(&self, partition: i32) -> Option<&Client> {
        let place = usize::try_from(partition).unwrap_or(0).checked_rem(self.clients.len())?;
        self.clients.get(place)
    }

    /// The one client of a producer with transactions.
    pub(crate) fn only(&self) -> Result<&BaseProducer<Context>, KafkaError> {
        self.clients.first().map(|client| &*client.inner).ok_or(KafkaError::Canceled)
    }

    /// Takes a record over for sending; what becomes of it is told with `number`, which is below 2⁶³. Never blocks.
    ///
    /// The first record for a partition goes alone: until it is acknowledged, there is no room for others of that partition.
    ///
    /// # Errors
    /// [`SendError`]; then nothing will be told of it.
    pub fn send(&self, record: &Outgoing<'_>, number: usize) -> Result<(), SendError> {
        let mut message: BaseRecord<'_, [u8], [u8], usize> =
            BaseRecord::with_opaque_to(record.topic, number).partition(record.partition).key(record.key).payload(record.value);
        if !record.headers.is_empty() {
            let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
            for &(key, value) in record.headers {
                headers = headers.insert(Header { key, value: Some(value) });
            }
            message = message.headers(headers);
        }
        self.take_over(message, record.partition)
    }

    /// The same for a record that may lack a key or a value.
    ///
    /// # Errors
    /// [`SendError`]; then nothing will be told of it.
    pub fn send_verbatim(&self, record: &Verbatim<'_>, number: usize) -> Result<(), SendError> {
        let mut message: BaseRecord<'_, [u8], [u8], usize> = BaseRecord::with_opaque_to(record.topic, number).partition(record.partition);
        (message.key, message.payload) = (record.key, record.value);
        let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
        for &(key, value) in record.headers {
            headers = headers.insert(Header { key, value });
        }
        self.take_over(message.headers(headers), record.partition)
    }

    fn take_over(&self, mut message: BaseRecord<'_, [u8], [u8], usize>, partition: i32) -> Result<(), SendError> {
        let client =
            self.client(partition).ok_or_else(|| SendError::Fatal(Error::Fatal { context: "sending", source: KafkaError::Canceled }))?;
        let openings = &client.inner.client().context().openings;
        let (topic, way) = (message.topic, openings.way(message.topic, partition));
        match way {
            Way::Wait => return Err(SendError::Full),
            Way::Alone => message.delivery_opaque |= OPENS,
            Way::Free => {}
        }
        let Err((source, _)) = client.inner.send(message) else { return Ok(()) };
        if way == Way::Alone {
            openings.failed(topic, partition);
        }
        match source.rdkafka_error_code() {
            Some(RDKafkaErrorCode::QueueFull) => Err(SendError::Full),
            Some(code) => match Refusal::of(code) {
                Some(refusal) => Err(SendError::Refused(refusal)),
                None => Err(SendError::Fatal(Error::Fatal { context: "sending", source })),
            },
            None => Err(SendError::Fatal(Error::Fatal { context: "sending", source })),
        }
    }

    /// Throws away everything that is not yet acknowledged. Each record is told of as [`Delivery::Purged`]; those that were under way may reach
    /// the broker all the same.
    pub fn purge(&self) {
        self.clients.iter().for_each(Client::purge);
    }

    /// Records that are not yet acknowledged or told of.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.clients.iter().map(|client| usize::try_from(client.inner.in_flight_count()).unwrap_or(0)).sum()
    }

    /// Whether the last that was heard on any connection is that every broker is away.
    #[must_use]
    pub fn brokers_down(&self) -> bool {
        self.clients.iter().any(Client::brokers_down)
    }

    /// Asks the brokers for a sign of life, and remembers that there was one. Blocks for up to two seconds for each connection: call it where blocking
    /// is allowed.
    #[must_use]
    pub fn probe_blocking(&self) -> bool {
        self.clients.iter().all(|client| {
            let alive = client.inner.client().fetch_metadata(None, PROBE_TIMEOUT).is_ok();
            if alive {
                client.inner.client().context().brokers_down.store(false, Ordering::Release);
            }
            alive
        })
    }
}

/// What every client of a producer has in common; `connections` of them share its queue.
pub(crate) fn client_config(kafka: &Config, config: &ProducerConfig, connections: u32) -> Result<ClientConfig, Error> {
    let mut client = kafka.client()?;
    let linger_us = config.linger_us;
    client
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("max.in.flight.requests.per.connection", "5")
        .set("linger.ms", format!("{}.{:03}", linger_us / 1_000, linger_us % 1_000))
        .set("batch.size", config.batch_bytes.to_string())
        .set("batch.num.messages", config.batch_records_max.to_string())
        .set("message.max.bytes", config.record_bytes_max.to_string())
        .set("queue.buffering.max.messages", config.queue_records_max.div_ceil(connections).to_string())
        .set("queue.buffering.max.kbytes", config.queue_kib_max.div_ceil(connections).to_string())
        .set("retry.backoff.ms", "50")
        .set("retry.backoff.max.ms", "500")
        .set("compression.codec", &config.compression);
    Ok(client)
}
