//! The topics, read without a group.

use std::sync::Arc;
use std::time::Duration;

use idempo_kafka::{Bounds, Config, LogReader, ReadLimit, Stretch, TopicPartition, Visibility, partition_of};

use crate::context::Context;
use crate::failure::Failure;

/// How long one question to the brokers may take.
pub const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// How many records are read at a time.
const RECORDS_AT_A_TIME: usize = 50_000;
/// How long one reading may take.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// A record, with where it is.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// Its value.
    pub value: Vec<u8>,
}

/// Reads topics.
pub struct Topics {
    config: Config,
    reader: LogReader,
}

impl Topics {
    /// A reader of what is committed.
    ///
    /// # Errors
    /// [`crate::Exit::Usage`] where the settings are wrong.
    pub fn new(context: &Context) -> Result<Self, Failure> {
        let config = Config { client_id: "idempo-cli".to_owned(), ..context.profile().kafka.clone() };
        let reader = LogReader::new(&config, Visibility::Committed).map_err(wrong)?;
        Ok(Self { config, reader })
    }

    /// How the brokers are reached.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Those of the platform's topics that are there, with how many partitions they must have.
    ///
    /// # Errors
    /// [`crate::Exit::Unavailable`] where the brokers are away.
    pub async fn there(&self) -> Result<Vec<(&'static str, i32)>, Failure> {
        let topics = idempo_schemas::topics().topics;
        let names: Vec<String> = topics.iter().map(|topic| topic.name.to_owned()).collect();
        let missing = idempo_kafka::missing_topics(&self.config, &names).await.map_err(wrong)?;
        let there = topics.iter().filter(|topic| !missing.iter().any(|missing| missing == topic.name));
        Ok(there.map(|topic| (topic.name, topic.partitions)).collect())
    }

    /// Where partitions begin and end now.
    ///
    /// # Errors
    /// [`crate::Exit::Unavailable`] where the brokers are away.
    pub async fn bounds(&self, partitions: &[TopicPartition]) -> Result<Vec<Bounds>, Failure> {
        self.reader.bounds(partitions, ASK_TIMEOUT).await.map_err(wrong)
    }

    /// Reads stretches, and keeps the records that `keeps` wants. What is to be known beside the record is `wanted`.
    ///
    /// # Errors
    /// [`crate::Exit::Unavailable`] where the brokers are away or don't answer in time.
    pub async fn read<W: Send + 'static>(
        &self,
        stretches: Vec<Stretch>,
        wanted: W,
        keeps: fn(&W, &[u8]) -> bool,
    ) -> Result<Vec<Found>, Failure> {
        struct State<W> {
            wanted: W,
            keeps: fn(&W, &[u8]) -> bool,
            at: Vec<TopicPartition>,
            next: Vec<i64>,
            found: Vec<Found>,
        }
        let mut state = State {
            wanted,
            keeps,
            at: stretches.iter().map(|stretch| stretch.partition.clone()).collect(),
            next: stretches.iter().map(|stretch| stretch.from).collect(),
            found: Vec::new(),
        };
        loop {
            let left = stretches.iter().zip(&state.next).map(|(stretch, next)| Stretch { from: *next, ..stretch.clone() }).collect();
            let limit = ReadLimit { records: RECORDS_AT_A_TIME, time: READ_TIMEOUT };
            let reading = self.reader.read(left, limit, state, |state, number, record| {
                if let Some(next) = state.next.get_mut(number) {
                    *next = record.offset + 1;
                }
                if let Some(at) = state.at.get(number).filter(|_| (state.keeps)(&state.wanted, record.value)) {
                    let TopicPartition { topic, partition } = at.clone();
                    state.found.push(Found { topic, partition, offset: record.offset, value: record.value.to_vec() });
                }
            });
            let (read, end) = reading.await.map_err(wrong)?;
            state = read;
            if end.complete {
                return Ok(state.found);
            }
            if end.records == 0 {
                return Err(Failure::new(crate::Exit::Unavailable, "the brokers do not give out the records in time"));
            }
        }
    }

    /// Finds the records of a key that hold these bytes and are not older than a time, in milliseconds since 1970.
    ///
    /// # Errors
    /// As [`Topics::read`].
    pub async fn find(&self, key: &str, bytes: Vec<u8>, since_ms: i64) -> Result<Vec<Found>, Failure> {
        let there = self.there().await?;
        let partitions: Vec<TopicPartition> =
            there.iter().map(|(topic, count)| TopicPartition::new(topic, partition_of(key.as_bytes(), *count))).collect();
        let starts = self.reader.offsets_since(&partitions, since_ms, ASK_TIMEOUT).await.map_err(wrong)?;
        let ends = self.bounds(&partitions).await?;
        let stretches =
            partitions.into_iter().zip(starts).zip(ends).map(|((partition, from), bounds)| Stretch { partition, from, to: bounds.end });
        self.read(stretches.collect(), bytes, |bytes, value| value.windows(bytes.len()).any(|window| window == bytes.as_slice())).await
    }
}

/// What the brokers' client says.
pub(crate) fn wrong(error: idempo_kafka::Error) -> Failure {
    Failure::of("Kafka", &error)
}
