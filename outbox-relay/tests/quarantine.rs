//! Rows that Kafka refuses, and the rows behind them.

use std::time::Duration;

use idempo_devstack::testing;
use idempo_kafka::by_hand;
use idempo_proto::ops::v1::{
    QuarantineFilter, QuarantineState, QuarantinedRow, RequeueRowsRequest, RequeueRowsResponse, SkipRowsRequest, SkipRowsResponse,
};
use tonic::{Request, Status};
use uuid::Uuid;

use crate::support::{LIMIT, Operations, RelayBuilder, Report, Session, Stage, TOPIC, check, dump, kafka};
use crate::writers::{key_id, write_some};

/// A request as an operator makes it.
pub(crate) fn by_operator<T>(request: T) -> Request<T> {
    let mut request = Request::new(request);
    request.metadata_mut().insert("idempo-caller", "operator".parse().expect("ASCII"));
    request
}

pub(crate) async fn requeue_key(operations: &mut Operations, key: u64) -> Result<RequeueRowsResponse, Status> {
    let filter = Some(QuarantineFilter { key: key_id(key).to_string(), ..Default::default() });
    let request = RequeueRowsRequest { parent: "outboxes/test".to_owned(), filter, reason: "mended".to_owned(), ..Default::default() };
    operations.requeue_rows(by_operator(request)).await.map(tonic::Response::into_inner)
}

pub(crate) async fn skip(operations: &mut Operations, seq: i64) -> Result<SkipRowsResponse, Status> {
    let names = vec![format!("outboxes/test/quarantinedRows/{seq}")];
    let request = SkipRowsRequest { parent: "outboxes/test".to_owned(), names, reason: "it can never be sent".to_owned() };
    operations.skip_rows(by_operator(request)).await.map(tonic::Response::into_inner)
}

/// The rows in quarantine: seq and state.
pub(crate) async fn quarantined(operations: &mut Operations) -> Vec<QuarantinedRow> {
    let request = idempo_proto::ops::v1::ListQuarantinedRowsRequest { parent: "outboxes/test".to_owned(), ..Default::default() };
    operations.list_quarantined_rows(request).await.expect("an answer").into_inner().quarantined_rows
}

async fn count(session: &Session, state: &str) -> i64 {
    let sql = "SELECT count(*) FROM outbox.quarantine WHERE state = $1";
    session.client.query_one(sql, &[&state]).await.expect("an answer").get(0)
}

/// Writes a row with the next version of a key, of so many bytes; gives its seq.
async fn write_large(session: &Session, key: u64, bytes: i32) -> i64 {
    let sql = "WITH moved AS (UPDATE es.streams SET version = version + 1 WHERE stream_id = $1 RETURNING version)
        INSERT INTO outbox.r0 (topic, key, payload) SELECT $2, $1, convert_to(rpad(m.version::text, $3), 'UTF8') FROM moved AS m RETURNING seq";
    session.client.query_one(sql, &[&key_id(key), &TOPIC, &bytes]).await.expect("a row is written").get(0)
}

/// As an operator's database is that has lost its bound on payloads.
async fn drop_bound(session: &Session) {
    let sql = "ALTER TABLE outbox.r0 DROP CONSTRAINT r0_payload_check";
    session.client.batch_execute(sql).await.expect("there is such a bound");
}

/// The versions of a key in Kafka, in their order.
async fn versions(stage: &Stage, key: u64) -> Vec<i64> {
    let all = dump(&stage.topic(), 12).await.into_iter().filter(|(id, _)| *id == key_id(key));
    all.map(|(_, value)| str::from_utf8(&value).expect("text").trim().parse().expect("a version")).collect()
}

#[tokio::test]
async fn what_is_too_large_is_refused_by_the_database_long_before_kafka() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    let sql = "INSERT INTO outbox.r0 (topic, key, payload) VALUES (3, gen_random_uuid(), convert_to(repeat('x', 65537), 'UTF8'))";
    let refused = session.client.batch_execute(sql).await.expect_err("a bound on payloads");
    assert_eq!(refused.code(), Some(&tokio_postgres::error::SqlState::CHECK_VIOLATION));
}

