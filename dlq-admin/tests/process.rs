//! The binary: gets ready, drains on SIGTERM, exits with 0, and tells what it measures.

use idempo_devstack::testing::{self, Signal};

use crate::support::{LIMIT, Stage};

#[tokio::test]
async fn the_process_gets_ready_tells_its_metrics_and_drains_when_it_is_told_to_stop() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    stage.fill(&session, 8).await;
    let mut process = stage.start(None);
    process.ready().await;
    let metrics = || process.get("/metrics").unwrap_or_default();
    testing::eventually(LIMIT, "open dead letters are counted", async || {
        metrics().contains("disposition=\"poison_domain\"} 8") && metrics().contains("idempo_dlq_oldest_age_seconds{")
    })
    .await;
    process.signal(Signal::TERM);
    assert_eq!(process.ended().await, Some(0), "{}", process.log());
    let log = process.log();
    // These processes are open to everybody, and say so.
    let lines = log.lines().filter(|line| !line.contains("(operators.open)"));
    let alarming: Vec<&str> = lines.filter(|line| line.contains("\"WARN\"") || line.contains("\"ERROR\"")).collect();
    assert!(alarming.is_empty(), "{alarming:#?}");
}
