//! Reads streams that commands wait for.

use std::collections::HashMap;
use std::sync::Arc;

use idempo_ids::StreamId;

use crate::domain::{Domain, StateOf};
use crate::store::{LOAD_EVENTS_MAX, Store, StoredEvent};
use crate::submission::Error;

use super::complaints::Complaints;
use super::entry::Entry;
use super::{Done, Executor, Folded, RowsOf, decide};

/// A stream as it was loaded, or why it could not be.
pub(super) type Loaded<D> = (StreamId, Result<Folded<StateOf<D>>, Error>);

impl<D: Domain, S: Store<Rows = RowsOf<D>>> Executor<D, S> {
    pub(super) fn start_load(&mut self, streams: Vec<StreamId>) {
        self.loads_in_flight += 1;
        let (domain, store, complaints) = (Arc::clone(&self.domain), Arc::clone(&self.store), self.complaints.clone());
        self.tasks.spawn(async move { Done::Loaded { streams: load_all(&*domain, &*store, &complaints, streams).await } });
    }

    /// Takes up loaded states, and tells those who wait for a stream that can't be had.
    pub(super) fn loaded(&mut self, streams: Vec<Loaded<D>>) {
        let mut failed: HashMap<StreamId, Error> = HashMap::new();
        for (stream, result) in streams {
            self.busy.remove(&stream);
            match result {
                Ok(folded) => {
                    self.states.put(stream, folded);
                }
                Err(error) => {
                    failed.insert(stream, error);
                }
            }
        }
        if failed.is_empty() {
            return;
        }
        let problem = |entry: &Entry<D>| entry.submission.streams.iter().find_map(|target| failed.get(&target.stream_id));
        for entry in std::mem::take(&mut self.pending) {
            match problem(&entry) {
                Some(error) => self.give_up(*entry, error),
                None => self.pending.push_back(entry),
            }
        }
    }
}

/// Reads streams from their first event on, page by page, folding as it goes. One that can't be read spoils none of the others.
async fn load_all<D: Domain, S: Store>(domain: &D, store: &S, complaints: &Complaints, streams: Vec<StreamId>) -> Vec<Loaded<D>> {
    let mut after: Vec<(StreamId, u64)> = streams.iter().map(|stream| (*stream, 0)).collect();
    after.sort_unstable();
    let mut loaded: HashMap<StreamId, Result<Folded<StateOf<D>>, Error>> =
        streams.into_iter().map(|stream| (stream, Ok(Folded { version: 0, state: Arc::default() }))).collect();
    while !after.is_empty() {
        let page = match store.load(after.clone()).await {
            Ok(page) => page,
            Err(error) => {
                complaints.failed(&error, "loading streams");
                return loaded.into_keys().map(|stream| (stream, Err(Error::Unavailable))).collect();
            }
        };
        let full = page.len() >= LOAD_EVENTS_MAX;
        let last = page.last().map(|event| event.stream_id);
        for event in page {
            let Some(result) = loaded.get_mut(&event.stream_id) else { continue };
            if let Ok(folded) = result
                && let Err(error) = decide::fold(domain, folded, event)
            {
                *result = Err(error);
            }
        }
        // Pages are ordered by stream: those before the last one seen are complete.
        after = match last {
            Some(last) if full => after.into_iter().filter_map(|(stream, _)| unread(&loaded, stream, last)).collect(),
            _ => Vec::new(),
        };
    }
    loaded.into_iter().collect()
}

/// From where on a stream is still to be read after a full page that ended in the stream `last`.
fn unread<S>(loaded: &HashMap<StreamId, Result<Folded<S>, Error>>, stream: StreamId, last: StreamId) -> Option<(StreamId, u64)> {
    match loaded.get(&stream) {
        Some(Ok(folded)) if stream >= last => Some((stream, folded.version)),
        _ => None,
    }
}

/// Applies newer events, as far as they join on without a gap.
pub(super) fn fold_newer<D: Domain>(domain: &D, folded: &mut Folded<StateOf<D>>, events: Vec<StoredEvent>) -> Result<(), Error> {
    for event in events {
        if event.version > folded.version {
            decide::fold(domain, folded, event)?;
        }
    }
    Ok(())
}
