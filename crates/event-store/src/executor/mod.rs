//! Decides commands and appends them in groups.
//!
//! One task owns everything here; database calls run beside it. What can interleave, and why it holds:
//!
//! * A stream is *busy* while it is being loaded or while a batch that touches it is with the database. Commands on a busy stream wait, so
//!   two batches of this process never touch the same stream, and the state in memory is always the one before the batch.
//! * Commands that wait on one stream keep their order: a command that can't go yet blocks its streams for those behind it.
//! * Another process may write the same streams. Then the database answers with a conflict, the state is brought up to date, and the command
//!   is decided again.
//! * A key that is in flight has one entry; later sends of the same key wait for its answer. The database claims the key for good, so a
//!   decision that was made on top of a duplicate comes back as a conflict and is made again.
//! * A client that goes away drops its receiver and nothing else. A command that nobody waits for and that was not decided yet is dropped; one
//!   that was decided runs to its end.
//! * Memory is bounded: the queue, the commands that wait, the batches in flight and the caches have limits in [`Config`].

mod decide;
mod entry;
mod settle;

use std::collections::{HashMap, HashSet, VecDeque};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use backon::BackoffBuilder as _;
use idempo_clock::SharedClock;
use idempo_ids::StreamId;
use lru::LruCache;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::domain::{CommandOf, Domain, StateOf};
use crate::inline::InlineProjection;
use crate::store::{CommandResult, Settled, Store, StoreError, StoredEvent};
use crate::submission::{Error, Outcome, Submission};
use decide::Decided;
use entry::{Entry, KeyId, Waiter};

/// The rows of a domain's inline projection.
pub(crate) type RowsOf<D> = <<D as Domain>::Inline as InlineProjection>::Rows;

/// The executor's limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// The most commands in one batch, so in one transaction.
    pub batch_commands_max: usize,
    /// The most batches that are with the database at once.
    pub batches_in_flight_max: usize,
    /// The most commands that wait to be taken up, and the most that wait for their streams. Beyond, commands are refused as overload.
    pub queue_commands_max: usize,
    /// The most streams whose folded state is kept.
    pub cached_streams_max: usize,
    /// The most answers that are kept to answer duplicates without asking the database.
    pub cached_answers_max: usize,
    /// How often a command is decided before it is given up as contended.
    pub attempts_max: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            batch_commands_max: 128,
            batches_in_flight_max: 3,
            queue_commands_max: 4_096,
            cached_streams_max: 20_000,
            cached_answers_max: 20_000,
            attempts_max: 8,
        }
    }
}

/// How many waiting commands are looked at to fill one batch.
const SCAN_COMMANDS_MAX: usize = 1_024;
/// The first wait before a batch that lost a lock race is tried again.
const CONTENTION_BACKOFF_MIN: Duration = Duration::from_millis(2);
/// The longest such wait.
const CONTENTION_BACKOFF_MAX: Duration = Duration::from_millis(100);

/// Where commands are handed in. Cheap to clone.
pub struct Handle<D: Domain> {
    queue: mpsc::Sender<Message<D>>,
}

impl<D: Domain> Clone for Handle<D> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

impl<D: Domain> std::fmt::Debug for Handle<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl<D: Domain> Handle<D> {
    /// Decides a command and appends what follows; answers when that is durable.
    ///
    /// # Errors
    /// Where there is no definite answer; see [`Error`]. Sending the same command with the same key again settles it.
    ///
    /// # Cancel safety
    /// Cancel safe: a command whose caller goes away is either not begun or runs to its end. Its key tells which.
    pub async fn execute(&self, submission: Submission<CommandOf<D>>) -> Result<Outcome, Error> {
        let (answer, receiver) = oneshot::channel();
        self.queue.try_send(Message { submission, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Overloaded,
            mpsc::error::TrySendError::Closed(_) => Error::Unavailable,
        })?;
        receiver.await.unwrap_or(Err(Error::Unavailable))
    }
}

struct Message<D: Domain> {
    submission: Submission<CommandOf<D>>,
    answer: oneshot::Sender<Result<Outcome, Error>>,
}

/// A stream's folded state.
struct Folded<S> {
    version: u64,
    state: Arc<S>,
}

impl<S> Clone for Folded<S> {
    fn clone(&self) -> Self {
        Self { version: self.version, state: Arc::clone(&self.state) }
    }
}

