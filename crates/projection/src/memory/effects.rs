//! The effect log's twin in memory.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use idempo_ids::{EventId, Uuid};

use super::Fault;
use crate::reactor::{EffectCounts, EffectId, EffectLog, Ending, LogError, Look, Pending, Place, Recorded, Recording, Settlement, Taken};

/// A log of effects in memory.
#[derive(Debug, Default)]
pub struct MemoryEffectLog {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    state: State,
    faults: VecDeque<Fault>,
}

#[derive(Debug, Default, Clone)]
struct State {
    partitions: BTreeMap<i32, Partition>,
    effects: BTreeMap<(i32, Place), Effect>,
    ids: BTreeMap<EffectId, (i32, Place)>,
}

#[derive(Debug, Default, Clone)]
struct Partition {
    epoch: i64,
    next_offset: Option<i64>,
    last_event: Option<EventId>,
    settlements: i64,
}

#[derive(Debug, Clone)]
struct Effect {
    effect: Pending,
    state: EffectState,
}

/// What became of an effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EffectState {
    /// It is to be performed.
    Pending,
    /// It was performed.
    Done,
    /// It was not.
    Ended(Ending),
    /// People have dropped it.
    Dropped,
}

impl MemoryEffectLog {
    /// An empty log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the next calls fail, in this order.
    pub fn inject(&self, faults: impl IntoIterator<Item = Fault>) {
        self.lock().faults.extend(faults);
    }

