//! The executor: what callers see of it, and what faults do to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use idempo_clock::Clock as _;
use idempo_devstack::testing::{self, Proxy};
use idempo_event_store::memory::MemoryStore;
use idempo_event_store::store::{Batch, CommandResult, Settled, Store, StoreError, StoredEvent};
use idempo_event_store::{Config, Error, Executor, Handle, IdempotencyKey, KeyOrigin, Outcome};
use idempo_ids::StreamId;
use tokio_util::sync::CancellationToken;

use crate::support::{Accounts, Command, START_MS, account, clock, fresh_account, fresh_key, key, key_at, submission};

fn start<S: Store<Rows = ()>>(store: Arc<S>) -> Handle<Accounts> {
    let (handle, executor) = Executor::new(Arc::new(Accounts), store, clock(), Config::default());
    tokio::spawn(executor.run(CancellationToken::new()));
    handle
}

fn replied(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Replied { reply, .. } => std::str::from_utf8(reply).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn is_refused(outcome: &Result<Outcome, Error>) -> bool {
    matches!(outcome, Ok(Outcome::Refused { .. }))
}

#[tokio::test]
async fn sixty_four_racing_sends_of_one_command_have_one_effect_and_equal_answers() {
    let store = Arc::new(MemoryStore::default());
    let handle = start(Arc::clone(&store));
    let (target, id) = (fresh_account(), fresh_key());
    let mut racing = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let handle = handle.clone();
        racing.spawn(async move { handle.execute(submission(key(id, 1), Command::Deposit(5), &[target])).await.unwrap() });
    }
    let answers = racing.join_all().await;
    assert!(answers.iter().all(|answer| replied(answer) == "balance 5 at 1"), "{answers:?}");
    let firsts = answers.iter().filter(|answer| matches!(answer, Outcome::Replied { replayed: false, .. })).count();
    assert_eq!(firsts, 1);
    assert_eq!(store.outbox().len(), 1);
}

#[tokio::test]
async fn racing_sends_through_two_processes_on_postgresql_have_one_effect_and_equal_answers() {
    let (_database, store) = crate::conformance::postgres().await;
    let handles = [start(Arc::clone(&store)), start(Arc::clone(&store))];
    let (target, id) = (fresh_account(), fresh_key());
    let mut racing = tokio::task::JoinSet::new();
    for n in 0..64_usize {
        let handle = handles[n % 2].clone();
        racing.spawn(async move {
            let answer = handle.execute(submission(key(id, 1), Command::Deposit(5), &[target])).await.unwrap();
            handle.execute(submission(key(fresh_key(), 1), Command::Deposit(1), &[target])).await.unwrap();
            answer
        });
    }
    let answers = racing.join_all().await;
    assert!(answers.iter().all(|answer| replied(answer) == replied(&answers[0])), "{answers:?}");
    assert_eq!(store.load(vec![(target.stream_id, 0)]).await.unwrap().len(), 1 + 64);
}

#[tokio::test]
async fn the_same_key_with_another_payload_names_the_field_and_changes_nothing() {
    let store = Arc::new(MemoryStore::default());
    let handle = start(Arc::clone(&store));
    let (target, id) = (fresh_account(), fresh_key());
    handle.execute(submission(key(id, 1), Command::Deposit(5), &[target])).await.unwrap();
    let reused = handle.execute(submission(key(id, 2), Command::Deposit(6), &[target])).await;
    assert_eq!(reused, Ok(Outcome::KeyReused { fields: vec![3] }), "`amount` is field 3");
    assert_eq!(store.outbox().len(), 1);
}

#[tokio::test]
async fn commands_that_wait_on_one_stream_are_decided_one_after_the_other() {
    let store = Arc::new(MemoryStore::default());
    let handle = start(Arc::clone(&store));
    let target = fresh_account();
    handle.execute(submission(key(fresh_key(), 1), Command::Deposit(10), &[target])).await.unwrap();
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..25 {
        let handle = handle.clone();
        waiting.spawn(async move { handle.execute(submission(key(fresh_key(), 1), Command::Withdraw(1), &[target])).await });
    }
    let answers = waiting.join_all().await;
    assert_eq!(answers.iter().filter(|answer| is_refused(answer)).count(), 15, "ten withdrawals fit, no more");
}

