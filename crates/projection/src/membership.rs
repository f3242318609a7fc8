//! A member of a consumer group: partitions are taken where whoever keeps their positions says, run by a task each, and given up. What is done with
//! their records is the [`Assignee`]'s: a projection's, or a reactor's.
//!
//! **A partition that has stopped is tried again** when people say that the cause is mended (`ResumeProjection`). What they say is kept where it stands that
//! the partition has stopped: the store forgets the stop, and the process whose stop it was sees that ([`Progress::observed`](crate::Progress)) and joins the group anew. That
//! is more than it takes where the partition's task could go on, but it serves every cause: the records are fetched again, of a log that may be another one
//! by then, and partitions that have no task are taken like any other. So nothing is lost or doubled by it that is not by any taking of a partition:
//! the epoch is raised, and reading begins at the checkpoint. What can come in between:
//!
//! * **A rebalance.** Whoever takes the partition has it forgotten that it has stopped, and tries it. A process that was due and has given the
//!   partition up is not due any more.
//! * **Somebody else has it under a later epoch, and the group has not said so yet.** The stop that was forgotten was not this process's, or is not any more: it does nothing,
//!   and the group will take the partition from it.
//! * **The stop is told after people said so.** It stands, for all to see, and they say so again.
//! * **It stops again.** It is told again, under the new epoch.
//! * **The end of the process, or its death.** Whoever takes the partition tries it.
//! * **A drain of its dead letters.** It is one transaction under the old epoch: in before the partition is taken anew, or not at all.
//! * **A pause.** It is in front of the reading: a partition that is tried again reads when it is over. To resume ends both.
//! * **A switch, or a generation that is dropped.** Stops are those of a generation; a consumer that ends, ends.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use idempo_kafka::{Assigned, Consumer, ConsumerConfig, Event, Events, PartitionStream, Revoked, StartOffset, TopicPartition};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::halt::{Cause, Halt};
use crate::partition::Ended;
use crate::patience::chain;
use crate::runtime::Error;

/// How long a partition whose lease is void waits to be revoked. When the group still gives it to this process then, the lease was void for
/// another reason (a crash of the store, a zombie that took it late), and the process joins the group anew.
const FENCED_WAIT: Duration = Duration::from_secs(2);
/// How long to wait before joining the group again, at first and at most.
const REJOIN_DELAY_MIN: Duration = Duration::from_millis(100);
const REJOIN_DELAY_MAX: Duration = Duration::from_secs(10);
/// A consumer that ran for so long counts as a good one: the next failure is the first again.
const STEADY_AFTER: Duration = Duration::from_secs(60);

/// What a process does with the partitions that a consumer group gives it.
pub(crate) trait Assignee: Send + Sync + 'static {
    /// A partition as it was taken.
    type Taken: Send + 'static;

    /// Whose group it is, for the log.
    fn name(&self) -> &'static str;

    /// The topic.
    fn topic(&self) -> &Arc<str>;

    /// The partitions that the topic must have.
    fn partitions(&self) -> i32;

    /// Takes a partition from where its position is kept, and waits for that as long as it is away. Whoever needs the answer no more drops it.
    fn take(&self, partition: i32) -> impl Future<Output = Result<Self::Taken, Halt>> + Send;

    /// Where a partition that was taken is read from.
    fn begins_at(taken: &Self::Taken) -> StartOffset;

    /// Runs a partition until it is taken away.
    fn run(
        self: Arc<Self>,
        partition: i32,
        taken: Self::Taken,
        stream: PartitionStream,
        cancel: CancellationToken,
    ) -> impl Future<Output = Ended> + Send + 'static;

    /// The offset of the first record of a partition that nothing was done with, as far as is known.
    fn next_offset(&self, partition: i32) -> i64;

    /// Says loudly why a partition stops that has no task to say it.
    fn halted(&self, partition: i32, halt: Halt);

    /// Ends when a partition that has stopped is to be tried again; never, where nobody can want that.
    ///
    /// # Cancel safety
    /// Safe.
    fn due(&self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// A partition is not this process's any more.
    fn released(&self, partition: i32);

    /// No partition is this process's any more.
    fn released_all(&self);
}

