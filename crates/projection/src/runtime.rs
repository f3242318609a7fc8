//! The runtime of a projection: a member of a consumer group, with a task for each partition that it is given.

use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use idempo_kafka::{ConsumerConfig, PartitionStream, Record, StartOffset};
use tokio::sync::watch;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use crate::batch::{Entry, Home};
use crate::gate::{Gate, Limits};
use crate::group::Group;
use crate::halt::{Cause, Halt};
use crate::membership::{Assignee, join};
use crate::parking::Parked;
use crate::parking::bury::DeadLetters;
use crate::parking::topic::KafkaDeadLetters;
use crate::partition::{Ended, Feed, Partition, run};
use crate::patience::{chain, patiently};
use crate::progress::{Progress, TopicFault};
use crate::projector::Projector;
use crate::store::{Lease, Store};
use crate::view::View;

/// How often the store is asked where the partitions stand.
const CHECKPOINTS_INTERVAL: Duration = Duration::from_millis(500);
/// How often the store is asked of which partitions somebody wants dead letters drained, when nothing in this process says so.
const WISHES_INTERVAL: Duration = Duration::from_millis(200);
/// How often it is asked how much is parked.
const PARKED_INTERVAL: Duration = Duration::from_secs(10);
/// How often the brokers are asked where the partitions end.
const HEADS_INTERVAL: Duration = Duration::from_secs(5);
/// How a projection reads its topic.
#[derive(Debug, Clone)]
pub struct Options {
    /// How the brokers are reached.
    pub kafka: idempo_kafka::Config,
    /// How the group is joined. Its group and topics are set from the fields below.
    pub consumer: ConsumerConfig,
    /// The consumer group. Every generation has its own.
    pub group_id: String,
    /// The topic.
    pub topic: String,
    /// Its partitions.
    pub partitions: i32,
    /// The partitions of its dead-letter topic.
    pub dead_letter_partitions: i32,
    /// The generation.
    pub generation: i32,
}

