//! Topics are made as `topics.yaml` has them, and found to be so.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::{Config, Error};

/// The longest that one request about topics takes.
pub(crate) const ADMIN_TIMEOUT: Duration = Duration::from_secs(15);
/// How often a new topic is looked for until every broker knows it.
const VERIFY_INTERVAL: Duration = Duration::from_millis(50);
/// The most looks.
const VERIFY_ATTEMPTS_MAX: u32 = 200;

/// The largest request to a dead-letter topic, in bytes: twice what other topics take by Kafka's default.
const DEAD_LETTER_BYTES_MAX: &str = "2097176";

/// Which of the copies in `topics.yaml` a cluster has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Copies {
    /// Those of production.
    Production,
    /// Those of one machine.
    Local,
}

/// A topic as it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// Partitions; a different number is refused.
    pub partitions: i32,
    /// How long records are kept, in hours.
    pub retention_hours: u32,
    /// Brokers that hold each partition.
    pub replication: i16,
    /// Brokers that must have a record before it counts as written.
    pub min_insync: i16,
}

/// Every topic and dead-letter topic of the platform, with `prefix` before each name (empty, but for tests).
#[must_use]
pub fn topic_specs(topics: &idempo_schemas::Topics, copies: Copies, prefix: &str) -> Vec<TopicSpec> {
    let replication = match copies {
        Copies::Production => topics.production,
        Copies::Local => topics.local,
    };
    let spec = |name: &str, partitions, retention_hours| TopicSpec {
        name: format!("{prefix}{name}"),
        partitions,
        retention_hours,
        replication: replication.factor,
        min_insync: replication.min_insync,
    };
    let main = topics.topics.iter().map(|topic| spec(topic.name, topic.partitions, topic.retention_hours));
    let dead =
        topics.topics.iter().map(|topic| spec(topic.dead_letter, topics.dead_letters.partitions, topics.dead_letters.retention_hours));
    main.chain(dead).collect()
}

/// Makes the topics that are missing, and waits until the cluster shows each with its partitions.
///
/// Idempotent, and safe to run from several processes at once. A topic that exists with another number of partitions is left alone and refused:
/// the partition of a key depends on it.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::TopicRefused`], [`Error::Partitions`], [`Error::Configuration`].
///
/// # Cancel safety
/// Dropping it leaves some topics made and others not.
pub async fn ensure_topics(config: &Config, specs: &[TopicSpec]) -> Result<(), Error> {
    let client = config.client()?;
    let admin: AdminClient<DefaultClientContext> =
        client.create().map_err(|source| Error::Configuration { context: "creating an admin client", source })?;
    make_missing(&admin, specs).await?;
    for spec in specs {
        verify(&client, spec).await?;
    }
    Ok(())
}

async fn make_missing(admin: &AdminClient<DefaultClientContext>, specs: &[TopicSpec]) -> Result<(), Error> {
    let retentions: Vec<String> = specs.iter().map(|spec| (u64::from(spec.retention_hours) * 3_600_000).to_string()).collect();
    let min_insyncs: Vec<String> = specs.iter().map(|spec| spec.min_insync.to_string()).collect();
    let new: Vec<NewTopic<'_>> = specs
        .iter()
        .zip(retentions.iter().zip(&min_insyncs))
        .map(|(spec, (retention, min_insync))| {
            let topic = NewTopic::new(&spec.name, spec.partitions, TopicReplication::Fixed(i32::from(spec.replication)));
            // What fitted into its own topic fits in here, with what is said of it.
            let topic = if spec.name.ends_with(".dlq") { topic.set("max.message.bytes", DEAD_LETTER_BYTES_MAX) } else { topic };
            topic
                .set("retention.ms", retention)
                .set("min.insync.replicas", min_insync)
                .set("unclean.leader.election.enable", "false")
                .set("cleanup.policy", "delete")
        })
        .collect();
    let options = AdminOptions::new().request_timeout(Some(ADMIN_TIMEOUT)).operation_timeout(Some(ADMIN_TIMEOUT));
    let results = admin.create_topics(&new, &options).await.map_err(|source| Error::Unavailable { context: "creating topics", source })?;
    for result in results {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(Error::TopicRefused { topic, code }),
        }
    }
    Ok(())
}

/// Waits until the cluster shows the topic, with its partitions.
async fn verify(client: &ClientConfig, spec: &TopicSpec) -> Result<(), Error> {
    let consumer: BaseConsumer =
        client.create().map_err(|source| Error::Configuration { context: "creating a metadata client", source })?;
    let name = spec.name.clone();
    let expected = usize::try_from(spec.partitions).unwrap_or(0);
    let found = blocking(move || {
        let mut found = 0;
        for _ in 0..VERIFY_ATTEMPTS_MAX {
            let metadata = consumer
                .fetch_metadata(Some(&name), ADMIN_TIMEOUT)
                .map_err(|source| Error::Unavailable { context: "reading a topic's metadata", source })?;
            let topic = metadata.topics().first().filter(|topic| topic.error().is_none());
            found = topic.map_or(0, |topic| topic.partitions().len());
            if topic.is_some_and(|topic| topic.partitions().iter().all(|partition| partition.leader() >= 0)) && found > 0 {
                break;
            }
            consumer.poll(VERIFY_INTERVAL);
        }
        Ok(found)
    })
    .await?;
    if found == expected {
        return Ok(());
    }
    Err(Error::Partitions { topic: spec.name.clone(), found, expected })
}

