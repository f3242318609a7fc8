//! What can go wrong with the broker, by what the caller can do about it.

use idempo_errors::{Class, Classified};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// An error of the broker or of its client.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The broker is away or slow. The same call may succeed later.
    #[error("Kafka is unavailable: {context}")]
    Unavailable {
        /// What was tried.
        context: &'static str,
        /// What the client said.
        #[source]
        source: KafkaError,
    },
    /// The client can't work with its configuration.
    #[error("Kafka client configuration: {context}")]
    Configuration {
        /// What was tried.
        context: &'static str,
        /// What the client said.
        #[source]
        source: KafkaError,
    },
    /// A property that may not be set through the configuration, because an invariant of this crate hangs on it.
    #[error("the Kafka property {property} may not be set")]
    ForbiddenProperty {
        /// The property's name.
        property: String,
    },
    /// A topic is not as `topics.yaml` has it.
    #[error("topic {topic} has {found} partitions, but {expected} are required")]
    Partitions {
        /// The topic's name.
        topic: String,
        /// Partitions that it has.
        found: usize,
        /// Partitions that it must have.
        expected: usize,
    },
    /// The brokers do not have the topic.
    #[error("there is no topic {topic}")]
    TopicMissing {
        /// The topic's name.
        topic: String,
    },
    /// A topic could not be made.
    #[error("topic {topic} could not be made: {code}")]
    TopicRefused {
        /// The topic's name.
        topic: String,
        /// What the broker said.
        code: RDKafkaErrorCode,
    },
    /// The position to begin at is not in the log: retention has removed it, or the topic is another one than it was.
    #[error("{partition} has the offsets {low} to {high}, but reading must begin at {wanted}")]
    OffsetOutOfRange {
        /// The partition.
        partition: crate::TopicPartition,
        /// The offset that was asked for.
        wanted: i64,
        /// The first offset that is kept.
        low: i64,
        /// The offset of the next record.
        high: i64,
    },
    /// The client has stopped for good and a new one is needed.
    #[error("the Kafka client has failed: {context}")]
    Fatal {
        /// What was tried.
        context: &'static str,
        /// What the client said.
        #[source]
        source: KafkaError,
    },
    /// The group has given this member's place to another one with the same instance id, and a new client is needed. That may be another process; or
    /// this one's own membership before the last, of which a request was still under way when its session ended (brokers that were away for so long).
    #[error("another member of the group has the instance id {instance_id}")]
    Fenced {
        /// The instance id.
        instance_id: String,
    },
    /// The thread that serves the client could not be started.
    #[error("a thread for the Kafka client could not be started")]
    Thread(#[source] std::io::Error),
}

impl Classified for Error {
    fn class(&self) -> Class {
        match self {
            Self::Unavailable { .. } | Self::Fatal { .. } | Self::Fenced { .. } => Class::Unavailable,
            Self::Configuration { .. } | Self::ForbiddenProperty { .. } => Class::Invalid,
            Self::Partitions { .. }
            | Self::TopicMissing { .. }
            | Self::TopicRefused { .. }
            | Self::OffsetOutOfRange { .. }
            | Self::Thread(_) => Class::Internal,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "KAFKA_UNAVAILABLE",
            Self::Fatal { .. } => "KAFKA_CLIENT_FAILED",
            Self::Fenced { .. } => "KAFKA_MEMBER_FENCED",
            Self::Configuration { .. } => "KAFKA_CONFIGURATION",
            Self::ForbiddenProperty { .. } => "KAFKA_PROPERTY_FORBIDDEN",
            Self::Partitions { .. } => "KAFKA_TOPIC_PARTITIONS",
            Self::TopicMissing { .. } => "KAFKA_TOPIC_MISSING",
            Self::TopicRefused { .. } => "KAFKA_TOPIC_REFUSED",
            Self::OffsetOutOfRange { .. } => "KAFKA_OFFSET_OUT_OF_RANGE",
            Self::Thread(_) => "KAFKA_THREAD",
        }
    }
}

/// Why the broker will never take a record as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// It is larger than the client or the broker allows.
    TooLarge,
    /// Its topic does not exist.
    UnknownTopic,
    /// Its topic has no such partition.
    UnknownPartition,
    /// This principal may not write to its topic.
    NotAuthorised,
    /// The broker says that the record itself is invalid.
    Invalid,
}

impl Refusal {
    /// The refusal as a metric label and in logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::UnknownTopic => "unknown_topic",
            Self::UnknownPartition => "unknown_partition",
            Self::NotAuthorised => "not_authorised",
            Self::Invalid => "invalid",
        }
    }

    /// The refusal behind an error code, unless the code says something else.
    pub(crate) fn of(code: RDKafkaErrorCode) -> Option<Self> {
        match code {
            RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::MessageBatchTooLarge => Some(Self::TooLarge),
            RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic | RDKafkaErrorCode::InvalidTopic => {
                Some(Self::UnknownTopic)
            }
            RDKafkaErrorCode::UnknownPartition => Some(Self::UnknownPartition),
            RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed => Some(Self::NotAuthorised),
            RDKafkaErrorCode::InvalidMessage
            | RDKafkaErrorCode::InvalidTimestamp
            | RDKafkaErrorCode::InvalidRecord
            | RDKafkaErrorCode::PolicyViolation => Some(Self::Invalid),
            _ => None,
        }
    }
}
