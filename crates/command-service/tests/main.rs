//! A service's own database, as its readiness shows it. The rest is proven by the services, through gRPC.

use std::time::Duration;

use idempo_clock::ManualClock;
use idempo_command_service::look_after_database;
use idempo_devstack::testing::{self, Proxy, eventually};
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
