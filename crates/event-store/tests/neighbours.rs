//! What one command, one stream or one caller can do to the others: nothing that lasts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use idempo_event_store::memory::MemoryStore;
use idempo_event_store::store::{Batch, CommandResult, Settled, Store, StoreError, StoredEvent};
use idempo_event_store::{Config, Error, Executor, Handle, IdempotencyKey, Outcome, StreamTarget};
use idempo_ids::StreamId;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::conformance::batch;
use crate::support::{Accounts, Command, START_MS, append, clock, fresh_account, fresh_key, key, key_at, submission};

/// Longer than anything here takes. The tests' clocks are paused, so nobody waits for it.
const FOR_EVER: Duration = Duration::from_secs(3_600);

/// How often a task yields so that all others come to rest.
const YIELDS: usize = 64;

/// A memory store that makes its callers wait, and counts them.
struct Slow {
    inner: MemoryStore<()>,
    appends: Semaphore,
    reads: Semaphore,
    reading: AtomicUsize,
    reading_most: AtomicUsize,
    loaded: AtomicUsize,
}

impl Slow {
    fn new(appends: usize, reads: usize) -> Arc<Self> {
        Arc::new(Self {
            inner: MemoryStore::default(),
            appends: Semaphore::new(appends),
            reads: Semaphore::new(reads),
            reading: AtomicUsize::new(0),
            reading_most: AtomicUsize::new(0),
            loaded: AtomicUsize::new(0),
        })
    }

