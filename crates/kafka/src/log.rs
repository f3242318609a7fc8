//! Reading stretches of partitions' logs, for whoever wants to know what is there: without a group, without a position, up to an end that is
//! known before.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext as _, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::{Config, Error, TopicPartition};

/// The longest that one poll waits, so that a reader nobody waits for ends soon.
const POLL_WAIT: Duration = Duration::from_millis(50);

/// Which records of a log a reader sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visibility {
    /// Those of transactions that are committed, and those outside of transactions, up to the first open transaction.
    Committed,
    /// All that every in-sync replica has, also those of transactions that are open or were aborted.
    Uncommitted,
}

/// Where a log begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The offset of the first record that is kept.
    pub start: i64,
    /// The offset behind the last record that the reader may see.
    pub end: i64,
}

/// A stretch of a partition's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    /// The partition.
    pub partition: TopicPartition,
    /// The offset to begin at. Where the log begins later, reading does.
    pub from: i64,
    /// The offset to end before.
    pub to: i64,
}

/// How much may be read.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimit {
    /// The most records.
    pub records: usize,
    /// The longest that reading may take.
    pub time: Duration,
}

/// A record as it lies in the log.
#[derive(Debug, Clone, Copy)]
pub struct LogRecord<'a> {
    /// Its offset.
    pub offset: i64,
    /// Its key; empty where it has none.
    pub key: &'a [u8],
    /// Its value; empty for a tombstone.
    pub value: &'a [u8],
}

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadEnd {
    /// Records.
    pub records: usize,
    /// Whether all stretches were read to their ends; otherwise a limit was met.
    pub complete: bool,
}

struct Context;

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        crate::config::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "a reader of the log reports an error");
    }
}

impl ConsumerContext for Context {}

/// Reads logs.
pub struct LogReader {
    consumer: Arc<BaseConsumer<Context>>,
}

impl std::fmt::Debug for LogReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogReader").finish_non_exhaustive()
    }
}

impl LogReader {
    /// Starts the client.
    ///
    /// # Errors
    /// [`Error::Configuration`], [`Error::ForbiddenProperty`].
    pub fn new(config: &Config, visibility: Visibility) -> Result<Self, Error> {
        let mut client = config.client()?;
        let isolation = match visibility {
            Visibility::Committed => "read_committed",
            Visibility::Uncommitted => "read_uncommitted",
        };
        client
            // Partitions are taken by hand; the client wants a name all the same.
            .set("group.id", format!("{}-log", config.client_id))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", isolation)
            .set("enable.partition.eof", "true")
            .set("check.crcs", "true")
            .set("fetch.wait.max.ms", "10")
            .set("fetch.error.backoff.ms", "20")
            .set("queued.max.messages.kbytes", "16384")
            .set("fetch.max.bytes", "16777216");
        let consumer = BaseConsumer::from_config_and_context(&client, Context)
            .map_err(|source| Error::Configuration { context: "creating a reader of the log", source })?;
        Ok(Self { consumer: Arc::new(consumer) })
    }