/// How long partitions may be without a leader while their watermarks are asked for: as they are for a moment when they are made, or move.
const LEADERLESS_MAX: Duration = Duration::from_secs(5);
/// The wait before a partition without a leader is asked again.
const LEADERLESS_PAUSE: Duration = Duration::from_millis(50);

/// The first kept offset and the offset of the next record, for each partition of a topic, in order: asked from the brokers now, by a client that is
/// made for it. Whoever asks again and again keeps a [`TopicEnds`].
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Configuration`].
pub async fn watermarks(config: &Config, topic: &str, partitions: i32) -> Result<Vec<(i64, i64)>, Error> {
    TopicEnds::new(config, topic, partitions)?.watermarks().await
}

/// Asks the brokers how it is with a topic, again and again by the same client.
pub struct TopicEnds {
    consumer: Arc<BaseConsumer>,
    topic: String,
    partitions: i32,
}

impl TopicEnds {
    /// A client that asks for a topic that must have `partitions` partitions. It connects when it first asks.
    ///
    /// # Errors
    /// [`Error::Configuration`], [`Error::ForbiddenProperty`].
    pub fn new(config: &Config, topic: &str, partitions: i32) -> Result<Self, Error> {
        let consumer: BaseConsumer =
            config.client()?.create().map_err(|source| Error::Configuration { context: "creating a metadata client", source })?;
        Ok(Self { consumer: Arc::new(consumer), topic: topic.to_owned(), partitions })
    }

    /// The first kept offset and the offset of the next record, for each partition in order. Those above the number that the topic must have are not
    /// asked for.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    ///
    /// # Cancel safety
    /// Safe: it only asks.
    pub async fn watermarks(&self) -> Result<Vec<(i64, i64)>, Error> {
        let began = Instant::now();
        loop {
            let (topic, consumer, partitions) = (self.topic.clone(), Arc::clone(&self.consumer), self.partitions);
            let asked = blocking(move || {
                Ok((0..partitions).map(|partition| consumer.fetch_watermarks(&topic, partition, ADMIN_TIMEOUT)).collect())
            });
            match asked.await? {
                Ok(found) => return Ok(found),
                Err(error) if is_leaderless(&error) && began.elapsed() < LEADERLESS_MAX => tokio::time::sleep(LEADERLESS_PAUSE).await,
                Err(source) => return Err(Error::Unavailable { context: "reading watermarks", source }),
            }
        }
    }

    /// Whether the topic is there, with the number of partitions that it must have.
    ///
    /// # Errors
    /// [`Error::TopicMissing`], [`Error::Partitions`] where it is not so; [`Error::Unavailable`] where the brokers don't say.
    ///
    /// # Cancel safety
    /// Safe: it only asks.
    pub async fn check(&self) -> Result<(), Error> {
        let (topic, consumer) = (self.topic.clone(), Arc::clone(&self.consumer));
        let expected = usize::try_from(self.partitions).unwrap_or(0);
        blocking(move || {
            let unavailable = |source| Error::Unavailable { context: "reading a topic's metadata", source };
            let metadata = consumer.fetch_metadata(Some(&topic), ADMIN_TIMEOUT).map_err(unavailable)?;
            let found = metadata.topics().first();
            match found.map(|found| (found.error().map(RDKafkaErrorCode::from), found.partitions().len())) {
                None | Some((Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic), _)) => {
                    Err(Error::TopicMissing { topic })
                }
                Some((Some(code), _)) => Err(unavailable(KafkaError::MetadataFetch(code))),
                Some((None, found)) if found == expected => Ok(()),
                Some((None, found)) => Err(Error::Partitions { topic, found, expected }),
            }
        })
        .await
    }
}

impl fmt::Debug for TopicEnds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TopicEnds").field("topic", &self.topic).field("partitions", &self.partitions).finish_non_exhaustive()
    }
}

fn is_leaderless(error: &KafkaError) -> bool {
    matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::NotLeaderForPartition | RDKafkaErrorCode::LeaderNotAvailable))
}

/// Runs a blocking call of librdkafka where blocking is allowed.
pub(crate) async fn blocking<T: Send + 'static>(call: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    match tokio::task::spawn_blocking(call).await {
        Ok(result) => result,
        Err(failed) => Err(Error::Thread(std::io::Error::other(failed))),
    }
}
