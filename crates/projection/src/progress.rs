//! What is known of each partition: where it stands, how far behind, and whether it goes on.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use idempo_clock::SharedClock;
use idempo_ids::StreamId;
use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::halt::Halt;
use crate::meters::{Counts, Meters};
use crate::parking::letters::{ParkedCounts, Wishes};
use crate::partition::LARGE_AT_ONCE;
use crate::store::{Checkpoint, Lease};
use crate::waiters::Waiters;

/// For how long a lag of nothing is believed after the brokers last said where the partitions end, in milliseconds.
pub const HEADS_FRESH_MS: i64 = 15_000;

/// How far a read model is behind its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lag {
    /// Events on the partitions that the read model does not have.
    pub events: i64,
    /// How long ago the newest event that it has was decided, on the partition that is furthest behind, in milliseconds; 0 when it has all. When
    /// the brokers have not said for [`HEADS_FRESH_MS`] where the partitions end, at least the time since they did.
    pub ms: i64,
}

/// What this process does with a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartitionState {
    /// Another process has it, or none.
    Elsewhere,
    /// Its events go into the read model.
    Running,
    /// It was taken by somebody else, or the store fell back behind it. It will be taken anew, or revoked.
    Fenced,
    /// It stopped, and goes on only after a person has mended the cause.
    Stopped(Halt),
}

/// A partition that stands still until a person has mended the cause, in this process or another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// The partition.
    pub partition: i32,
    /// The offset of the first record that is not in the read model.
    pub offset: i64,
    /// The cause's stable name, as [`crate::Cause::code`] has it.
    pub code: String,
}

/// What is wrong with the topic as a whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicFault {
    /// The brokers do not have it.
    #[error("TOPIC_MISSING: the brokers have no topic {topic}")]
    Missing {
        /// Its name.
        topic: String,
    },
    /// It has another number of partitions than it must have.
    #[error("TOPIC_PARTITIONS: topic {topic} has {found} partitions and must have {expected}")]
    Partitions {
        /// Its name.
        topic: String,
        /// The partitions that it has.
        found: usize,
        /// The partitions that it must have.
        expected: usize,
    },
}

impl TopicFault {
    /// A stable name, for metrics and alerts.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "TOPIC_MISSING",
            Self::Partitions { .. } => "TOPIC_PARTITIONS",
        }
    }
}

/// What is known of the partitions of one projection, shared by its tasks and those who ask.
pub struct Progress {
    clock: SharedClock,
    pub(crate) meters: Meters,
    inner: Mutex<Inner>,
    /// Those who wait for streams.
    pub(crate) waiters: Arc<Waiters>,
    stopped: watch::Sender<Vec<(i32, Halt)>>,
    topic_fault: watch::Sender<Option<TopicFault>>,
    /// One for each large batch that may be under way.
    pub(crate) turns: Semaphore,
    /// The partitions of which somebody wants dead letters drained, as the store said last. Sent anew as long as it is so.
    wishes: watch::Sender<Vec<i32>>,
    /// Whether there are dead letters.
    has_letters: AtomicBool,
    /// Heard when a partition is due.
    due: Notify,
}

struct Inner {
    partitions: BTreeMap<i32, Partition>,
    heads_heard_at: Timestamp,
}

struct Partition {
    state: PartitionState,
    lease: Option<Held>,
    next_offset: i64,
    newest_at: Option<Timestamp>,
    /// Why it has stopped, by the store: as another process says, or one before this.
    noted: Option<String>,
    /// The epoch under which this process has told the store that it has stopped, and the store has heard it.
    told_under: Option<i64>,
    /// Whether it has stopped and is to be tried again.
    is_due: bool,
    /// The offset of the next record to be written, as last heard.
    head: i64,
    known_since: Timestamp,
}

struct Held {
    epoch: i64,
    fence: CancellationToken,
}

/// What stood here before the store was asked.
pub(crate) struct Before {
    /// What was held: partition, epoch, next offset.
    held: Vec<(i32, i64, i64)>,
    /// What had stopped, as the store had heard: partition, epoch.
    told: Vec<(i32, i64)>,
}

