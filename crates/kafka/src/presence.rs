//! Which topics are there.

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::types::RDKafkaRespErr;

use crate::topics::{ADMIN_TIMEOUT, blocking};
use crate::{Config, Error};

/// Those of `topics` that the cluster does not have. One that it has, but that has no leader or may not be read now, is there.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Configuration`].
pub async fn missing_topics(config: &Config, topics: &[String]) -> Result<Vec<String>, Error> {
    let consumer: BaseConsumer =
        config.client()?.create().map_err(|source| Error::Configuration { context: "creating a metadata client", source })?;
    let topics = topics.to_vec();
    blocking(move || {
        let mut missing = Vec::new();
        for topic in topics {
            let metadata = consumer
                .fetch_metadata(Some(&topic), ADMIN_TIMEOUT)
                .map_err(|source| Error::Unavailable { context: "reading a topic's metadata", source })?;
            let error = metadata.topics().first().and_then(|topic| topic.error());
            if error.is_some_and(is_unknown) {
                missing.push(topic);
            }
        }
        Ok(missing)
    })
    .await
}

fn is_unknown(error: RDKafkaRespErr) -> bool {
    RDKafkaErrorCode::from(error) == RDKafkaErrorCode::UnknownTopicOrPartition
}
