//! Every statement, against a migrated database, as the projector's role.

use crate::support::ReadModel;

#[tokio::test]
async fn every_statement_can_be_prepared_by_the_projectors_role() {
    let read_model = ReadModel::new().await;
    let client = read_model.pool.get().await.expect("the database answers");
    let mut prepared = 0;
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
        "UPDATE generation SET state = 'live'",
        "SELECT projection.create_generation(2)",
        "CREATE TABLE mine ()",
    ] {
        let refused = client.batch_execute(sql).await.map_err(idempo_pg::classify);
        assert!(matches!(refused, Err(idempo_pg::Error::Refused(_) | idempo_pg::Error::Data { .. })), "{sql}: {refused:?}");
    }
}

#[tokio::test]
async fn a_second_generation_is_made_beside_the_first() {
    let read_model = ReadModel::new().await;
    let owner = idempo_pg::Pool::open(&read_model.database.superuser()).expect("a pool");
    let client = owner.get().await.expect("the database answers");
    client
        .batch_execute("SET ROLE idempo_owner; SELECT projection.create_generation(2); RESET ROLE; SET ROLE idempo_inventory_projector; SELECT * FROM inventory_g2.items")
        .await
        .expect("it is made, and the projector can read it");
    let row = client.query_one("SELECT count(*) FROM projection.generation WHERE state = 'building'", &[]).await.expect("a row");
    assert_eq!(row.get::<_, i64>(0), 1);
}