/// Is a member of the group until `cancel` is cancelled; again and again, where the consumer fails or a lease was void.
pub(crate) async fn join<A: Assignee>(
    assignee: &Arc<A>,
    kafka: &idempo_kafka::Config,
    consumer_config: &ConsumerConfig,
    cancel: &CancellationToken,
) -> Result<(), Error> {
    let delays =
        ExponentialBuilder::new().with_min_delay(REJOIN_DELAY_MIN).with_max_delay(REJOIN_DELAY_MAX).with_jitter().without_max_times();
    let mut backoff = delays.build();
    let mut replaced_at: Option<Instant> = None;
    loop {
        let started = Instant::now();
        let (consumer, events) = Consumer::start(kafka, consumer_config)?;
        let mut member = Member { assignee, tasks: JoinSet::new(), running: BTreeMap::new(), rejoin_at: BTreeMap::new() };
        let end = member.serve(events, cancel).await;
        member.stop_all().await?;
        consumer.close().await;
        match end? {
            End::Cancelled => return Ok(()),
            End::Fenced => tracing::info!(name = assignee.name(), "joining the group anew, to take partitions whose lease was void"),
            End::Replaced(error) => {
                // Once, it may have been this member itself, after brokers were away. Two processes with one instance id take it from each other again and again.
                if replaced_at.replace(Instant::now()).is_some_and(|before| before.elapsed() < STEADY_AFTER) {
                    tracing::warn!(name = assignee.name(), error, "joining the group again: has another process the same instance id?");
                } else {
                    tracing::info!(name = assignee.name(), error, "joining the group anew, which has given this member's place away");
                }
            }
            End::Due => tracing::info!(name = assignee.name(), "joining the group anew, to try partitions again that have stopped"),
            End::Failed(error) => tracing::warn!(name = assignee.name(), error, "the consumer failed, a new one is made"),
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

/// Why a member of the group ends.
enum End {
    Cancelled,
    Fenced,
    /// The group knows another member by this one's instance id.
    Replaced(String),
    /// See the documentation of the module.
    Due,
    Failed(String),
}

/// One membership of the group, from joining to leaving.
struct Member<'a, A> {
    assignee: &'a Arc<A>,
    tasks: JoinSet<(i32, Ended)>,
    /// Cancelled when the partition is taken away. A partition whose task has ended has none.
    running: BTreeMap<i32, CancellationToken>,
    /// When to join anew for a partition whose lease is void.
    rejoin_at: BTreeMap<i32, Instant>,
}

/// An assignment whose partitions were taken, or could not be.
struct Acquired<T> {
    assigned: Assigned,
    taken: Vec<(i32, Result<T, Halt>)>,
}

impl<A: Assignee> Member<'_, A> {
    async fn serve(&mut self, mut events: Events, cancel: &CancellationToken) -> Result<End, Error> {
        let mut acquiring = FuturesUnordered::new();
        loop {
            let rejoin = self.rejoin_at.values().min().copied();
            tokio::select! {
                () = cancel.cancelled() => return Ok(End::Cancelled),
                () = sleep_until(rejoin.unwrap_or_else(Instant::now)), if rejoin.is_some() => return Ok(End::Fenced),
                () = self.assignee.due() => return Ok(End::Due),
                event = events.next() => match event {
                    None => return Ok(End::Failed("the consumer has ended".to_owned())),
                    Some(Event::Assigned(assigned)) => {
                        self.refuse_unexpected(&assigned);
                        acquiring.push(acquire(Arc::clone(self.assignee), assigned));
                    }
                    Some(Event::Revoked(revoked)) => self.revoke(revoked).await?,
                    Some(Event::Failed { partition: Some(partition), error: error @ idempo_kafka::Error::OffsetOutOfRange { .. } }) => {
                        self.offset_gone(&partition, &error);
                    }
                    Some(Event::Failed { partition: Some(partition), error }) => self.unreadable(&partition, &error),
                    Some(Event::Failed { error: error @ idempo_kafka::Error::Fenced { .. }, .. }) => return Ok(End::Replaced(chain(&error))),
                    Some(Event::Failed { error, .. }) => return Ok(End::Failed(chain(&error))),
                },
                Some(acquired) = acquiring.next() => self.start(acquired),
                Some(ended) = self.tasks.join_next() => self.ended(ended?),
            }
        }
    }

    /// Begins to read what was taken, each partition where its position is.
    fn start(&mut self, Acquired { assigned, taken: answers }: Acquired<A::Taken>) {
        let mut taken = BTreeMap::new();
        for (number, answer) in answers {
            match answer {
                Ok(lease) => {
                    taken.insert(number, lease);
                }
                Err(halt) => self.assignee.halted(number, halt),
            }
        }
        let offsets = taken.iter().map(|(number, taken)| {
            let partition = TopicPartition { topic: Arc::clone(self.assignee.topic()), partition: *number };
            (partition, A::begins_at(taken))
        });
        let streams = assigned.start(offsets.collect::<Vec<_>>());
        for stream in streams {
            let number = stream.partition().partition;
            let Some(taken) = taken.remove(&number) else { continue };
            let cancel = CancellationToken::new();
            self.running.insert(number, cancel.clone());
            let task = Arc::clone(self.assignee).run(number, taken, stream, cancel);
            self.tasks.spawn(async move { (number, task.await) });
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
            self.assignee.released(number);
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
    fn refuse_unexpected(&self, assigned: &Assigned) {
        let partitions = self.assignee.partitions();
        for number in assigned.partitions().iter().map(|assigned| assigned.partition).filter(|number| *number >= partitions) {
            self.assignee.halted(number, Halt { offset: 0, cause: Cause::Unexpected { partitions } });
        }
    }

    fn offset_gone(&mut self, partition: &TopicPartition, error: &idempo_kafka::Error) {
        let idempo_kafka::Error::OffsetOutOfRange { wanted, low, high, .. } = error else { return };
        if low == wanted {
            // Retention has passed the record before it since the watermarks were asked for: nothing is missing.
            self.rejoin_at.insert(partition.partition, Instant::now());
            return;
        }
        self.assignee.halted(partition.partition, Halt { offset: *wanted, cause: Cause::OffsetGone { low: *low, high: *high } });
    }

    fn unreadable(&self, partition: &TopicPartition, error: &idempo_kafka::Error) {
        let offset = self.assignee.next_offset(partition.partition);
        self.assignee.halted(partition.partition, Halt { offset, cause: Cause::Unreadable(chain(error)) });
    }

    /// Stops all tasks, and forgets what this membership held.
    async fn stop_all(&mut self) -> Result<(), Error> {
        for cancel in self.running.values() {
            cancel.cancel();
        }
        while let Some(ended) = self.tasks.join_next().await {
            self.ended(ended?);
        }
        self.assignee.released_all();
        Ok(())
    }
}

/// Takes the partitions of an assignment.
async fn acquire<A: Assignee>(assignee: Arc<A>, assigned: Assigned) -> Acquired<A::Taken> {
    let mut taken = Vec::with_capacity(assigned.partitions().len());
    let expected = assigned.partitions().iter().map(|assigned| assigned.partition).filter(|number| *number < assignee.partitions());
    for partition in expected {
        taken.push((partition, assignee.take(partition).await));
    }
    Acquired { assigned, taken }
}
