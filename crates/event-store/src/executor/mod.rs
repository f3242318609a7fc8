//! Decides commands and appends them in groups.
//!
//! One task owns everything here; database calls run beside it. What can interleave, and why it holds:
//!
//! * A stream is *busy* while it is being loaded or while a batch that touches it is with the database. Commands on a busy stream wait, so
//!   two batches of this process never touch the same stream, and the state in memory is always the one before the batch.
//! * Commands that wait on one stream keep their order: a command that can't go yet blocks its streams for those behind it. Only one that
//!   rests after a lost lock race lets others pass.
//! * Another process may write the same streams. Then the database answers with a conflict, the state is brought up to date, and the command
//!   is decided again.
//! * A key that is in flight has one entry; later sends of the same key wait for its answer. The database claims the key for good, so a
//!   decision that was made on top of a duplicate comes back as a conflict and is made again.
//! * A batch that fails as a whole, because one of its commands can't be stored or waits for a lock that another holds, is taken apart: each
//!   of its commands goes alone from then on, so that only the one to blame fails.
//! * A client that goes away drops its receiver and nothing else. A command that nobody waits for and that was not decided yet is dropped; one
//!   that was decided runs to its end.
//! * Time is bounded where a caller says how long it waits. A command waits to be begun for the first half of that time and no longer: then it is
//!   refused as overload, which has no effect. So the work that is done under overload is what still has time to be answered, and not what has
//!   waited longest; and a queue that has built up goes by itself once no more comes in than goes out.
//! * Memory and connections are bounded: the queue, the commands that wait, the batches in flight and the caches have limits in [`Config`];
//!   what waits for one key, the loads and the look-ups in flight have constants here.

mod complaints;
mod config;
mod decide;
mod entry;
mod load;
mod settle;

use std::collections::{HashMap, HashSet, VecDeque};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use backon::BackoffBuilder as _;
use bytes::Bytes;
use idempo_clock::SharedClock;
use idempo_decider::COMMAND_STREAMS_MAX;
use idempo_ids::StreamId;
use lru::LruCache;
use smallvec::SmallVec;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::domain::{CommandOf, Domain, StateOf};
use crate::inline::InlineProjection;
use crate::meters;
use crate::store::{CommandResult, Settled, Store, StoreError};
use crate::submission::{Error, IdempotencyKey, KeyOrigin, Origin, Outcome, Submission};
use complaints::Complaints;
pub use config::Config;
use decide::Decided;
use entry::{Entry, Expired, KeyId, Waiter};
use load::Loaded;

/// The rows of a domain's inline projection.
pub(crate) type RowsOf<D> = <<D as Domain>::Inline as InlineProjection>::Rows;

