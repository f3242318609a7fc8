//! Kafka as the bench sees it: topics on the broker's clock, a bare producer loop, and what the broker has.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

use super::rows::{Headers, Rows, TRACEPARENT};

/// The partitions of a bench's topic, as many as `economy-events` has.
pub(super) const PARTITIONS: i32 = 12;
/// How long the broker is waited for, in each call.
const BROKER_WAIT: Duration = Duration::from_secs(30);
/// The pause between two looks at whether a topic is there.
const TOPIC_PAUSE: Duration = Duration::from_millis(20);

/// A topic that the broker stamps with its own clock when it appends.
pub(super) async fn make_topic(brokers: &str, name: &str) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let topic = NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1)).set("message.timestamp.type", "LogAppendTime");
    for result in admin.create_topics([&topic], &AdminOptions::new()).await? {
        result.map_err(|(name, code)| anyhow::anyhow!("{name}: {code}"))?;
    }
    // The controller has made it; the broker shows it a moment later.
    let (consumer, began) = (consumer(brokers)?, Instant::now());
    loop {
        match tokio::task::block_in_place(|| count(&consumer, name)) {
            Ok(_) => return Ok(()),
            Err(error) if began.elapsed() > BROKER_WAIT => return Err(error),
            Err(_) => tokio::time::sleep(TOPIC_PAUSE).await,
        }
    }
}

/// Sends rows as records, with the guarantees of the relay and nothing of its work.
pub(super) struct BareProducer {
    producer: ThreadedProducer<DefaultProducerContext>,
    buffer: Vec<u8>,
}

impl BareProducer {
    /// Waits for others to share a request for `linger_ms`.
    pub(super) fn new(brokers: &str, linger_ms: u32) -> anyhow::Result<Self> {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("compression.type", "lz4")
            .set("linger.ms", linger_ms.to_string())
            .set("batch.size", "1000000")
            .set("queue.buffering.max.messages", "200000")
            .set("queue.buffering.max.kbytes", "262144")
            .create()?;
        Ok(Self { producer, buffer: Vec::new() })
    }

    /// Hands over the `number`-th row as a record, waiting for room.
    pub(super) fn send(&mut self, rows: &Rows, topic: &str, number: u32, headers: Headers) -> anyhow::Result<()> {
        let key = rows.key(number)?;
        rows.payload(number, &mut self.buffer)?;
        let mut next = BaseRecord::to(topic).key(key.text.as_bytes()).payload(self.buffer.as_slice()).partition(key.partition);
        if headers == Headers::Traceparent {
            next = next.headers(OwnedHeaders::new_with_capacity(1).insert(Header { key: "traceparent", value: Some(TRACEPARENT) }));
        }
        loop {
            match self.producer.send(next) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    next = back;
                    self.producer.poll(Duration::from_millis(1));
                }
                Err((error, _)) => bail!(error),
            }
        }
    }

    /// Waits until the broker has everything.
    pub(super) fn flush(&self) -> anyhow::Result<()> {
        Ok(self.producer.flush(BROKER_WAIT)?)
    }
}

/// A client to read with.
pub(super) fn consumer(brokers: &str) -> anyhow::Result<BaseConsumer> {
    Ok(ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "idempo-bench")
        .set("enable.auto.commit", "false")
        .set("fetch.queue.backoff.ms", "10")
        .create()?)
}

/// Where each partition of a topic ends.
pub(super) fn ends(consumer: &BaseConsumer, topic: &str) -> anyhow::Result<Vec<i64>> {
    (0..PARTITIONS).map(|partition| Ok(consumer.fetch_watermarks(topic, partition, BROKER_WAIT)?.1)).collect()
}

/// How many records the topic has. Nothing is ever taken out of it.
pub(super) fn count(consumer: &BaseConsumer, topic: &str) -> anyhow::Result<u64> {
    Ok(u64::try_from(ends(consumer, topic)?.iter().sum::<i64>())?)
}

/// Reads a topic from these offsets to its end as it is now.
pub(super) fn read(
    consumer: &BaseConsumer,
    topic: &str,
    from: &[i64],
    mut each: impl FnMut(&BorrowedMessage<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<u64> {
    assign(consumer, topic, from)?;
    let missing: i64 = ends(consumer, topic)?.iter().zip(from).map(|(end, from)| end - from).sum();
    let records = u64::try_from(missing)?;
    for _ in 0..records {
        let message = consumer.poll(BROKER_WAIT).context("the topic ended early")??;
        each(&message)?;
    }
    consumer.unassign()?;
    Ok(records)
}

/// Begins to read each partition of a topic at its offset.
pub(super) fn assign(consumer: &BaseConsumer, topic: &str, from: &[i64]) -> anyhow::Result<()> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in (0_i32..).zip(from) {
        list.add_partition_offset(topic, partition, Offset::Offset(*offset))?;
    }
    Ok(consumer.assign(&list)?)
}

/// When the broker appended a record, in milliseconds since 1970.
pub(super) fn appended_ms(message: &BorrowedMessage<'_>) -> anyhow::Result<i64> {
    message.timestamp().to_millis().context("a record without a time")
}

/// The time from the first to the last append of a topic, on the broker's clock: from the two ends of each partition, between which it only grows.
pub(super) fn span(consumer: &BaseConsumer, topic: &str) -> anyhow::Result<Duration> {
    let (mut first, mut last) = (i64::MAX, 0);
    for (partition, end) in (0_i32..).zip(ends(consumer, topic)?) {
        for offset in [0, end - 1] {
            if end > 0 {
                let mut one = TopicPartitionList::new();
                one.add_partition_offset(topic, partition, Offset::Offset(offset))?;
                consumer.assign(&one)?;
                let message = consumer.poll(BROKER_WAIT).context("the topic ended early")??;
                let at = appended_ms(&message)?;
                (first, last) = (first.min(at), last.max(at));
            }
        }
    }
    consumer.unassign()?;
    Ok(Duration::from_millis(u64::try_from(last.saturating_sub(first))?.max(1)))
}
