//! Databases that were restored.

use idempo_devstack::testing;

use crate::support::{LIMIT, Report, Session, Stage, check, dump};
use crate::writers::write_some;

async fn noticed(session: &Session) -> Vec<String> {
    let rows = session.client.query("SELECT target FROM outbox.audit WHERE action = 'rebase' ORDER BY id", &[]).await.expect("rows");
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn a_dump_in_another_cluster_is_relayed_again_in_order_and_goes_on() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    let mut first = stage.relay("first").start();
    write_some(&session, 1, 50).await;
    stage.relayed(&session).await;
    first.kill();
    write_some(&session, 1, 50).await;
    write_some(&session, 2, 50).await;
    // What a dump from another cluster says: its identifier, and transaction ids that this one will not reach for long. Some rows are from
    // transactions that the cursor shows, some are not, and none of it means anything here.
    let sql = "UPDATE outbox.identity SET system_identifier = 4711;
        UPDATE outbox.r0 SET xid = ((xid::text::bigint + 5000000000)::text)::xid8;
        UPDATE outbox.cursor SET s1 = '5000000600:5000000700:', mark_xids = '{5000000600}', mark_floors = '{40}'";
    session.client.batch_execute(sql).await.expect("changed");
    let second = stage.relay("second").start();
    stage.relayed(&session).await;
    assert_eq!(noticed(&session).await, ["other_cluster"]);
    let log = second.log();
    assert!(log.contains("\"ERROR\"") && log.contains("Kafka may have events that the store no longer has"), "{log}");
    assert_eq!(second.metric("idempo_relay_rebased_total"), Some(1.0));
    write_some(&session, 1, 50).await;
    stage.relayed(&session).await;
    let report = check(&stage, &session).await;
    assert_eq!(Report { arrived: 0, duplicates: 0, ..report }, Report { committed: 200, ..Report::default() }, "{report:?}");
    // It is noticed once.
    drop(second);
    let third = stage.relay("third").start();
    testing::eventually(LIMIT, "the third relays", async || third.is_ready()).await;
    assert_eq!(noticed(&session).await, ["other_cluster"]);
}

#[tokio::test]
async fn a_cursor_ahead_of_its_database_does_not_make_the_relay_blind() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    write_some(&session, 1, 20).await;
    let sql = "UPDATE outbox.cursor SET s1 = '90000000:90000000:', mark_xids = '{90000000}', mark_floors = '{1000}'";
    session.client.batch_execute(sql).await.expect("changed");
    let relay = stage.relay("relay").start();
    testing::eventually(LIMIT, "it is noticed", async || noticed(&session).await == ["cursor_ahead"]).await;
    stage.relayed(&session).await;
    assert_eq!(dump(&stage.topic(), 12).await.len(), 20);
    assert!(relay.is_ready());
}

#[tokio::test]
async fn another_timeline_is_said_aloud_and_rows_go_on_from_the_cursor() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    let mut first = stage.relay("first").start();
    write_some(&session, 1, 20).await;
    stage.relayed(&session).await;
    first.kill();
    let (timeline, current): (i64, i64) = {
        let sql = "SELECT i.timeline, t.timeline FROM outbox.identity AS i, outbox.this_database() AS t";
        let row = session.client.query_one(sql, &[]).await.expect("one");
        (row.get(0), row.get(1))
    };
    assert_eq!(timeline, current, "the first relay has stored it");
    session.client.batch_execute("UPDATE outbox.identity SET timeline = timeline + 6").await.expect("changed");
    write_some(&session, 1, 20).await;
    let second = stage.relay("second").start();
    stage.relayed(&session).await;
    assert_eq!(noticed(&session).await, ["other_timeline"]);
    assert!(second.log().contains("a stand-by was promoted"), "{}", second.log());
    let report = check(&stage, &session).await;
    assert_eq!(report, Report { committed: 40, arrived: 40, ..Report::default() }, "nothing is sent again that the cursor has passed");
}
