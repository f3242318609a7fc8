//! Callers who give up at any moment, on a pool that is too small for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use idempo_clock::SharedClock;
use idempo_devstack::testing::{self, eventually};
use idempo_event_store::postgres::{PostgresStore, maintain_key_partitions};
use idempo_event_store::{Config, Executor, NoInline, Outcome};
use idempo_pg::Pool;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::support::{Accounts, Command, clock, fresh_account, fresh_key, key, submission};

const CALLERS: u64 = 16;
const COMMANDS: usize = 40;
const CONNECTIONS: u32 = 2;
const PATIENCE: Duration = Duration::from_secs(30);

/// Sessions of this database that are in a transaction though nobody works in it, or in one that has failed.
const LEFT_OPEN: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in transaction%'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_who_give_up_at_any_moment_leave_no_connection_in_a_transaction_and_no_command_lost_or_doubled() {
    let database = testing::database("wallet_db").await;
    let pool = Pool::open(&idempo_pg::Config { max_connections: CONNECTIONS, ..database.config("idempo_wallet") }).unwrap();
    let clock: SharedClock = clock();
    maintain_key_partitions(&pool, &clock).await.unwrap();
    // Caches of next to nothing, so that answers come from the store, and batches of a few, so that many are under way.
    let config = Config { cached_answers_max: 1, batch_commands_max: 4, ..Config::default() };
    let store = Arc::new(PostgresStore::<NoInline>::new(pool.clone()));
    let (handle, executor) = Executor::new(Arc::new(Accounts), store, clock, config);
    let stop = CancellationToken::new();
    let running = tokio::spawn(executor.run(stop.clone()));
    let given_up = Arc::<AtomicU64>::default();
    let accounts: Vec<_> = (0..8).map(|_| fresh_account()).collect();

    let mut callers = JoinSet::new();
    for seed in 0..CALLERS {
        let (handle, given_up, accounts, pool) = (handle.clone(), Arc::clone(&given_up), accounts.clone(), pool.clone());
        callers.spawn(async move {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            for _ in 0..COMMANDS {
                let (id, target) = (fresh_key(), accounts[rng.random_range(0..accounts.len())]);
                loop {
                    let patience = Duration::from_micros(rng.random_range(0..6_000));
                    let deadline = Instant::now() + patience;
                    let sending = handle.execute_by(submission(key(id, 1), Command::Deposit(1), &[target]), deadline);
                    match tokio::time::timeout_at(deadline, sending).await {
                        Ok(Ok(Outcome::Replied { .. })) => break,
                        Ok(Ok(other)) => panic!("{other:?}"),
                        Ok(Err(_)) | Err(_) => given_up.fetch_add(1, Ordering::Relaxed),
                    };
                    if rng.random_bool(0.1) {
                        // A read beside it that is dropped as well, wherever it is.
                        let read = async { pool.get().await.unwrap().query("SELECT pg_sleep(0.003)", &[]).await.unwrap() };
                        let _dropped = tokio::time::timeout(patience, read).await;
                    }
                }
            }
        });
    }
    callers.join_all().await;
    stop.cancel();
    running.await.unwrap();

    assert!(given_up.load(Ordering::Relaxed) > CALLERS * 10, "callers gave up {} times", given_up.load(Ordering::Relaxed));
    let (auditor, connection) = idempo_pg::connect(&database.superuser()).await.unwrap();
    tokio::spawn(connection);
    let events: i64 = auditor.query_one("SELECT count(*) FROM es.events", &[]).await.unwrap().get(0);
    let keys: i64 = auditor.query_one("SELECT count(*) FROM es.command_dedup", &[]).await.unwrap().get(0);
    let sent = i64::try_from(usize::try_from(CALLERS).unwrap() * COMMANDS).unwrap();
    assert_eq!((events, keys), (sent, sent), "each command has had its effect once");
    eventually(PATIENCE, "no session is left in a transaction", async || {
        auditor.query_one(LEFT_OPEN, &[]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;
    let mut whole_pool = Vec::new();
    for _ in 0..CONNECTIONS {
        let client = pool.get().await.unwrap();
        assert_eq!(client.query_one("SELECT 1 + 1", &[]).await.unwrap().get::<_, i32>(0), 2);
        whole_pool.push(client);
    }
}
