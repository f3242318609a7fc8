//! What follows when the database has answered.

use std::collections::{HashMap, HashSet};

use idempo_ids::StreamId;

use crate::domain::{Domain, StateOf};
use crate::meters;
use crate::store::{CommandResult, NewEvent, SINCE_EVENTS_MAX, Store, StoreError, StoredEvent};
use crate::submission::Error;

use super::decide::Decided;
use super::entry::Entry;
use super::load::fold_newer;
use super::{Executor, Folded, RowsOf};

/// How often a command whose batch had an unknown outcome is sent again before the caller is told. Its key makes that safe.
const UNKNOWN_ATTEMPTS_MAX: u32 = 2;

/// What a batch tells of its streams.
#[derive(Default)]
struct News {
    /// The events it has added.
    appended: Vec<NewEvent>,
    /// Streams of commands that were not appended: the states that were decided on are not what is stored.
    failed: HashSet<StreamId>,
    /// Streams that no other has written to: those of commands whose keys were taken.
    sound: HashSet<StreamId>,
    /// Events that others have added.
    since: Vec<StoredEvent>,
}

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
            Ok(results) => {
                self.complaints.answered();
                self.settle_each(decided, working, results);
            }
            Err(error) => self.settle_failed(decided, &error),
        }
    }

    fn settle_each(&mut self, decided: Vec<Decided<D>>, working: HashMap<StreamId, Folded<StateOf<D>>>, results: Vec<CommandResult>) {
        let mut news = News::default();
        let mut again = Vec::new();
        for (decided, result) in decided.into_iter().zip(results) {
            let Decided { entry, append } = decided;
            let streams = append.touches.iter().map(|touch| touch.target.stream_id);
            match result {
                CommandResult::Appended => {
                    news.appended.extend(append.events);
                    self.answer(&append.key, append.settled, false);
                }
                CommandResult::Taken(settled) => {
                    news.sound.extend(streams.clone());
                    news.failed.extend(streams);
                    metrics::counter!(meters::IDEMPOTENCY_HITS, "surface" => "store").increment(1);
                    self.answer(&append.key, settled, true);
                }
                CommandResult::Conflict { since } => {
                    news.failed.extend(streams);
                    metrics::counter!(meters::CONFLICTS).increment(1);
                    news.since.extend(since);
                    again.push(entry);
                }
            }
        }
        self.refresh(working, news);
        self.send_again(again);
    }

    /// Brings the cached states to where the batch left them. One that lags behind costs a conflict, which brings what is missing.
    fn refresh(&mut self, working: HashMap<StreamId, Folded<StateOf<D>>>, news: News) {
        let News { appended, failed, sound, since } = news;
        let may_lack_some = since.len() >= SINCE_EVENTS_MAX;
        let mut newer: HashMap<StreamId, Vec<StoredEvent>> = HashMap::new();
        for event in appended.into_iter().filter(|event| failed.contains(&event.target.stream_id)) {
            let stored = StoredEvent { stream_id: event.target.stream_id, version: event.version, envelope: event.envelope };
            newer.entry(stored.stream_id).or_default().push(stored);
        }
        let is_ours: HashSet<StreamId> = newer.keys().copied().collect();
        for event in since {
            newer.entry(event.stream_id).or_default().push(event);
        }
        for (stream, folded) in working {
            if !failed.contains(&stream) {
                self.states.put(stream, folded);
                continue;
            }
            // The state before the batch, and what is known to have come since.
            let is_known = sound.contains(&stream) || is_ours.contains(&stream) || (newer.contains_key(&stream) && !may_lack_some);
            let events = newer.remove(&stream).unwrap_or_default();
            let before = self.states.get_mut(&stream);
            if !is_known || before.is_some_and(|before| fold_newer(&*self.domain, before, events).is_err()) {
                self.states.pop(&stream);
            }
        }
    }

    fn settle_failed(&mut self, decided: Vec<Decided<D>>, error: &StoreError) {
        self.complaints.failed(error, "appending a batch");
        let is_alone = decided.len() == 1;
        if matches!(error, StoreError::Unknown(_)) {
            for touch in decided.iter().flat_map(|decided| &decided.append.touches) {
                self.states.pop(&touch.target.stream_id);
            }
        }
        let entries = decided.into_iter().map(|decided| decided.entry);
        match error {
            // One command of the batch is to blame: alone, each shows whether it is the one.
            StoreError::Refused(_) | StoreError::Contention(_) if !is_alone => {
                let entries = entries.map(|mut entry| {
                    entry.alone = true;
                    entry
                });
                let entries = entries.collect();
                self.put_back(entries);
            }
            StoreError::Refused(_) => entries.for_each(|entry| self.give_up(*entry, &Error::Corrupt)),
            StoreError::Contention(_) => {
                let entries = self.give_up_exhausted(entries, self.config.attempts_max, &Error::Contended);
                self.rest(entries);
            }
            StoreError::Unknown(_) => {
                let entries = self.give_up_exhausted(entries, UNKNOWN_ATTEMPTS_MAX, &Error::Unavailable);
                self.rest(entries);
            }
            StoreError::Away(_) => entries.for_each(|entry| self.give_up(*entry, &Error::Unavailable)),
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
}
