//! What follows when the database has answered.

use std::collections::{HashMap, HashSet};

use idempo_ids::StreamId;

use crate::domain::{Domain, StateOf};
use crate::store::{CommandResult, Store, StoreError, StoredEvent};
use crate::submission::Error;

use super::decide::Decided;
use super::entry::Entry;
use super::{Executor, Folded, LoadedStates, RowsOf};

/// How often a command whose batch had an unknown outcome is sent again before the caller is told. Its key makes that safe.
const UNKNOWN_ATTEMPTS_MAX: u32 = 2;

impl<D: Domain, S: Store<Rows = RowsOf<D>>> Executor<D, S> {
    /// Answers, remembers and re-queues the commands of a batch.
    pub(super) fn settle(
        &mut self,
        decided: Vec<Decided<D>>,
        working: HashMap<StreamId, Folded<StateOf<D>>>,
        result: Result<Vec<CommandResult>, StoreError>,
    ) {
        for stream in working.keys() {
            self.busy.remove(stream);
        }
        match result {
            Ok(results) => self.settle_each(decided, working, results),
            Err(error) => self.settle_failed(decided, &error),
        }
    }

    fn settle_each(&mut self, decided: Vec<Decided<D>>, working: HashMap<StreamId, Folded<StateOf<D>>>, results: Vec<CommandResult>) {
        let mut advanced: HashSet<StreamId> = HashSet::new();
        let mut failed: HashSet<StreamId> = HashSet::new();
        let mut since: HashMap<StreamId, Vec<StoredEvent>> = HashMap::new();
        let mut again = Vec::new();
        for (decided, result) in decided.into_iter().zip(results) {
            let Decided { entry, append } = decided;
            let streams = append.touches.iter().map(|touch| touch.target.stream_id);
            match result {
                CommandResult::Appended => {
                    advanced.extend(append.touches.iter().filter(|touch| touch.added > 0).map(|touch| touch.target.stream_id));
                    self.answer(&append.key, append.settled, false);
                }
                CommandResult::Taken(settled) => {
                    failed.extend(streams);
                    metrics::counter!("idempo_idempotency_hits_total", "surface" => "store").increment(1);
                    self.answer(&append.key, settled, true);
                }
                CommandResult::Conflict { since: events } => {
                    failed.extend(streams);
                    metrics::counter!("idempo_append_conflicts_total").increment(1);
                    for event in events {
                        since.entry(event.stream_id).or_default().push(event);
                    }
                    again.push(entry);
                }
            }
        }
        self.refresh(working, &advanced, &failed, since);
        self.send_again(again);
    }

    /// Brings the cached states to where the batch left them.
    fn refresh(
        &mut self,
        working: HashMap<StreamId, Folded<StateOf<D>>>,
        advanced: &HashSet<StreamId>,
        failed: &HashSet<StreamId>,
        mut since: HashMap<StreamId, Vec<StoredEvent>>,
    ) {
        for (stream, folded) in working {
            if !failed.contains(&stream) {
                self.states.put(stream, folded);
                continue;
            }
            // The state before the batch is still good where nothing of the batch was applied to it and the new events are at hand.
            let is_known = match (advanced.contains(&stream), since.remove(&stream), self.states.get_mut(&stream)) {
                (false, Some(events), Some(before)) => super::fold_since(&*self.domain, before, events).is_ok(),
                _ => false,
            };
            if !is_known {
                self.states.pop(&stream);
            }
        }
    }

    fn settle_failed(&mut self, decided: Vec<Decided<D>>, error: &StoreError) {
        let error_value = error as &dyn std::error::Error;
        tracing::warn!(error = error_value, commands = decided.len(), "a batch was not appended");
        let is_alone = decided.len() == 1;
        for decided in &decided {
            for touch in &decided.append.touches {
                self.states.pop(&touch.target.stream_id);
            }
        }
        let entries = decided.into_iter().map(|decided| decided.entry);
        match error {
            StoreError::Contention(_) => {
                let entries = self.give_up_exhausted(entries, self.config.attempts_max, &Error::Contended);
                self.rest(entries);
            }
            StoreError::Unknown(_) => {
                let entries = self.give_up_exhausted(entries, UNKNOWN_ATTEMPTS_MAX, &Error::Unavailable);
                self.rest(entries);
            }
            StoreError::Away(_) => entries.for_each(|entry| self.give_up(*entry, &Error::Unavailable)),
            // One command of the batch is to blame: alone, each shows whether it is the one.
            StoreError::Refused(_) if !is_alone => {
                let entries = entries.map(|mut entry| {
                    entry.alone = true;
                    entry
                });
                let entries = entries.collect();
                self.put_back(entries);
            }
            StoreError::Refused(_) => entries.for_each(|entry| self.give_up(*entry, &Error::Corrupt)),
        }
    }

    fn send_again(&mut self, entries: Vec<Box<Entry<D>>>) {
        let entries = self.give_up_exhausted(entries.into_iter(), self.config.attempts_max, &Error::Contended);
        self.put_back(entries);
    }

    /// Gives up the entries that were tried often enough, and returns the others.
    fn give_up_exhausted(&mut self, entries: impl Iterator<Item = Box<Entry<D>>>, attempts_max: u32, error: &Error) -> Vec<Box<Entry<D>>> {
        let mut left = Vec::new();
        for entry in entries {
            if entry.attempts >= attempts_max {
                self.give_up(*entry, error);
            } else {
                left.push(entry);
            }
        }
        left
    }

    /// Takes up loaded states, or tells those who wait for them that there are none.
    pub(super) fn loaded(&mut self, streams: &[StreamId], result: Result<LoadedStates<D>, Error>) {
        for stream in streams {
            self.busy.remove(stream);
        }
        match result {
            Ok(states) => {
                for (stream, folded) in states {
                    self.states.put(stream, folded);
                }
            }
            Err(error) => {
                let waits = |entry: &Entry<D>| entry.submission.streams.iter().any(|target| streams.contains(&target.stream_id));
                let (given_up, kept) = std::mem::take(&mut self.pending).into_iter().partition(|entry| waits(entry));
                self.pending = kept;
                let given_up: std::collections::VecDeque<Box<Entry<D>>> = given_up;
                for entry in given_up {
                    self.give_up(*entry, &error);
                }
            }
        }
    }
}
