//! How the partitions of a reactor get on in this process.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use idempo_clock::SharedClock;
use jiff::Timestamp;
use tokio::sync::watch;

use super::log::EffectCounts;
use super::meters::Meters;
use crate::halt::Halt;
use crate::progress::PartitionState;

/// Milliseconds in a second.
const SECOND_MS: f64 = 1_000.0;

/// What is known of a reactor in this process, shared by its tasks and those who ask.
pub struct ReactionProgress {
    clock: SharedClock,
    pub(super) meters: Meters,
    partitions: Mutex<BTreeMap<i32, Partition>>,
    stopped: watch::Sender<Vec<(i32, Halt)>>,
}

struct Partition {
    state: PartitionState,
    next_offset: i64,
    head: i64,
}

impl ReactionProgress {
    /// Nothing is known yet of the reactor with this name.
    #[must_use]
    pub fn new(clock: SharedClock, reactor: &'static str) -> Self {
        Self { clock, meters: Meters::new(reactor), partitions: Mutex::default(), stopped: watch::channel(Vec::new()).0 }
    }

    /// What this process does with each partition.
    #[must_use]
    pub fn states(&self) -> Vec<(i32, PartitionState)> {
        self.lock().iter().map(|(number, partition)| (*number, partition.state.clone())).collect()
    }

    /// The partitions of this process that have stopped, and why.
    #[must_use]
    pub fn stopped(&self) -> watch::Receiver<Vec<(i32, Halt)>> {
        self.stopped.subscribe()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) const fn clock(&self) -> &SharedClock {
        &self.clock
    }

    pub(super) fn next_offset(&self, number: i32) -> i64 {
        self.lock().get(&number).map_or(0, |partition| partition.next_offset)
    }

    pub(super) fn held(&self, number: i32, next_offset: i64) {
        self.with(number, |partition| (partition.state, partition.next_offset) = (PartitionState::Running, next_offset));
    }

    /// The position has moved.
    pub(super) fn stands(&self, number: i32, next_offset: i64, head: i64) {
        self.with(number, |partition| {
            partition.next_offset = next_offset;
            partition.head = partition.head.max(head).max(next_offset);
            self.meters.stands(number, next_offset, partition.head);
        });
    }

    pub(super) fn fenced(&self, number: i32) {
        self.with(number, |partition| partition.state = PartitionState::Fenced);
    }

    pub(super) fn halted(&self, number: i32, halt: Halt) {
        self.meters.halted(halt.cause.code());
        self.with(number, |partition| partition.state = PartitionState::Stopped(halt));
    }

    pub(super) fn released(&self, number: i32) {
        self.with(number, |partition| partition.state = PartitionState::Elsewhere);
    }

    pub(super) fn released_all(&self) {
        let numbers: Vec<i32> = self.lock().keys().copied().collect();
        for number in numbers {
            self.released(number);
        }
    }

    /// The log says how many effects are unsettled.
    pub(super) fn counted(&self, counts: &EffectCounts) {
        let age_ms = counts.oldest_at.map_or(0, |oldest| self.now().as_millisecond().saturating_sub(oldest.as_millisecond()).max(0));
        self.meters.unsettled(counts, f64::from(u32::try_from(age_ms).unwrap_or(u32::MAX)) / SECOND_MS);
    }

    fn with(&self, number: i32, change: impl FnOnce(&mut Partition)) {
        let stopped = {
            let mut partitions = self.lock();
            change(partitions.entry(number).or_insert(Partition { state: PartitionState::Elsewhere, next_offset: 0, head: 0 }));
            let stopped = partitions.iter().filter_map(|(number, partition)| match &partition.state {
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

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, Partition>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