#[tokio::test]
async fn a_refusal_is_answered_alike_even_when_the_command_would_succeed_by_now() {
    let handle = start(Arc::new(MemoryStore::default()));
    let (target, id) = (fresh_account(), fresh_key());
    let refused = handle.execute(submission(key(id, 1), Command::Withdraw(1), &[target])).await;
    assert!(is_refused(&refused));
    handle.execute(submission(key(fresh_key(), 1), Command::Deposit(10), &[target])).await.unwrap();
    assert!(is_refused(&handle.execute(submission(key(id, 1), Command::Withdraw(1), &[target])).await));
}

#[tokio::test]
async fn a_stale_process_is_brought_up_to_date_by_the_conflict() {
    let (_database, store) = crate::conformance::postgres().await;
    let (a, b) = (start(Arc::clone(&store)), start(Arc::clone(&store)));
    let (paying, paid) = (fresh_account(), fresh_account());
    a.execute(submission(key(fresh_key(), 1), Command::Deposit(100), &[paying])).await.unwrap();
    for n in 0..20 {
        let handle = if n % 2 == 0 { &b } else { &a };
        let moved = handle.execute(submission(key(fresh_key(), 1), Command::Move(5), &[paying, paid])).await.unwrap();
        assert_eq!(replied(&moved), format!("balance {} at {}", 95 - 5 * n, 2 + n));
    }
    let overdraft = b.execute(submission(key(fresh_key(), 1), Command::Move(1), &[paying, paid])).await;
    assert!(is_refused(&overdraft));
}

#[tokio::test]
async fn validate_only_answers_as_the_command_would_and_changes_nothing() {
    let store = Arc::new(MemoryStore::default());
    let handle = start(Arc::clone(&store));
    let (target, id) = (fresh_account(), fresh_key());
    let only = |command| idempo_event_store::Submission { validate_only: true, ..submission(key(id, 1), command, &[target]) };
    assert_eq!(replied(&handle.execute(only(Command::Deposit(3))).await.unwrap()), "balance 3 at 1");
    assert!(is_refused(&handle.execute(only(Command::Withdraw(3))).await));
    assert!(store.outbox().is_empty());
    assert_eq!(store.lookup(&key(id, 1)).await.unwrap(), None);
}

#[tokio::test]
async fn an_etag_mismatch_is_refused_but_a_retry_of_the_applied_command_is_not() {
    let handle = start(Arc::new(MemoryStore::default()));
    let (target, id) = (fresh_account(), fresh_key());
    let at = |id, version| idempo_event_store::Submission {
        expected_version: Some(version),
        ..submission(key(id, 1), Command::Deposit(1), &[target])
    };
    assert!(matches!(handle.execute(at(id, 0)).await, Ok(Outcome::Replied { replayed: false, .. })));
    assert!(matches!(handle.execute(at(id, 0)).await, Ok(Outcome::Replied { replayed: true, .. })));
    let other = start(Arc::new(MemoryStore::<()>::default()));
    assert!(is_refused(&other.execute(at(fresh_key(), 7)).await));
}

#[tokio::test]
async fn a_key_outside_its_window_is_answered_from_the_store_or_never_taken() {
    let store = Arc::new(MemoryStore::default());
    let clock = clock();
    let (handle, executor) =
        Executor::new(Arc::new(Accounts), Arc::clone(&store), clock.clone(), Config { cached_answers_max: 1, ..Config::default() });
    tokio::spawn(executor.run(CancellationToken::new()));
    let (target, id) = (account(1), fresh_key());
    let send = |id| handle.execute(submission(key(id, 1), Command::Deposit(1), &[target]));
    send(id).await.unwrap();
    send(fresh_key()).await.unwrap();
    clock.advance(jiff::SignedDuration::from_hours(25));
    assert_eq!(replied(&send(id).await.unwrap()), "balance 1 at 1", "a known key is answered however old it is");
    assert!(is_refused(&send(fresh_key()).await), "too old, and bound to that");
    let forgotten = key_at(START_MS - 40 * 24 * 3_600 * 1_000, 1);
    assert_eq!(send(forgotten).await, Ok(Outcome::KeyOutOfWindow));
    let ahead = key_at(clock.now().as_millisecond() + 10 * 60 * 1_000, 1);
    assert_eq!(send(ahead).await, Ok(Outcome::KeyOutOfWindow));
    let derived = idempo_event_store::Submission {
        key_origin: KeyOrigin::Derived,
        ..submission(key(key_at(START_MS, 77), 1), Command::Deposit(1), &[target])
    };
    assert!(matches!(handle.execute(derived).await, Ok(Outcome::Replied { .. })), "a derived key is as old as its cause");
}

