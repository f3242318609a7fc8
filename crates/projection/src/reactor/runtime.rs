//! The runtime of a reactor: a member of a consumer group, with a task for each partition that it is given.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use idempo_kafka::{ConsumerConfig, PartitionStream, StartOffset, TopicEnds};
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use super::Reactor;
use super::log::{EffectLog, Taken};
use super::progress::ReactionProgress;
use super::task::{ReactionPartition, halted, run};
use crate::batch::Home;
use crate::gate::Gate;
use crate::halt::{Cause, Halt};
use crate::membership::{Assignee, join};
use crate::partition::Ended;
use crate::patience::{chain, wait_for};
use crate::runtime::{Error, Stream};

/// How often the log is asked how many effects are unsettled.
const COUNTS_INTERVAL: Duration = Duration::from_secs(5);

/// How a reactor reads its topic.
#[derive(Debug, Clone)]
pub struct ReactionOptions {
    /// How the brokers are reached.
    pub kafka: idempo_kafka::Config,
    /// How the group is joined. Its group and topics are set from the fields below.
    pub consumer: ConsumerConfig,
    /// The consumer group: of this reactor alone, and never a projection's.
    pub group_id: String,
    /// The topic.
    pub topic: String,
    /// Its partitions.
    pub partitions: i32,
}

/// A reactor, ready to run.
pub struct Reaction<R, L> {
    reactor: Arc<R>,
    log: Arc<L>,
    progress: Arc<ReactionProgress>,
    options: ReactionOptions,
}

impl<R: Reactor, L: EffectLog> Reaction<R, L> {
    /// A reactor that keeps its effects and positions in `log`. What it knows goes to `progress`.
    #[must_use]
    pub const fn new(reactor: Arc<R>, log: Arc<L>, progress: Arc<ReactionProgress>, options: ReactionOptions) -> Self {
        Self { reactor, log, progress, options }
    }

    /// Reacts until `cancel` is cancelled. A broker or a log that is away is waited for; what stops one partition leaves the others running.
    ///
    /// # Errors
    /// [`Error`], where the configuration is unusable, or by a defect.
    ///
    /// # Cancel safety
    /// Dropping it leaves effects half done, which is safe: whoever has the partitions next performs them again, with the same ids.
    pub async fn run(&self, cancel: CancellationToken) -> Result<(), Error> {
        let ReactionOptions { kafka, consumer, group_id, topic, partitions } = &self.options;
        let reacting = Arc::new(Reacting {
            reactor: Arc::clone(&self.reactor),
            log: Arc::clone(&self.log),
            progress: Arc::clone(&self.progress),
            ends: TopicEnds::new(kafka, topic, *partitions)?,
            topic: Arc::from(topic.as_str()),
            partitions: *partitions,
        });
        let consumer = ConsumerConfig { group_id: group_id.clone(), topics: vec![topic.clone()], ..consumer.clone() };
        tokio::select! {
            result = join(&reacting, kafka, &consumer, &cancel) => result,
            () = self.count() => Ok(()),
        }
    }

    /// Keeps up to date how many effects are unsettled. Never ends.
    async fn count(&self) {
        let mut counts = interval(COUNTS_INTERVAL);
        loop {
            counts.tick().await;
            match self.log.counts().await {
                Ok(counts) => self.progress.counted(&counts),
                Err(error) => tracing::debug!(error = chain(&error), "the effect log does not say what is unsettled"),
            }
        }
    }
}

/// What a reactor does with the partitions that it is given.
struct Reacting<R, L> {
    reactor: Arc<R>,
    log: Arc<L>,
    progress: Arc<ReactionProgress>,
    /// Says where a partition ends that has not begun.
    ends: TopicEnds,
    topic: Arc<str>,
    partitions: i32,
}

impl<R: Reactor, L: EffectLog> Reacting<R, L> {
    /// Has a partition begin at its head that nobody ever had. The head is asked for after the partition was taken: see the documentation of the
    /// module `reactor`.
    async fn begin(&self, partition: i32, epoch: i64) -> Result<i64, Halt> {
        let (never, place) = (CancellationToken::new(), (&*self.topic, partition));
        let retried = || self.progress.meters.log_retried();
        let ends = wait_for("Kafka", place, retried, &never, || self.ends.watermarks()).await;
        let ends = ends.map_err(|error| Halt { offset: 0, cause: Cause::Unreadable(chain(&error)) })?;
        let head = (0..).zip(ends).find(|(number, _)| *number == partition).map_or(0, |(_, (_, high))| high);
        let begun = wait_for("the effect log", place, retried, &never, || self.log.begin(partition, epoch, head)).await;
        // Where somebody else has taken the partition, nothing is recorded from here, and the task's first look says so.
        Ok(begun.map_err(|error| Halt { offset: head, cause: Cause::LogRefused(chain(&error)) })?.unwrap_or(head))
    }
}

/// A partition that was taken, and where it is read from.
struct Begun {
    taken: Taken,
    next_offset: i64,
}

impl<R: Reactor, L: EffectLog> Assignee for Reacting<R, L> {
    type Taken = Begun;

    fn name(&self) -> &'static str {
        R::NAME
    }

    fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    fn partitions(&self) -> i32 {
        self.partitions
    }

    async fn take(&self, partition: i32) -> Result<Begun, Halt> {
        let never = CancellationToken::new();
        fail::fail_point!(crate::failpoint::REACT_BEFORE_ACQUIRE);
        let retried = || self.progress.meters.log_retried();
        let taken = wait_for("the effect log", (&self.topic, partition), retried, &never, || self.log.acquire(partition)).await;
        let taken = taken.map_err(|error| Halt { offset: 0, cause: Cause::LogRefused(chain(&error)) })?;
        fail::fail_point!(crate::failpoint::REACT_ACQUIRED);
        let next_offset = match taken.next_offset {
            Some(next_offset) => next_offset,
            None => self.begin(partition, taken.epoch).await?,
        };
        fail::fail_point!(crate::failpoint::REACT_BEGUN);
        Ok(Begun { taken, next_offset })
    }

    fn begins_at(begun: &Begun) -> StartOffset {
        begun.taken.last_event.map_or(StartOffset::Offset(begun.next_offset), |_| StartOffset::After(begun.next_offset))
    }

    fn run(
        self: Arc<Self>,
        number: i32,
        Begun { taken: Taken { epoch, last_event, settlements, .. }, next_offset }: Begun,
        stream: PartitionStream,
        cancel: CancellationToken,
    ) -> impl Future<Output = Ended> + Send + 'static {
        tracing::info!(reactor = R::NAME, topic = %self.topic, partition = number, epoch, next_offset, "partition taken");
        let partition = ReactionPartition {
            reactor: Arc::clone(&self.reactor),
            log: Arc::clone(&self.log),
            progress: Arc::clone(&self.progress),
            topic: Arc::clone(&self.topic),
            home: Home { partition: number, partitions: self.partitions },
            epoch,
            next_offset,
            last_event,
            settlements,
        };
        run(partition, Stream::new(stream, Arc::new(Gate::default())), cancel)
    }

    fn next_offset(&self, partition: i32) -> i64 {
        self.progress.next_offset(partition)
    }

    fn halted(&self, partition: i32, halt: Halt) {
        halted::<R>(&self.progress, &self.topic, partition, halt);
    }

    fn released(&self, partition: i32) {
        self.progress.released(partition);
    }

    fn released_all(&self) {
        self.progress.released_all();
    }
}
