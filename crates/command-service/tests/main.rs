//! A service's own database, as its readiness shows it. The rest is proven by the services, through gRPC.
#![expect(clippy::expect_used, reason = "a test that meets something it does not expect ends there")]

use std::time::Duration;

use idempo_clock::ManualClock;
use idempo_command_service::{Criticality, Shedding, look_after_database, start_admission};
use idempo_devstack::testing::{self, Proxy, TestDatabase, eventually};
use idempo_pg::{Config, Pool};
use idempo_runtime::Platform;

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_service_is_ready_while_its_database_answers_and_has_a_place_for_new_keys() {
    let database = testing::database("wallet_db").await;
    let mut proxy = Proxy::shut(testing::cluster().address()).await;
    let config = Config { connect_timeout_ms: 1_000, acquire_timeout_ms: 1_000, ..database.config_through(&proxy, "idempo_wallet") };
    let platform = Platform::new("sample", ManualClock::new("2026-11-23T12:00:00Z".parse().expect("a time")));
    look_after_database(&Pool::open(&config).expect("usable"), &platform);
    let missing = || platform.readiness.missing().into_iter().map(|missing| missing.condition).collect::<Vec<_>>();
    assert_eq!(missing(), ["database", "key-partitions"]);

    proxy.open().await;
    tokio::time::timeout(PATIENCE, platform.readiness.wait_ready()).await.expect("ready");
    proxy.cut().await;
    eventually(PATIENCE, "the database is missed", async || missing() == ["database"]).await;
    platform.tasks.shut_down(PATIENCE).await.expect("stopped in order");
}

/// Writes a row that has waited for a minute, or marks everything as sent.
async fn write(database: &TestDatabase, statement: &str) {
    let (client, connection) = idempo_pg::connect(&database.superuser()).await.expect("connected");
    tokio::spawn(connection);
    client.batch_execute(statement).await.expect("written");
}

#[tokio::test]
async fn a_backlog_that_is_too_old_shuts_the_door_until_it_is_sent_and_a_database_that_is_away_changes_nothing() {
    let database = testing::database("wallet_db").await;
    let mut proxy = Proxy::to(testing::cluster().address()).await;
    let config = Config { connect_timeout_ms: 1_000, acquire_timeout_ms: 1_000, ..database.config_through(&proxy, "idempo_wallet") };
    let platform = Platform::new("sample", ManualClock::new("2026-11-23T12:00:00Z".parse().expect("a time")));
    let shedding = Shedding { low_after_ms: 30_000, normal_after_ms: 50_000, poll_interval_ms: 20, ..Shedding::default() };
    let pool = Pool::open(&config).expect("usable");
    let admission = start_admission("sample.idempo", &shedding, &pool, &platform);
    let admitted = || [Criticality::Low, Criticality::Normal, Criticality::Critical].map(|value| admission.admit(value).is_ok());
    assert_eq!(admitted(), [true; 3]);

    let aged = |seconds: u32| {
        format!(
            "INSERT INTO outbox.r0 (recorded_at, topic, key, payload)
             VALUES (clock_timestamp() - interval '{seconds} seconds', 3, gen_random_uuid(), '\\x00')"
        )
    };
    write(&database, &aged(35)).await;
    eventually(PATIENCE, "what can wait is refused", async || admitted() == [false, true, true]).await;
    let sent = "UPDATE outbox.cursor SET s1 = pg_current_snapshot(), xip_floors = array_fill(0::bigint, ARRAY[(
        SELECT count(*)::integer FROM pg_snapshot_xip(pg_current_snapshot()))])";
    write(&database, sent).await;
    eventually(PATIENCE, "everything is admitted again", async || admitted() == [true; 3]).await;

    write(&database, &aged(100)).await;
    eventually(PATIENCE, "only what is critical is admitted", async || admitted() == [false, false, true]).await;
    proxy.cut().await;
    write(&database, sent).await;
    for _ in 0..10 {
        assert!(pool.check().await.is_err(), "a look fails as this does");
        assert_eq!(admitted(), [false, false, true]);
    }
    proxy.open().await;
    eventually(PATIENCE, "everything is admitted again", async || admitted() == [true; 3]).await;
    platform.tasks.shut_down(PATIENCE).await.expect("stopped in order");
}
