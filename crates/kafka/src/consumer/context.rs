//! What librdkafka calls back: rebalances, statistics, errors.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use super::TopicPartition;

/// A rebalance that the thread has to settle, outside the callback.
#[derive(Debug)]
pub(super) enum Rebalance {
    Assign(Vec<TopicPartition>),
    Revoke { partitions: Vec<TopicPartition>, lost: bool },
}

/// The callbacks. They run on the thread that polls, inside the poll.
#[derive(Debug, Default)]
pub(super) struct Context {
    rebalances: Mutex<VecDeque<Rebalance>>,
    closing: AtomicBool,
    watermarks: Mutex<HashMap<TopicPartition, Arc<AtomicI64>>>,
    brokers_down: AtomicBool,
}

/// Whether an error is a connection that was lost or can't be made. librdkafka makes it again and again, and reports each failure twice.
pub(super) fn is_lost_connection(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, Resolve};
    matches!(error.rdkafka_error_code(), Some(AllBrokersDown | BrokerTransportFailure | Resolve))
}

impl Context {
    pub(super) fn next_rebalance(&self) -> Option<Rebalance> {
        lock(&self.rebalances).pop_front()
    }

    /// From now on rebalances are settled inside the callback: partitions only go.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Whether every broker was away when they were last heard of.
    pub(super) fn is_without_brokers(&self) -> bool {
        self.brokers_down.load(Ordering::Acquire)
    }

    pub(super) fn watch(&self, partition: TopicPartition, high_watermark: Arc<AtomicI64>) {
        lock(&self.watermarks).insert(partition, high_watermark);
    }

    pub(super) fn unwatch(&self, partition: &TopicPartition) {
        lock(&self.watermarks).remove(partition);
    }
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        crate::config::log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        if statistics.brokers.values().any(|broker| broker.state == "UP") && self.brokers_down.swap(false, Ordering::AcqRel) {
            tracing::info!("a Kafka broker is there again");
        }
        for (watched, high_watermark) in &*lock(&self.watermarks) {
            let partition = statistics.topics.get(&*watched.topic).and_then(|topic| topic.partitions.get(&watched.partition));
            if let Some(partition) = partition {
                high_watermark.fetch_max(partition.ls_offset.max(partition.hi_offset), Ordering::Relaxed);
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) && !self.brokers_down.swap(true, Ordering::AcqRel) {
            tracing::warn!(reason, "every Kafka broker is away");
        } else if error.rdkafka_error_code() == Some(RDKafkaErrorCode::FencedInstanceId) {
            tracing::debug!(reason, "the group has given the member's place to another one");
        } else if is_lost_connection(&error) {
            tracing::debug!(%error, reason, "the Kafka consumer reports a lost connection");
        } else {
            tracing::warn!(%error, reason, "the Kafka consumer reports an error");
        }
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, code: RDKafkaRespErr, list: &mut TopicPartitionList) {
        if self.closing.load(Ordering::Acquire) {
            settle_while_closing(consumer);
            return;
        }
        let partitions: Vec<_> = list.elements().iter().map(|element| TopicPartition::new(element.topic(), element.partition())).collect();
        let rebalance = match code {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Rebalance::Assign(partitions),
            _ => Rebalance::Revoke { partitions, lost: consumer.assignment_lost() },
        };
        lock(&self.rebalances).push_back(rebalance);
    }

    fn commit_callback(&self, result: KafkaResult<()>, _offsets: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::debug!(%error, "the group's offsets, a hint for lag tools, were not written");
        }
    }
}

/// Gives up what goes, and takes nothing that comes.
fn settle_while_closing(consumer: &BaseConsumer<Context>) {
    if let Err(error) = consumer.unassign() {
        tracing::warn!(%error, "a rebalance could not be settled while closing");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
