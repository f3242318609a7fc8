//! One look into the store for all readers that wait for it at the same moment.
//!
//! Whoever has the turn asks for everything that is asked for by then, its own question included, and answers the others; those who ask meanwhile are
//! in the next look. So however many readers there are, one connection is taken by them, and no answer is older than its question. A reader
//! that goes away while it has the turn drops the others' questions with it; they ask again.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use idempo_dead_letter::DeadLetterId;
use idempo_ids::StreamId;
use tokio::sync::{Mutex as Turn, oneshot};

use crate::store::{Store, StoreError};

/// Streams with their last version in the store; those that it does not have are missing.
pub(crate) type Versions = HashMap<StreamId, u64>;

type Answer = Result<Arc<Versions>, Arc<StoreError>>;

/// The looks into one store.
pub(crate) struct Lookups<S> {
    store: Arc<S>,
    asked: Mutex<Vec<Asked>>,
    turn: Turn<()>,
}

/// A reader's question. There are as many at most as the server takes calls, each with the streams of one position.
struct Asked {
    streams: Vec<StreamId>,
    answer: oneshot::Sender<Answer>,
}

impl<S: Store> Lookups<S> {
    pub(crate) fn new(store: Arc<S>) -> Self {
        Self { store, asked: Mutex::default(), turn: Turn::new(()) }
    }

    /// How far the store has these streams, and perhaps others, by a look that begins after this call.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] where the store can't say.
    ///
    /// # Cancel safety
    /// Safe: it only looks.
    pub(crate) async fn versions(&self, streams: &[StreamId]) -> Result<Arc<Versions>, StoreError> {
        loop {
            let (answer, answered) = oneshot::channel();
            self.asked().push(Asked { streams: streams.to_vec(), answer });
            let answer = tokio::select! {
                biased;
                answer = answered => answer.ok(),
                _turn = self.turn.lock() => Some(self.look(streams).await),
            };
            if let Some(answer) = answer {
                return answer.map_err(|error| StoreError::Unavailable(Box::new(error)));
            }
        }
    }

    /// A dead letter that stands before one of these streams.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] where the store can't say.
    pub(crate) async fn parked_stream(&self, streams: &[(StreamId, u64)]) -> Result<Option<DeadLetterId>, StoreError> {
        let streams: Vec<StreamId> = streams.iter().map(|(stream, _)| *stream).collect();
        self.store.parked_stream(&streams).await
    }

    /// Asks for `own` streams, which may have been taken along by an earlier look, and for all that wait.
    async fn look(&self, own: &[StreamId]) -> Answer {
        let asked = std::mem::take(&mut *self.asked());
        let streams: BTreeSet<StreamId> = asked.iter().flat_map(|asked| &asked.streams).chain(own).copied().collect();
        let streams: Vec<StreamId> = streams.into_iter().collect();
        let found = self.store.versions(&streams).await;
        let answer = found.map(|ends| Arc::new(ends.into_iter().map(|end| (end.stream, end.version)).collect())).map_err(Arc::new);
        for asked in asked {
            // Nobody hears it who has gone away, or has the turn.
            let _ = asked.answer.send(answer.clone());
        }
        answer
    }

    fn asked(&self) -> MutexGuard<'_, Vec<Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
