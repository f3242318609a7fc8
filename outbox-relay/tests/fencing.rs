//! Leases: one relay at a time, and a quick successor.

use std::io::Write as _;
use std::time::{Duration, Instant};

use idempo_devstack::testing::{self, Signal};

use crate::support::{LIMIT, Report, Stage, check};
use crate::writers::write_some;

#[tokio::test]
async fn a_frozen_relay_is_replaced_and_can_move_nothing_when_it_thaws() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    let first = stage.relay("first").start();
    stage.held_by(&session, "first").await;
    write_some(&session, 1, 500).await;
    stage.relayed(&session).await;
    let second = stage.relay("second").start();
    testing::eventually(LIMIT, "the second stands by", async || second.is_ready()).await;

    first.signal(Signal::STOP);
    let frozen = Instant::now();
    write_some(&session, 1, 500).await;
    stage.held_by(&session, "second").await;
    stage.relayed(&session).await;
    assert!(frozen.elapsed() < Duration::from_secs(5), "taken over and published after {:?}", frozen.elapsed());
    let (_, epoch) = stage.holder(&session).await;
    first.signal(Signal::CONT);
    testing::eventually(LIMIT, "the first knows", async || first.metric("idempo_relay_fenced_total") == Some(1.0)).await;
    write_some(&session, 1, 500).await;
    stage.relayed(&session).await;
    assert_eq!(stage.holder(&session).await, (Some("second".to_owned()), epoch));
    assert_eq!(first.metric("idempo_relay_leader"), Some(0.0));
    testing::eventually(LIMIT, "the first stands by", async || first.is_ready()).await;
    let report = check(&stage, &session).await;
    assert_eq!(Report { duplicates: 0, arrived: 0, ..report }, Report { committed: 1_500, ..Report::default() }, "{report:?}");
}

#[tokio::test]
async fn a_killed_relay_is_replaced_and_the_next_row_published_within_a_second() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    let mut holder = stage.relay("holder 0").start();
    stage.held_by(&session, "holder 0").await;
    let mut quickest = Duration::MAX;
    for round in 1..=3 {
        let next = stage.relay(&format!("holder {round}")).start();
        testing::eventually(LIMIT, "the next one stands by", async || next.is_ready()).await;
        write_some(&session, 1, 100).await;
        stage.relayed(&session).await;
        let killed = Instant::now();
        holder.kill();
        write_some(&session, 1, 1).await;
        stage.relayed(&session).await;
        quickest = quickest.min(killed.elapsed());
        let _ = writeln!(std::io::stderr(), "published {:?} after a kill", killed.elapsed());
        // That everybody may operate these relays is warned of when they begin.
        let log = next.log();
        let warned = log.lines().any(|line| line.contains("\"WARN\"") && !line.contains("operators.open"));
        assert!(!warned, "a take-over is nothing to warn of: {log}");
        holder = next;
    }
    // Others use the machine too; what the quickest could, the others could but for them.
    assert!(quickest < Duration::from_secs(1), "published after {quickest:?}");
    let report = check(&stage, &session).await;
    assert_eq!(report, Report { committed: 303, arrived: 303, ..Report::default() });
}

#[tokio::test]
async fn a_write_of_the_cursor_with_an_old_epoch_changes_nothing() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    let take = include_str!("../src/sql/take_lease.sql");
    let taken = session.client.query_one(take, &[&"first", &1_i64]).await.expect("taken");
    let old: i64 = taken.get(0);
    let other = stage.session().await;
    let taken = other.client.query_one(take, &[&"second", &60_000_i64]).await.expect("taken, since the first has expired");
    assert_eq!(taken.get::<_, i64>(0), old + 1);
    let prepare = format!("PREPARE write_cursor AS {}", include_str!("../src/sql/write_cursor.sql"));
    session.client.batch_execute(&prepare).await.expect("prepared");
    let write = async |epoch: i64| {
        let sql =
            format!("EXECUTE write_cursor({epoch}, '9:9:', '{{}}', '{{9}}', '{{5}}', NULL, NULL, NULL, 0, '{{}}', '{{}}', '{{}}', '{{}}')");
        session.client.batch_execute(&sql).await.expect("an answer");
        session.client.query_one("SELECT s1::text FROM outbox.cursor", &[]).await.expect("an answer").get::<_, String>(0)
    };
    assert_eq!(write(old).await, "3:3:", "the old epoch moves nothing");
    assert_eq!(write(old + 1).await, "9:9:", "the new one does");
    assert!(session.client.query_opt(take, &[&"third", &1_000_i64]).await.expect("an answer").is_none(), "a lease that holds is not taken");
    let renew = include_str!("../src/sql/renew_lease.sql");
    assert_eq!(session.client.execute(renew, &[&"first", &old, &1_000_i64]).await.expect("an answer"), 0);
    assert_eq!(other.client.execute(renew, &[&"second", &(old + 1), &1_000_i64]).await.expect("an answer"), 1);
}