    /// Where the logs of these partitions begin and end now, in the same order: asked from their leaders, all at once.
    ///
    /// # Errors
    /// [`Error::Unavailable`], also where one of the partitions has no leader at the moment.
    ///
    /// # Cancel safety
    /// Safe: it changes nothing. A thread may go on waiting until `timeout`.
    pub async fn bounds(&self, partitions: &[TopicPartition], timeout: Duration) -> Result<Vec<Bounds>, Error> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let (consumer, partitions) = (Arc::clone(&self.consumer), partitions.to_vec());
        crate::topics::blocking(move || {
            let starts = offsets(&consumer, &partitions, Offset::Beginning, timeout)?;
            let ends = offsets(&consumer, &partitions, Offset::End, timeout)?;
            Ok(starts.into_iter().zip(ends).map(|(start, end)| Bounds { start, end }).collect())
        })
        .await
    }

    /// The offset of the first record of each of these partitions that is not older than `since_ms`, milliseconds since 1970, by the records' own times;
    /// the end of the log where all are older. In the same order.
    ///
    /// # Errors
    /// As [`LogReader::bounds`].
    ///
    /// # Cancel safety
    /// As [`LogReader::bounds`].
    pub async fn offsets_since(&self, partitions: &[TopicPartition], since_ms: i64, timeout: Duration) -> Result<Vec<i64>, Error> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let (consumer, partitions) = (Arc::clone(&self.consumer), partitions.to_vec());
        crate::topics::blocking(move || {
            let ends = offsets(&consumer, &partitions, Offset::End, timeout)?;
            let found = answered(&consumer, &partitions, Offset::Offset(since_ms.max(0)), timeout)?;
            Ok(found.into_iter().zip(ends).map(|(found, end)| found.unwrap_or(end)).collect())
        })
        .await
    }

    /// Reads the stretches and gives each record to `each`, with the number of its stretch: of one partition in the order of offsets, if its
    /// stretches are given in that order.
    ///
    /// # Errors
    /// [`Error::Fatal`]. A broker that is away is no error: reading goes on when it is back, until the limit.
    ///
    /// # Cancel safety
    /// Safe: it changes nothing. What was read is gone.
    pub async fn read<S: Send + 'static>(
        &self,
        stretches: Vec<Stretch>,
        limit: ReadLimit,
        state: S,
        each: fn(&mut S, usize, LogRecord<'_>),
    ) -> Result<(S, ReadEnd), Error> {
        let abandoned = Arc::new(AtomicBool::new(false));
        let _guard = Abandon(Arc::clone(&abandoned));
        let consumer = Arc::clone(&self.consumer);
        crate::topics::blocking(move || {
            let mut reading = Reading {
                consumer: &consumer,
                deadline: Instant::now() + limit.time,
                room: limit.records,
                abandoned: &abandoned,
                state,
                each,
            };
            let mut complete = true;
            for round in rounds(stretches) {
                complete = reading.round(&round)?;
                if !complete {
                    break;
                }
            }
            // What is left in its queues is of no use to anyone.
            if let Err(error) = consumer.unassign() {
                tracing::debug!(%error, "a reader of the log could not let go of its partitions");
            }
            let records = limit.records - reading.room;
            Ok((reading.state, ReadEnd { records, complete }))
        })
        .await
    }
}