/// How many waiting commands are looked at to fill one batch.
const SCAN_COMMANDS_MAX: usize = 1_024;
/// The fewest streams whose folded state is kept: more than those of all commands that are looked at, and so of all that are being loaded.
const CACHED_STREAMS_MIN: usize = SCAN_COMMANDS_MAX * COMMAND_STREAMS_MAX;
/// The most loads that are with the store at once. Each takes a connection that others want too.
const LOADS_IN_FLIGHT_MAX: usize = 4;
/// The most streams in one load.
const LOAD_STREAMS_MAX: usize = 256;
/// The most keys outside their window that are asked for at once.
const LOOKUPS_IN_FLIGHT_MAX: usize = 4;
/// The most callers that wait for the answer to one key.
const WAITERS_PER_KEY_MAX: usize = 1_024;
/// How often those are looked for who wait in vain while no batch comes back.
const LATE_LOOK_INTERVAL: Duration = Duration::from_millis(50);
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
        self.decide(submission, None).await
    }

    /// As [`Self::execute`], for a caller who waits until `deadline` and no longer: a command that was not begun when half of the time until then is
    /// over is refused as [`Error::Overloaded`], while its caller can still make something of that.
    ///
    /// # Errors
    /// As [`Self::execute`].
    ///
    /// # Cancel safety
    /// Cancel safe, as [`Self::execute`].
    pub async fn execute_by(&self, submission: Submission<CommandOf<D>>, deadline: Instant) -> Result<Outcome, Error> {
        self.decide(submission, Some(begin_by(deadline))).await
    }

    async fn decide(&self, submission: Submission<CommandOf<D>>, begin_by: Option<Instant>) -> Result<Outcome, Error> {
        if !is_well_formed(&submission) {
            return Err(Error::Malformed);
        }
        let Submission { command, streams, key, expected_version, validate_only, key_origin, origin } = submission;
        let command = Asked::Decide(command);
        self.hand_in(Submission { command, streams, key, expected_version, validate_only, key_origin, origin }, begin_by).await
    }

    /// Binds a client's key to a refusal that needed no state: `status` is the encoded `google.rpc.Status`. The caller waits until `deadline`, as in
    /// [`Self::execute_by`].
    ///
    /// # Errors
    /// Where there is no definite answer; see [`Error`].
    ///
    /// # Cancel safety
    /// Cancel safe, as [`Self::execute`].
    pub async fn refuse(&self, key: IdempotencyKey, status: Bytes, deadline: Instant) -> Result<Outcome, Error> {
        let submission = Submission {
            command: Asked::Refuse(status),
            streams: SmallVec::new(),
            key,
            expected_version: None,
            validate_only: false,
            key_origin: KeyOrigin::Client,
            origin: Origin::default(),
        };
        self.hand_in(submission, Some(begin_by(deadline))).await
    }

    async fn hand_in(&self, submission: AskedSubmission<D>, begin_by: Option<Instant>) -> Result<Outcome, Error> {
        let (answer, receiver) = oneshot::channel();
        let waiter = Waiter::new(submission.key.fingerprint.clone(), begin_by, answer);
        self.queue.try_send(Message { submission, waiter }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Overloaded,
            mpsc::error::TrySendError::Closed(_) => Error::Unavailable,
        })?;
        let answer = receiver.await.unwrap_or(Err(Error::Unavailable));
        fail::fail_point!(crate::failpoint::APPEND_BEFORE_REPLY);
        answer
    }
}

/// When work for a caller who waits until `deadline` must have begun: half of the time is for waiting, half for the work.
fn begin_by(deadline: Instant) -> Instant {
    let now = Instant::now();
    now + deadline.saturating_duration_since(now) / 2
}

/// Whether the streams are such as the executor and the deciders take them to be.
fn is_well_formed<C>(submission: &Submission<C>) -> bool {
    let ids: HashSet<StreamId> = submission.streams.iter().map(|target| target.stream_id).collect();
    (1..=COMMAND_STREAMS_MAX).contains(&submission.streams.len()) && ids.len() == submission.streams.len()
}

/// What is asked of the executor.
enum Asked<C> {
    /// To decide a command.
    Decide(C),
    /// To bind a key to a refusal that was decided already.
    Refuse(Bytes),
}

type AskedSubmission<D> = Submission<Asked<CommandOf<D>>>;