#[tokio::test]
async fn a_row_too_large_for_kafka_holds_its_key_in_order_while_others_flow_and_flows_again_when_it_is_skipped() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    drop_bound(&session).await;
    write_some(&session, 1, 3).await;
    let poison = write_large(&session, 1, 10_000_000).await;
    write_some(&session, 1, 3).await;
    write_some(&session, 2, 5).await;
    let relay = stage.relay("relay").start();
    let mut operations = relay.operations().await;
    stage.relayed(&session).await;
    assert_eq!(versions(&stage, 1).await, [1, 2, 3]);
    assert_eq!(versions(&stage, 2).await, [1, 2, 3, 4, 5], "other keys flow");
    let rows = quarantined(&mut operations).await;
    let states: Vec<_> = rows.iter().map(|row| (row.seq, row.state())).collect();
    let expected = [
        (poison, QuarantineState::Held),
        (poison + 1, QuarantineState::Parked),
        (poison + 2, QuarantineState::Parked),
        (poison + 3, QuarantineState::Parked),
    ];
    assert_eq!(states, expected);
    assert_eq!((rows[0].code.as_str(), rows[0].payload_bytes), ("RECORD_TOO_LARGE", 10_000_000));
    assert!(relay.is_ready(), "the others are served");
    testing::eventually(LIMIT, "the metric says so", async || relay.metric("idempo_outbox_dead") == Some(1.0)).await;

    // Sent again, it is refused again, and still nothing passes it.
    assert_eq!(requeue_key(&mut operations, 1).await.expect("done").requeued_count, 1);
    testing::eventually(LIMIT, "it is refused again", async || {
        let row = &quarantined(&mut operations).await[0];
        row.state() == QuarantineState::Held && row.refusals == 2
    })
    .await;
    write_some(&session, 1, 2).await;
    stage.relayed(&session).await;
    assert_eq!(count(&session, "parked").await, 5);
    assert_eq!(versions(&stage, 1).await, [1, 2, 3]);

    assert_eq!(skip(&mut operations, poison).await.expect("done").skipped_count, 1);
    testing::eventually(LIMIT, "what was parked is sent", async || count(&session, "sent").await == 5).await;
    write_some(&session, 1, 2).await;
    stage.relayed(&session).await;
    assert_eq!(versions(&stage, 1).await, [1, 2, 3, 5, 6, 7, 8, 9, 10, 11]);
    assert_eq!(count(&session, "parked").await, 0, "the key flows again");
    testing::eventually(LIMIT, "the metric says so", async || relay.metric("idempo_outbox_dead") == Some(0.0)).await;
    let report = check(&stage, &session).await;
    assert_eq!(report, Report { committed: 16, arrived: 15, lost: 1, ..Report::default() });
}

#[tokio::test]
async fn of_a_refused_request_exactly_the_guilty_row_is_held() {
    let stage = Stage::new().await;
    hold_the_guilty(&stage, stage.relay("relay")).await;
}

#[tokio::test]
async fn in_transactions_too_exactly_the_guilty_row_is_held() {
    let stage = Stage::new().await;
    hold_the_guilty(&stage, stage.relay("relay").exactly_once()).await;
}

async fn hold_the_guilty(stage: &Stage, relay: RelayBuilder<'_>) {
    let session = stage.session().await;
    drop_bound(&session).await;
    // The client would send it; the broker refuses the request, and all rows that share it.
    by_hand::set_topic_property(&kafka(), &stage.topic(), "max.message.bytes", "20000").await.expect("set");
    write_some(&session, 1, 20).await;
    write_some(&session, 2, 20).await;
    let poison = write_large(&session, 1, 100_000).await;
    write_some(&session, 1, 20).await;
    write_some(&session, 3, 20).await;
    // Requests that are not compressed are as large as their rows.
    let relay = relay.with("[producer]\ncompression = \"none\"\nlinger_us = 20000").start();
    stage.relayed(&session).await;
    let mut operations = relay.operations().await;
    let rows = quarantined(&mut operations).await;
    assert_eq!(rows.iter().filter(|row| row.state() == QuarantineState::Held).map(|row| row.seq).collect::<Vec<_>>(), [poison]);
    assert_eq!(rows.len(), 21);
    assert_eq!((versions(stage, 2).await.len(), versions(stage, 3).await.len()), (20, 20));

    by_hand::set_topic_property(&kafka(), &stage.topic(), "max.message.bytes", "1048588").await.expect("set");
    assert_eq!(requeue_key(&mut operations, 1).await.expect("done").requeued_count, 1);
    testing::eventually(LIMIT, "everything is sent", async || count(&session, "sent").await == 21).await;
    let report = check(stage, &session).await;
    assert_eq!((report.committed, report.lost, report.inverted, report.ghosts), (81, 0, 0, 0), "{report:?}");
}