    async fn read(&self) {
        self.reading_most.fetch_max(self.reading.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let _permit = self.reads.acquire().await.unwrap();
        self.reading.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Store for Slow {
    type Rows = ();

    async fn append(&self, batch: Batch<()>) -> Result<Vec<CommandResult>, StoreError> {
        let _permit = self.appends.acquire().await.unwrap();
        self.inner.append(batch).await
    }

    async fn load(&self, after: Vec<(StreamId, u64)>) -> Result<Vec<StoredEvent>, StoreError> {
        self.loaded.fetch_add(after.len(), Ordering::SeqCst);
        self.read().await;
        self.inner.load(after).await
    }

    async fn lookup(&self, key: &IdempotencyKey) -> Result<Option<Settled>, StoreError> {
        self.read().await;
        self.inner.lookup(key).await
    }

    fn ring(&self) {}
}

fn start_with<S: Store<Rows = ()>>(store: &Arc<S>, config: Config) -> Handle<Accounts> {
    let (handle, executor) = Executor::new(Arc::new(Accounts), Arc::clone(store), clock(), config);
    tokio::spawn(executor.run(CancellationToken::new()));
    handle
}

fn start<S: Store<Rows = ()>>(store: &Arc<S>) -> Handle<Accounts> {
    start_with(store, Config::default())
}

async fn rest() {
    for _ in 0..YIELDS {
        tokio::task::yield_now().await;
    }
}

async fn deposit(handle: &Handle<Accounts>, target: StreamTarget) -> Result<Outcome, Error> {
    handle.execute(submission(key(fresh_key(), 1), Command::Deposit(1), &[target])).await
}

/// Sends a command whose caller goes away at once.
fn abandon(handle: &Handle<Accounts>, sent: IdempotencyKey, target: StreamTarget) {
    let sending = handle.execute(submission(sent, Command::Deposit(1), &[target]));
    let mut sending = Box::pin(sending);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(sending.as_mut().poll(&mut context).is_pending());
}

#[tokio::test(start_paused = true)]
async fn a_command_behind_thousands_that_nobody_waits_for_is_answered() {
    let store = Slow::new(0, usize::MAX >> 4);
    let handle = start_with(&store, Config { batches_in_flight_max: 1, ..Config::default() });
    let first = tokio::spawn({
        let handle = handle.clone();
        async move { deposit(&handle, fresh_account()).await }
    });
    rest().await;
    for _ in 0..3_000 {
        abandon(&handle, key(fresh_key(), 1), fresh_account());
    }
    let last = deposit(&handle, fresh_account());
    tokio::pin!(last);
    assert!(futures_util::poll!(last.as_mut()).is_pending());
    rest().await;
    store.appends.add_permits(1);
    assert!(first.await.unwrap().is_ok());
    assert!(tokio::time::timeout(FOR_EVER, last).await.is_ok_and(|answer| answer.is_ok()));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_cannot_be_read_fails_only_the_commands_that_name_it() {
    let store = Arc::new(MemoryStore::<()>::default());
    let (damaged, sound) = (fresh_account(), fresh_account());
    let mut unreadable = append(key(fresh_key(), 1), &[(damaged, 0, 1)]);
    unreadable.events[0].envelope = Bytes::from_static(b"no envelope");
    store.append(batch(vec![unreadable])).await.unwrap();
    let (handle, executor) = Executor::new(Arc::new(Accounts), store, clock(), Config::default());
    let both = futures_util::future::join(deposit(&handle, damaged), deposit(&handle, sound));
    tokio::pin!(both);
    assert!(futures_util::poll!(both.as_mut()).is_pending());
    tokio::spawn(executor.run(CancellationToken::new()));
    let (on_damaged, on_sound) = both.await;
    assert_eq!(on_damaged, Err(Error::Corrupt));
    assert!(on_sound.is_ok(), "{on_sound:?}");
}

#[tokio::test(start_paused = true)]
async fn one_key_that_is_sent_without_end_is_refused_at_some_point_and_taken_again_later() {
    let store = Slow::new(0, usize::MAX >> 4);
    let handle = start(&store);
    let (target, id) = (fresh_account(), fresh_key());
    let mut waiting = tokio::task::JoinSet::new();
    let send = || {
        let handle = handle.clone();
        async move { handle.execute(submission(key(id, 1), Command::Deposit(1), &[target])).await }
    };
    for _ in 0..10_000 {
        waiting.spawn(send());
        tokio::task::yield_now().await;
    }
    rest().await;
    let mut refused = 0;
    while let Some(answer) = waiting.try_join_next() {
        assert_eq!(answer.unwrap(), Err(Error::Overloaded));
        refused += 1;
    }
    assert!(refused > 0, "all 10,000 wait");
    waiting.shutdown().await;
    let again = tokio::spawn(send());
    rest().await;
    store.appends.add_permits(1);
    assert!(again.await.unwrap().is_ok(), "those who went away make room");
    assert_eq!(store.inner.outbox().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn reads_of_the_store_are_bounded_however_many_commands_ask_for_one() {
    let store = Slow::new(usize::MAX >> 4, 0);
    let handle = start(&store);
    let day_ms = 24 * 3_600 * 1_000;
    let mut waiting = tokio::task::JoinSet::new();
    for n in 0..500 {
        let handle = handle.clone();
        // Every other one has to be looked up by its key, since that is too old, and the others load their stream.
        let id = if n % 2 == 0 { key_at(START_MS - 60 * day_ms, n) } else { fresh_key() };
        waiting.spawn(async move { handle.execute(submission(key(id, 1), Command::Deposit(1), &[fresh_account()])).await });
        tokio::task::yield_now().await;
    }
    rest().await;
    assert!((1..=8).contains(&store.reading_most.load(Ordering::SeqCst)), "{} reads at once", store.reading_most.load(Ordering::SeqCst));
    store.reads.add_permits(usize::MAX >> 4);
    let answers = waiting.join_all().await;
    assert_eq!(answers.iter().filter(|answer| matches!(answer, Ok(Outcome::Replied { .. }))).count(), 250);
    assert_eq!(answers.iter().filter(|answer| **answer == Ok(Outcome::KeyOutOfWindow)).count(), 250);
}

#[tokio::test]
async fn a_cache_that_is_smaller_than_a_commands_streams_stops_nothing() {
    let store = Arc::new(MemoryStore::<()>::default());
    let handle = start_with(&store, Config { cached_streams_max: 1, cached_answers_max: 1, ..Config::default() });
    let moving = handle.execute(submission(key(fresh_key(), 1), Command::Move(0), &[fresh_account(), fresh_account()]));
    assert!(tokio::time::timeout(Duration::from_secs(10), moving).await.is_ok_and(|answer| answer.is_ok()));
}

#[tokio::test(start_paused = true)]
async fn a_state_that_was_forgotten_is_loaded_again() {
    let store = Arc::new(MemoryStore::<()>::default());
    let handle = start_with(&store, Config { cached_streams_max: 1, cached_answers_max: 1, ..Config::default() });
    let target = fresh_account();
    deposit(&handle, target).await.unwrap();
    for _ in 0..5_000 {
        deposit(&handle, fresh_account()).await.unwrap();
    }
    assert!(matches!(deposit(&handle, target).await, Ok(Outcome::Replied { reply, .. }) if reply == "balance 2 at 2"));
}

#[tokio::test]
async fn a_process_that_is_thousands_of_events_behind_catches_up() {
    let (_database, store) = crate::conformance::postgres().await;
    let handle = start(&store);
    let target = fresh_account();
    deposit(&handle, target).await.unwrap();
    store.append(batch(vec![append(key(fresh_key(), 1), &[(target, 1, 3_000)])])).await.unwrap();
    assert!(matches!(deposit(&handle, target).await, Ok(Outcome::Replied { reply, .. }) if reply == "balance 3002 at 3002"));
}

#[tokio::test(start_paused = true)]
async fn a_submission_that_no_service_should_make_ends_nothing_but_itself() {
    let store = Arc::new(MemoryStore::<()>::default());
    let handle = start(&store);
    let target = fresh_account();
    for streams in [vec![], vec![target, target], (0..5).map(|_| fresh_account()).collect()] {
        let answer = handle.execute(submission(key(fresh_key(), 1), Command::Deposit(1), &streams)).await;
        assert_eq!(answer, Err(Error::Malformed));
    }
    assert!(deposit(&handle, target).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_command_that_was_applied_elsewhere_costs_no_second_load_of_its_stream() {
    let store = Slow::new(usize::MAX >> 4, usize::MAX >> 4);
    let (other, ours) = (start(&store), start(&store));
    let (target, id) = (fresh_account(), fresh_key());
    let send = |handle: &Handle<Accounts>, id| {
        let handle = handle.clone();
        tokio::spawn(async move { handle.execute(submission(key(id, 1), Command::Deposit(1), &[target])).await.unwrap() })
    };
    send(&other, id).await.unwrap();
    deposit(&ours, target).await.unwrap();
    let loaded = store.loaded.load(Ordering::SeqCst);
    let (before, duplicate, after) = (send(&ours, fresh_key()), send(&ours, id), send(&ours, fresh_key()));
    assert!(matches!(before.await.unwrap(), Outcome::Replied { reply, replayed: false } if reply == "balance 3 at 3"));
    assert!(matches!(duplicate.await.unwrap(), Outcome::Replied { reply, replayed: true } if reply == "balance 1 at 1"));
    assert!(matches!(after.await.unwrap(), Outcome::Replied { reply, replayed: false } if reply == "balance 4 at 4"));
    assert_eq!(store.loaded.load(Ordering::SeqCst), loaded);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_one_process_calls_expired_is_not_taken_by_another_whose_clock_is_behind() {
    let store = Arc::new(MemoryStore::<()>::default());
    let behind = start(&store);
    let ahead = clock();
    ahead.advance(jiff::SignedDuration::from_hours(25));
    let (handle, executor) = Executor::new(Arc::new(Accounts), Arc::clone(&store), ahead, Config::default());
    tokio::spawn(executor.run(CancellationToken::new()));
    let (target, id) = (fresh_account(), fresh_key());
    let send = |handle: &Handle<Accounts>| {
        let handle = handle.clone();
        async move { handle.execute(submission(key(id, 1), Command::Deposit(1), &[target])).await }
    };
    let expired = send(&handle).await;
    assert!(matches!(expired, Ok(Outcome::Refused { replayed: false, .. })), "{expired:?}");
    for other in [&behind, &handle] {
        assert!(matches!(send(other).await, Ok(Outcome::Refused { replayed: true, .. })), "an answer once given stays");
    }
    assert!(store.outbox().is_empty());
}

/// A store that panics: a defect that nobody foresaw.
struct Panicking;

impl Store for Panicking {
    type Rows = ();

    async fn append(&self, _batch: Batch<()>) -> Result<Vec<CommandResult>, StoreError> {
        panic!("a defect")
    }

    async fn load(&self, _after: Vec<(StreamId, u64)>) -> Result<Vec<StoredEvent>, StoreError> {
        Ok(Vec::new())
    }

    async fn lookup(&self, _key: &IdempotencyKey) -> Result<Option<Settled>, StoreError> {
        Ok(None)
    }

    fn ring(&self) {}
}

#[tokio::test(start_paused = true)]
async fn a_defect_in_the_store_ends_the_executor_and_leaves_no_caller_waiting() {
    let (handle, executor) = Executor::new(Arc::new(Accounts), Arc::new(Panicking), clock(), Config::default());
    let running = tokio::spawn(executor.run(CancellationToken::new()));
    let answer = tokio::time::timeout(FOR_EVER, deposit(&handle, fresh_account())).await;
    assert_eq!(answer, Ok(Err(Error::Unavailable)));
    assert!(running.await.is_err_and(|error| error.is_panic()), "the process must not go on without its executor");
    assert_eq!(deposit(&handle, fresh_account()).await, Err(Error::Unavailable));
}
