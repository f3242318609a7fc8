//! Whether the brokers answer, and have the topics.

use std::time::Duration;

use futures_util::future::join_all;
use idempo_kafka::{Error as KafkaError, TopicEnds};
use idempo_schemas::Topic;

use super::{Check, Finding, in_time};
use crate::context::Context;
use crate::topics::Topics;

/// The brokers, and each of the platform's topics.
pub(super) async fn check(context: &Context, limit: Duration) -> Vec<Check> {
    let brokers = &context.profile().kafka.brokers;
    let topics = match Topics::new(context) {
        Ok(topics) => topics,
        Err(failure) => return vec![Check::failed("kafka", brokers, failure)],
    };
    let there = match tokio::time::timeout(limit, topics.there()).await {
        Ok(Ok(there)) => there,
        Ok(Err(failure)) => return vec![Check::failed("kafka", brokers, failure)],
        Err(_) => return vec![Check::silent(limit, "kafka", brokers)],
    };
    let mut checks = vec![Check::new("kafka", brokers, Finding::Fine, "the brokers answer")];
    let looking = idempo_schemas::topics().topics.iter().map(|topic| {
        let is_there = there.iter().any(|(name, _)| *name == topic.name);
        in_time(limit, "topic", topic.name, one(&topics, topic, is_there))
    });
    checks.extend(join_all(looking).await);
    checks
}

async fn one(topics: &Topics, topic: &Topic, is_there: bool) -> Check {
    if !is_there {
        return Check::new("topic", topic.name, Finding::Wrong, "is not there: a relay makes it when it boots");
    }
    let ends = match TopicEnds::new(topics.config(), topic.name, topic.partitions) {
        Ok(ends) => ends,
        Err(error) => return Check::failed("topic", topic.name, crate::topics::wrong(error)),
    };
    match ends.check().await {
        Ok(()) => Check::new("topic", topic.name, Finding::Fine, format!("{} partitions", topic.partitions)),
        Err(error @ KafkaError::Unavailable { .. }) => Check::new("topic", topic.name, Finding::Away, error.to_string()),
        Err(error) => Check::new("topic", topic.name, Finding::Wrong, error.to_string()),
    }
}
