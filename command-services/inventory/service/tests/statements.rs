//! Every statement of the service is one that the migrated database, and the service's role in it, take; and that role can do nothing else.

use crate::support::{World, session};

#[tokio::test]
async fn every_statement_can_be_prepared_by_the_services_role() {
    let world = World::new().await;
    let client = session(&world.database.config("idempo_inventory")).await;
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sql");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let statement = std::fs::read_to_string(&path).expect("a text");
        client.prepare(&statement).await.unwrap_or_else(|error| panic!("{}: {error:?}", path.display()));
        count += 1;
    }
    assert_eq!(count, 7);
    world.stop().await;
}

#[tokio::test]
async fn the_services_role_can_change_nothing_but_by_appending() {
    let world = World::new().await.with_types().await;
    let player = world.player();
    let item = world.grant(&player, "sword").await;
    world.reserve(&item).await;
    let client = session(&world.database.config("idempo_inventory")).await;
    for table in ["inventory.item_types", "inventory.unique_items", "inventory.reservations", "es.events", "es.streams", "es.command_dedup"]
    {
        for statement in [format!("DELETE FROM {table}"), format!("TRUNCATE {table}"), format!("INSERT INTO {table} SELECT * FROM {table}")]
        {
            let error = client.batch_execute(&statement).await.expect_err(&statement);
            assert_eq!(error.code().map(|code| code.code()), Some("42501"), "{statement}");
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn not_even_a_superuser_deletes_or_rewrites_what_happened() {
    let world = World::new().await.with_types().await;
    let player = world.player();
    let item = world.grant(&player, "sword").await;
    let reservation = world.reserve(&item).await;
    world.client().release_reservation(world.release(&reservation)).await.expect("released");
    let client = session(&world.database.superuser()).await;
    for statement in [
        "DELETE FROM inventory.item_types",
        "UPDATE inventory.item_types SET weapon_bonus = 20",
        "UPDATE inventory.unique_items SET item_type = 'gem'",
        "TRUNCATE inventory.unique_items",
        "DELETE FROM inventory.reservations",
        "UPDATE inventory.reservations SET state = 4",
        "UPDATE inventory.reservations SET expires_at = now()",
    ] {
        let error = client.batch_execute(statement).await.expect_err(statement);
        assert_eq!(error.code().map(|code| code.code()), Some("23001"), "{statement}");
    }
    world.stop().await;
}
