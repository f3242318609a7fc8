use std::time::Duration;

use anyhow::Result;
use idempo_devstack::testing::{self, eventually};
use idempo_pg::{Config, Error, classify};
use tokio_postgres::Client;

const LIMIT: Duration = Duration::from_secs(10);

async fn client(config: &Config) -> Result<Client, Error> {
    let (client, connection) = idempo_pg::connect(config).await?;
    tokio::spawn(connection);
    Ok(client)
}

async fn fails(client: &Client, sql: &str) -> Error {
    match client.batch_execute(sql).await {
        Ok(()) => unreachable!("{sql} fails"),
        Err(error) => classify(error),
    }
}

#[tokio::test]
async fn what_the_database_rejects_is_told_apart() -> Result<()> {
    let database = testing::empty_database().await;
    let client = client(&Config { statement_timeout_ms: 100, ..database.superuser() }).await?;
    client.batch_execute("CREATE TABLE t (x integer CONSTRAINT one_only PRIMARY KEY); INSERT INTO t VALUES (1)").await?;
    let error = fails(&client, "INSERT INTO t VALUES (1)").await;
    assert!(matches!(&error, Error::Constraint { constraint: Some(name), .. } if name == "one_only"), "{error:?}");
    assert_eq!(error.sqlstate(), Some("23505"));
    assert!(matches!(fails(&client, "SELECT 1 / 0").await, Error::Data { .. }));
    assert!(matches!(fails(&client, "SELECT * FROM nowhere").await, Error::Data { .. }));
    assert!(matches!(fails(&client, "SELECT pg_sleep(5)").await, Error::Timeout(_)));
    assert!(matches!(client.query("SELECT $1::int", &[&"text"]).await.map_err(classify), Err(Error::Data { .. })));
    Ok(())
}

#[tokio::test]
async fn a_lock_timeout_a_deadlock_and_a_serialization_failure_are_contention() -> Result<()> {
    let database = testing::empty_database().await;
    let config = Config { lock_timeout_ms: 100, ..database.superuser() };
    let (first, second) = (client(&config).await?, client(&config).await?);
    first.batch_execute("CREATE TABLE t (x integer); INSERT INTO t VALUES (1)").await?;
    first.batch_execute("BEGIN; UPDATE t SET x = 2").await?;
    assert!(matches!(fails(&second, "UPDATE t SET x = 3").await, Error::Contention(_)));
    second.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM t").await?;
    first.batch_execute("COMMIT").await?;
    assert!(matches!(fails(&second, "UPDATE t SET x = 3").await, Error::Contention(_)));
    second.batch_execute("ROLLBACK").await?;

    for client in [&first, &second] {
        client.batch_execute("SET lock_timeout = 0; SET deadlock_timeout = '50ms'").await?;
    }
    first.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(1)").await?;
    second.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(2)").await?;
    let (one, other) = tokio::join!(
        first.batch_execute("SELECT pg_advisory_xact_lock(2)"),
        second.batch_execute("SELECT pg_advisory_xact_lock(1); COMMIT")
    );
    let error = one.and(other).expect_err("one of them is the victim");
    assert!(matches!(classify(error), Error::Contention(_)));
    Ok(())
}

#[tokio::test]
async fn a_connection_lost_during_a_statement_leaves_an_unknown_outcome() -> Result<()> {
    let database = testing::empty_database().await;
    let victim = client(&database.superuser()).await?;
    let other = client(&database.superuser()).await?;
    let pid: i32 = victim.query_one("SELECT pg_backend_pid()", &[]).await?.get(0);
    let sleeping = tokio::spawn(async move { (victim.batch_execute("SELECT pg_sleep(30)").await, victim) });
    eventually(LIMIT, "the victim sleeps", async || is_active(&other, pid).await).await;
    other.query_one("SELECT pg_terminate_backend($1)", &[&pid]).await?;
    let (outcome, victim) = sleeping.await?;
    assert!(matches!(classify(outcome.expect_err("it was ended")), Error::Unknown(_)));
    // Also when the client only learns of the loss by its socket.
    eventually(LIMIT, "the client knows that its connection is gone", async || victim.is_closed()).await;
    assert!(matches!(fails(&victim, "SELECT 1").await, Error::Unknown(_)));
    Ok(())
}

async fn is_active(client: &Client, pid: i32) -> bool {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND state = 'active' AND query LIKE '%pg_sleep%'";
    client.query_one(sql, &[&pid]).await.is_ok_and(|row| row.get::<_, i64>(0) == 1)
}

#[tokio::test]
async fn a_database_that_is_away_is_unavailable_and_a_stranger_is_refused() -> Result<()> {
    let closed = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let away = client(&Config::at(format!("postgres://postgres@{closed}/postgres"))).await;
    assert!(matches!(away, Err(Error::Unavailable(Some(_)))));
    // Takes the connection and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = silent.local_addr()?;
    let mute = client(&Config { connect_timeout_ms: 200, ..Config::at(format!("postgres://postgres@{address}/postgres")) }).await;
    assert!(matches!(mute, Err(Error::Unavailable(_))));
    assert!(matches!(client(&testing::cluster().superuser("no_such_database")).await, Err(Error::Refused(_))));
    Ok(())
}

#[tokio::test]
async fn a_database_that_takes_no_connections_for_now_is_unavailable() -> Result<()> {
    let database = testing::empty_database().await;
    let elsewhere = client(&testing::cluster().superuser("postgres")).await?;
    elsewhere.batch_execute(&format!("ALTER DATABASE \"{}\" WITH ALLOW_CONNECTIONS false", database.name())).await?;
    let Err(error) = client(&database.superuser()).await else { anyhow::bail!("it takes no connections") };
    assert!(matches!(&error, Error::Unavailable(Some(_))), "{error:?}");
    assert_eq!(error.sqlstate(), Some("55000"));
    Ok(())
}

#[tokio::test]
async fn a_role_connects_only_where_it_was_let_in() -> Result<()> {
    let database = testing::empty_database().await;
    // On a cluster with passwords the superuser stands in for the role, and this can't be seen.
    if database.config("idempo_wallet").url.masked().contains("***") {
        return Ok(());
    }
    assert!(matches!(client(&database.config("idempo_wallet")).await, Err(Error::Refused(_))));
    Ok(())
}
