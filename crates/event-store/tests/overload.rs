//! More commands than can be done, and callers who do not wait for ever. Time is the runtime's own and stands still while anybody works, so that what
//! happens is the same on every machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use idempo_event_store::memory::MemoryStore;
use idempo_event_store::store::{Batch, CommandResult, Settled, Store, StoreError, StoredEvent};
use idempo_event_store::{Config, Error, Executor, Handle, IdempotencyKey, Outcome};
use idempo_ids::StreamId;
use tokio::task::JoinSet;
use tokio::time::{Instant, advance, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::support::{Accounts, Command, clock, fresh_account, fresh_key, key, submission};

/// How long one batch takes.
const BATCH: Duration = Duration::from_millis(10);
/// How many commands one batch takes.
const BATCH_COMMANDS: usize = 4;
/// What can be done, in commands a second.
const CAPACITY: u32 = 400;

/// A store that takes its time.
#[derive(Default)]
struct Slow(MemoryStore<()>, Duration);

impl Store for Slow {
    type Rows = ();

    async fn append(&self, batch: Batch<()>) -> Result<Vec<CommandResult>, StoreError> {
        sleep(BATCH + self.1).await;
        self.0.append(batch).await
    }

    async fn load(&self, after: Vec<(StreamId, u64)>) -> Result<Vec<StoredEvent>, StoreError> {
        self.0.load(after).await
    }

    async fn lookup(&self, key: &IdempotencyKey) -> Result<Option<Settled>, StoreError> {
        self.0.lookup(key).await
    }

    fn ring(&self) {}
}

fn start() -> (Arc<Slow>, Handle<Accounts>) {
    start_on(Slow::default())
}

fn start_on(store: Slow) -> (Arc<Slow>, Handle<Accounts>) {
    let store = Arc::new(store);
    let config = Config { batch_commands_max: BATCH_COMMANDS, batches_in_flight_max: 1, ..Config::default() };
    let (handle, executor) = Executor::new(Arc::new(Accounts), Arc::clone(&store), clock(), config);
    tokio::spawn(executor.run(CancellationToken::new()));
    (store, handle)
}

/// What callers got.
#[derive(Debug, Default)]
struct Told {
    /// In time.
    done: AtomicU64,
    /// That there is too much to do.
    refused: AtomicU64,
    /// Nothing, until they gave up.
    nothing: AtomicU64,
    /// The longest that an answered caller waited, in milliseconds.
    slowest_ms: AtomicU64,
}

/// Offers commands at a rate for some seconds, whatever comes back; each caller waits for `patience`.
async fn offer(handle: &Handle<Accounts>, per_second: u32, seconds: u32, patience: Duration) -> Told {
    let told = Arc::new(Told::default());
    let mut callers = JoinSet::new();
    let mut due = Instant::now();
    for _ in 0..per_second * seconds {
        due += Duration::from_secs(1) / per_second;
        tokio::time::sleep_until(due).await;
        let (handle, told) = (handle.clone(), Arc::clone(&told));
        callers.spawn(async move {
            let (began, command) = (Instant::now(), submission(key(fresh_key(), 1), Command::Deposit(1), &[fresh_account()]));
            let deadline = began + patience;
            let counted = match timeout_at(deadline, handle.execute_by(command, deadline)).await {
                Ok(Ok(_)) => {
                    let waited = u64::try_from(began.elapsed().as_millis()).unwrap();
                    told.slowest_ms.fetch_max(waited, Ordering::Relaxed);
                    &told.done
                }
                Ok(Err(Error::Overloaded)) => &told.refused,
                Ok(Err(other)) => panic!("{other:?}"),
                Err(_) => &told.nothing,
            };
            counted.fetch_add(1, Ordering::Relaxed);
        });
    }
    callers.join_all().await;
    Arc::into_inner(told).unwrap()
}

#[tokio::test(start_paused = true)]
async fn five_times_what_can_be_done_does_not_keep_what_can_be_done_from_being_done() {
    const SECONDS: u32 = 10;
    let (store, handle) = start();
    let patience = Duration::from_millis(200);
    let told = offer(&handle, 5 * CAPACITY, SECONDS, patience).await;
    let done = told.done.load(Ordering::Relaxed);
    assert!(done >= u64::from(CAPACITY * SECONDS) * 8 / 10, "{told:?}");
    assert!(told.nothing.load(Ordering::Relaxed) <= done / 100, "who is not served is told so: {told:?}");
    let in_vain = u64::try_from(store.0.outbox().len()).unwrap() - done;
    assert!(in_vain <= done / 100, "{in_vain} commands were done for nobody: {told:?}");

    // And when the load has dropped, nothing of it is left.
    let told = offer(&handle, CAPACITY / 2, SECONDS, patience).await;
    assert_eq!(told.done.load(Ordering::Relaxed), u64::from(CAPACITY / 2 * SECONDS), "{told:?}");
    assert!(told.slowest_ms.load(Ordering::Relaxed) <= 30, "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_command_that_could_not_be_begun_in_time_has_no_effect_and_its_key_is_free() {
    let (store, handle) = start();
    let now = Instant::now();
    let send = |id, patience| {
        let handle = handle.clone();
        tokio::spawn(async move {
            let command = submission(key(id, 1), Command::Deposit(1), &[fresh_account()]);
            handle.execute_by(command, now + patience).await
        })
    };
    // One batch is full, and the others wait for it.
    let first: Vec<_> = (0..BATCH_COMMANDS).map(|_| send(fresh_key(), Duration::from_secs(1))).collect();
    advance(Duration::from_millis(1)).await;
    let (short, shared) = (fresh_key(), fresh_key());
    let impatient = [send(short, Duration::from_millis(8)), send(shared, Duration::from_millis(8))];
    tokio::task::yield_now().await;
    let patient = send(shared, Duration::from_secs(1));
    for answer in first {
        assert!(answer.await.unwrap().is_ok());
    }
    for answer in impatient {
        assert_eq!(answer.await.unwrap(), Err(Error::Overloaded));
    }
    assert!(
        matches!(patient.await.unwrap(), Ok(Outcome::Replied { replayed: false, .. })),
        "one who has time is served under the same key"
    );
    assert_eq!(store.0.outbox().len(), BATCH_COMMANDS + 1);
    assert_eq!(store.lookup(&key(short, 1)).await.unwrap(), None);
    let again = handle.execute(submission(key(short, 1), Command::Deposit(1), &[fresh_account()])).await;
    assert!(matches!(again, Ok(Outcome::Replied { replayed: false, .. })));
}

#[tokio::test(start_paused = true)]
async fn while_the_store_does_not_answer_those_who_wait_are_told_before_they_give_up() {
    let (_store, handle) = start_on(Slow(MemoryStore::default(), Duration::from_secs(3_600)));
    let patience = Duration::from_secs(1);
    let told = offer(&handle, 100, 5, patience).await;
    let begun = u64::try_from(BATCH_COMMANDS).unwrap();
    assert!(told.nothing.load(Ordering::Relaxed) <= begun, "{told:?}");
    assert_eq!(told.done.load(Ordering::Relaxed), 0);
}