struct Message<D: Domain> {
    submission: AskedSubmission<D>,
    waiter: Waiter,
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

/// What a task beside the executor came back with.
enum Done<D: Domain> {
    Appended { decided: Vec<Decided<D>>, working: HashMap<StreamId, Folded<StateOf<D>>>, result: Result<Vec<CommandResult>, StoreError> },
    Loaded { streams: Vec<Loaded<D>> },
    LookedUp { entry: Box<Entry<D>>, result: Result<Expired, StoreError> },
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
    /// Commands whose keys are outside their window, in the order in which they came.
    expired: VecDeque<Box<Entry<D>>>,
    /// Who waits for each key that is being worked on.
    waiting: HashMap<KeyId, Vec<Waiter>>,
    /// Streams that are being loaded or appended to.
    busy: HashSet<StreamId>,
    states: LruCache<StreamId, Folded<StateOf<D>>>,
    answers: LruCache<KeyId, Settled>,
    complaints: Complaints,
    tasks: JoinSet<Done<D>>,
    batches_in_flight: usize,
    loads_in_flight: usize,
    lookups_in_flight: usize,
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
        meters::describe();
        let (sender, queue) = mpsc::channel(config.queue_commands_max.max(1));
        let capacity = |limit: usize| NonZeroUsize::new(limit).unwrap_or(NonZeroUsize::MIN);
        let executor = Self {
            domain,
            store,
            clock,
            config,
            queue,
            pending: VecDeque::new(),
            expired: VecDeque::new(),
            waiting: HashMap::new(),
            busy: HashSet::new(),
            states: LruCache::new(capacity(config.cached_streams_max.max(CACHED_STREAMS_MIN))),
            answers: LruCache::new(capacity(config.cached_answers_max)),
            complaints: Complaints::default(),
            tasks: JoinSet::new(),
            batches_in_flight: 0,
            loads_in_flight: 0,
            lookups_in_flight: 0,
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
        let mut late_look = Instant::now();
        while open || !self.tasks.is_empty() || !self.pending.is_empty() {
            let room = self.room();
            tokio::select! {
                () = tokio::time::sleep_until(late_look), if !self.pending.is_empty() => {}
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
            self.let_others_join().await;
            if Instant::now() >= late_look {
                self.tell_late();
                late_look = Instant::now() + LATE_LOOK_INTERVAL;
            }
            self.pump();
            if self.batches_in_flight > 0 {
                fail::fail_point!(crate::failpoint::APPEND_IN_FLIGHT);
            }
        }
    }

    /// How many more commands may be taken up at once.
    fn room(&self) -> usize {
        self.config.queue_commands_max.saturating_sub(self.pending.len() + self.expired.len()).min(SCAN_COMMANDS_MAX)
    }

    /// Lets callers that are ready have their turn before a batch is closed without them: those that were answered a moment ago send their
    /// next commands then. Where nobody is ready this costs some microseconds.
    async fn let_others_join(&mut self) {
        tokio::task::yield_now().await;
        for _ in 0..self.room() {
            let Ok(message) = self.queue.try_recv() else { break };
            self.admit(message);
        }
    }

    fn finish(&mut self, done: Result<Done<D>, tokio::task::JoinError>) {
        match done {
            Ok(Done::Appended { decided, working, result }) => {
                self.batches_in_flight -= 1;
                fail::fail_point!(crate::failpoint::APPEND_BEFORE_TELLING);
                self.settle(decided, working, result);
            }
            Ok(Done::Loaded { streams }) => {
                self.loads_in_flight -= 1;
                self.loaded(streams);
            }
            Ok(Done::LookedUp { entry, result }) => {
                self.lookups_in_flight -= 1;
                self.looked_up(*entry, result);
            }
            Ok(Done::Rested { entries }) => self.put_back(entries),
            // Its entries and busy streams are lost with a task that panicked; going on would leave them stuck for ever.
            Err(error) => {
                if let Ok(panic) = error.try_into_panic() {
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }

    /// Starts as many batches, loads and look-ups as there is room for.
    fn pump(&mut self) {
        self.pump_expired();
        while self.batches_in_flight < self.config.batches_in_flight_max && !self.pending.is_empty() {
            let waiting = self.pending.len();
            let plan = self.plan();
            if !plan.missing.is_empty() {
                self.start_load(plan.missing);
            }
            if !plan.decided.is_empty() {
                self.start_append(plan.decided, plan.working, plan.rows);
            }
            // A look may also answer or drop all that it sees. Then there may be something else behind it, and nothing else would look again.
            if self.pending.len() == waiting {
                break;
            }
        }
    }

    fn start_append(&mut self, decided: Vec<Decided<D>>, working: HashMap<StreamId, Folded<StateOf<D>>>, rows: RowsOf<D>) {
        self.batches_in_flight += 1;
        metrics::histogram!(meters::BATCH_COMMANDS).record(u32::try_from(decided.len()).unwrap_or(u32::MAX));
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