/// Streams as they were loaded.
type LoadedStates<D> = Vec<(StreamId, Folded<StateOf<D>>)>;

/// What a task beside the executor came back with.
enum Done<D: Domain> {
    Appended { decided: Vec<Decided<D>>, working: HashMap<StreamId, Folded<StateOf<D>>>, result: Result<Vec<CommandResult>, StoreError> },
    Loaded { streams: Vec<StreamId>, result: Result<LoadedStates<D>, Error> },
    LookedUp { entry: Box<Entry<D>>, result: Result<Option<Settled>, StoreError> },
    Rested { entries: Vec<Box<Entry<D>>> },
}

/// The task that decides and appends. [`Executor::run`] it.
pub struct Executor<D: Domain, S> {
    domain: Arc<D>,
    store: Arc<S>,
    clock: SharedClock,
    config: Config,
    queue: mpsc::Receiver<Message<D>>,
    /// Commands that wait for their streams, in the order in which they came.
    pending: VecDeque<Box<Entry<D>>>,
    /// Who waits for each key that is being worked on.
    waiting: HashMap<KeyId, Vec<Waiter>>,
    /// Streams that are being loaded or appended to.
    busy: HashSet<StreamId>,
    states: LruCache<StreamId, Folded<StateOf<D>>>,
    answers: LruCache<KeyId, Settled>,
    tasks: JoinSet<Done<D>>,
    batches_in_flight: usize,
}

impl<D: Domain, S> std::fmt::Debug for Executor<D, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Executor").field("pending", &self.pending.len()).finish_non_exhaustive()
    }
}

impl<D: Domain, S: Store<Rows = RowsOf<D>>> Executor<D, S> {
    /// An executor and the handle through which it is given work.
    #[must_use]
    pub fn new(domain: Arc<D>, store: Arc<S>, clock: SharedClock, config: Config) -> (Handle<D>, Self) {
        let (sender, queue) = mpsc::channel(config.queue_commands_max.max(1));
        let capacity = |limit: usize| NonZeroUsize::new(limit).unwrap_or(NonZeroUsize::MIN);
        let executor = Self {
            domain,
            store,
            clock,
            config,
            queue,
            pending: VecDeque::new(),
            waiting: HashMap::new(),
            busy: HashSet::new(),
            states: LruCache::new(capacity(config.cached_streams_max)),
            answers: LruCache::new(capacity(config.cached_answers_max)),
            tasks: JoinSet::new(),
            batches_in_flight: 0,
        };
        (Handle { queue: sender }, executor)
    }

