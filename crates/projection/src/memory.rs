//! The store's twin in memory, for tests: the same promises, and faults on demand.

mod effects;
mod parking;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::BoxFuture;
use idempo_dead_letter::{DeadLetter, DeadLetterId};
use idempo_ids::{EventId, StreamId};

use crate::parking::Parked;
use crate::parking::letters::{Drain, Drainage, ParkedCounts, Wished, Wishes};
use crate::parking::topic::{DeadLetterTopic, TopicAway};
use crate::store::{Batch, Checkpoint, Commit, Lease, Store, StoreError, StreamEnd};

pub use effects::{EffectState, MemoryEffectLog};

/// A read model in memory.
pub trait Model: Default + Clone + Send + Sync + 'static {
    /// What a batch adds.
    type Writes: Default + Send + Sync + 'static;

    /// Adds a batch, wholly or not at all.
    ///
    /// # Errors
    /// Why it can't be added, as a table's constraint would say.
    fn merge(&mut self, writes: &Self::Writes) -> Result<(), &'static str>;
}

/// What goes wrong at the next call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call fails and changes nothing.
    Away,
    /// The call is done, and its answer is lost.
    AnswerLost,
}

/// A store in memory.
#[derive(Debug, Default)]
pub struct MemoryStore<M> {
    inner: Mutex<Inner<M>>,
}

#[derive(Debug, Default)]
struct Inner<M> {
    state: State<M>,
    faults: VecDeque<Fault>,
}

#[derive(Debug, Default, Clone)]
struct State<M> {
    model: M,
    versions: BTreeMap<StreamId, StreamEnd>,
    last_events: BTreeMap<i32, EventId>,
    checkpoints: BTreeMap<i32, Checkpoint>,
    lots: parking::Lots,
}

/// What a store held at some moment.
#[derive(Debug, Clone)]
pub struct Saved<M>(State<M>);

impl<M: Model> MemoryStore<M> {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The read model as it is now.
    #[must_use]
    pub fn model(&self) -> M {
        self.lock().state.model.clone()
    }

    /// Makes the next calls fail, in this order.
    pub fn inject(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().faults.extend(faults);
    }

    /// Makes nothing fail from here on.
    pub fn heal(&self) {
        self.lock().faults.clear();
    }

    /// Changes the read model by hand.
    pub fn mend(&self, change: impl FnOnce(&mut M)) {
        change(&mut self.lock().state.model);
    }

    /// Asks for the dead letter of an offset to be replayed, or discarded. `false` where there is none, or it is asked for already.
    #[must_use]
    pub fn wish(&self, partition: i32, offset: i64, is_discard: bool) -> bool {
        self.lock().state.lots.wish(partition, offset, is_discard)
    }

    /// The dead letters: partition, offset, and how often each was replayed in vain.
    #[must_use]
    pub fn letters(&self) -> Vec<(i32, i64, u32)> {
        self.lock().state.lots.letters()
    }

    /// What the store holds now.
    #[must_use]
    pub fn save(&self) -> Saved<M> {
        Saved(self.lock().state.clone())
    }

    /// Goes back to what the store held, as a server does whose last commits were not yet on disk when it lost power.
    pub fn restore(&self, saved: Saved<M>) {
        self.lock().state = saved.0;
    }

    fn lock(&self) -> MutexGuard<'_, Inner<M>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call<T>(&self, work: impl FnOnce(&mut State<M>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut inner = self.lock();
        match inner.faults.pop_front() {
            None => work(&mut inner.state),
            Some(Fault::Away) => Err(StoreError::Unavailable("injected".into())),
            Some(Fault::AnswerLost) => {
                work(&mut inner.state)?;
                Err(StoreError::Unavailable("injected: the answer is lost".into()))
            }
        }
    }
}

impl<M: Model> State<M> {
    fn commit(&mut self, batch: &Batch<M::Writes>) -> Result<Commit, StoreError> {
        let Some(checkpoint) = self.checkpoints.get_mut(&batch.partition).filter(|c| c.epoch == batch.epoch) else {
            return Ok(Commit::Fenced);
        };
        if checkpoint.next_offset != batch.from {
            return Ok(if checkpoint.next_offset == batch.to { Commit::Committed } else { Commit::Fenced });
        }
        self.model.merge(&batch.writes).map_err(|reason| StoreError::Refused(reason.into()))?;
        checkpoint.next_offset = batch.to;
        checkpoint.newest_at = batch.newest_at.or(checkpoint.newest_at);
        self.versions.extend(batch.versions.iter().map(|end| (end.stream, *end)));
        match batch.last_event {
            Some(event) => self.last_events.insert(batch.partition, event),
            None => self.last_events.remove(&batch.partition),
        };
        self.lots.park(batch.partition, &batch.parking);
        Ok(Commit::Committed)
    }
}

