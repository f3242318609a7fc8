//! Relays that die in the middle of a drain: what their successors find in Kafka is not sent again.

use std::io::Write as _;

use idempo_devstack::testing::{self, Signal};

use crate::support::{LIMIT, RelayProcess, Report, Session, Stage, check, dump};
use crate::writers::{write_many, write_some};

/// Streams of the backlog, and rows of each.
const STREAMS: u64 = 200;
const ROWS_EACH: i64 = 1_000;
const ROWS: i64 = 200_000;
/// Rows that a relay has sent, and not stored, when it is killed: at least.
const UNSTORED_MIN: f64 = 3_000.0;
/// The most rows that a kill may have sent twice.
const DUPLICATES_MAX: usize = 1_000;

/// How far the cursor is in the one batch that the backlog is; all of it, where it is behind the batch.
async fn drained(session: &Session) -> i64 {
    let row =
        session.client.query_one("SELECT acked_seq, s2 IS NULL AND s1::text <> '3:3:' FROM outbox.cursor", &[]).await.expect("an answer");
    if row.get(1) { ROWS } else { row.get(0) }
}

/// Waits until so many rows are in Kafka as the cursor has it.
async fn reached(session: &Session, rows: i64) {
    testing::eventually(LIMIT * 2, "the drain comes along", async || drained(session).await >= rows).await;
}

/// A drain in which three relays die, each when a fifth more is done and some is left. Tells how many rows their successors found.
async fn drain_with_three_kills(stage: &Stage, session: &Session, start: impl Fn(&str) -> RelayProcess) -> f64 {
    write_many(session, STREAMS, ROWS_EACH).await;
    let mut holder = start("first");
    let mut skipped = 0.0;
    for (kill, (name, next)) in (1..).zip([("first", "second"), ("second", "third"), ("third", "fourth")]) {
        stage.held_by(session, name).await;
        let standby = start(next);
        testing::eventually(LIMIT, "the next one stands by", async || standby.is_ready()).await;
        reached(session, ROWS / 5 * kill).await;
        skipped += holder.metric("idempo_outbox_skipped_total").unwrap_or(0.0);
        die_before_the_cursor(stage, &mut holder).await;
        assert!(drained(session).await < ROWS, "kill {kill} came when everything was sent");
        holder = standby;
    }
    stage.relayed(session).await;
    skipped + holder.metric("idempo_outbox_skipped_total").unwrap_or(0.0)
}