impl Progress {
    /// Nothing known yet, of generation `generation` of `projection`.
    #[must_use]
    pub fn new(clock: SharedClock, projection: &'static str, generation: i32) -> Self {
        let heads_heard_at = clock.now();
        Self {
            clock,
            meters: Meters::new(projection, generation),
            inner: Mutex::new(Inner { partitions: BTreeMap::new(), heads_heard_at }),
            waiters: Arc::default(),
            stopped: watch::channel(Vec::new()).0,
            topic_fault: watch::channel(None).0,
            turns: Semaphore::new(LARGE_AT_ONCE),
            wishes: watch::channel(Vec::new()).0,
            has_letters: AtomicBool::new(false),
            due: Notify::new(),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn wishes(&self) -> watch::Receiver<Vec<i32>> {
        self.wishes.subscribe()
    }

    /// Tells the tasks of which partitions somebody wants dead letters drained, as the store says: [`crate::Store::wishes`]. The runtime does it several
    /// times a second.
    pub fn hear_wishes(&self, wishes: Wishes) {
        self.has_letters.store(wishes.has_letters, Ordering::Relaxed);
        if !wishes.partitions.is_empty() {
            self.wishes.send_replace(wishes.partitions);
        }
    }

    /// The store says how much is parked.
    pub(crate) fn parked(&self, counts: &ParkedCounts) {
        let age_ms = counts.oldest_at.map_or(0, |oldest| millis_between(oldest, self.clock.now()));
        self.meters.parked(counts, age_ms);
    }

    /// Whether there are dead letters: of the partitions of this process as of now, of others as of a moment ago.
    pub(crate) fn has_letters(&self) -> bool {
        self.has_letters.load(Ordering::Relaxed)
    }

    /// A key is parked that these streams have their events under. Those who wait for them wait in vain, and look at once.
    pub(crate) fn buried(&self, streams: &[StreamId]) {
        self.has_letters.store(true, Ordering::Relaxed);
        self.waiters.committed(streams.iter().map(|stream| (*stream, u64::MAX)));
    }

    /// How far the read model is behind: on one partition, or on all. Cheap: it asks nobody.
    #[must_use]
    pub fn lag(&self, partition: Option<i32>) -> Lag {
        let now = self.clock.now();
        let inner = self.lock();
        let unheard_ms = millis_between(inner.heads_heard_at, now);
        let floor_ms = if unheard_ms > HEADS_FRESH_MS { unheard_ms } else { 0 };
        let chosen = inner.partitions.iter().filter(|(number, _)| partition.is_none_or(|wanted| wanted == **number));
        chosen.fold(Lag { events: 0, ms: floor_ms }, |lag, (_, partition)| {
            let events = partition.head.saturating_sub(partition.next_offset).max(0);
            let ms = if events == 0 { 0 } else { millis_between(partition.newest_at.unwrap_or(partition.known_since), now) };
            Lag { events: lag.events.saturating_add(events), ms: lag.ms.max(ms) }
        })
    }

    /// How many records of all partitions are in the read model, or were before the first that the topic has: it rises with every commit.
    pub(crate) fn position(&self) -> i64 {
        self.lock().partitions.values().fold(0, |sum, partition| sum.saturating_add(partition.next_offset))
    }

    /// What this process does with each partition.
    #[must_use]
    pub fn states(&self) -> Vec<(i32, PartitionState)> {
        self.lock().partitions.iter().map(|(number, partition)| (*number, partition.state.clone())).collect()
    }

    /// The partitions that have stopped, or whether this one has: of this process as of now, of others as of a second ago.
    #[must_use]
    pub fn stops(&self, partition: Option<i32>) -> Vec<Stopped> {
        let inner = self.lock();
        let chosen = inner.partitions.iter().filter(|(number, _)| partition.is_none_or(|wanted| wanted == **number));
        let stopped = chosen.filter_map(|(number, partition)| match (&partition.state, &partition.noted) {
            (PartitionState::Stopped(halt), _) => Some((*number, halt.offset, halt.cause.code().to_owned())),
            (PartitionState::Elsewhere, Some(code)) => Some((*number, partition.next_offset, code.clone())),
            _ => None,
        });
        stopped.map(|(partition, offset, code)| Stopped { partition, offset, code }).collect()
    }

    /// What is wrong with the topic as a whole, as far as the brokers have said.
    #[must_use]
    pub fn topic_fault(&self) -> watch::Receiver<Option<TopicFault>> {
        self.topic_fault.subscribe()
    }

    /// The brokers say how it is with the topic.
    pub(crate) fn topic(&self, fault: Option<TopicFault>) {
        self.topic_fault.send_if_modified(|known| {
            let changed = *known != fault;
            if changed {
                match &fault {
                    Some(fault) => tracing::error!(code = fault.code(), reason = %fault, "something is wrong with the topic"),
                    None => tracing::info!("the topic is as it must be again"),
                }
                self.meters.topic_fault(known.as_ref().map(TopicFault::code), fault.as_ref().map(TopicFault::code));
                *known = fault;
            }
            changed
        });
    }

    /// The partitions of this process that have stopped, and why.
    #[must_use]
    pub fn stopped(&self) -> watch::Receiver<Vec<(i32, Halt)>> {
        self.stopped.subscribe()
    }

    /// Where a partition stands, as far as is known here.
    pub(crate) fn next_offset(&self, number: i32) -> i64 {
        self.lock().partitions.get(&number).map_or(0, |partition| partition.next_offset)
    }

    /// The epoch of the lease that is held on a partition.
    pub(crate) fn epoch(&self, number: i32) -> Option<i64> {
        self.lock().partitions.get(&number)?.lease.as_ref().map(|held| held.epoch)
    }

    /// A partition was taken. The token is cancelled when the store is seen to have gone another way.
    pub(crate) fn held(&self, number: i32, lease: Lease) -> CancellationToken {
        let fence = CancellationToken::new();
        self.with(number, |partition| {
            partition.is_in(PartitionState::Running);
            partition.next_offset = lease.next_offset;
            partition.lease = Some(Held { epoch: lease.epoch, fence: fence.clone() });
        });
        fence
    }

    pub(crate) fn committed(&self, number: i32, to: i64, newest_at: Option<Timestamp>, counts: &Counts, took: Duration) {
        self.with(number, |partition| {
            partition.next_offset = to;
            partition.newest_at = newest_at.max(partition.newest_at);
            self.meters.stands(number, to, partition.head);
        });
        self.meters.committed(counts, took);
    }

    pub(crate) fn fenced(&self, number: i32) {
        self.meters.fenced();
        self.with(number, |partition| partition.is_in(PartitionState::Fenced));
    }

    pub(crate) fn halted(&self, topic: &str, number: i32, halt: Halt) {
        self.meters.halted(topic, number, halt.offset, halt.cause.code());
        self.with(number, |partition| partition.is_in(PartitionState::Stopped(halt)));
    }

    /// The store has heard that a partition has stopped, from who had it under this epoch.
    pub(crate) fn stop_told(&self, number: i32, epoch: i64) {
        self.with(number, |partition| {
            if matches!(partition.state, PartitionState::Stopped(_)) {
                partition.told_under = Some(epoch);
            }
        });
    }

    /// Ends when a partition of this process that has stopped is to be tried again. There may be one who waits.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn due(&self) {
        while !self.lock().partitions.values().any(|partition| partition.is_due) {
            self.due.notified().await;
        }
    }

    /// A partition is not this process's any more.
    pub(crate) fn released(&self, number: i32) {
        self.with(number, |partition| partition.is_in(PartitionState::Elsewhere));
    }

    /// No partition is this process's any more.
    pub(crate) fn released_all(&self) {
        let numbers: Vec<i32> = self.lock().partitions.keys().copied().collect();
        for number in numbers {
            self.released(number);
        }
    }

    /// The partition's own consumer says where it ends.
    pub(crate) fn head(&self, number: i32, head: i64) {
        self.with(number, |partition| {
            partition.head = partition.head.max(head);
            self.meters.stands(number, partition.next_offset, partition.head);
        });
    }

    /// The brokers say where all partitions end, in the order of their numbers.
    pub(crate) fn heads(&self, heads: impl IntoIterator<Item = i64>) {
        for (number, head) in (0_i32..).zip(heads) {
            self.head(number, head);
        }
        self.lock().heads_heard_at = self.clock.now();
    }

    /// To be called before the store is asked for [`Self::observed`].
    pub(crate) fn before(&self) -> Before {
        let inner = self.lock();
        let held = inner.partitions.iter().filter_map(|(number, p)| Some((*number, p.lease.as_ref()?.epoch, p.next_offset)));
        let told = inner.partitions.iter().filter_map(|(number, p)| Some((*number, p.told_under?)));
        Before { held: held.collect(), told: told.collect() }
    }

    /// The store says where the partitions stand: how others get on, and whether a partition held here was taken by somebody else or has fallen
    /// back, as after a crash of the server. What moves only with the next record would otherwise not be noticed while none comes.
    ///
    /// A partition of this process that has stopped is due when the store had heard so, and under the same epoch does not say it any more: somebody
    /// wants it tried again ([`crate::Operations`]). That the store had heard it before it was asked is known by then, so a stop that is only about to be
    /// told is not taken for one that was taken back. Under another epoch somebody else has the partition, and tried it by taking it.
    pub(crate) fn observed(&self, before: &Before, checkpoints: &[Checkpoint]) {
        for checkpoint in checkpoints {
            let known = before.held.iter().find(|(number, ..)| *number == checkpoint.partition);
            let was_told = before.told.contains(&(checkpoint.partition, checkpoint.epoch));
            self.with(checkpoint.partition, |partition| match (&partition.lease, known) {
                (Some(held), Some((_, epoch, next_offset))) if held.epoch == *epoch => {
                    if checkpoint.epoch != *epoch || checkpoint.next_offset < *next_offset {
                        held.fence.cancel();
                    }
                    partition.newest_at = partition.newest_at.max(checkpoint.newest_at);
                }
                (Some(_), _) => {}
                (None, _) => {
                    (partition.next_offset, partition.newest_at) = (checkpoint.next_offset, checkpoint.newest_at);
                    partition.noted.clone_from(&checkpoint.stopped);
                    partition.is_due |= was_told && partition.told_under == Some(checkpoint.epoch) && checkpoint.stopped.is_none();
                }
            });
        }
        self.due.notify_one();
        self.meters.freshness(self.lag(None).ms);
    }

    fn with(&self, number: i32, change: impl FnOnce(&mut Partition)) {
        let now = self.clock.now();
        let stopped = {
            let mut inner = self.lock();
            let partition = inner.partitions.entry(number).or_insert_with(|| Partition {
                state: PartitionState::Elsewhere,
                lease: None,
                next_offset: 0,
                newest_at: None,
                noted: None,
                told_under: None,
                is_due: false,
                head: 0,
                known_since: now,
            });
            change(partition);
            let stopped = inner.partitions.iter().filter_map(|(number, partition)| match &partition.state {
                PartitionState::Stopped(halt) => Some((*number, halt.clone())),
                _ => None,
            });
            stopped.collect::<Vec<_>>()
        };
        self.meters.stopped(stopped.len());
        self.stopped.send_if_modified(|known| {
            let changed = *known != stopped;
            *known = stopped;
            changed
        });
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Partition {
    /// What this process does with it from here on. A lease is had only as long as it runs.
    fn is_in(&mut self, state: PartitionState) {
        (self.state, self.lease, self.told_under, self.is_due) = (state, None, None, false);
    }
}

fn millis_between(earlier: Timestamp, later: Timestamp) -> i64 {
    later.as_millisecond().saturating_sub(earlier.as_millisecond()).max(0)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use idempo_clock::SystemClock;

    use super::*;
    use crate::halt::Cause;

    /// A partition that was taken under epoch 7 and has stopped.
    fn stopped() -> Progress {
        let progress = Progress::new(SystemClock::shared(), "test", 1);
        progress.held(0, Lease { epoch: 7, next_offset: 5, last_event: None });
        progress.halted("topic", 0, Halt { offset: 5, cause: Cause::Flood });
        progress
    }

    fn stands(epoch: i64, stopped: Option<&str>) -> [Checkpoint; 1] {
        [Checkpoint { partition: 0, epoch, next_offset: 5, newest_at: None, stopped: stopped.map(str::to_owned) }]
    }

    fn is_due(progress: &Progress) -> bool {
        progress.due().now_or_never().is_some()
    }

    #[test]
    fn a_stop_that_the_store_has_heard_and_forgotten_is_tried_again_once() {
        let progress = stopped();
        progress.stop_told(0, 7);
        progress.observed(&progress.before(), &stands(7, Some("DEAD_LETTER_FLOOD")));
        assert!(!is_due(&progress));
        progress.observed(&progress.before(), &stands(7, None));
        assert!(is_due(&progress));
        progress.released(0);
        assert!(!is_due(&progress));
        progress.observed(&progress.before(), &stands(8, None));
        assert!(!is_due(&progress));
    }

    #[test]
    fn a_stop_that_the_store_had_not_heard_when_it_was_asked_is_none_that_it_has_forgotten() {
        let progress = stopped();
        let before = progress.before();
        progress.observed(&before, &stands(7, None));
        progress.stop_told(0, 7);
        progress.observed(&before, &stands(7, None));
        assert!(!is_due(&progress));
    }

    #[test]
    fn a_partition_that_somebody_else_has_taken_since_is_theirs_to_try() {
        let progress = stopped();
        progress.stop_told(0, 7);
        progress.observed(&progress.before(), &stands(8, None));
        assert!(!is_due(&progress));
    }
}
