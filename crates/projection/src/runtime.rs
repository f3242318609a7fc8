//! The runtime of a projection: a member of a consumer group, with a task for each partition that it is given.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use idempo_kafka::{Assigned, Consumer, ConsumerConfig, Event, PartitionStream, Record, Revoked, StartOffset, TopicPartition};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::batch::{Entry, Home};
use crate::gate::{Gate, Limits};
use crate::group::Group;
use crate::halt::{Cause, Halt};
use crate::parking::Parked;
use crate::parking::bury::DeadLetters;
use crate::parking::topic::KafkaDeadLetters;
use crate::partition::{Ended, Feed, Partition, run};
use crate::patience::{chain, patiently};
use crate::progress::{Progress, TopicFault};
use crate::projector::Projector;
use crate::store::{Lease, Store, StoreError};
use crate::view::View;

/// How often the store is asked where the partitions stand.
const CHECKPOINTS_INTERVAL: Duration = Duration::from_millis(500);
/// How often the store is asked of which partitions somebody wants dead letters drained, when nothing in this process says so.
const WISHES_INTERVAL: Duration = Duration::from_millis(200);
/// How often it is asked how much is parked.
const PARKED_INTERVAL: Duration = Duration::from_secs(10);
/// How often the brokers are asked where the partitions end.
const HEADS_INTERVAL: Duration = Duration::from_secs(5);
/// How long a partition whose lease is void waits to be revoked. When the group still gives it to this process then, the lease was void for
/// another reason (a crash of the store, a zombie that took it late), and the process joins the group anew.
const FENCED_WAIT: Duration = Duration::from_secs(2);
/// How long to wait before joining the group again, at first and at most.
const REJOIN_DELAY_MIN: Duration = Duration::from_millis(100);
const REJOIN_DELAY_MAX: Duration = Duration::from_secs(10);
/// A consumer that ran for so long counts as a good one: the next failure is the first again.
const STEADY_AFTER: Duration = Duration::from_secs(60);

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
        let delays =
            ExponentialBuilder::new().with_min_delay(REJOIN_DELAY_MIN).with_max_delay(REJOIN_DELAY_MAX).with_jitter().without_max_times();
        let mut backoff = delays.build();
        loop {
            let started = Instant::now();
            let (consumer, events) = Consumer::start(&self.options.kafka, &consumer_config)?;
            let mut member = Member::<S> {
                store: &self.store,
                group: &self.group,
                progress: &self.progress,
                gate: &self.gate,
                letters: &self.letters,
                topic: Arc::from(self.options.topic.as_str()),
                partitions: self.options.partitions,
                tasks: JoinSet::new(),
                running: BTreeMap::new(),
                rejoin_at: BTreeMap::new(),
            };
            let end = member.serve::<P>(events, cancel).await;
            member.stop_all().await?;
            consumer.close().await;
            match end? {
                End::Cancelled => return Ok(()),
                End::Fenced => tracing::info!(projection = P::NAME, "joining the group anew, to take partitions whose lease was void"),
                End::Failed(error) => tracing::warn!(projection = P::NAME, error, "the consumer failed, a new one is made"),
            }
            if started.elapsed() > STEADY_AFTER {
                backoff = delays.build();
            }
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                () = sleep(backoff.next().unwrap_or(REJOIN_DELAY_MAX)) => {}
            }
        }
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

/// Why a member of the group ends.
enum End {
    Cancelled,
    Fenced,
    Failed(String),
}

/// One membership of the group, from joining to leaving.
struct Member<'a, S: Store> {
    store: &'a Arc<S>,
    /// Through which its partitions commit.
    group: &'a Arc<Group<S>>,
    progress: &'a Arc<Progress>,
    gate: &'a Arc<Gate>,
    letters: &'a DeadLetters,
    topic: Arc<str>,
    partitions: i32,
    tasks: JoinSet<(i32, Ended)>,
    /// Cancelled when the partition is taken away. A partition whose task has ended has none.
    running: BTreeMap<i32, CancellationToken>,
    /// When to join anew for a partition whose lease is void.
    rejoin_at: BTreeMap<i32, Instant>,
}

/// A partition as it was taken: the lease, and what was parked of it.
type Taken = Result<(Lease, Parked), StoreError>;

