//! The reader on a real database: what it reads, in which order, and that it reads it again.

use std::sync::Arc;

use idempo_devstack::testing::{self, TestDatabase};
use tokio_postgres::Client;
use tokio_util::task::AbortOnDropHandle;

use crate::position::{Done, Position};
use crate::reader::{OutboxRow, Reader};

/// A connection that ends with the test.
struct Session(Client, #[expect(dead_code, reason = "drives the connection while it is held")] AbortOnDropHandle<()>);

impl std::ops::Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.0
    }
}

async fn connect(config: &idempo_pg::Config) -> (Client, AbortOnDropHandle<()>) {
    let (client, connection) = idempo_pg::connect(config).await.expect("the database is there");
    (client, AbortOnDropHandle::new(tokio::spawn(async move { connection.await.unwrap_or_default() })))
}

async fn session(database: &TestDatabase) -> Session {
    let (client, driver) = connect(&database.superuser()).await;
    Session(client, driver)
}

/// A reader as the relay's own role has it.
async fn reader(database: &TestDatabase, position: Position, rows_max: usize) -> (Reader, AbortOnDropHandle<()>) {
    let (client, driver) = connect(&database.config("idempo_relay")).await;
    (Reader::new(client, position, rows_max).await.expect("statements are prepared"), driver)
}

fn beginning() -> Position {
    Position::behind(Arc::new(Done::default()))
}

async fn insert(client: &Client, count: i64) {
    let sql = "INSERT INTO outbox.r0 (topic, key, payload) SELECT 3, gen_random_uuid(), '\\x01' FROM generate_series(1, $1::bigint)";
    client.execute(sql, &[&count]).await.expect("rows are inserted");
}

/// Reads until nothing new is there: the numbers of the rows, and the position behind them.
async fn drain(reader: &mut Reader) -> (Vec<i64>, Position) {
    let mut seqs = Vec::new();
    let mut position = beginning();
    while let Some(page) = reader.next().await.expect("the database answers") {
        seqs.extend(page.rows.iter().map(|row| OutboxRow::of(row).expect("a row of the outbox").seq));
        position = page.after.clone();
        if page.rows.is_empty() {
            break;
        }
    }
    (seqs, position)
}

#[tokio::test]
async fn the_very_first_row_is_read() {
    let database = testing::database("wallet_db").await;
    let writer = session(&database).await;
    let (mut early, _driver) = reader(&database, beginning(), 100).await;
    assert!(drain(&mut early).await.0.is_empty());
    insert(&writer, 1).await;
    assert_eq!(drain(&mut early).await.0, [1]);
    let (mut late, _driver) = reader(&database, beginning(), 100).await;
    assert_eq!(drain(&mut late).await.0, [1]);
}

#[tokio::test]
async fn a_row_drawn_before_the_mark_by_a_transaction_above_xmax_is_not_lost() {
    let database = testing::database("wallet_db").await;
    let (writer, other) = (session(&database).await, session(&database).await);
    let (mut reader, _driver) = reader(&database, beginning(), 100).await;
    insert(&writer, 1).await;
    assert_eq!(drain(&mut reader).await.0, [1]);

    // The writer has its xid and its number when the other one ends, whose xid is just below: a snapshot then has the writer's xid at `xmax`, and
    // the number is already drawn. The rest of the cluster may take an xid in between; then it is tried again.
    let mut drawn = 1;
    for _ in 0..100 {
        other.batch_execute("BEGIN").await.expect("begun");
        insert(&other, 1).await;
        writer.batch_execute("BEGIN").await.expect("begun");
        insert(&writer, 1).await;
        other.batch_execute("COMMIT").await.expect("committed");
        drawn += 2;
        assert_eq!(drain(&mut reader).await.0, [drawn - 1]);
        let set = "SELECT pg_current_xact_id() >= pg_snapshot_xmax(pg_current_snapshot())";
        if writer.query_one(set, &[]).await.expect("an answer").get(0) {
            break;
        }
        writer.batch_execute("ROLLBACK").await.expect("rolled back");
    }
    assert!(drain(&mut reader).await.0.is_empty());
    writer.batch_execute("COMMIT").await.expect("committed");
    assert_eq!(drain(&mut reader).await.0, [drawn]);

    // The same, with others that end meanwhile.
    writer.batch_execute("BEGIN").await.expect("begun");
    insert(&writer, 1).await;
    insert(&other, 2).await;
    assert_eq!(drain(&mut reader).await.0, [drawn + 2, drawn + 3]);
    insert(&other, 1).await;
    assert_eq!(drain(&mut reader).await.0, [drawn + 4]);
    writer.batch_execute("COMMIT").await.expect("committed");
    assert_eq!(drain(&mut reader).await.0, [drawn + 1]);
    assert!(drain(&mut reader).await.0.is_empty());
}