/// Kills the holder when it has sent thousands of rows that its cursor does not have.
async fn die_before_the_cursor(stage: &Stage, holder: &mut RelayProcess) {
    let blocking = stage.session().await;
    blocking.client.batch_execute("BEGIN; SELECT FROM outbox.cursor FOR UPDATE").await.expect("the cursor can't be written");
    let sent = |holder: &RelayProcess| holder.metric("messaging_client_sent_messages_total").unwrap_or(0.0);
    let before = sent(holder);
    testing::eventually(LIMIT, "more is acknowledged", async || sent(holder) >= before + UNSTORED_MIN).await;
    holder.kill();
    blocking.client.batch_execute("ROLLBACK").await.expect("it can be written again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_kills_in_a_drain_lose_nothing_invert_nothing_and_repeat_next_to_nothing() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    let skipped = drain_with_three_kills(&stage, &session, |name| stage.relay(name).start()).await;
    let report = check(&stage, &session).await;
    let _ = writeln!(std::io::stderr(), "three kills in a drain: {report:?}, {skipped} skipped");
    assert!(skipped >= 3.0 * UNSTORED_MIN / 2.0, "{skipped} were skipped: {report:?}");
    assert!(report.duplicates <= 3 * DUPLICATES_MAX, "{report:?}");
    let expected = Report { committed: 200_000, ..Report::default() };
    assert_eq!(Report { arrived: 0, duplicates: 0, ..report }, expected, "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_exactly_once_mode_three_kills_in_a_drain_leave_each_row_once() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    let skipped = drain_with_three_kills(&stage, &session, |name| stage.relay(name).exactly_once().start()).await;
    assert!(skipped >= 3.0 * UNSTORED_MIN / 2.0, "{skipped} were skipped");
    let report = check(&stage, &session).await;
    assert_eq!(report, Report { committed: 200_000, arrived: 200_000, ..Report::default() });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_exactly_once_mode_a_zombie_with_a_full_queue_and_an_open_transaction_adds_nothing() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    write_many(&session, STREAMS, ROWS_EACH).await;
    let zombie = stage.relay("zombie").exactly_once().start();
    stage.held_by(&session, "zombie").await;
    let successor = stage.relay("successor").exactly_once().start();
    testing::eventually(LIMIT, "the successor stands by", async || successor.is_ready()).await;
    reached(&session, ROWS / 5).await;
    zombie.signal(Signal::STOP);
    assert!(drained(&session).await < ROWS, "it froze when everything was sent");
    stage.held_by(&session, "successor").await;
    reached(&session, ROWS / 5 * 3).await;
    zombie.signal(Signal::CONT);
    testing::eventually(LIMIT, "the zombie knows", async || zombie.metric("idempo_relay_fenced_total") == Some(1.0)).await;
    stage.relayed(&session).await;
    let report = check(&stage, &session).await;
    assert_eq!(report, Report { committed: 200_000, arrived: 200_000, ..Report::default() });
}

#[tokio::test]
async fn a_topic_that_ends_before_what_was_acknowledged_blocks_the_outbox_until_people_have_decided() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    let mut relay = stage.relay("relay").start();
    write_some(&session, 1, 100).await;
    stage.relayed(&session).await;
    relay.kill();
    // As after a topic was made anew: the log is shorter than what was acknowledged in it.
    let sql = "UPDATE outbox.cursor SET tail_offsets = (SELECT array_agg(t.tail + 1000) FROM unnest(tail_offsets) AS t (tail))";
    assert_eq!(session.client.execute(sql, &[]).await.expect("an answer"), 1);
    write_some(&session, 1, 50).await;
    let relay = stage.relay("relay").start();
    testing::eventually(LIMIT, "the alarm is raised", async || relay.metric("idempo_outbox_records_lost") == Some(1.0)).await;
    testing::eventually(LIMIT, "it is not ready and says why", async || {
        relay.get("/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 503") && answer.contains("ACKNOWLEDGED_RECORDS_LOST"))
    })
    .await;
    assert!(relay.log().contains("\"ERROR\""), "{}", relay.log());
    assert_eq!(dump(&stage.topic(), 12).await.len(), 100, "nothing is sent as if nothing were");

    session.client.batch_execute("SELECT outbox.accept_lost_records('a test', 'nothing is lost')").await.expect("accepted");
    stage.relayed(&session).await;
    testing::eventually(LIMIT, "the alarm is over", async || relay.metric("idempo_outbox_records_lost") == Some(0.0) && relay.is_ready())
        .await;
    assert_eq!(dump(&stage.topic(), 12).await.len(), 150);
}

#[tokio::test]
async fn what_others_have_sent_before_is_not_read_back_by_an_outbox_that_begins() {
    let (stage, session) = begun_beside_another().await;
    let relay = stage.relay("relay").start();
    testing::eventually(LIMIT, "the relay is ready", async || relay.is_ready()).await;
    let sql =
        "SELECT cardinality(tail_topics)::bigint, (SELECT sum(t.tail) FROM unnest(tail_offsets) AS t (tail))::bigint FROM outbox.cursor";
    let row = session.client.query_one(sql, &[]).await.expect("an answer");
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (40, 100), "each partition has its tail at its end, before anything is sent");
    write_some(&session, 1, 100).await;
    stage.relayed(&session).await;
    assert_eq!(relay.metric("idempo_outbox_skipped_total"), None);
    assert_eq!(dump(&stage.topic(), 12).await.len(), 200, "the very same bytes, but of another outbox");
}

/// An outbox that has sent nothing yet, to topics in which another one has 100 rows.
async fn begun_beside_another() -> (Stage, Session) {
    let other = Stage::new().await;
    let session = other.session().await;
    let mut relay = other.relay("other").start();
    write_some(&session, 1, 100).await;
    other.relayed(&session).await;
    relay.kill();
    let stage = Stage { database: testing::database("wallet_db").await, prefix: other.prefix.clone() };
    let session = stage.session().await;
    (stage, session)
}
