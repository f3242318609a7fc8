//! A command on its way, and those who wait for its answer.

use std::sync::Arc;

use bytes::Bytes;
use idempo_ids::{Uuid, v7_millis};
use smallvec::SmallVec;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::domain::Domain;
use crate::meters;
use crate::store::{Batch, CommandAppend, CommandResult, Settled, Store, StoreError, Verdict};
use crate::submission::{CLIENT_KEY_AGE_MAX_MS, Error, IdempotencyKey, KEY_AHEAD_MAX_MS, KEY_MEMORY_MS, KeyOrigin, Outcome};

use super::{AskedSubmission, Done, Executor, LOOKUPS_IN_FLIGHT_MAX, Message, RowsOf, WAITERS_PER_KEY_MAX};

/// An idempotency key with its scope.
pub(super) type KeyId = (Uuid, [u8; 16]);

/// The key under which an answer is kept.
pub(super) const fn key_id(key: &IdempotencyKey) -> KeyId {
    (key.key, key.scope)
}

/// A command that has no answer yet.
pub(super) struct Entry<D: Domain> {
    pub(super) submission: AskedSubmission<D>,
    /// How often it was decided and sent to the database.
    pub(super) attempts: u32,
    /// Whether it must go alone, because a batch it was in failed as a whole.
    pub(super) alone: bool,
    /// The one who waits, for a command that only validates; everyone else waits by key.
    pub(super) validator: Option<Waiter>,
}

/// What is said to a key outside its window.
pub(super) enum Expired {
    /// What its key was bound to before (`true`), or is bound to now.
    Settled(Settled, bool),
    /// Nothing is stored under it, and nothing ever will be under a key this old.
    Unknown,
}

/// Somebody who waits for the answer to a key.
pub(super) struct Waiter {
    fingerprint: Bytes,
    /// Until when it makes sense to begin; `None` for as late as it gets.
    begin_by: Option<Instant>,
    answer: oneshot::Sender<Result<Outcome, Error>>,
}

impl Waiter {
    pub(super) const fn new(fingerprint: Bytes, begin_by: Option<Instant>, answer: oneshot::Sender<Result<Outcome, Error>>) -> Self {
        Self { fingerprint, begin_by, answer }
    }

    /// Whether it is too late to begin for this one.
    fn is_late(&self, now: Instant) -> bool {
        self.begin_by.is_some_and(|begin_by| begin_by < now)
    }

    /// Says that there is no definite answer.
    pub(super) fn fail(self, error: Error) {
        let _gone = self.answer.send(Err(error));
    }

    /// Whether the answer is still wanted.
    pub(super) fn is_there(&self) -> bool {
        !self.answer.is_closed()
    }

    /// Gives the answer. One that nobody waits for any more is dropped: the key keeps it.
    pub(super) fn answer(self, settled: &Settled, replayed: bool) {
        let outcome = outcome(settled, &self.fingerprint, replayed);
        self.answer_outcome(outcome);
    }

    pub(super) fn answer_outcome(self, outcome: Outcome) {
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
        let Message { submission, waiter } = message;
        let entry = |submission, validator| Box::new(Entry { submission, attempts: 0, alone: false, validator });
        if submission.validate_only {
            self.pending.push_back(entry(submission, Some(waiter)));
            return;
        }
        let id = key_id(&submission.key);
        if let Some(settled) = self.answers.get(&id) {
            metrics::counter!(meters::IDEMPOTENCY_HITS, "surface" => "memory").increment(1);
            waiter.answer(settled, true);
        } else if let Some(waiters) = self.waiting.get_mut(&id) {
            if waiters.len() >= WAITERS_PER_KEY_MAX {
                waiters.retain(Waiter::is_there);
            }
            if waiters.len() >= WAITERS_PER_KEY_MAX {
                waiter.fail(Error::Overloaded);
            } else {
                waiters.push(waiter);
            }
        } else {
            self.waiting.insert(id, vec![waiter]);
            let entry = entry(submission, None);
            if self.is_in_window(&entry.submission) {
                self.pending.push_back(entry);
            } else {
                self.expired.push_back(entry);
            }
        }
    }

    /// Whether a key that nothing is stored under may be taken now.
    fn is_in_window(&self, submission: &AskedSubmission<D>) -> bool {
        let now = u64::try_from(self.clock.now().as_millisecond()).unwrap_or(0);
        let age_max = match submission.key_origin {
            KeyOrigin::Client => CLIENT_KEY_AGE_MAX_MS,
            KeyOrigin::Derived => KEY_MEMORY_MS,
        };
        v7_millis(submission.key.key).is_some_and(|made| made <= now + KEY_AHEAD_MAX_MS && made + age_max >= now)
    }