    /// Every effect that was ever entered, in the order of partitions and places, and what became of it.
    #[must_use]
    pub fn effects(&self) -> Vec<(EffectId, EffectState)> {
        self.lock().state.effects.values().map(|effect| (effect.effect.id, effect.state.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call<T>(&self, work: impl FnOnce(&mut State) -> T) -> Result<T, LogError> {
        let mut inner = self.lock();
        match inner.faults.pop_front() {
            None => Ok(work(&mut inner.state)),
            Some(Fault::Away) => Err(LogError::Unavailable("injected".into())),
            Some(Fault::AnswerLost) => {
                work(&mut inner.state);
                Err(LogError::Unavailable("injected: the answer is lost".into()))
            }
        }
    }
}

impl State {
    fn effect(&mut self, id: EffectId) -> Option<&mut Effect> {
        self.effects.get_mut(self.ids.get(&id)?)
    }

    fn record(&mut self, recording: &Recording) -> Recorded {
        let Recording { partition, epoch, from, to, last_event, effects, expired } = recording;
        let Some(held) = self.partitions.get_mut(partition).filter(|held| held.epoch == *epoch) else { return Recorded::Fenced };
        if held.next_offset == Some(*from) {
            (held.next_offset, held.last_event) = (Some(*to), *last_event);
            for effect in effects.iter().filter(|effect| !self.ids.contains_key(&effect.id)).collect::<Vec<_>>() {
                // The same one may be in the recording twice.
                self.ids.entry(effect.id).or_insert((*partition, effect.place));
            }
            for effect in effects.iter().filter(|effect| self.ids.get(&effect.id) == Some(&(*partition, effect.place))) {
                let state = if expired.contains(&effect.id) { EffectState::Ended(Ending::Expired) } else { EffectState::Pending };
                self.effects.entry((*partition, effect.place)).or_insert_with(|| Effect { effect: effect.clone(), state });
            }
        } else if held.next_offset != Some(*to) {
            return Recorded::Fenced;
        }
        let is_of_this = |id: &EffectId| self.ids.get(id).is_some_and(|(of, place)| of == partition && place.offset >= *from);
        Recorded::Entered(effects.iter().map(|effect| effect.id).filter(is_of_this).collect())
    }

    fn end(&mut self, partition: i32, epoch: i64, id: EffectId, ending: &Ending) -> bool {
        if self.partitions.get(&partition).is_none_or(|held| held.epoch != epoch) {
            return false;
        }
        if let Some(effect) = self.effect(id).filter(|effect| effect.state == EffectState::Pending) {
            effect.state = EffectState::Ended(ending.clone());
        }
        true
    }

    fn settle(&mut self, id: EffectId, settlement: Settlement) -> bool {
        let Some(effect) = self.effect(id).filter(|effect| is_failed(&effect.state)) else { return false };
        effect.state = match settlement {
            Settlement::Again => EffectState::Pending,
            Settlement::Dropped => EffectState::Dropped,
        };
        let partition = self.ids.get(&id).and_then(|(partition, _)| self.partitions.get_mut(partition));
        partition.map(|partition| partition.settlements += 1).is_some()
    }
}

impl EffectLog for MemoryEffectLog {
    async fn acquire(&self, partition: i32) -> Result<Taken, LogError> {
        self.call(|state| {
            let held = state.partitions.entry(partition).or_default();
            held.epoch += 1;
            Taken { epoch: held.epoch, next_offset: held.next_offset, last_event: held.last_event, settlements: held.settlements }
        })
    }

    async fn begin(&self, partition: i32, epoch: i64, head: i64) -> Result<Option<i64>, LogError> {
        self.call(|state| {
            let held = state.partitions.get_mut(&partition).filter(|held| held.epoch == epoch)?;
            Some(*held.next_offset.get_or_insert(head))
        })
    }

    async fn record(&self, recording: &Recording) -> Result<Recorded, LogError> {
        self.call(|state| state.record(recording))
    }

    async fn done(&self, ids: &[EffectId]) -> Result<(), LogError> {
        self.call(|state| {
            for id in ids {
                if let Some(effect) = state.effect(*id).filter(|effect| effect.state == EffectState::Pending || is_failed(&effect.state)) {
                    effect.state = EffectState::Done;
                }
            }
        })
    }

    async fn end(&self, partition: i32, epoch: i64, id: EffectId, ending: &Ending) -> Result<bool, LogError> {
        self.call(|state| state.end(partition, epoch, id, ending))
    }

    async fn unfinished(&self, partition: i32, after: Option<Place>, max: usize) -> Result<Vec<Pending>, LogError> {
        self.call(|state| {
            let behind = state.effects.iter().filter(|((of, place), _)| *of == partition && Some(*place) > after);
            let pending = behind.filter(|(_, effect)| effect.state == EffectState::Pending);
            pending.map(|(_, effect)| effect.effect.clone()).take(max).collect()
        })
    }

    async fn failed_keys(&self, partition: i32) -> Result<BTreeSet<Uuid>, LogError> {
        self.call(|state| {
            let failed = state.effects.iter().filter(|((of, _), effect)| *of == partition && is_failed(&effect.state));
            failed.map(|(_, effect)| effect.effect.key).collect()
        })
    }

    async fn look(&self, partition: i32) -> Result<Option<Look>, LogError> {
        self.call(|state| {
            let Partition { epoch, next_offset, settlements, .. } = state.partitions.get(&partition)?;
            Some(Look { epoch: *epoch, next_offset: *next_offset, settlements: *settlements })
        })
    }

    async fn counts(&self) -> Result<EffectCounts, LogError> {
        self.call(|state| {
            let count = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
            let pending = || state.effects.values().filter(|effect| effect.state == EffectState::Pending);
            EffectCounts {
                unfinished: count(pending().count()),
                failed: count(state.effects.values().filter(|effect| is_failed(&effect.state)).count()),
                oldest_at: pending().map(|effect| effect.effect.decided_at).min(),
            }
        })
    }

    async fn settle(&self, id: EffectId, settlement: Settlement, _caller: &str, _reason: &str) -> Result<bool, LogError> {
        self.call(|state| state.settle(id, settlement))
    }
}

const fn is_failed(state: &EffectState) -> bool {
    matches!(state, EffectState::Ended(Ending::Failed { .. }))
}
