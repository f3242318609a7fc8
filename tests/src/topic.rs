//! Reads a whole topic.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use idempo_kafka::{Assigned, Config, Consumer, ConsumerConfig, Event, PartitionStream, StartOffset, watermarks};

/// How long the whole reading may take.
const READ_LIMIT: Duration = Duration::from_secs(30);
/// How many records are taken from a partition at a time.
const RECORDS_AT_A_TIME: usize = 1_000;

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its key.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
    /// Its header `traceparent`.
    pub traceparent: Option<String>,
}

/// Reads a topic from its first record to the last one that was there when the reading began; `group` is a consumer group without members.
pub(crate) async fn read(brokers: &str, topic: &str, partitions: i32, group: &str) -> Result<Vec<Record>> {
    let config = Config { brokers: brokers.to_owned(), client_id: "idempo-tests".to_owned(), ..Config::default() };
    let ends: Vec<i64> = watermarks(&config, topic, partitions).await?.into_iter().map(|(_, high)| high).collect();
    let reader = ConsumerConfig { group_id: group.to_owned(), topics: vec![topic.to_owned()], ..ConsumerConfig::default() };
    let (consumer, mut events) = Consumer::start(&config, &reader)?;
    let reading = async {
        loop {
            match events.next().await.context("the consumer ended")? {
                Event::Assigned(assigned) => return read_partitions(assigned, &ends).await,
                Event::Revoked(revoked) => revoked.done(),
                Event::Failed { partition, error } => bail!("{partition:?} can't be read: {error}"),
            }
        }
    };
    let records = tokio::time::timeout(READ_LIMIT, reading).await.context("reading the topic took too long")??;
    consumer.close().await;
    Ok(records)
}

async fn read_partitions(assigned: Assigned, ends: &[i64]) -> Result<Vec<Record>> {
    let starts: Vec<_> = assigned.partitions().iter().map(|partition| (partition.clone(), StartOffset::Beginning)).collect();
    let mut readings = Vec::with_capacity(ends.len());
    for stream in assigned.start(starts) {
        let end = usize::try_from(stream.partition().partition).ok().and_then(|number| ends.get(number)).copied();
        readings.push(read_partition(stream, end.context("a partition that the topic does not have")?));
    }
    ensure!(readings.len() == ends.len(), "{} of {} partitions came", readings.len(), ends.len());
    Ok(futures_util::future::try_join_all(readings).await?.concat())
}

async fn read_partition(mut stream: PartitionStream, end: i64) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    let mut batch = Vec::with_capacity(RECORDS_AT_A_TIME);
    let mut next = 0;
    while next < end {
        ensure!(stream.recv_many(&mut batch, RECORDS_AT_A_TIME).await > 0, "a partition was taken away");
        next = batch.last().map_or(next, |record| record.offset + 1);
        records.extend(batch.drain(..).map(|record| Record {
            key: Bytes::copy_from_slice(record.key().unwrap_or_default()),
            value: Bytes::copy_from_slice(record.value().unwrap_or_default()),
            traceparent: record.traceparent().map(str::to_owned),
        }));
    }
    Ok(records)
}
