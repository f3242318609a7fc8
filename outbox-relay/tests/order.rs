//! The order torture.

use std::time::Duration;

use idempo_devstack::testing::{self, Signal};

use crate::support::{LIMIT, Report, Stage, check};
use crate::writers::{Load, Writers};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_inverted_under_torture_with_killed_and_frozen_relays() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    let small = "page_rows_max = 300\n[rotation]\ntable_bytes_max = 2_000_000\ncheck_interval_ms = 100";
    let start = |name: &str| stage.relay(name).with(small).start();
    let mut first = start("first");
    stage.held_by(&session, "first").await;
    let mut second = start("second");

    let load = Load { writers: 12, keys: 40, rows: 100_000, seed: 7 };
    let writers = Writers::start(&stage, load).await;
    let reached = async |rows| testing::eventually(LIMIT * 2, "the writers come along", async || writers.written() >= rows).await;

    reached(20_000).await;
    first.kill();
    stage.held_by(&session, "second").await;
    let mut third = start("third");

    reached(45_000).await;
    // It freezes with requests under way, is replaced, and thaws as a zombie.
    second.signal(Signal::STOP);
    stage.held_by(&session, "third").await;
    reached(60_000).await;
    second.signal(Signal::CONT);

    reached(75_000).await;
    third.kill();
    stage.held_by(&session, "second").await;
    writers.finish().await;
    stage.relayed(&session).await;

    let report = check(&stage, &session).await;
    assert!(report.committed >= 100_000, "{report:?}");
    let skipped = second.metric("idempo_outbox_skipped_total").unwrap_or(0.0);
    assert!(report.duplicates > 0 || skipped > 0.0, "no relay was killed in its work: {report:?}");
    assert_eq!(Report { arrived: 0, committed: 0, duplicates: 0, ..report }, Report::default(), "seed {}: {report:?}", load.seed);
    let rotations = second.metric("idempo_relay_truncations_total").unwrap_or(0.0);
    assert!(rotations > 0.0, "no table was emptied under way");
    tokio::time::timeout(Duration::from_secs(1), async { second.kill() }).await.expect("in time");
}