    /// Works until `shutdown` is cancelled or every handle is gone; then takes nothing more, and ends when all it had taken is answered.
    ///
    /// # Cancel safety
    /// Not cancel safe: dropped, what is in flight has an unknown outcome.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut messages = Vec::new();
        let (mut closing, mut open) = (false, true);
        while open || !self.tasks.is_empty() || !self.pending.is_empty() {
            let room = self.config.queue_commands_max.saturating_sub(self.pending.len()).min(SCAN_COMMANDS_MAX);
            tokio::select! {
                () = shutdown.cancelled(), if !closing => {
                    // What is in the channel by now is still taken: `recv_many` gives 0 only when it is empty.
                    closing = true;
                    self.queue.close();
                }
                Some(done) = self.tasks.join_next() => {
                    self.finish(done);
                    while let Some(done) = self.tasks.try_join_next() {
                        self.finish(done);
                    }
                }
                received = self.queue.recv_many(&mut messages, room), if room > 0 && open => {
                    open = received > 0;
                    for message in messages.drain(..) {
                        self.admit(message);
                    }
                }
            }
            self.pump();
        }
    }

    fn finish(&mut self, done: Result<Done<D>, tokio::task::JoinError>) {
        match done {
            Ok(Done::Appended { decided, working, result }) => {
                self.batches_in_flight -= 1;
                self.settle(decided, working, result);
            }
            Ok(Done::Loaded { streams, result }) => self.loaded(&streams, result),
            Ok(Done::LookedUp { entry, result }) => self.looked_up(&entry, result),
            Ok(Done::Rested { entries }) => self.put_back(entries),
            // Its entries and busy streams are lost with a task that panicked; going on would leave them stuck for ever.
            Err(error) => {
                if let Ok(panic) = error.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }

    /// Starts as many batches and loads as there is room for.
    fn pump(&mut self) {
        while self.batches_in_flight < self.config.batches_in_flight_max && !self.pending.is_empty() {
            let plan = self.plan();
            if !plan.missing.is_empty() {
                self.start_load(plan.missing);
            }
            if plan.decided.is_empty() {
                break;
            }
            self.start_append(plan.decided, plan.working, plan.rows);
        }
    }

    fn start_load(&mut self, streams: Vec<StreamId>) {
        let (domain, store) = (Arc::clone(&self.domain), Arc::clone(&self.store));
        self.tasks.spawn(async move {
            let result = load_all(&*domain, &*store, &streams).await;
            Done::Loaded { streams, result }
        });
    }

    fn start_append(&mut self, decided: Vec<Decided<D>>, working: HashMap<StreamId, Folded<StateOf<D>>>, rows: RowsOf<D>) {
        self.batches_in_flight += 1;
        metrics::histogram!("idempo_append_batch_commands").record(u32::try_from(decided.len()).unwrap_or(u32::MAX));
        let store = Arc::clone(&self.store);
        let commands = decided.iter().map(|decided| decided.append.clone()).collect();
        self.tasks.spawn(async move {
            let has_events = decided.iter().any(|decided| !decided.append.events.is_empty());
            let result = store.append(crate::store::Batch { commands, rows }).await;
            if has_events && result.is_ok() {
                store.ring();
            }
            Done::Appended { decided, working, result }
        });
    }

    /// Puts entries back at the head of the queue, in their order, after a rest that grows with their attempts.
    fn rest(&mut self, entries: Vec<Box<Entry<D>>>) {
        let attempts = entries.iter().map(|entry| entry.attempts).max().unwrap_or(1);
        let backoff = backon::ExponentialBuilder::new()
            .with_min_delay(CONTENTION_BACKOFF_MIN)
            .with_max_delay(CONTENTION_BACKOFF_MAX)
            .without_max_times()
            .with_jitter()
            .build();
        let wait = backoff.take(usize::try_from(attempts).unwrap_or(1)).last().unwrap_or(CONTENTION_BACKOFF_MIN);
        self.tasks.spawn(async move {
            tokio::time::sleep(wait).await;
            Done::Rested { entries }
        });
    }

    fn put_back(&mut self, entries: Vec<Box<Entry<D>>>) {
        for entry in entries.into_iter().rev() {
            self.pending.push_front(entry);
        }
    }
}

/// Reads streams from their first event on, page by page, folding as it goes.
async fn load_all<D: Domain, S: Store>(domain: &D, store: &S, streams: &[StreamId]) -> Result<LoadedStates<D>, Error> {
    let mut folded: HashMap<StreamId, Folded<StateOf<D>>> =
        streams.iter().map(|stream| (*stream, Folded { version: 0, state: Arc::default() })).collect();
    let mut after: Vec<(StreamId, u64)> = streams.iter().map(|stream| (*stream, 0)).collect();
    after.sort_unstable();
    while !after.is_empty() {
        let page = store.load(after.clone()).await.map_err(|error| {
            tracing::warn!(error = &error as &dyn std::error::Error, "streams could not be loaded");
            Error::Unavailable
        })?;
        let full = page.len() >= crate::store::LOAD_EVENTS_MAX;
        let last = page.last().map(|event| event.stream_id);
        for event in page {
            let Some(stream) = folded.get_mut(&event.stream_id) else { return Err(Error::Corrupt) };
            decide::fold(domain, stream, event)?;
        }
        // Pages are ordered by stream: those before the last one seen are complete.
        after = match last {
            Some(last) if full => after
                .into_iter()
                .filter(|(stream, _)| *stream >= last)
                .map(|(stream, version)| (stream, folded.get(&stream).map_or(version, |stream| stream.version)))
                .collect(),
            _ => Vec::new(),
        };
    }
    Ok(folded.into_iter().collect())
}

/// Applies events that came back with a conflict, as far as they join on without a gap.
fn fold_since<D: Domain>(domain: &D, folded: &mut Folded<StateOf<D>>, since: Vec<StoredEvent>) -> Result<(), Error> {
    for event in since {
        if event.version > folded.version {
            decide::fold(domain, folded, event)?;
        }
    }
    Ok(())
}