/// Why a projection ended without being told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The consumer can't be made.
    #[error("the consumer can't be made")]
    Consumer(#[from] idempo_kafka::Error),
    /// A task panicked.
    #[error("a partition's task failed")]
    Task(#[from] tokio::task::JoinError),
}

/// A projection, ready to run.
pub struct Projection<S: Store> {
    store: Arc<S>,
    group: Arc<Group<S>>,
    progress: Arc<Progress>,
    options: Options,
    gate: Arc<Gate>,
    letters: DeadLetters,
    /// Changes when somebody in this process has asked for dead letters to be drained.
    wished: watch::Receiver<u64>,
}

impl<S: Store> Projection<S> {
    /// A projection into `store`. What it knows goes to `progress`.
    #[must_use]
    pub fn new(store: Arc<S>, progress: Arc<Progress>, options: Options) -> Self {
        let topic = Arc::new(KafkaDeadLetters::new(options.kafka.clone(), options.dead_letter_partitions));
        let letters = DeadLetters { group: Arc::from(options.group_id.as_str()), topic };
        let group = Arc::new(Group::new(Arc::clone(&store)));
        // Without its sender it never changes.
        let wished = watch::channel(0).1;
        Self { group, store, progress, options, gate: Arc::default(), letters, wished }
    }

    /// The same, which looks at once when `wished` changes whether somebody wants dead letters drained.
    #[must_use]
    pub fn heeding(self, wished: watch::Receiver<u64>) -> Self {
        Self { wished, ..self }
    }

    /// The same behind a gate.
    #[must_use]
    pub fn behind(self, gate: Arc<Gate>) -> Self {
        Self { gate, ..self }
    }

    /// The read model as its readers see it.
    #[must_use]
    pub fn view(&self) -> View<S> {
        View::new(Arc::clone(&self.store), Arc::clone(&self.progress), self.options.generation)
    }

    /// Projects until `cancel` is cancelled. A broker or a store that is away is waited for; what stops one partition leaves the others running.
    ///
    /// # Errors
    /// [`Error`], where the configuration is unusable, or by a defect.
    ///
    /// # Cancel safety
    /// Dropping it leaves batches half done, which is safe: the store rolls them back, and they are read again.
    pub async fn run<P: Projector<Writes = S::Writes>>(&self, cancel: CancellationToken) -> Result<(), Error> {
        tokio::select! {
            result = self.consume::<P>(&cancel) => result,
            () = self.observe() => Ok(()),
        }
    }

    async fn consume<P: Projector<Writes = S::Writes>>(&self, cancel: &CancellationToken) -> Result<(), Error> {
        let consumer_config = ConsumerConfig {
            group_id: self.options.group_id.clone(),
            topics: vec![self.options.topic.clone()],
            ..self.options.consumer.clone()
        };
        let projecting = Arc::new(Projecting::<P, S> {
            store: Arc::clone(&self.store),
            group: Arc::clone(&self.group),
            progress: Arc::clone(&self.progress),
            gate: Arc::clone(&self.gate),
            letters: self.letters.clone(),
            topic: Arc::from(self.options.topic.as_str()),
            partitions: self.options.partitions,
            projector: PhantomData,
        });
        join(&projecting, &self.options.kafka, &consumer_config, cancel).await
    }

    /// Keeps what is known of all partitions up to date. Never ends.
    async fn observe(&self) {
        let Options { kafka, topic, partitions, .. } = &self.options;
        // Made where the consumer was made with the same settings.
        let ends = idempo_kafka::TopicEnds::new(kafka, topic, *partitions).ok();
        let mut checkpoints = interval(CHECKPOINTS_INTERVAL);
        let mut heads = interval(HEADS_INTERVAL);
        let (mut wishes, mut parked, mut wished) = (interval(WISHES_INTERVAL), interval(PARKED_INTERVAL), self.wished.clone());
        loop {
            tokio::select! {
                _ = wishes.tick() => self.look_for_wishes().await,
                Ok(()) = wished.changed() => self.look_for_wishes().await,
                _ = parked.tick() => {
                    if let Ok(counts) = self.store.parked_counts().await {
                        self.progress.parked(&counts);
                    }
                }
                _ = checkpoints.tick() => {
                    let before = self.progress.before();
                    match self.store.checkpoints().await {
                        Ok(checkpoints) => self.progress.observed(&before, &checkpoints),
                        Err(error) => tracing::debug!(error = chain(&error), "the read model does not say where it stands"),
                    }
                }
                _ = heads.tick() => {
                    let Some(ends) = &ends else { continue };
                    if let Err(error) = self.look_at(ends).await {
                        tracing::debug!(error = chain(&error), "the brokers do not say where the partitions end");
                    }
                }
            }
        }
    }
}

impl<S: Store> Projection<S> {
    async fn look_for_wishes(&self) {
        match self.store.wishes().await {
            Ok(wishes) => self.progress.hear_wishes(wishes),
            Err(error) => tracing::debug!(error = chain(&error), "the read model does not say what is wished"),
        }
    }

    /// Asks the brokers how it is with the topic.
    async fn look_at(&self, ends: &idempo_kafka::TopicEnds) -> Result<(), idempo_kafka::Error> {
        match ends.check().await {
            Ok(()) => self.progress.topic(None),
            Err(idempo_kafka::Error::TopicMissing { topic }) => {
                self.progress.topic(Some(TopicFault::Missing { topic }));
                return Ok(());
            }
            Err(idempo_kafka::Error::Partitions { topic, found, expected }) => {
                self.progress.topic(Some(TopicFault::Partitions { topic, found, expected }));
            }
            Err(error) => return Err(error),
        }
        self.progress.heads(ends.watermarks().await?.into_iter().map(|(_, high)| high));
        Ok(())
    }
}

/// What a projection does with the partitions that it is given.
struct Projecting<P, S: Store> {
    store: Arc<S>,
    /// Through which its partitions commit.
    group: Arc<Group<S>>,
    progress: Arc<Progress>,
    gate: Arc<Gate>,
    letters: DeadLetters,
    topic: Arc<str>,
    partitions: i32,
    projector: PhantomData<fn() -> P>,
}

impl<P: Projector<Writes = S::Writes>, S: Store> Assignee for Projecting<P, S> {
    /// The lease, and what was parked of the partition.
    type Taken = (Lease, Parked);

    fn name(&self) -> &'static str {
        P::NAME
    }

    fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    fn partitions(&self) -> i32 {
        self.partitions
    }

    async fn take(&self, partition: i32) -> Result<Self::Taken, Halt> {
        let never = CancellationToken::new();
        fail::fail_point!(crate::failpoint::PROJECT_BEFORE_ACQUIRE);
        let taken = patiently((&self.topic, partition), &self.progress.meters, &never, || async {
            let lease = self.store.acquire(partition).await?;
            // After it: nobody else parks anything from here on.
            Ok((lease, self.store.parked(partition).await?))
        })
        .await;
        fail::fail_point!(crate::failpoint::PROJECT_ACQUIRED);
        taken.map_err(|error| Halt { offset: 0, cause: Cause::Refused(chain(&error)) })
    }

    fn begins_at((lease, _): &Self::Taken) -> StartOffset {
        lease.last_event.map_or(StartOffset::Offset(lease.next_offset), |_| StartOffset::After(lease.next_offset))
    }

    fn run(
        self: Arc<Self>,
        number: i32,
        (lease, parked): Self::Taken,
        stream: PartitionStream,
        cancel: CancellationToken,
    ) -> impl Future<Output = Ended> + Send + 'static {
        let parked_keys = parked.keys.len();
        tracing::info!(projection = P::NAME, topic = %self.topic, partition = number, lease.epoch, lease.next_offset, parked_keys, "partition taken");
        let partition = Partition {
            store: Arc::clone(&self.group),
            progress: Arc::clone(&self.progress),
            topic: Arc::clone(&self.topic),
            home: Home { partition: number, partitions: self.partitions },
            lease,
            parked,
            letters: self.letters.clone(),
        };
        run::<P, Group<S>, _>(partition, Stream::new(stream, Arc::clone(&self.gate)), cancel)
    }

    fn next_offset(&self, partition: i32) -> i64 {
        self.progress.next_offset(partition)
    }

    fn halted(&self, number: i32, halt: Halt) {
        let (offset, code, reason) = (halt.offset, halt.cause.code(), halt.cause.to_string());
        tracing::error!(projection = P::NAME, topic = %self.topic, partition = number, offset, code, reason, "the partition has stopped");
        let epoch = self.progress.epoch(number);
        self.progress.halted(&self.topic, number, halt);
        if let Some(epoch) = epoch {
            let (store, progress, topic) = (Arc::clone(&self.store), Arc::clone(&self.progress), Arc::clone(&self.topic));
            tokio::spawn(async move {
                let never = CancellationToken::new();
                // For other processes, and for people who want it tried again; that it has stopped this one says in any case. However late it is told,
                // it is nothing under a later epoch.
                let told = patiently((&topic, number), &progress.meters, &never, || store.note_stop(number, epoch, code, &reason)).await;
                match told {
                    Ok(()) => progress.stop_told(number, epoch),
                    Err(error) => {
                        tracing::debug!(partition = number, error = chain(&error), "why the partition has stopped could not be kept");
                    }
                }
            });
        }
    }

    fn due(&self) -> impl Future<Output = ()> + Send {
        self.progress.due()
    }

    fn released(&self, partition: i32) {
        self.progress.released(partition);
    }

    fn released_all(&self) {
        self.progress.released_all();
    }
}

