//! Reading the dead-letter topics into the database.
//!
//! A member of one consumer group for all of these topics, with a task for each partition. Why every record comes to be a row, and only one:
//! * Who is given a partition raises its epoch in the database (`ops.take_partition`) and begins at the offset that stands there. Rows and the offset
//!   behind them are written by one statement (`ops.take_in`), which compares epoch and offset first. A process that was overtaken finds another
//!   epoch and has written nothing; one that was killed has written both, or neither. Kafka's own offsets are a hint for lag tools.
//! * A consumer that dies between the dead-letter topic's acknowledgement and its own transaction produces the same dead letter again. It is the same
//!   identity, so the same row: a later failure replaces the last error, and what says nothing new changes nothing. It does not matter which of two
//!   partitions or processes brings it.
//! * A log that does not have the offset any more (retention, or a topic that was made anew) is read from where it begins; that is said loudly and
//!   stands in the audit. What is read again is known already. What retention took before it was read is with its consumer still: nothing that is
//!   parked rests on this service.
//! * A database that is away is waited for, with the offset where it is.

mod partition;

use std::collections::HashMap;
use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use idempo_clock::SharedClock;
use idempo_kafka::{
    Assigned, Consumer, ConsumerConfig, Copies, Error as KafkaError, Event, Revoked, StartOffset, TopicPartition, TopicSpec, ensure_topics,
    topic_specs,
};
use idempo_pg::Pool;
use idempo_runtime::Condition;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use partition::{Ended, Store};

/// How long to wait before joining the group again, at first and at most.
const REJOIN_DELAY_MIN: Duration = Duration::from_millis(100);
const REJOIN_DELAY_MAX: Duration = Duration::from_secs(10);
/// A consumer that ran for so long counts as a good one: the next failure is the first again.
const STEADY_AFTER: Duration = Duration::from_secs(60);
/// How long a partition whose lease is void waits to be revoked, before the process joins the group anew.
const FENCED_WAIT: Duration = Duration::from_secs(2);

/// The reader of the dead-letter topics.
pub(crate) struct Intake {
    store: Arc<Store>,
    kafka: idempo_kafka::Config,
    consumer: ConsumerConfig,
    specs: Vec<TopicSpec>,
    condition: Condition,
}

/// Why a membership of the group ends.
enum End {
    Cancelled,
    Rejoin,
    Failed(String),
}

impl Intake {
    pub(crate) fn new(config: &Config, pool: Pool, condition: Condition, (instance, clock): (String, SharedClock)) -> Self {
        let consumer = config.intake();
        let wanted = |copies: Copies| topic_specs(idempo_schemas::topics(), copies, &config.topics.prefix);
        let specs = wanted(config.topics.copies).into_iter().filter(|spec| consumer.topics.contains(&spec.name)).collect();
        Self { store: Arc::new(Store { pool, instance, clock }), kafka: config.kafka.clone(), consumer, specs, condition }
    }

    /// Reads until `cancel` is cancelled. Brokers and a database that are away are waited for.
    ///
    /// # Errors
    /// Where the settings of the consumer are unusable, or by a defect.
    ///
    /// # Cancel safety
    /// Dropping it leaves batches half done, which is safe: they are read again.
    pub(crate) async fn run(&self, cancel: CancellationToken) -> anyhow::Result<()> {
        let delays =
            ExponentialBuilder::new().with_min_delay(REJOIN_DELAY_MIN).with_max_delay(REJOIN_DELAY_MAX).with_jitter().without_max_times();
        let mut backoff = delays.build();
        loop {
            let started = Instant::now();
            match self.join(&cancel).await? {
                End::Cancelled => return Ok(()),
                End::Rejoin => tracing::info!("joining the group anew, to take partitions whose lease was void"),
                End::Failed(error) => {
                    self.condition.unmet(error.clone());
                    tracing::warn!(error, "the dead-letter topics can't be read, it is tried again");
                }
            }
            if started.elapsed() > STEADY_AFTER {
                backoff = delays.build();
            }
            let pause = sleep(backoff.next().unwrap_or(REJOIN_DELAY_MAX));
            if cancel.run_until_cancelled(pause).await.is_none() {
                return Ok(());
            }
        }
    }

    /// One membership of the group, from joining to leaving.
    async fn join(&self, cancel: &CancellationToken) -> anyhow::Result<End> {
        match cancel.run_until_cancelled(ensure_topics(&self.kafka, &self.specs)).await {
            None => return Ok(End::Cancelled),
            Some(Err(error)) => return Ok(End::Failed(chain(&error))),
            Some(Ok(())) => {}
        }
        let (consumer, events) = Consumer::start(&self.kafka, &self.consumer)?;
        self.condition.met();
        let mut member =
            Member { store: &self.store, tasks: JoinSet::new(), running: HashMap::new(), taken: HashMap::new(), rejoin_at: None };
        let end = member.serve(events, cancel).await;
        member.stop_all().await;
        consumer.close().await;
        Ok(end)
    }
}