impl<M: Model> Store for MemoryStore<M> {
    type Writes = M::Writes;

    async fn acquire(&self, partition: i32) -> Result<Lease, StoreError> {
        self.call(|state| {
            let never = Checkpoint { partition, epoch: 0, next_offset: 0, newest_at: None, stopped: None };
            let checkpoint = state.checkpoints.entry(partition).or_insert(never);
            checkpoint.epoch += 1;
            checkpoint.stopped = None;
            let last_event = state.last_events.get(&partition).copied();
            Ok(Lease { epoch: checkpoint.epoch, next_offset: checkpoint.next_offset, last_event })
        })
    }

    async fn versions(&self, streams: &[StreamId]) -> Result<Vec<StreamEnd>, StoreError> {
        self.call(|state| Ok(streams.iter().filter_map(|id| state.versions.get(id).copied()).collect()))
    }

    async fn commit(&self, batch: &Arc<Batch<M::Writes>>) -> Result<Commit, StoreError> {
        self.call(|state| state.commit(batch))
    }

    async fn commit_together(&self, batches: &[Arc<Batch<M::Writes>>]) -> Result<bool, StoreError> {
        self.call(|state| {
            let mut together = state.clone();
            for batch in batches {
                let is_there = together.checkpoints.get(&batch.partition).is_some_and(|at| at.next_offset == batch.from);
                if !is_there || together.commit(batch)? == Commit::Fenced {
                    return Ok(false);
                }
            }
            *state = together;
            Ok(true)
        })
    }

    async fn note_stop(&self, partition: i32, epoch: i64, code: &str, _reason: &str) -> Result<(), StoreError> {
        self.call(|state| {
            if let Some(checkpoint) = state.checkpoints.get_mut(&partition).filter(|checkpoint| checkpoint.epoch == epoch) {
                checkpoint.stopped = Some(code.to_owned());
            }
            Ok(())
        })
    }

    async fn checkpoints(&self) -> Result<Vec<Checkpoint>, StoreError> {
        self.call(|state| Ok(state.checkpoints.values().cloned().collect()))
    }

    async fn parked(&self, partition: i32) -> Result<Parked, StoreError> {
        self.call(|state| Ok(state.lots.parked(partition)))
    }

    async fn wished(&self, partition: i32) -> Result<Vec<Wished>, StoreError> {
        self.call(|state| Ok(state.lots.wished(partition)))
    }

    async fn drain(&self, drain: &Drain<M::Writes>) -> Result<Drainage, StoreError> {
        self.call(|state| {
            // All or nothing.
            let mut drained = state.clone();
            let drainage = drained.drain(drain)?;
            if drainage == Drainage::Done {
                *state = drained;
            }
            Ok(drainage)
        })
    }

    async fn wishes(&self) -> Result<Wishes, StoreError> {
        self.call(|state| Ok(state.lots.wishes()))
    }

    async fn parked_counts(&self) -> Result<ParkedCounts, StoreError> {
        self.call(|state| Ok(state.lots.counts()))
    }

    async fn parked_stream(&self, streams: &[StreamId]) -> Result<Option<DeadLetterId>, StoreError> {
        self.call(|state| Ok(state.lots.of_stream(streams)))
    }
}

/// A dead-letter topic in memory, and faults on demand.
#[derive(Debug, Default)]
pub struct MemoryTopic {
    inner: Mutex<TopicInner>,
}

#[derive(Debug, Default)]
struct TopicInner {
    records: Vec<DeadLetter>,
    is_away: bool,
    tries: usize,
}

impl MemoryTopic {
    /// An empty topic.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What was written, in its order.
    #[must_use]
    pub fn records(&self) -> Vec<DeadLetter> {
        self.topic().records.clone()
    }

    /// How often it was written to, in vain or not.
    #[must_use]
    pub fn tries(&self) -> usize {
        self.topic().tries
    }

    /// Makes it away, or there again.
    pub fn set_away(&self, is_away: bool) {
        self.topic().is_away = is_away;
    }

    fn topic(&self) -> MutexGuard<'_, TopicInner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DeadLetterTopic for MemoryTopic {
    fn write<'a>(&'a self, letters: &'a [DeadLetter]) -> BoxFuture<'a, Result<(), TopicAway>> {
        Box::pin(async {
            let mut topic = self.topic();
            topic.tries += 1;
            if topic.is_away {
                return Err(TopicAway("injected".to_owned()));
            }
            topic.records.extend_from_slice(letters);
            Ok(())
        })
    }
}
