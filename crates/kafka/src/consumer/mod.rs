//! Reading topics for a read model that keeps its own position.
//!
//! One thread owns the librdkafka consumer, and rebalances are settled there. On an assignment it asks the runtime, through [`Events`], where
//! each partition begins, and assigns exactly there; on a revocation it cuts the streams and waits, for a bounded time, until the runtime says
//! that their tasks have stopped. A rebalance takes all partitions of a member and gives it all that it has from then on (see `client`); a member
//! with an instance id that only starts again causes none.
//!
//! Each partition has a queue of its own in librdkafka, and a bounded channel to its task. When the channel is full, the queue is not read; when
//! it is full too, librdkafka stops fetching. Nothing that was fetched is thrown away, as it would be by pausing the partition.

mod client;
mod context;
mod headers;
mod rebalance;
mod stream;
mod thread;

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::{Config, Error};

pub use headers::RecordHeaders;
pub use rebalance::{Assigned, Revoked, StartOffset};
pub use stream::{PartitionStream, Record};

/// Rebalances and failures that wait for the runtime; the thread goes on serving partitions when it is full.
const EVENTS_MAX: usize = 64;

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// The partition with this number of a topic.
    #[must_use]
    pub fn new(topic: &str, partition: i32) -> Self {
        Self { topic: Arc::from(topic), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// How a consumer reads.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConsumerConfig {
    /// The group among whose members partitions are shared out.
    pub group_id: String,
    /// This member's name in the group, its own among all members; none when empty. A member that has one and starts again within
    /// `session_timeout_ms` gets its partitions back at once, also after a crash, and does not give them up when it ends: they are others' only
    /// when that time has passed.
    pub instance_id: String,
    /// The topics to read.
    pub topics: Vec<String>,
    /// The most records of a partition that wait for its task, 1 or more.
    pub buffer_records: usize,
    /// The most bytes of a partition that wait in librdkafka behind those, in KiB.
    pub fetch_queue_kib: u32,
    /// How long a revocation waits for the partitions' tasks to stop, in milliseconds.
    pub revoke_wait_ms: u64,
    /// After how long without a heartbeat the broker takes the partitions away, in milliseconds.
    pub session_timeout_ms: u32,
    /// How often the group's offsets are written, for lag tools, in milliseconds.
    pub hint_interval_ms: u64,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            group_id: String::new(),
            instance_id: String::new(),
            topics: Vec::new(),
            buffer_records: 8_192,
            fetch_queue_kib: 4_096,
            revoke_wait_ms: 10_000,
            session_timeout_ms: 10_000,
            hint_interval_ms: 5_000,
        }
    }
}

/// What a consumer has to say.
#[derive(Debug)]
pub enum Event {
    /// Partitions came; nothing of them is read until this is answered.
    Assigned(Assigned),
    /// Partitions went; their streams have ended.
    Revoked(Revoked),
    /// A partition can't be read, and its stream has ended; or nothing can be read any more (`None`).
    Failed {
        /// The partition, or all.
        partition: Option<TopicPartition>,
        /// Why.
        error: Error,
    },
}

/// What a consumer has to say, in order.
#[derive(Debug)]
pub struct Events {
    receiver: mpsc::Receiver<Event>,
}

impl Events {
    /// The next event; `None` once the consumer is closed.
    ///
    /// # Cancel safety
    /// Safe: no event is lost.
    pub async fn next(&mut self) -> Option<Event> {
        self.receiver.recv().await
    }
}

/// A member of a consumer group. Dropping it leaves the group, without waiting for that.
#[derive(Debug)]
pub struct Consumer {
    waker: Arc<thread::Waker>,
    closed: Option<oneshot::Receiver<()>>,
}

impl Consumer {
    /// Starts the thread and joins the group.
    ///
    /// # Errors
    /// [`Error::Configuration`], [`Error::ForbiddenProperty`], [`Error::Thread`].
    pub fn start(kafka: &Config, config: &ConsumerConfig) -> Result<(Self, Events), Error> {
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let waker = Arc::new(thread::Waker::default());
        let closed = thread::start(kafka, config, events, Arc::clone(&waker))?;
        Ok((Self { waker, closed: Some(closed) }, Events { receiver }))
    }

    /// Leaves the group and waits until the thread has ended. Partition tasks are to be stopped before.
    ///
    /// # Cancel safety
    /// Dropping it leaves the group without waiting.
    pub async fn close(mut self) {
        self.waker.close();
        if let Some(closed) = self.closed.take() {
            // An error says that the thread is gone, which is what is waited for.
            let _ = closed.await;
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.waker.close();
    }
}
