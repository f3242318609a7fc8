//! The store's twin in memory: the same semantics without a database. For tests of what stands on the store, and as its specification.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

use idempo_ids::{CommandId, StreamId};

use crate::store::{Batch, CommandAppend, CommandResult, LOAD_EVENTS_MAX, NewEvent, Settled, Store, StoreError, StoredEvent};
use crate::submission::IdempotencyKey;

/// Events, outbox and answers in memory. `R` is the type of the inline rows, which it drops.
#[derive(Debug)]
pub struct MemoryStore<R> {
    kept: Mutex<Kept>,
    rows: PhantomData<fn() -> R>,
}

#[derive(Debug, Default)]
struct Kept {
    streams: BTreeMap<StreamId, Vec<StoredEvent>>,
    answers: HashMap<(CommandId, [u8; 16]), Settled>,
    outbox: Vec<NewEvent>,
}

impl<R> Default for MemoryStore<R> {
    fn default() -> Self {
        Self { kept: Mutex::default(), rows: PhantomData }
    }
}

impl<R> MemoryStore<R> {
    /// What was put in the outbox, in order.
    #[must_use]
    pub fn outbox(&self) -> Vec<NewEvent> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).outbox.clone()
    }
}

impl Kept {
    fn version(&self, stream: StreamId) -> u64 {
        self.streams.get(&stream).map_or(0, |events| u64::try_from(events.len()).unwrap_or(u64::MAX))
    }

    /// As `es.append` does it: who stands on a stream that has moved on; then whose key is taken; then who was decided on top of those.
    fn append(&mut self, commands: Vec<CommandAppend>) -> Vec<CommandResult> {
        let mut expected: HashMap<StreamId, u64> = HashMap::new();
        for touch in commands.iter().flat_map(|command| &command.touches) {
            expected.entry(touch.target.stream_id).or_insert(touch.expected);
        }
        expected.retain(|stream, version| self.version(*stream) != *version);
        let stale = expected;
        let on_stale = with_followers(&commands, |_, command| streams(command).any(|stream| stale.contains_key(&stream)));
        let is_candidate = |index: &usize| !on_stale.contains(index);
        let bound = |command: &CommandAppend| self.answers.get(&(command.key.command_id(), command.key.scope)).cloned();
        let taken: HashMap<usize, Settled> = commands
            .iter()
            .enumerate()
            .filter(|(index, _)| is_candidate(index))
            .filter_map(|(index, command)| Some((index, bound(command)?)))
            .collect();
        let failed = with_followers(&commands, |index, _| on_stale.contains(&index) || taken.contains_key(&index));
        let mut results = Vec::new();
        for (index, command) in commands.into_iter().enumerate() {
            results.push(match taken.get(&index) {
                Some(settled) => CommandResult::Taken(settled.clone()),
                None if failed.contains(&index) => CommandResult::Conflict {
                    since: streams(&command).filter_map(|stream| Some(self.since(stream, *stale.get(&stream)?))).flatten().collect(),
                },
                None => {
                    self.store(command);
                    CommandResult::Appended
                }
            });
        }
        results
    }

    fn store(&mut self, command: CommandAppend) {
        self.answers.insert((command.key.command_id(), command.key.scope), command.settled);
        for event in command.events {
            let stored = StoredEvent { stream_id: event.target.stream_id, version: event.version, envelope: event.envelope.clone() };
            self.streams.entry(event.target.stream_id).or_default().push(stored);
            self.outbox.push(event);
        }
    }

    fn since(&self, stream: StreamId, version: u64) -> Vec<StoredEvent> {
        let events = self.streams.get(&stream).map(Vec::as_slice).unwrap_or_default();
        events.iter().filter(|event| event.version > version).cloned().collect()
    }
}

fn streams(command: &CommandAppend) -> impl Iterator<Item = StreamId> {
    command.touches.iter().map(|touch| touch.target.stream_id)
}

/// The commands that fail, and each later one that was decided on top of one of them.
fn with_followers(commands: &[CommandAppend], fails: impl Fn(usize, &CommandAppend) -> bool) -> HashSet<usize> {
    let (mut failed, mut broken) = (HashSet::new(), HashSet::new());
    for (index, command) in commands.iter().enumerate() {
        if fails(index, command) || streams(command).any(|stream| broken.contains(&stream)) {
            failed.insert(index);
            broken.extend(streams(command));
        }
    }
    failed
}

impl<R: Default + Send + 'static> Store for MemoryStore<R> {
    type Rows = R;

    async fn append(&self, batch: Batch<R>) -> Result<Vec<CommandResult>, StoreError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(kept.append(batch.commands))
    }

    async fn load(&self, after: Vec<(StreamId, u64)>) -> Result<Vec<StoredEvent>, StoreError> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut after = after;
        after.sort_unstable();
        Ok(after.into_iter().flat_map(|(stream, version)| kept.since(stream, version)).take(LOAD_EVENTS_MAX).collect())
    }

    async fn lookup(&self, key: &IdempotencyKey) -> Result<Option<Settled>, StoreError> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(kept.answers.get(&(key.command_id(), key.scope)).cloned())
    }

    fn ring(&self) {}
}
