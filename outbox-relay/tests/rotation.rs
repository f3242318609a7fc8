//! Outbox tables take turns and are emptied.

use idempo_devstack::testing;

use crate::support::{LIMIT, Report, Session, Stage, check};
use crate::writers::write_some;

const QUICK: &str = "[rotation]\ntable_bytes_max = 100_000\ncheck_interval_ms = 20";

async fn sizes(session: &Session) -> [i64; 3] {
    let row = session.client.query_one(include_str!("../src/sql/read_tables.sql"), &[]).await.expect("an answer");
    [row.get(2), row.get(3), row.get(4)]
}

async fn current(session: &Session) -> i16 {
    session.client.query_one("SELECT current FROM outbox.rotation", &[]).await.expect("an answer").get(0)
}

/// Writes 2,500 rows in fifty transactions, and tells how many that were.
async fn write_much(session: &Session) -> usize {
    for _ in 0..50 {
        write_some(session, 1, 50).await;
    }
    2_500
}

#[tokio::test]
async fn tables_are_emptied_under_load_and_nothing_is_lost() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    let relay = stage.relay("relay").with(QUICK).start();
    let mut rows = 0;
    testing::eventually(LIMIT, "the tables take turns under load", async || {
        rows += write_much(&session).await;
        relay.metric("idempo_relay_rotations_total").is_some_and(|rotations| rotations >= 5.0)
    })
    .await;
    stage.relayed(&session).await;
    testing::eventually(LIMIT, "all but the current table are empty", async || {
        sizes(&session).await.iter().filter(|size| **size == 0).count() >= 2
    })
    .await;
    let report = check(&stage, &session).await;
    assert_eq!(Report { duplicates: 0, arrived: 0, ..report }, Report { committed: rows, ..Report::default() }, "{report:?}");
}

#[tokio::test]
async fn a_table_pinned_by_a_long_transaction_keeps_its_rows_while_the_others_take_turns() {
    let stage = Stage::new().await;
    let (session, held) = (stage.session().await, stage.session().await);
    let relay = stage.relay("relay").with(QUICK).start();
    let pinned = usize::try_from(current(&session).await).expect("a table");
    write_some(&held, 2, 1).await;
    held.client.batch_execute("BEGIN").await.expect("begun");
    write_some(&held, 2, 5).await;
    let mut rows = 6;
    testing::eventually(LIMIT, "the others take turns", async || {
        rows += write_much(&session).await;
        relay.metric("idempo_relay_rotations_total").is_some_and(|rotations| rotations >= 4.0)
    })
    .await;
    assert!(sizes(&session).await[pinned] > 0);
    held.client.batch_execute("COMMIT").await.expect("committed");
    stage.relayed(&session).await;
    testing::eventually(LIMIT, "the pinned table is emptied too", async || sizes(&session).await[pinned] == 0).await;
    let report = check(&stage, &session).await;
    assert_eq!(Report { duplicates: 0, arrived: 0, ..report }, Report { committed: rows, ..Report::default() }, "{report:?}");
}

#[tokio::test]
async fn a_table_with_a_row_that_is_not_acknowledged_is_never_emptied() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    write_some(&session, 1, 10).await;
    let truncate = include_str!("../src/sql/truncate_acked.sql");
    let emptied = async |number: i16| session.client.query_one(truncate, &[&number]).await.expect("an answer").get::<_, bool>(0);
    assert!(!emptied(0).await, "it is the one that is written");
    session.client.batch_execute("UPDATE outbox.rotation SET current = 1").await.expect("switched");
    assert!(!emptied(0).await, "its rows are not in Kafka");
    assert!(emptied(2).await, "it has no rows");
    let _relay = stage.relay("relay").start();
    testing::eventually(LIMIT, "the rows are in Kafka", async || emptied(0).await || sizes(&session).await[0] == 0).await;
    assert_eq!(check(&stage, &session).await.lost, 0);
}