/// Tells the thread that nobody waits for it any more.
struct Abandon(Arc<AtomicBool>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Stretches that are read at the same time: of one topic, because the end of a partition is told by its number alone, and one of each partition.
type Round = BTreeMap<i32, (usize, Stretch)>;

fn rounds(stretches: Vec<Stretch>) -> Vec<Round> {
    let mut topics: BTreeMap<Arc<str>, Vec<Round>> = BTreeMap::new();
    for (number, stretch) in stretches.into_iter().enumerate().filter(|(_, stretch)| stretch.from < stretch.to) {
        let rounds = topics.entry(Arc::clone(&stretch.partition.topic)).or_default();
        let partition = stretch.partition.partition;
        // A partition's stretches are in rising rounds, so that they are read in their order.
        match rounds.iter_mut().rev().take_while(|round| !round.contains_key(&partition)).last() {
            Some(round) => _ = round.insert(partition, (number, stretch)),
            None => rounds.push(BTreeMap::from([(partition, (number, stretch))])),
        }
    }
    topics.into_values().flatten().collect()
}

struct Reading<'a, S> {
    consumer: &'a BaseConsumer<Context>,
    deadline: Instant,
    /// Records that may still be read.
    room: usize,
    abandoned: &'a AtomicBool,
    state: S,
    each: fn(&mut S, usize, LogRecord<'_>),
}

impl<S> Reading<'_, S> {
    /// Reads a round, and tells whether it was read to its end.
    fn round(&mut self, round: &Round) -> Result<bool, Error> {
        let mut list = TopicPartitionList::new();
        for (_, Stretch { partition, from, .. }) in round.values() {
            list.add_partition_offset(&partition.topic, partition.partition, Offset::Offset(*from)).map_err(fatal)?;
        }
        self.consumer.assign(&list).map_err(fatal)?;
        let mut open: BTreeMap<i32, &(usize, Stretch)> = round.iter().map(|(partition, stretch)| (*partition, stretch)).collect();
        while !open.is_empty() {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.room == 0 || self.abandoned.load(Ordering::Acquire) {
                return Ok(false);
            }
            match self.consumer.poll(left.min(POLL_WAIT)) {
                None => {}
                Some(Ok(message)) => {
                    // A partition that is read goes on being fetched until the round ends. (One that is paused would stay so in the next.)
                    let Some((number, stretch)) = open.get(&message.partition()) else { continue };
                    let offset = message.offset();
                    if offset < stretch.to {
                        let (key, value) = (message.key().unwrap_or_default(), message.payload().unwrap_or_default());
                        (self.each)(&mut self.state, *number, LogRecord { offset, key, value });
                        self.room -= 1;
                    }
                    if offset + 1 >= stretch.to {
                        open.remove(&message.partition());
                    }
                }
                // What follows is behind the end that was known before, or not committed.
                Some(Err(KafkaError::PartitionEOF(partition))) => _ = open.remove(&partition),
                Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => return Err(fatal(error)),
                Some(Err(error)) => tracing::debug!(%error, "a reader of the log reports an error"),
            }
        }
        Ok(true)
    }
}

fn offsets(consumer: &BaseConsumer<Context>, partitions: &[TopicPartition], which: Offset, timeout: Duration) -> Result<Vec<i64>, Error> {
    let answers = answered(consumer, partitions, which, timeout)?;
    answers.into_iter().map(|offset| offset.ok_or_else(|| unavailable(KafkaError::OffsetFetch(RDKafkaErrorCode::NoOffset)))).collect()
}

/// The offsets that the leaders answer for a time, or for one of the protocol's two marks, which ask for an end of the log; `None` where there is none.
fn answered(
    consumer: &BaseConsumer<Context>,
    partitions: &[TopicPartition],
    which: Offset,
    timeout: Duration,
) -> Result<Vec<Option<i64>>, Error> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for TopicPartition { topic, partition } in partitions {
        list.add_partition_offset(topic, *partition, which).map_err(fatal)?;
    }
    let answer = consumer.offsets_for_times(list, timeout).map_err(unavailable)?;
    let of = |partition: &TopicPartition| {
        let found = answer.find_partition(&partition.topic, partition.partition);
        let found = found.ok_or(KafkaError::OffsetFetch(RDKafkaErrorCode::UnknownPartition))?;
        found.error()?;
        Ok(match found.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        })
    };
    partitions.iter().map(|partition| of(partition).map_err(unavailable)).collect()
}

fn unavailable(source: KafkaError) -> Error {
    Error::Unavailable { context: "asking for the bounds of logs", source }
}

fn fatal(source: KafkaError) -> Error {
    Error::Fatal { context: "reading a log", source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_has_one_topic_and_each_partition_once_in_its_order() {
        let stretch = |topic: &str, partition, from, to| Stretch { partition: TopicPartition::new(topic, partition), from, to };
        let stretches =
            vec![stretch("a", 0, 0, 5), stretch("b", 0, 0, 5), stretch("a", 1, 3, 4), stretch("a", 0, 9, 12), stretch("a", 2, 7, 7)];
        let numbers: Vec<Vec<usize>> = rounds(stretches).iter().map(|round| round.values().map(|(number, _)| *number).collect()).collect();
        assert_eq!(numbers, [vec![0, 2], vec![3], vec![1]]);
    }
}