/// One membership of the group.
struct Member<'a> {
    store: &'a Arc<Store>,
    tasks: JoinSet<(TopicPartition, Ended)>,
    running: HashMap<TopicPartition, CancellationToken>,
    /// The epochs of the partitions that are held, and where their reading began.
    taken: HashMap<TopicPartition, i64>,
    rejoin_at: Option<Instant>,
}

impl Member<'_> {
    async fn serve(&mut self, mut events: idempo_kafka::Events, cancel: &CancellationToken) -> End {
        loop {
            let rejoin = self.rejoin_at;
            tokio::select! {
                () = cancel.cancelled() => return End::Cancelled,
                () = sleep_until(rejoin.unwrap_or_else(Instant::now)), if rejoin.is_some() => return End::Rejoin,
                event = events.next() => match event {
                    None => return End::Failed("the consumer has ended".to_owned()),
                    Some(Event::Assigned(assigned)) => {
                        if cancel.run_until_cancelled(self.start(assigned)).await.is_none() {
                            return End::Cancelled;
                        }
                    }
                    Some(Event::Revoked(revoked)) => self.revoke(revoked).await,
                    Some(Event::Failed { partition: Some(partition), error: KafkaError::OffsetOutOfRange { wanted, low, .. } }) => {
                        self.reposition(&partition, wanted, low).await;
                    }
                    Some(Event::Failed { error, .. }) => return End::Failed(chain(&error)),
                },
                Some(ended) = self.tasks.join_next() => self.ended(ended),
            }
        }
    }

    /// Takes the partitions from the database, and begins to read each where it stands there.
    async fn start(&mut self, assigned: Assigned) {
        let mut offsets = HashMap::new();
        for partition in assigned.partitions() {
            let (epoch, next_offset) = self.store.take(partition).await;
            tracing::info!(%partition, epoch, next_offset, "partition taken");
            self.taken.insert(partition.clone(), epoch);
            offsets.insert(partition.clone(), next_offset);
        }
        let starts: Vec<_> = offsets.iter().map(|(partition, offset)| (partition.clone(), StartOffset::Offset(*offset))).collect();
        for stream in assigned.start(starts) {
            let partition = stream.partition().clone();
            let (Some(epoch), Some(offset)) = (self.taken.get(&partition).copied(), offsets.get(&partition).copied()) else { continue };
            let cancel = CancellationToken::new();
            self.running.insert(partition.clone(), cancel.clone());
            let store = Arc::clone(self.store);
            self.tasks.spawn(async move { (partition, partition::run(&store, stream, (epoch, offset), cancel).await) });
        }
    }

    async fn revoke(&mut self, revoked: Revoked) {
        for partition in revoked.partitions() {
            if let Some(cancel) = self.running.get(partition) {
                cancel.cancel();
            }
            self.taken.remove(partition);
        }
        while revoked.partitions().iter().any(|partition| self.running.contains_key(partition)) {
            let Some(ended) = self.tasks.join_next().await else { break };
            self.ended(ended);
        }
        revoked.done();
    }

    fn ended(&mut self, ended: Result<(TopicPartition, Ended), tokio::task::JoinError>) {
        match ended {
            Ok((partition, Ended::Fenced)) => {
                self.running.remove(&partition);
                self.rejoin_at = Some(Instant::now() + FENCED_WAIT);
            }
            Ok((partition, Ended::Told)) => _ = self.running.remove(&partition),
            // A defect: what it held is taken anew.
            Err(error) => {
                tracing::error!(%error, "a task that reads dead letters has failed");
                self.rejoin_at = Some(Instant::now());
            }
        }
    }

    /// The log begins elsewhere than where it was left: reading goes on where it begins.
    async fn reposition(&mut self, partition: &TopicPartition, wanted: i64, low: i64) {
        let Some(epoch) = self.taken.get(partition).copied() else { return };
        if wanted > 0 {
            tracing::warn!(%partition, wanted, low, "a dead-letter topic does not have the offset to read on from; it is read from its beginning");
        }
        self.store.reposition(partition, epoch, wanted, low).await;
        self.rejoin_at = Some(Instant::now());
    }

    async fn stop_all(&mut self) {
        for cancel in self.running.values() {
            cancel.cancel();
        }
        while let Some(ended) = self.tasks.join_next().await {
            self.ended(ended);
        }
    }
}

/// An error with what caused it, in one line.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    let sources = std::iter::successors(Some(error), |error: &&(dyn StdError + 'static)| (*error).source());
    sources.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
