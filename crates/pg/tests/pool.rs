use std::time::Duration;

use anyhow::Result;
use idempo_devstack::testing::{self, TestDatabase, eventually};
use idempo_pg::{Config, Error, Pool};

const LIMIT: Duration = Duration::from_secs(10);

fn single(database: &TestDatabase) -> Config {
    Config { max_connections: 1, application_name: format!("pool_{}", database.name()), ..database.superuser() }
}

async fn states(database: &TestDatabase) -> Result<Vec<(String, String)>> {
    let (client, connection) = idempo_pg::connect(&database.superuser()).await?;
    tokio::spawn(connection);
    let rows = client
        .query(
            "SELECT state, query FROM pg_stat_activity WHERE datname = $1 AND application_name LIKE 'pool_%' AND state IS NOT NULL",
            &[&database.name()],
        )
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

#[tokio::test]
async fn a_connection_comes_back_without_transaction_locks_or_settings() -> Result<()> {
    let database = testing::empty_database().await;
    let pool = Pool::open(&Config { search_path: Some("pg_catalog, public".to_owned()), ..single(&database) })?;
    let client = pool.get().await?;
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
    client
        .batch_execute(
            "SET lock_timeout = 1;  LISTEN bell; CREATE TEMP TABLE left_over (); SELECT pg_advisory_lock(7); SET search_path = public; BEGIN; CREATE TABLE t ()",
        )
        .await?;
    drop(client);
    let client = pool.get().await?;
    let row = client
        .query_one(
            "SELECT pg_backend_pid(), current_setting('lock_timeout'), current_setting('search_path'), pg_current_xact_id_if_assigned() IS NULL,
                (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'), (SELECT count(*) FROM pg_listening_channels()),
                to_regclass('public.t') IS NULL, to_regclass('left_over') IS NULL",
            &[],
        )
        .await?;
    assert_eq!(row.get::<_, i32>(0), pid, "the same connection");
    assert_eq!(row.get::<_, &str>(1), "5s");
    assert_eq!(row.get::<_, &str>(2), "pg_catalog, public");
    assert!(row.get::<_, bool>(3), "no transaction is open");
    assert_eq!(row.get::<_, i64>(4), 0, "no advisory lock is held");
    assert_eq!(row.get::<_, i64>(5), 0, "no channel is listened to");
    assert!(row.get::<_, bool>(6), "the open transaction was rolled back");
    assert!(row.get::<_, bool>(7), "the temporary table is gone");
    Ok(())
}

#[tokio::test]
async fn a_connection_in_a_failed_transaction_is_not_handed_out_again() -> Result<()> {
    let database = testing::empty_database().await;
    let pool = Pool::open(&single(&database))?;
    let client = pool.get().await?;
    client.batch_execute("BEGIN").await?;
    assert!(client.batch_execute("SELECT 1 / 0").await.is_err());
    drop(client);
    assert_eq!(pool.get().await?.query_one("SELECT 1", &[]).await?.get::<_, i32>(0), 1);
    Ok(())
}

#[tokio::test]
async fn handlers_dropped_at_any_moment_leave_no_transaction_open() -> Result<()> {
    let database = testing::empty_database().await;
    let pool = Pool::open(&Config { acquire_timeout_ms: 10_000, ..single(&database) })?;
    pool.get().await?.batch_execute("CREATE TABLE t (x integer PRIMARY KEY)").await?;
    for round in 0..300_i32 {
        let work = async {
            let mut client = pool.get().await?;
            let transaction = client.transaction().await?;
            transaction.execute("INSERT INTO t VALUES ($1)", &[&round]).await?;
            transaction.execute("SELECT pg_sleep(0.001)", &[]).await?;
            transaction.commit().await?;
            anyhow::Ok(())
        };
        // From dropped before the first byte to done.
        let limit = Duration::from_micros(u64::try_from(round)? * 20);
        if let Ok(done) = tokio::time::timeout(limit, work).await {
            done?;
        }
    }
    let states = states(&database).await?;
    assert!(states.iter().all(|(state, _)| !state.starts_with("idle in transaction")), "{states:?}");
    let done: i64 = pool.get().await?.query_one("SELECT count(*) FROM t", &[]).await?.get(0);
    assert!(done > 0 && done < 300, "some rounds are cut short and some are not: {done}");
    Ok(())
}

#[tokio::test]
async fn a_statement_whose_caller_has_gone_is_stopped() -> Result<()> {
    let database = testing::empty_database().await;
    let pool = Pool::open(&Config { acquire_timeout_ms: 8_000, ..single(&database) })?;
    {
        let client = pool.get().await?;
        assert!(tokio::time::timeout(Duration::from_millis(50), client.query("SELECT pg_sleep(30)", &[])).await.is_err());
    }
    assert_eq!(pool.get().await?.query_one("SELECT 1", &[]).await?.get::<_, i32>(0), 1);
    eventually(LIMIT, "nobody sleeps any more", async || {
        states(&database).await.is_ok_and(|states| states.iter().all(|(state, query)| state != "active" || !query.contains("pg_sleep")))
    })
    .await;
    Ok(())
}

#[tokio::test]
async fn waiting_for_a_connection_ends_in_busy() -> Result<()> {
    let database = testing::empty_database().await;
    let pool = Pool::open(&Config { acquire_timeout_ms: 100, ..single(&database) })?;
    let held = pool.get().await?;
    assert!(matches!(pool.get().await, Err(Error::Busy)));
    drop(held);
    pool.get().await?;
    Ok(())
}

#[tokio::test]
async fn connections_ended_by_the_server_are_replaced() -> Result<()> {
    let database = testing::empty_database().await;
    let pool = Pool::open(&single(&database))?;
    let pid: i32 = pool.get().await?.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
    let (other, connection) = idempo_pg::connect(&database.superuser()).await?;
    tokio::spawn(connection);
    other.query_one("SELECT pg_terminate_backend($1, 5000)", &[&pid]).await?;
    eventually(LIMIT, "the pool answers on another connection", async || pool.check().await.is_ok()).await;
    Ok(())
}

#[tokio::test]
async fn a_discarded_connection_is_closed() -> Result<()> {
    let database = testing::empty_database().await;
    let pool = Pool::open(&single(&database))?;
    let client = pool.get().await?;
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
    client.discard();
    assert_ne!(pool.get().await?.query_one("SELECT pg_backend_pid()", &[]).await?.get::<_, i32>(0), pid);
    Ok(())
}

#[tokio::test]
async fn every_limit_of_the_configuration_is_in_force() -> Result<()> {
    let database = testing::empty_database().await;
    let config = Config {
        statement_timeout_ms: 1_111,
        lock_timeout_ms: 1_222,
        idle_in_transaction_timeout_ms: 1_333,
        tcp_user_timeout_ms: 1_444,
        application_name: "limits".to_owned(),
        search_path: Some("es, outbox".to_owned()),
        ..database.superuser()
    };
    let (client, connection) = idempo_pg::connect(&config).await?;
    tokio::spawn(connection);
    for (name, expected) in [
        ("statement_timeout", "1111ms"),
        ("lock_timeout", "1222ms"),
        ("idle_in_transaction_session_timeout", "1333ms"),
        ("tcp_user_timeout", "1444"),
        ("application_name", "limits"),
        ("search_path", "es, outbox"),
        ("timezone", "UTC"),
        ("tcp_keepalives_idle", "10"),
    ] {
        let shown: String = client.query_one(&format!("SHOW {name}"), &[]).await?.get(0);
        assert_eq!(shown, expected, "{name}");
    }
    Ok(())
}

#[test]
fn a_connection_whose_runtime_ends_before_it_is_clean_is_closed() -> Result<()> {
    let outer = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let database = outer.block_on(testing::empty_database());
    let inner = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (pool, pid) = inner.block_on(async {
        let pool = Pool::open(&single(&database))?;
        let client = pool.get().await?;
        let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
        client.batch_execute("BEGIN").await?;
        // The task that would clean it is spawned now, and never gets to run.
        drop(client);
        anyhow::Ok((pool, pid))
    })?;
    drop(inner);
    outer.block_on(async {
        assert_ne!(pool.get().await?.query_one("SELECT pg_backend_pid()", &[]).await?.get::<_, i32>(0), pid);
        Ok(())
    })
}

#[tokio::test]
async fn a_warmed_pool_has_its_connections_and_statements_before_anybody_asks() -> Result<()> {
    let database = testing::empty_database().await;
    let pool = Pool::open(&Config { max_connections: 3, ..single(&database) })?;
    pool.warm(2, &[]).await?;
    assert_eq!((pool.connections(), states(&database).await?.len()), (2, 2));
    // No more than it may have are waited for.
    pool.warm(100, &["SELECT 1 AS warmed"]).await?;
    assert_eq!((pool.connections(), states(&database).await?.len()), (3, 3));
    let clients = [pool.get().await?, pool.get().await?, pool.get().await?];
    for client in &clients {
        let sql = "SELECT count(*) FROM pg_prepared_statements WHERE statement = 'SELECT 1 AS warmed'";
        assert_eq!(client.query_one(sql, &[]).await?.get::<_, i64>(0), 1);
    }
    Ok(())
}