/// An assignment whose partitions were taken from the store, or could not be.
struct Acquired {
    assigned: Assigned,
    leases: Vec<(i32, Taken)>,
}

impl<S: Store> Member<'_, S> {
    async fn serve<P: Projector<Writes = S::Writes>>(
        &mut self,
        mut events: idempo_kafka::Events,
        cancel: &CancellationToken,
    ) -> Result<End, Error> {
        let mut acquiring = FuturesUnordered::new();
        loop {
            let rejoin = self.rejoin_at.values().min().copied();
            tokio::select! {
                () = cancel.cancelled() => return Ok(End::Cancelled),
                () = sleep_until(rejoin.unwrap_or_else(Instant::now)), if rejoin.is_some() => return Ok(End::Fenced),
                event = events.next() => match event {
                    None => return Ok(End::Failed("the consumer has ended".to_owned())),
                    Some(Event::Assigned(assigned)) => {
                        self.refuse_unexpected::<P>(&assigned);
                        acquiring.push(acquire(Arc::clone(self.store), Arc::clone(self.progress), assigned, self.partitions));
                    }
                    Some(Event::Revoked(revoked)) => self.revoke(revoked).await?,
                    Some(Event::Failed { partition: Some(partition), error: error @ idempo_kafka::Error::OffsetOutOfRange { .. } }) => {
                        self.offset_gone::<P>(&partition, &error);
                    }
                    Some(Event::Failed { partition: Some(partition), error }) => self.unreadable::<P>(&partition, &error),
                    Some(Event::Failed { error, .. }) => return Ok(End::Failed(chain(&error))),
                },
                Some(acquired) = acquiring.next() => self.start::<P>(acquired),
                Some(ended) = self.tasks.join_next() => self.ended(ended?),
            }
        }
    }

    /// Begins to read what was taken from the store, each partition where the store stands.
    fn start<P: Projector<Writes = S::Writes>>(&mut self, Acquired { assigned, leases }: Acquired) {
        let mut taken = BTreeMap::new();
        for (number, lease) in leases {
            match lease {
                Ok(lease) => {
                    taken.insert(number, lease);
                }
                Err(error) => {
                    self.halted::<P>(number, Halt { offset: 0, cause: Cause::Refused(chain(&error)) });
                }
            }
        }
        let offsets = taken.iter().map(|(number, (lease, _))| {
            let partition = TopicPartition { topic: Arc::clone(&self.topic), partition: *number };
            let start = lease.last_event.map_or(StartOffset::Offset(lease.next_offset), |_| StartOffset::After(lease.next_offset));
            (partition, start)
        });
        let streams = assigned.start(offsets.collect::<Vec<_>>());
        for stream in streams {
            let number = stream.partition().partition;
            let Some((lease, parked)) = taken.remove(&number) else { continue };
            let parked_keys = parked.keys.len();
            tracing::info!(projection = P::NAME, topic = %self.topic, partition = number, lease.epoch, lease.next_offset, parked_keys, "partition taken");
            let cancel = CancellationToken::new();
            self.running.insert(number, cancel.clone());
            let partition = Partition {
                store: Arc::clone(self.group),
                progress: Arc::clone(self.progress),
                topic: Arc::clone(&self.topic),
                home: Home { partition: number, partitions: self.partitions },
                lease,
                parked,
                letters: self.letters.clone(),
            };
            let stream = Stream::new(stream, Arc::clone(self.gate));
            self.tasks.spawn(async move { (number, run::<P, Group<S>, _>(partition, stream, cancel).await) });
        }
    }

    /// Stops the tasks of partitions that were taken away, and gives the partitions up when they have ended.
    async fn revoke(&mut self, revoked: Revoked) -> Result<(), Error> {
        let numbers: Vec<i32> = revoked.partitions().iter().map(|partition| partition.partition).collect();
        for cancel in numbers.iter().filter_map(|number| self.running.get(number)) {
            cancel.cancel();
        }
        while numbers.iter().any(|number| self.running.contains_key(number)) {
            let Some(ended) = self.tasks.join_next().await else { break };
            self.ended(ended?);
        }
        for number in numbers {
            self.rejoin_at.remove(&number);
            self.progress.released(number);
        }
        revoked.done();
        Ok(())
    }

    fn ended(&mut self, (number, ended): (i32, Ended)) {
        self.running.remove(&number);
        if ended == Ended::Fenced {
            self.rejoin_at.insert(number, Instant::now() + FENCED_WAIT);
        }
    }

    /// A topic with more partitions than it must have has its keys in other places than before, by whoever goes by its number of partitions. What is
    /// in the further ones is not read: it could be ahead of what is in the others.
    fn refuse_unexpected<P: Projector<Writes = S::Writes>>(&self, assigned: &Assigned) {
        for number in assigned.partitions().iter().map(|assigned| assigned.partition).filter(|number| *number >= self.partitions) {
            self.halted::<P>(number, Halt { offset: 0, cause: Cause::Unexpected { partitions: self.partitions } });
        }
    }

    fn offset_gone<P: Projector<Writes = S::Writes>>(&mut self, partition: &TopicPartition, error: &idempo_kafka::Error) {
        let idempo_kafka::Error::OffsetOutOfRange { wanted, low, high, .. } = error else { return };
        if low == wanted {
            // Retention has passed the record before it since the watermarks were asked for: nothing is missing.
            self.rejoin_at.insert(partition.partition, Instant::now());
            return;
        }
        self.halted::<P>(partition.partition, Halt { offset: *wanted, cause: Cause::OffsetGone { low: *low, high: *high } });
    }

    fn unreadable<P: Projector<Writes = S::Writes>>(&self, partition: &TopicPartition, error: &idempo_kafka::Error) {
        let offset = self.progress.next_offset(partition.partition);
        self.halted::<P>(partition.partition, Halt { offset, cause: Cause::Unreadable(chain(error)) });
    }

    /// Says loudly why a partition stops that has no task to say it.
    fn halted<P: Projector<Writes = S::Writes>>(&self, number: i32, halt: Halt) {
        let (offset, code, reason) = (halt.offset, halt.cause.code(), halt.cause.to_string());
        tracing::error!(projection = P::NAME, topic = %self.topic, partition = number, offset, code, reason, "the partition has stopped");
        if let Some(epoch) = self.progress.epoch(number) {
            let store = Arc::clone(self.store);
            tokio::spawn(async move {
                // A hint for other processes; this one says it in any case.
                if let Err(error) = store.note_stop(number, epoch, code, &reason).await {
                    tracing::debug!(partition = number, error = chain(&error), "why the partition has stopped could not be kept");
                }
            });
        }
        self.progress.halted(&self.topic, number, halt);
    }

    /// Stops all tasks, and forgets what this membership held.
    async fn stop_all(&mut self) -> Result<(), Error> {
        for cancel in self.running.values() {
            cancel.cancel();
        }
        while let Some(ended) = self.tasks.join_next().await {
            self.ended(ended?);
        }
        self.progress.released_all();
        Ok(())
    }
}

