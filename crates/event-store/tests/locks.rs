//! What several writers of one database do to each other, and what its upkeep does to them.

use std::sync::Arc;
use std::time::Duration;

use idempo_devstack::testing::{TestDatabase, eventually};
use idempo_event_store::NoInline;
use idempo_event_store::postgres::{PostgresStore, maintain_key_partitions};
use idempo_event_store::store::{CommandResult, Store, StoreError};
use idempo_event_store::{Config, Executor, StreamTarget};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tokio_util::sync::CancellationToken;

use crate::conformance::batch;
use crate::support::{Accounts, Command, append, clock, fresh_account, fresh_key, key, submission};

/// Longer than anything here may take.
const PATIENCE: Duration = Duration::from_secs(20);

type Client = tokio_postgres::Client;

async fn superuser(database: &TestDatabase) -> Client {
    let (client, connection) = idempo_pg::connect(&database.superuser()).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A store over a pool of its own.
async fn store(database: &TestDatabase, change: impl FnOnce(&mut idempo_pg::Config)) -> Arc<PostgresStore<NoInline>> {
    let mut config = database.config("idempo_wallet");
    change(&mut config);
    let pool = idempo_pg::Pool::open(&config).unwrap();
    let clock: idempo_clock::SharedClock = clock();
    maintain_key_partitions(&pool, &clock).await.unwrap();
    Arc::new(PostgresStore::new(pool))
}

async fn database() -> TestDatabase {
    idempo_devstack::testing::database("wallet_db").await
}

async fn version(client: &Client, stream: StreamTarget) -> u64 {
    let row = client.query_opt("SELECT version FROM es.streams WHERE stream_id = $1", &[&stream.stream_id.uuid()]).await.unwrap();
    row.map_or(0, |row| u64::try_from(row.get::<_, i64>(0)).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_on_the_same_few_streams_never_deadlock() {
    const STREAMS: usize = 10;
    let database = database().await;
    let store = store(&database, |config| config.max_connections = 8).await;
    let client = Arc::new(superuser(&database).await);
    // In the table in another order than that of their ids.
    let mut streams: Vec<_> = (0..STREAMS).map(|_| fresh_account()).collect();
    streams.sort_by_key(|stream| std::cmp::Reverse(stream.stream_id));
    for stream in &streams {
        store.append(batch(vec![append(key(fresh_key(), 1), &[(*stream, 0, 1)])])).await.unwrap();
    }
    client.batch_execute("ANALYZE es.streams").await.unwrap();
    let streams = Arc::new(streams);
    let mut writers = tokio::task::JoinSet::new();
    for seed in 0..6 {
        let (store, streams, client) = (Arc::clone(&store), Arc::clone(&streams), Arc::clone(&client));
        writers.spawn(async move {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let (mut appended, mut contended) = (0, 0);
            for _ in 0..120 {
                let mut commands = Vec::new();
                for stream in streams.iter() {
                    if rng.random_bool(0.7) {
                        commands.push(append(key(fresh_key(), 1), &[(*stream, version(&client, *stream).await, 1)]));
                    }
                }
                match store.append(batch(commands)).await {
                    Ok(results) => appended += results.iter().filter(|result| **result == CommandResult::Appended).count(),
                    Err(StoreError::Contention(_)) => contended += 1,
                    Err(other) => panic!("{other:?}"),
                }
            }
            (appended, contended)
        });
    }
    let outcomes = writers.join_all().await;
    assert!(outcomes.iter().all(|(appended, _)| *appended > 0), "{outcomes:?}");
    assert_eq!(outcomes.iter().map(|(_, contended)| contended).sum::<usize>(), 0, "{outcomes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forgetting_old_keys_does_not_hold_up_appends_behind_a_slow_transaction() {
    let database = database().await;
    let store = store(&database, |_| ()).await;
    let mut slow = superuser(&database).await;
    slow.batch_execute("SELECT es.ensure_dedup_partition('2020-01-01')").await.unwrap();
    let transaction = slow.transaction().await.unwrap();
    let claim = "INSERT INTO es.command_dedup (key, scope, fingerprint, outcome, reply) VALUES ($1, '', '', 0, '')";
    transaction.execute(claim, &[&fresh_key()]).await.unwrap();

    let keeper = superuser(&database).await;
    let forgetting = tokio::spawn(async move { keeper.execute("SELECT es.drop_dedup_partitions('2021-01-01')", &[]).await });
    let waits = "SELECT count(*) FROM pg_locks WHERE relation = 'es.command_dedup'::regclass AND mode = 'AccessExclusiveLock'";
    let watcher = superuser(&database).await;
    eventually(PATIENCE, "the upkeep asks for its lock, or gives up", async || {
        forgetting.is_finished() || watcher.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) > 0
    })
    .await;
    let appending = store.append(batch(vec![append(key(fresh_key(), 1), &[(fresh_account(), 0, 1)])]));
    let appended = tokio::time::timeout(Duration::from_secs(2), appending).await;
    assert!(matches!(appended, Ok(Ok(_))), "{appended:?}");
    transaction.rollback().await.unwrap();
    let _given_up = forgetting.await.unwrap();
    assert_eq!(watcher.query_one("SELECT es.drop_dedup_partitions('2021-01-01')", &[]).await.unwrap().get::<_, i32>(0), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_of_one_connection_is_enough() {
    let database = database().await;
    let store = store(&database, |config| {
        config.max_connections = 1;
        config.acquire_timeout_ms = 500;
    })
    .await;
    let (handle, executor) = Executor::new(Arc::new(Accounts), store, clock(), Config::default());
    tokio::spawn(executor.run(CancellationToken::new()));
    for _ in 0..3 {
        let answer = handle.execute(submission(key(fresh_key(), 1), Command::Deposit(1), &[fresh_account()])).await;
        assert!(answer.is_ok(), "{answer:?}");
    }
}

#[tokio::test]
async fn connections_that_were_cut_while_nobody_used_them_fail_no_append() {
    let database = database().await;
    let store = store(&database, |_| ()).await;
    let one = |target| batch(vec![append(key(fresh_key(), 1), &[(target, 0, 1)])]);
    let watcher = superuser(&database).await;
    let three = futures_util::future::join_all((0..3).map(|_| store.append(one(fresh_account())))).await;
    assert!(three.iter().all(Result::is_ok), "{three:?}");
    let cut = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    assert!(watcher.query(cut, &[]).await.unwrap().len() >= 3);
    for _ in 0..64 {
        // Each turn of the runtime lets the connections' tasks read what the server has left them.
        watcher.simple_query("").await.unwrap();
    }
    let appended = store.append(one(fresh_account())).await;
    assert!(appended.is_ok(), "{appended:?}");
}

/// Holds the row of a stream, as a transaction that hangs would.
async fn hold<'a>(client: &'a mut Client, stream: StreamTarget) -> tokio_postgres::Transaction<'a> {
    let transaction = client.transaction().await.unwrap();
    transaction.execute("SELECT FROM es.streams WHERE stream_id = $1 FOR UPDATE", &[&stream.stream_id.uuid()]).await.unwrap();
    transaction
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_whose_row_is_held_by_another_fails_none_of_the_others() {
    let database = database().await;
    let store = store(&database, |config| config.lock_timeout_ms = 300).await;
    let (held, others): (_, Vec<_>) = (fresh_account(), (0..40).map(|_| fresh_account()).collect());
    let (handle, executor) = Executor::new(Arc::new(Accounts), store, clock(), Config { attempts_max: 3, ..Config::default() });
    let send = |target| {
        let handle = handle.clone();
        async move { handle.execute(submission(key(fresh_key(), 1), Command::Deposit(1), &[target])).await }
    };
    let running = tokio::spawn(executor.run(CancellationToken::new()));
    for target in others.iter().chain([&held]) {
        send(*target).await.unwrap();
    }
    let mut client = superuser(&database).await;
    let transaction = hold(&mut client, held).await;
    let (on_held, on_others) = tokio::join!(send(held), futures_util::future::join_all(others.iter().map(|target| send(*target))));
    assert!(on_held.is_err(), "its row is held all the time");
    assert!(on_others.iter().all(Result::is_ok), "{on_others:?}");
    transaction.rollback().await.unwrap();
    assert!(send(held).await.is_ok());
    running.abort();
}

/// A retry storm must not use up transaction ids, nor make the relay look at transactions that changed nothing.
#[tokio::test]
async fn a_batch_of_nothing_but_duplicates_takes_no_transaction_id() {
    let database = database().await;
    let store = store(&database, |_| ()).await;
    let mut client = superuser(&database).await;
    let id = fresh_key();
    store.append(batch(vec![append(key(id, 1), &[(fresh_account(), 0, 0)])])).await.unwrap();
    let transaction = client.transaction().await.unwrap();
    let again = "SELECT x.status FROM unnest(es.append(
        ARRAY[$1::bytea], ARRAY[$2::uuid], ARRAY[''::bytea], ARRAY[1::smallint], ARRAY[''::bytea],
        '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')) AS x";
    let row = transaction.query_one(again, &[&[7_u8; 16].as_slice(), &id]).await.unwrap();
    assert_eq!(row.get::<_, i16>(0), 1, "taken");
    let row = transaction.query_one("SELECT pg_current_xact_id_if_assigned() IS NULL", &[]).await.unwrap();
    assert!(row.get::<_, bool>(0));
}