#[tokio::test]
async fn rows_of_a_transaction_that_was_rolled_back_are_never_read_and_hold_nothing_back() {
    let database = testing::database("wallet_db").await;
    let (writer, other) = (session(&database).await, session(&database).await);
    let (mut reader, _driver) = reader(&database, beginning(), 100).await;
    writer.batch_execute("BEGIN").await.expect("begun");
    insert(&writer, 5).await;
    writer.batch_execute("SAVEPOINT s").await.expect("a savepoint");
    insert(&writer, 5).await;
    insert(&other, 1).await;
    assert_eq!(drain(&mut reader).await.0, [11]);
    writer.batch_execute("ROLLBACK TO s; COMMIT").await.expect("the second half is rolled back");
    assert_eq!(drain(&mut reader).await.0, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_batch_that_is_read_again_from_within_has_the_same_rows_in_the_same_order() {
    let database = testing::database("wallet_db").await;
    let (writer, held) = (session(&database).await, session(&database).await);
    held.batch_execute("BEGIN").await.expect("begun");
    insert(&held, 3).await;
    insert(&writer, 200).await;
    let (mut first, _driver) = reader(&database, beginning(), 16).await;
    let page = first.next().await.expect("an answer").expect("a page");
    assert_eq!(page.rows.len(), 16);
    let within = page.after.clone();
    assert!(within.batch.is_some() && within.acked_seq == 19, "{within:?}");

    // What is committed now belongs to a later batch, also where its numbers are lower.
    held.batch_execute("COMMIT").await.expect("committed");
    insert(&writer, 10).await;
    let mut rest = Vec::new();
    for rows_max in [16, 64, 1_000] {
        let (mut again, _driver) = reader(&database, within.clone(), rows_max).await;
        let (seqs, _) = drain(&mut again).await;
        let (batch, later) = seqs.split_at(184);
        assert_eq!(batch, (20..=203).collect::<Vec<_>>(), "pages of {rows_max}");
        assert_eq!(later, [1, 2, 3].into_iter().chain(204..=213).collect::<Vec<_>>(), "pages of {rows_max}");
        rest.push(seqs);
    }
    assert!(rest.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test]
async fn rows_are_merged_over_the_three_tables_in_the_order_of_their_numbers() {
    let database = testing::database("wallet_db").await;
    let writer = session(&database).await;
    for table in [2, 0, 1, 0, 2] {
        let sql =
            format!("INSERT INTO outbox.r{table} (topic, key, payload) SELECT 3, gen_random_uuid(), '\\x01' FROM generate_series(1, 7)");
        writer.batch_execute(&sql).await.expect("rows are inserted");
    }
    let (mut reader, _driver) = reader(&database, beginning(), 16).await;
    assert_eq!(drain(&mut reader).await.0, (1..=35).collect::<Vec<_>>());
}

#[tokio::test]
async fn pages_go_by_the_index_and_never_sort() {
    let database = testing::database("wallet_db").await;
    let client = session(&database).await;
    client.batch_execute(include_str!("sql/session.sql")).await.expect("settings");
    let statements = [
        ("open_batch", include_str!("sql/open_batch.sql"), "pg_snapshot, xid8[], bigint[], bigint, bigint", "'3:3:', '{}', '{}', 0, 100"),
        ("read_batch", include_str!("sql/read_batch.sql"), "pg_snapshot, pg_snapshot, bigint, bigint", "'3:3:', '9:9:', 0, 100"),
    ];
    for (name, sql, types, values) in statements {
        client.batch_execute(&format!("PREPARE {name} ({types}) AS {sql}")).await.expect("prepared");
        let plan = client.query(&format!("EXPLAIN EXECUTE {name} ({values})"), &[]).await.expect("a plan");
        let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
        let plan = plan.join("\n");
        assert!(plan.contains("Merge Append") && plan.matches("Index Scan").count() == 3, "{plan}");
        assert!(!plan.contains("Seq Scan") && !plan.contains("  Sort  "), "{plan}");
    }
}
