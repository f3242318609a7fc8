//! A command on its way, and those who wait for its answer.

use bytes::Bytes;
use idempo_ids::{Uuid, v7_millis};
use tokio::sync::oneshot;

use crate::domain::{CommandOf, Domain};
use crate::store::{Settled, Store, Verdict};
use crate::submission::{CLIENT_KEY_AGE_MAX_MS, Error, IdempotencyKey, KEY_AHEAD_MAX_MS, KEY_MEMORY_MS, KeyOrigin, Outcome, Submission};

use super::{Done, Executor, Message, RowsOf};

/// An idempotency key with its scope.
pub(super) type KeyId = (Uuid, [u8; 16]);

/// The key under which an answer is kept.
pub(super) const fn key_id(key: &IdempotencyKey) -> KeyId {
    (key.key, key.scope)
}

/// A command that has no answer yet.
pub(super) struct Entry<D: Domain> {
    pub(super) submission: Submission<CommandOf<D>>,
    /// How often it was decided and sent to the database.
    pub(super) attempts: u32,
    /// Whether it must go alone, because a batch it was in was refused as a whole.
    pub(super) alone: bool,
    /// The one who waits, for a command that only validates; everyone else waits by key.
    pub(super) validator: Option<oneshot::Sender<Result<Outcome, Error>>>,
}

/// Somebody who waits for the answer to a key.
pub(super) struct Waiter {
    fingerprint: Bytes,
    answer: oneshot::Sender<Result<Outcome, Error>>,
}

impl Waiter {
    /// Whether the answer is still wanted.
    pub(super) fn is_there(&self) -> bool {
        !self.answer.is_closed()
    }

    /// Gives the answer. One that nobody waits for any more is dropped: the key keeps it.
    pub(super) fn answer(self, answer: Result<&Settled, Error>, replayed: bool) {
        let answer = answer.map(|settled| outcome(settled, &self.fingerprint, replayed));
        let _gone = self.answer.send(answer);
    }

    fn answer_outcome(self, outcome: Outcome) {
        let _gone = self.answer.send(Ok(outcome));
    }
}

/// A stored answer, as the sender of a request with this fingerprint gets it.
fn outcome(settled: &Settled, fingerprint: &Bytes, replayed: bool) -> Outcome {
    if settled.fingerprint != *fingerprint {
        return Outcome::KeyReused { fields: idempo_rpc::fingerprint::differing_fields(&settled.fingerprint, fingerprint) };
    }
    match settled.verdict {
        Verdict::Applied => Outcome::Replied { reply: settled.reply.clone(), replayed },
        Verdict::Refused => Outcome::Refused { status: settled.reply.clone(), replayed },
    }
}

impl<D: Domain, S: Store<Rows = RowsOf<D>>> Executor<D, S> {
    /// Takes up a command: answers it from memory, joins it to the same key in flight, or queues it.
    pub(super) fn admit(&mut self, message: Message<D>) {
        let Message { submission, answer } = message;
        let entry = |submission, validator| Box::new(Entry { submission, attempts: 0, alone: false, validator });
        if submission.validate_only {
            self.pending.push_back(entry(submission, Some(answer)));
            return;
        }
        let id = key_id(&submission.key);
        let waiter = Waiter { fingerprint: submission.key.fingerprint.clone(), answer };
        if let Some(settled) = self.answers.get(&id) {
            metrics::counter!("idempo_idempotency_hits_total", "surface" => "memory").increment(1);
            waiter.answer(Ok(settled), true);
        } else if let Some(waiters) = self.waiting.get_mut(&id) {
            waiters.push(waiter);
        } else {
            self.waiting.insert(id, vec![waiter]);
            let entry = entry(submission, None);
            if self.is_in_window(&entry.submission) {
                self.pending.push_back(entry);
            } else {
                self.start_lookup(entry);
            }
        }
    }

    /// Whether a key that nothing is stored under may be taken now.
    fn is_in_window(&self, submission: &Submission<CommandOf<D>>) -> bool {
        let now = u64::try_from(self.clock.now().as_millisecond()).unwrap_or(0);
        let age_max = match submission.key_origin {
            KeyOrigin::Client => CLIENT_KEY_AGE_MAX_MS,
            KeyOrigin::Derived => KEY_MEMORY_MS,
        };
        v7_millis(submission.key.key).is_some_and(|made| made <= now + KEY_AHEAD_MAX_MS && made + age_max >= now)
    }

    fn start_lookup(&mut self, entry: Box<Entry<D>>) {
        let store = std::sync::Arc::clone(&self.store);
        self.tasks.spawn(async move {
            let result = store.lookup(&entry.submission.key).await;
            Done::LookedUp { entry, result }
        });
    }

    /// A key outside the window is answered from the store or not at all: it is never bound now, and it only gets older.
    pub(super) fn looked_up(&mut self, entry: &Entry<D>, result: Result<Option<Settled>, crate::store::StoreError>) {
        let waiters = self.waiting.remove(&key_id(&entry.submission.key)).unwrap_or_default();
        match result {
            Ok(Some(settled)) => {
                for waiter in waiters {
                    waiter.answer(Ok(&settled), true);
                }
            }
            Ok(None) => {
                for waiter in waiters {
                    waiter.answer_outcome(Outcome::KeyOutOfWindow);
                }
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a key could not be looked up");
                for waiter in waiters {
                    waiter.answer(Err(Error::Unavailable), false);
                }
            }
        }
    }

    /// Whether anybody still wants the answer of a command that was not decided yet.
    pub(super) fn is_wanted(&self, entry: &Entry<D>) -> bool {
        match &entry.validator {
            Some(validator) => !validator.is_closed(),
            None => {
                entry.attempts > 0
                    || self.waiting.get(&key_id(&entry.submission.key)).is_some_and(|waiters| waiters.iter().any(Waiter::is_there))
            }
        }
    }

    /// Forgets a command that nobody waits for.
    pub(super) fn forget(&mut self, entry: &Entry<D>) {
        if entry.validator.is_none() {
            self.waiting.remove(&key_id(&entry.submission.key));
        }
    }

    /// Gives a definite answer to everyone who waits for the key, and remembers it.
    pub(super) fn answer(&mut self, key: &IdempotencyKey, settled: Settled, replayed: bool) {
        let id = key_id(key);
        for (index, waiter) in self.waiting.remove(&id).unwrap_or_default().into_iter().enumerate() {
            waiter.answer(Ok(&settled), replayed || index > 0);
        }
        self.answers.put(id, settled);
    }

    /// Says to everyone who waits for the key that there is no definite answer.
    pub(super) fn give_up(&mut self, entry: Entry<D>, error: &Error) {
        if let Some(validator) = entry.validator {
            let _gone = validator.send(Err(error.clone()));
            return;
        }
        for waiter in self.waiting.remove(&key_id(&entry.submission.key)).unwrap_or_default() {
            waiter.answer(Err(error.clone()), false);
        }
    }
}
