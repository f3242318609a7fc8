//! What people do to topics, and the platform never does: for tests that prove what follows from it.

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaError;

use crate::topics::ADMIN_TIMEOUT;
use crate::{Config, Error};

/// Deletes a topic, with all that is in it.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::TopicRefused`], [`Error::Configuration`].
pub async fn delete_topic(config: &Config, topic: &str) -> Result<(), Error> {
    let deleted = admin(config)?.delete_topics(&[topic], &options()).await;
    judge(deleted.map(|results| results.into_iter().next()), "deleting a topic")
}

/// Sets a property of a topic; its others get their defaults.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::TopicRefused`], [`Error::Configuration`].
pub async fn set_topic_property(config: &Config, topic: &str, property: &str, value: &str) -> Result<(), Error> {
    let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(property, value);
    let altered = admin(config)?.alter_configs(&[change], &options()).await;
    let altered = altered.map(|results| {
        results.into_iter().next().map(|result| result.map(|_| topic.to_owned()).map_err(|(_, code)| (topic.to_owned(), code)))
    });
    judge(altered, "setting a topic's property")
}

type Answer = Option<Result<String, (String, rdkafka::error::RDKafkaErrorCode)>>;

fn judge(answer: Result<Answer, KafkaError>, context: &'static str) -> Result<(), Error> {
    match answer {
        Ok(Some(Err((topic, code)))) => Err(Error::TopicRefused { topic, code }),
        Ok(_) => Ok(()),
        Err(source) => Err(Error::Unavailable { context, source }),
    }
}

fn admin(config: &Config) -> Result<AdminClient<DefaultClientContext>, Error> {
    config.client()?.create().map_err(|source| Error::Configuration { context: "creating an admin client", source })
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(ADMIN_TIMEOUT)).operation_timeout(Some(ADMIN_TIMEOUT))
}