/// A partition's stream as a feed, behind the gate of its generation.
pub(crate) struct Stream {
    stream: PartitionStream,
    gate: Arc<Gate>,
    limits: watch::Receiver<Limits>,
    /// What was received and not given on yet.
    records: Vec<Record>,
}

impl Stream {
    pub(crate) fn new(stream: PartitionStream, gate: Arc<Gate>) -> Self {
        Self { limits: gate.limits(), stream, gate, records: Vec::new() }
    }
}

impl Feed for Stream {
    async fn next(&mut self, entries: &mut Vec<Entry>, limit: usize) -> bool {
        loop {
            if self.records.is_empty() {
                self.gate.pace().ready().await;
                if self.stream.recv_many(&mut self.records, limit).await == 0 {
                    return false;
                }
            }
            let before = self.limits.borrow_and_update().of(self.stream.partition().partition);
            let allowed = self.records.partition_point(|record| record.offset < before).min(limit);
            if allowed > 0 {
                self.gate.pace().took(allowed);
                entries.extend(self.records.drain(..allowed).map(|record| {
                    let (offset, timestamp_ms, headers) = (record.offset, record.timestamp_ms, record.headers().clone());
                    let (key, value) = record.into_parts();
                    Entry { offset, key, value, headers, timestamp_ms }
                }));
                return true;
            }
            // The gate that this feed holds has the sender.
            if self.limits.changed().await.is_err() {
                return false;
            }
        }
    }

    fn head(&self) -> i64 {
        self.stream.high_watermark()
    }

    fn done(&self, next_offset: i64) {
        self.stream.hint(next_offset);
    }
}