/// Fails as it is told to, around a store that works.
struct Faulty<S> {
    inner: S,
    /// How many appends are committed but lose their answer.
    lose_answers: AtomicU32,
    /// How many appends fail before they begin.
    away: AtomicU32,
    /// How many appends lose a lock race.
    contended: AtomicU32,
    /// Refuse any batch that has this many commands or more.
    refuse_from: usize,
}

fn take(counter: &AtomicU32) -> bool {
    counter.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

impl<S: Store<Rows = ()>> Store for Faulty<S> {
    type Rows = ();

    async fn append(&self, batch: Batch<()>) -> Result<Vec<CommandResult>, StoreError> {
        if take(&self.away) {
            return Err(StoreError::Away("away".into()));
        }
        if take(&self.contended) {
            return Err(StoreError::Contention("deadlock".into()));
        }
        if batch.commands.len() >= self.refuse_from {
            return Err(StoreError::Refused("constraint".into()));
        }
        let results = self.inner.append(batch).await;
        if take(&self.lose_answers) { Err(StoreError::Unknown("cut".into())) } else { results }
    }

    async fn load(&self, after: Vec<(StreamId, u64)>) -> Result<Vec<StoredEvent>, StoreError> {
        self.inner.load(after).await
    }

    async fn lookup(&self, key: &IdempotencyKey) -> Result<Option<Settled>, StoreError> {
        self.inner.lookup(key).await
    }

    fn ring(&self) {}
}

fn faulty() -> Faulty<MemoryStore<()>> {
    Faulty {
        inner: MemoryStore::default(),
        lose_answers: AtomicU32::new(0),
        away: AtomicU32::new(0),
        contended: AtomicU32::new(0),
        refuse_from: usize::MAX,
    }
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_has_one_effect_when_it_is_retried() {
    for lost in [1, 2, 3] {
        let store = Arc::new(Faulty { lose_answers: AtomicU32::new(lost), ..faulty() });
        let handle = start(Arc::clone(&store));
        let (target, id) = (fresh_account(), fresh_key());
        let mut answer = handle.execute(submission(key(id, 1), Command::Deposit(5), &[target])).await;
        while answer == Err(Error::Unavailable) {
            answer = handle.execute(submission(key(id, 1), Command::Deposit(5), &[target])).await;
        }
        assert_eq!(replied(&answer.unwrap()), "balance 5 at 1");
        assert_eq!(store.inner.outbox().len(), 1);
    }
}

#[tokio::test]
async fn a_database_that_is_away_is_said_and_binds_no_key() {
    let store = Arc::new(Faulty { away: AtomicU32::new(1), ..faulty() });
    let handle = start(Arc::clone(&store));
    let (target, id) = (fresh_account(), fresh_key());
    let send = || handle.execute(submission(key(id, 1), Command::Deposit(5), &[target]));
    assert_eq!(send().await, Err(Error::Unavailable));
    assert!(matches!(send().await, Ok(Outcome::Replied { replayed: false, .. })));
}

#[tokio::test(start_paused = true)]
async fn a_lost_lock_race_is_run_again_without_the_caller_noticing() {
    let store = Arc::new(Faulty { contended: AtomicU32::new(3), ..faulty() });
    let handle = start(Arc::clone(&store));
    let answer = handle.execute(submission(key(fresh_key(), 1), Command::Deposit(5), &[fresh_account()])).await;
    assert!(matches!(answer, Ok(Outcome::Replied { replayed: false, .. })));
}

#[tokio::test]
async fn a_batch_that_is_refused_as_a_whole_is_taken_apart() {
    let store = Arc::new(Faulty { refuse_from: 2, ..faulty() });
    let handle = start(Arc::clone(&store));
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let handle = handle.clone();
        waiting.spawn(async move { handle.execute(submission(key(fresh_key(), 1), Command::Deposit(1), &[fresh_account()])).await });
    }
    assert!(waiting.join_all().await.iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_caller_who_goes_away_leaves_no_half_done_command() {
    let store = Arc::new(MemoryStore::default());
    let handle = start(Arc::clone(&store));
    let target = fresh_account();
    for _ in 0..50 {
        let id = fresh_key();
        {
            let sending = handle.execute(submission(key(id, 1), Command::Deposit(1), &[target]));
            tokio::pin!(sending);
            let _dropped = futures_util::poll!(sending.as_mut());
        }
        let again = handle.execute(submission(key(id, 1), Command::Deposit(1), &[target])).await;
        assert!(matches!(again, Ok(Outcome::Replied { .. })));
    }
    assert_eq!(store.outbox().len(), 50);
}

#[tokio::test]
async fn more_commands_than_the_queue_holds_are_refused_as_overload() {
    let config = Config { queue_commands_max: 2, ..Config::default() };
    let (handle, executor) = Executor::new(Arc::new(Accounts), Arc::new(MemoryStore::default()), clock(), config);
    let send = || handle.execute(submission(key(fresh_key(), 1), Command::Deposit(1), &[fresh_account()]));
    let (first, second, third) = (send(), send(), send());
    tokio::pin!(first, second);
    assert!(futures_util::poll!(first.as_mut()).is_pending());
    assert!(futures_util::poll!(second.as_mut()).is_pending());
    assert_eq!(third.await, Err(Error::Overloaded));
    tokio::spawn(executor.run(CancellationToken::new()));
    assert!(first.await.is_ok() && second.await.is_ok());
}

#[tokio::test]
async fn shutdown_answers_what_was_taken_and_takes_nothing_more() {
    let (handle, executor) = Executor::new(Arc::new(Accounts), Arc::new(MemoryStore::default()), clock(), Config::default());
    let sending = handle.execute(submission(key(fresh_key(), 1), Command::Deposit(1), &[fresh_account()]));
    tokio::pin!(sending);
    assert!(futures_util::poll!(sending.as_mut()).is_pending());
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    executor.run(shutdown).await;
    assert!(sending.await.is_ok());
    let late = handle.execute(submission(key(fresh_key(), 1), Command::Deposit(1), &[fresh_account()])).await;
    assert_eq!(late, Err(Error::Unavailable));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_on_the_wire_has_one_effect_when_it_is_retried() {
    let database = testing::database("wallet_db").await;
    let proxy = Proxy::to(testing::cluster().address()).await;
    let config = database.config_through(&proxy, "idempo_wallet");
    let pool = idempo_pg::Pool::open(&config).unwrap();
    let shared: idempo_clock::SharedClock = clock();
    idempo_event_store::postgres::maintain_key_partitions(&pool, &shared).await.unwrap();
    let store = Arc::new(idempo_event_store::postgres::PostgresStore::<idempo_event_store::NoInline>::new(pool));
    let handle = start(Arc::clone(&store));
    let target = fresh_account();
    // Makes the connection, prepares the statement, loads the stream: what follows is one statement and its answer.
    handle.execute(submission(key(fresh_key(), 1), Command::Deposit(1), &[target])).await.unwrap();
    for round in 1..=5 {
        let id = fresh_key();
        proxy.swallow_next_answer();
        let mut answer = handle.execute(submission(key(id, 1), Command::Deposit(1), &[target])).await;
        while answer == Err(Error::Unavailable) {
            answer = handle.execute(submission(key(id, 1), Command::Deposit(1), &[target])).await;
        }
        assert_eq!(replied(&answer.unwrap()), format!("balance {} at {}", round + 1, round + 1));
    }
    assert_eq!(proxy.swallowed(), 5);
    assert_eq!(store.load(vec![(target.stream_id, 0)]).await.unwrap().len(), 6);
}
