//! Every statement, against a migrated database, as the projector's role.

use idempo_devstack::testing;

use crate::support::ReadModel;

#[tokio::test]
async fn every_statement_can_be_prepared_by_the_projectors_role() {
    let read_model = ReadModel::new().await;
    let client = read_model.pool.get().await.expect("the database answers");
    let mut prepared = 0;
    client
        .batch_execute("SELECT start_rebuild('inventory', 'any', 'event_store', 'topic', 1, 0, '{}', 'test', 'statements')")
        .await
        .expect("tables");
    client.batch_execute("SET search_path = inventory_g2, projection").await.expect("a search path");
    for folder in ["/src/sql", "/../../crates/projection/src/sql"] {
        for file in std::fs::read_dir(format!("{}{folder}", env!("CARGO_MANIFEST_DIR"))).expect("a folder") {
            let path = file.expect("a file").path();
            let sql = std::fs::read_to_string(&path).expect("it can be read");
            client.prepare(&sql).await.unwrap_or_else(|error| panic!("{}: {error:?}", path.display()));
            prepared += 1;
        }
    }
    assert!(prepared > 15, "only {prepared} statements");
}

#[tokio::test]
async fn the_projectors_role_can_neither_delete_nor_rewrite_history() {
    let read_model = ReadModel::new().await;
    let client = read_model.pool.get().await.expect("the database answers");
    for sql in [
        "DELETE FROM items",
        "TRUNCATE stacks",
        "UPDATE item_events SET hop = 1",
        "DELETE FROM checkpoint",
        "DELETE FROM stacks",
        "UPDATE generation SET state = 'live'",
        "UPDATE projection SET live_generation = 2",
        "SELECT projection.create_tables(2)",
        "SELECT projection.index_tables(1)",
        "SELECT projection.index_items(1)",
        "SELECT projection.index_others(1)",
        "CREATE TEMPORARY TABLE mine ()",
        "UPDATE audit SET caller = 'somebody else'",
        "INSERT INTO audit (projection, caller, action, target, reason, outcome, detail) VALUES ('', '', '', '', '', '', '')",
        "CREATE TABLE mine ()",
    ] {
        let refused = client.batch_execute(sql).await.map_err(idempo_pg::classify);
        assert!(matches!(refused, Err(idempo_pg::Error::Refused(_) | idempo_pg::Error::Data { .. })), "{sql}: {refused:?}");
    }
}

#[tokio::test]
async fn a_rebuilder_reads_events_and_nothing_else() {
    let database = testing::database("inventory_db").await;
    let pool = idempo_pg::Pool::open(&database.config("idempo_rebuilder")).expect("a pool");
    let client = pool.get().await.expect("the database answers");
    for folder in ["rebuild", "player", "sampling"] {
        let folder = format!("{}/../../crates/projection/src/{folder}/sql", env!("CARGO_MANIFEST_DIR"));
        for file in std::fs::read_dir(folder).expect("a folder") {
            let sql = std::fs::read_to_string(file.expect("a file").path()).expect("it can be read");
            client.prepare(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        }
    }
    for sql in ["SELECT FROM es.command_dedup", "SELECT FROM outbox.r0", "SELECT FROM inventory.reservations"] {
        let refused = client.batch_execute(sql).await.map_err(idempo_pg::classify);
        assert!(matches!(refused, Err(idempo_pg::Error::Refused(_) | idempo_pg::Error::Data { .. })), "{sql}: {refused:?}");
    }
    // Its transactions only read; and were they not, it has no right to write.
    for sql in ["DELETE FROM es.events", "INSERT INTO es.streams DEFAULT VALUES"] {
        for (mode, expected) in [("READ ONLY", "25006"), ("READ WRITE", "42501")] {
            client.batch_execute(&format!("BEGIN {mode}")).await.expect("a transaction");
            let refused = client.batch_execute(sql).await.expect_err("it is refused");
            assert_eq!(refused.code().map(tokio_postgres::error::SqlState::code), Some(expected), "{sql}, {mode}");
            client.batch_execute("ROLLBACK").await.expect("it is rolled back");
        }
    }
}

/// The columns, constraints and indexes of a generation's tables.
async fn definitions(client: &idempo_pg::Client, generation: i32) -> Vec<String> {
    let rows = client.query(include_str!("sql/definitions.sql"), &[&format!("inventory_g{generation}")]).await.expect("rows");
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn a_generation_that_was_rebuilt_has_the_tables_of_one_that_was_migrated() {
    let read_model = ReadModel::new().await;
    let owner = idempo_pg::Pool::open(&read_model.database.superuser()).expect("a pool");
    let client = owner.get().await.expect("the database answers");
    // A step that was done is not done again, whoever died after it.
    let steps = "SELECT projection.create_tables(2); SELECT projection.index_others(2); SELECT projection.index_tables(2);
        SELECT projection.index_tables(2)";
    client.batch_execute(&format!("SET ROLE idempo_owner; {steps}; RESET ROLE")).await.expect("they are made");
    let (first, second) = (definitions(&client, 1).await, definitions(&client, 2).await);
    let second: Vec<String> = second.into_iter().filter(|line| !line.starts_with("stream_version")).collect();
    assert!(first.len() > 40, "{first:#?}");
    assert_eq!(first, second);
}