#[tokio::test]
async fn a_key_is_requeued_while_rows_of_it_come_and_order_holds() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    by_hand::set_topic_property(&kafka(), &stage.topic(), "max.message.bytes", "20000").await.expect("set");
    drop_bound(&session).await;
    write_some(&session, 1, 1).await;
    write_large(&session, 1, 100_000).await;
    let relay = stage.relay("relay").with("[producer]\ncompression = \"none\"").start();
    let mut operations = relay.operations().await;
    testing::eventually(LIMIT, "it is held", async || count(&session, "held").await == 1).await;
    for _ in 0..50 {
        write_some(&session, 1, 20).await;
    }
    testing::eventually(LIMIT, "they wait behind it", async || count(&session, "parked").await == 1_000).await;
    by_hand::set_topic_property(&kafka(), &stage.topic(), "max.message.bytes", "1048588").await.expect("set");
    requeue_key(&mut operations, 1).await.expect("done");
    let mut written = 1_002;
    testing::eventually(LIMIT, "the key flows again though it is written all the time", async || {
        write_some(&session, 1, 20).await;
        written += 20;
        count(&session, "sent").await > 1_000 && count(&session, "parked").await == 0
    })
    .await;
    write_some(&session, 1, 5).await;
    stage.relayed(&session).await;
    let report = check(&stage, &session).await;
    assert_eq!((report.committed, report.lost, report.inverted, report.ghosts), (written + 5, 0, 0, 0), "{report:?}");
}

#[tokio::test]
async fn rows_for_a_topic_that_nobody_knows_or_with_damaged_headers_are_held() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    write_some(&session, 1, 2).await;
    let sql = "INSERT INTO outbox.r0 (topic, key, headers, payload) VALUES (99, $1, NULL, '\\x01'), (3, $2, '\\x05', '\\x01')";
    session.client.execute(sql, &[&key_id(1), &key_id(7)]).await.expect("inserted");
    write_some(&session, 1, 2).await;
    let relay = stage.relay("relay").start();
    let mut operations = relay.operations().await;
    stage.relayed(&session).await;
    let rows = quarantined(&mut operations).await;
    let found: Vec<_> = rows.iter().map(|row| (row.seq, row.code.as_str(), row.state())).collect();
    let expected = [
        (3, "TOPIC_NUMBER_UNKNOWN", QuarantineState::Held),
        (4, "HEADERS_UNREADABLE", QuarantineState::Held),
        (5, "BEHIND_REFUSED_ROW", QuarantineState::Parked),
        (6, "BEHIND_REFUSED_ROW", QuarantineState::Parked),
    ];
    assert_eq!(found, expected);
    assert_eq!(versions(&stage, 1).await, [1, 2]);
}

#[tokio::test]
async fn where_the_topic_diverts_only_the_refused_row_is_kept() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    let key = Uuid::from_u128(1);
    // player-actions.
    let sql = "INSERT INTO outbox.r0 (topic, key, headers, payload) VALUES (1, $1, NULL, '\\x01'), (1, $1, '\\x05', '\\x02'), (1, $1, NULL, '\\x03')";
    session.client.execute(sql, &[&key]).await.expect("inserted");
    let relay = stage.relay("relay").start();
    let mut operations = relay.operations().await;
    stage.relayed(&session).await;
    let rows = quarantined(&mut operations).await;
    assert_eq!(rows.iter().map(|row| (row.seq, row.state())).collect::<Vec<_>>(), [(2, QuarantineState::Diverted)]);
    let topic = format!("{}player-actions", stage.prefix);
    assert_eq!(dump(&topic, 12).await.into_iter().map(|(_, value)| value).collect::<Vec<_>>(), [vec![1], vec![3]]);
}

