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

    fn append(
        &mut self,
        command: CommandAppend,
        broken: &mut HashSet<StreamId>,
        first_touch: &mut HashMap<StreamId, u64>,
    ) -> CommandResult {
        for touch in &command.touches {
            first_touch.entry(touch.target.stream_id).or_insert(touch.expected);
        }
        let streams = || command.touches.iter().map(|touch| touch.target.stream_id);
        let is_stale = command.touches.iter().any(|touch| self.version(touch.target.stream_id) != touch.expected);
        if is_stale || streams().any(|stream| broken.contains(&stream)) {
            let fresh: Vec<StreamId> = streams().filter(|stream| !broken.contains(stream)).collect();
            let since = fresh.iter().flat_map(|stream| self.since(*stream, first_touch.get(stream).copied().unwrap_or(0))).collect();
            broken.extend(streams());
            return CommandResult::Conflict { since };
        }
        let id = (command.key.command_id(), command.key.scope);
        if let Some(settled) = self.answers.get(&id) {
            let settled = settled.clone();
            broken.extend(streams());
            return CommandResult::Taken(settled);
        }
        self.answers.insert(id, command.settled);
        for event in command.events {
            let stored = StoredEvent { stream_id: event.target.stream_id, version: event.version, envelope: event.envelope.clone() };
            self.streams.entry(event.target.stream_id).or_default().push(stored);
            self.outbox.push(event);
        }
        CommandResult::Appended
    }

    fn since(&self, stream: StreamId, version: u64) -> Vec<StoredEvent> {
        let events = self.streams.get(&stream).map(Vec::as_slice).unwrap_or_default();
        events.iter().filter(|event| event.version > version).cloned().collect()
    }
}

impl<R: Default + Send + 'static> Store for MemoryStore<R> {
    type Rows = R;

    async fn append(&self, batch: Batch<R>) -> Result<Vec<CommandResult>, StoreError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut broken, mut first_touch) = (HashSet::new(), HashMap::new());
        Ok(batch.commands.into_iter().map(|command| kept.append(command, &mut broken, &mut first_touch)).collect())
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
