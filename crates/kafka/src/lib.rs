//! The platform's way into Kafka, and the only crate that knows rdkafka.
//!
//! In the flow: the relay sends through [`Producer`] and looks after a take-over through [`LogReader`]; projectors read through [`Consumer`]; both boot through [`ensure_topics`].
//!
//! Invariants kept here:
//! * Every record has an explicit partition, [`partition_of`] its key: murmur2, as Java clients do. librdkafka's own default is another hash.
//! * A producer never leaves a gap: idempotent, all in-sync replicas, no message timeout, and an error that could leave one is fatal.
//! * A consumer never decides by itself where to begin: the position lives with the effect, so whoever holds it is asked at each assignment.
//!   Kafka's group offsets are written as a hint for lag tools and never read.
//! * Nothing is buffered without a limit: records, bytes and waits have named bounds.
//!
//! What it does not do: decode values, retry handlers, or know a topic by name.

pub mod by_hand;
mod config;
mod consumer;
mod error;
mod log;
mod opening;
mod partition;
mod presence;
mod producer;
mod topics;
mod transactions;

pub use config::Config;
pub use consumer::{
    Assigned, Consumer, ConsumerConfig, Event, Events, PartitionStream, Record, RecordHeaders, Revoked, StartOffset, TopicPartition,
};
pub use error::{Error, Refusal};
pub use log::{Bounds, LogReader, LogRecord, ReadEnd, ReadLimit, Stretch, Visibility};
pub use partition::{murmur2, partition_of};
pub use presence::missing_topics;
pub use producer::{Delivery, Outgoing, Producer, ProducerConfig, SendError, Verbatim};
pub use topics::{Copies, TopicEnds, TopicSpec, ensure_topics, topic_specs, watermarks};
pub use transactions::TransactionError;