    /// Asks the store about as many keys outside their window as there is room for.
    pub(super) fn pump_expired(&mut self) {
        while self.lookups_in_flight < LOOKUPS_IN_FLIGHT_MAX {
            let Some(mut entry) = self.expired.pop_front() else { return };
            if !self.is_wanted(&mut entry, Instant::now()) {
                continue;
            }
            self.lookups_in_flight += 1;
            let (store, key) = (Arc::clone(&self.store), entry.submission.key.clone());
            let status = self.is_remembered(&key).then(|| crate::respond::key_expired(self.domain.error_domain()));
            self.tasks.spawn(async move {
                let result = match status {
                    Some(status) => bind(&*store, key, status).await,
                    None => look_up(&*store, &key).await,
                };
                Done::LookedUp { entry, result }
            });
        }
    }

    /// Whether a key is as young as those that have a place in the store, and not from the future.
    fn is_remembered(&self, key: &IdempotencyKey) -> bool {
        let now = u64::try_from(self.clock.now().as_millisecond()).unwrap_or(0);
        v7_millis(key.key).is_some_and(|made| made <= now && made + KEY_MEMORY_MS >= now)
    }

    /// Answers for a key outside its window.
    pub(super) fn looked_up(&mut self, entry: Entry<D>, result: Result<Expired, StoreError>) {
        match result {
            Ok(Expired::Settled(settled, replayed)) => self.answer(&entry.submission.key, settled, replayed),
            Ok(Expired::Unknown) => {
                for waiter in self.waiting.remove(&key_id(&entry.submission.key)).unwrap_or_default() {
                    waiter.answer_outcome(Outcome::KeyOutOfWindow);
                }
            }
            Err(error) => {
                self.complaints.failed(&error, "looking up a key");
                self.give_up(entry, &Error::Unavailable);
            }
        }
    }

    /// Whether to go on with a command: one that was decided before, or that somebody still waits for who has the time. Those who have not are
    /// told; a command that is not gone on with is forgotten.
    pub(super) fn is_wanted(&mut self, entry: &mut Entry<D>, now: Instant) -> bool {
        if let Some(validator) = entry.validator.take_if(|validator| validator.is_late(now)) {
            validator.fail(Error::Overloaded);
            return false;
        }
        if let Some(validator) = &entry.validator {
            return validator.is_there();
        }
        if entry.attempts > 0 {
            return true;
        }
        let id = key_id(&entry.submission.key);
        let Some(waiters) = self.waiting.get_mut(&id) else { return false };
        for late in waiters.extract_if(.., |waiter| waiter.is_late(now)) {
            late.fail(Error::Overloaded);
        }
        let is_wanted = waiters.iter().any(Waiter::is_there);
        if !is_wanted {
            self.waiting.remove(&id);
        }
        is_wanted
    }

    /// Tells those whose time to be begun is over, also while every batch that may be under way is, and the store does not answer.
    pub(super) fn tell_late(&mut self) {
        let now = Instant::now();
        for mut entry in std::mem::take(&mut self.pending) {
            if self.is_wanted(&mut entry, now) {
                self.pending.push_back(entry);
            }
        }
    }

    /// Gives a definite answer to everyone who waits for the key, and remembers it.
    pub(super) fn answer(&mut self, key: &IdempotencyKey, settled: Settled, replayed: bool) {
        let id = key_id(key);
        for (index, waiter) in self.waiting.remove(&id).unwrap_or_default().into_iter().enumerate() {
            waiter.answer(&settled, replayed || index > 0);
        }
        self.answers.put(id, settled);
    }

    /// Says to everyone who waits for the key that there is no definite answer.
    pub(super) fn give_up(&mut self, entry: Entry<D>, error: &Error) {
        if let Some(validator) = entry.validator {
            validator.fail(error.clone());
            return;
        }
        for waiter in self.waiting.remove(&key_id(&entry.submission.key)).unwrap_or_default() {
            waiter.fail(error.clone());
        }
    }
}

/// Binds a key that was not seen before and is too old now to its refusal, or says what it is bound to.
///
/// Bound, since another process may not find it too old: its clock may be behind, or it took the command a moment ago. The store lets one
/// of them have the key, and then both say the same.
async fn bind<S: Store>(store: &S, key: IdempotencyKey, status: Bytes) -> Result<Expired, StoreError> {
    let settled = Settled { verdict: Verdict::Refused, fingerprint: key.fingerprint.clone(), reply: status };
    let claim = CommandAppend { key: key.clone(), settled: settled.clone(), touches: SmallVec::new(), events: SmallVec::new() };
    match store.append(Batch { commands: vec![claim], rows: S::Rows::default() }).await {
        Ok(results) => match results.into_iter().next() {
            Some(CommandResult::Taken(settled)) => Ok(Expired::Settled(settled, true)),
            _ => Ok(Expired::Settled(settled, false)),
        },
        // There is no place for the key, and so no process can bind it.
        Err(StoreError::Refused(_)) => look_up(store, &key).await,
        Err(error) => Err(error),
    }
}

async fn look_up<S: Store>(store: &S, key: &IdempotencyKey) -> Result<Expired, StoreError> {
    Ok(store.lookup(key).await?.map_or(Expired::Unknown, |settled| Expired::Settled(settled, true)))
}
