//! Reads a whole topic, from its first record to the last one that was there when the reading began.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use idempo_kafka::{Config, Consumer, ConsumerConfig, Event, PartitionStream, StartOffset, watermarks};

use crate::facts::{Record, Topic};

/// How long the whole reading may take.
const READ_LIMIT: Duration = Duration::from_secs(30);
/// How many records are taken from a partition at a time.
const RECORDS_AT_A_TIME: usize = 1_000;

/// Reads a topic. `group` is a consumer group that nobody else is a member of.
///
/// # Errors
/// When the brokers are away, a partition can't be read, or it takes longer than half a minute.
pub async fn read(config: &Config, topic: &str, partitions: i32, group: &str) -> Result<Topic> {
    let ends: Vec<i64> = watermarks(config, topic, partitions).await?.into_iter().map(|(_, high)| high).collect();
    let reader = ConsumerConfig { group_id: group.to_owned(), topics: vec![topic.to_owned()], ..ConsumerConfig::default() };
    let (consumer, mut events) = Consumer::start(config, &reader)?;
    let reading = async {
        loop {
            match events.next().await.context("the consumer ended")? {
                Event::Assigned(assigned) => {
                    let starts: Vec<_> =
                        assigned.partitions().iter().map(|partition| (partition.clone(), StartOffset::Beginning)).collect();
                    let streams = assigned.start(starts);
                    anyhow::ensure!(streams.len() == ends.len(), "{} of {} partitions came", streams.len(), ends.len());
                    return read_streams(streams, &ends).await;
                }
                Event::Revoked(revoked) => revoked.done(),
                Event::Failed { partition, error } => bail!("{partition:?} can't be read: {error}"),
            }
        }
    };
    let records = tokio::time::timeout(READ_LIMIT, reading).await.context("reading the topic took too long")??;
    consumer.close().await;
    Ok(Topic { partitions, records })
}

async fn read_streams(streams: Vec<PartitionStream>, ends: &[i64]) -> Result<Vec<Record>> {
    let end_of = |partition: i32| usize::try_from(partition).ok().and_then(|at| ends.get(at)).copied();
    let mut readings = Vec::with_capacity(streams.len());
    for stream in streams {
        let end = end_of(stream.partition().partition).context("a partition came that the topic does not have")?;
        readings.push(read_stream(stream, end));
    }
    Ok(futures_util::future::try_join_all(readings).await?.concat())
}

async fn read_stream(mut stream: PartitionStream, end: i64) -> Result<Vec<Record>> {
    let partition = stream.partition().partition;
    let mut records: Vec<Record> = Vec::new();
    let mut batch = Vec::with_capacity(RECORDS_AT_A_TIME);
    while records.last().map_or(0, |record| record.offset + 1) < end {
        let received = stream.recv_many(&mut batch, RECORDS_AT_A_TIME).await;
        anyhow::ensure!(received > 0, "partition {partition} was taken away");
        records.extend(batch.drain(..).map(|record| Record {
            partition,
            offset: record.offset,
            produced_ms: (record.timestamp_ms > 0).then_some(record.timestamp_ms),
            key: Bytes::copy_from_slice(record.key().unwrap_or_default()),
            value: Bytes::copy_from_slice(record.value().unwrap_or_default()),
        }));
    }
    Ok(records)
}