#[tokio::test]
async fn a_relay_that_dies_in_the_middle_of_it_sends_nothing_twice_out_of_order() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    drop_bound(&session).await;
    write_some(&session, 1, 3).await;
    let poison = write_large(&session, 1, 10_000_000).await;
    write_some(&session, 1, 3).await;
    let mut first = stage.relay("first").start();
    testing::eventually(LIMIT, "it is held", async || count(&session, "parked").await == 3).await;
    // As if it had died before the cursor was written: everything is read again.
    first.kill();
    let sql =
        "UPDATE outbox.cursor SET s1 = '3:3:', xip_floors = '{}', mark_xids = '{3}', mark_floors = '{0}', s2 = NULL, s2_mark_xid = NULL,
        s2_mark_floor = NULL, acked_seq = 0";
    session.client.batch_execute(sql).await.expect("set back");
    let skipped = "SELECT outcome FROM outbox.skip_rows('operator', 'test', ARRAY[$1::bigint])";
    session.client.query_one(skipped, &[&poison]).await.expect("skipped");
    // Even if it could be sent by then.
    session.client.execute("UPDATE outbox.r0 SET payload = '4' WHERE seq = $1", &[&poison]).await.expect("made small");
    let second = stage.relay("second").start();
    let mut operations = second.operations().await;
    testing::eventually(LIMIT, "what was parked is sent", async || count(&session, "sent").await == 3).await;
    stage.relayed(&session).await;
    assert!(!quarantined(&mut operations).await.is_empty());
    let found = versions(&stage, 1).await;
    assert!(!found.contains(&4), "what people have skipped stays skipped: {found:?}");
    let report = check(&stage, &session).await;
    assert_eq!((report.lost, report.inverted, report.ghosts), (1, 0, 0), "{report:?}");
}

#[tokio::test]
async fn a_write_to_the_quarantine_with_an_old_epoch_changes_nothing() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    write_some(&session, 1, 2).await;
    let take = include_str!("../src/sql/take_lease.sql");
    let first: i64 = session.client.query_one(take, &[&"first", &1_i64]).await.expect("taken").get(0);
    let other = stage.session().await;
    testing::eventually(LIMIT, "the lease expires", async || {
        other.client.query_opt(take, &[&"second", &60_000_i64]).await.expect("an answer").is_some()
    })
    .await;
    let put = async |epoch: i64| -> bool {
        let sql = "SELECT outbox.quarantine_rows($1, '{1,2}', '{held,parked}', '{t,t}', '{X,Y}', '{x,y}')";
        session.client.query_one(sql, &[&epoch]).await.expect("an answer").get(0)
    };
    assert!(!put(first).await);
    assert_eq!(count(&session, "held").await, 0);
    assert!(put(first + 1).await && put(first + 1).await, "twice is as once");
    assert_eq!((count(&session, "held").await, count(&session, "parked").await), (1, 1));
    let sent: bool = session.client.query_one("SELECT outbox.mark_sent($1, '{2}')", &[&first]).await.expect("an answer").get(0);
    assert!(!sent);
    assert_eq!(count(&session, "parked").await, 1);
}

#[tokio::test]
async fn a_deleted_topic_keeps_its_rows_and_no_others() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    let relay = stage.relay("relay").start();
    write_some(&session, 1, 10).await;
    stage.relayed(&session).await;
    let leaderboards = format!("{}leaderboard-events", stage.prefix);
    let sql = "INSERT INTO outbox.r0 (topic, key, payload) SELECT 4, ('00000000-0000-4000-8000-' || lpad(n::text, 12, '0'))::uuid, '\\x01'
        FROM generate_series(1, 10) AS n";
    session.client.batch_execute(sql).await.expect("inserted");
    stage.relayed(&session).await;
    by_hand::delete_topic(&kafka(), &leaderboards).await.expect("deleted");
    // The broker takes records until it has heard of it.
    testing::eventually(LIMIT, "the topic is gone", async || {
        idempo_kafka::missing_topics(&kafka(), std::slice::from_ref(&leaderboards)).await.is_ok_and(|missing| !missing.is_empty())
    })
    .await;
    session.client.batch_execute(sql).await.expect("inserted");
    write_some(&session, 1, 10).await;
    testing::eventually(Duration::from_secs(120), "its rows are held", async || count(&session, "held").await == 10).await;
    stage.relayed(&session).await;
    assert_eq!(versions(&stage, 1).await.len(), 20, "the other topics flow");
    let mut operations = relay.operations().await;
    assert!(quarantined(&mut operations).await.iter().all(|row| row.code == "TOPIC_NOT_FOUND" && row.topic == "leaderboard-events"));
}