/// Takes the partitions of an assignment from the store, and waits for the store as long as it is away.
async fn acquire<S: Store>(store: Arc<S>, progress: Arc<Progress>, assigned: Assigned, partitions: i32) -> Acquired {
    let mut leases = Vec::with_capacity(assigned.partitions().len());
    // Whoever needs the answer no more drops it.
    let never = CancellationToken::new();
    for TopicPartition { topic, partition } in assigned.partitions().iter().filter(|assigned| assigned.partition < partitions) {
        fail::fail_point!(crate::failpoint::PROJECT_BEFORE_ACQUIRE);
        let lease = patiently((topic, *partition), &progress.meters, &never, || async {
            let lease = store.acquire(*partition).await?;
            // After it: nobody else parks anything from here on.
            Ok((lease, store.parked(*partition).await?))
        })
        .await;
        fail::fail_point!(crate::failpoint::PROJECT_ACQUIRED);
        leases.push((*partition, lease));
    }
    Acquired { assigned, leases }
}

/// A partition's stream as a feed, behind the gate of its generation.
struct Stream {
    stream: PartitionStream,
    gate: Arc<Gate>,
    limits: watch::Receiver<Limits>,
    /// What was received and not given on yet.
    records: Vec<Record>,
}

impl Stream {
    fn new(stream: PartitionStream, gate: Arc<Gate>) -> Self {
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
