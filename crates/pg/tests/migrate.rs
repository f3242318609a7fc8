use anyhow::Result;
use idempo_devstack::testing;
use idempo_pg::{Error, migrate};
use idempo_schemas::MigrationSet;

const FIRST: MigrationSet = MigrationSet {
    history: "migrations_first",
    files: &[("V1__one", "CREATE TABLE one ()"), ("V2__two", "CREATE TABLE two (); INSERT INTO two DEFAULT VALUES")],
};
const OTHER: MigrationSet = MigrationSet { history: "migrations_other", files: &[("V1__three", "CREATE TABLE three ()")] };

#[tokio::test]
async fn several_histories_run_once_each() -> Result<()> {
    let database = testing::empty_database().await;
    let config = database.superuser();
    let report = migrate(&config, &[FIRST, OTHER]).await?;
    let names: Vec<_> = report.applied.iter().map(|(history, name)| (*history, name.as_str())).collect();
    assert_eq!(names, [("migrations_first", "V1__one"), ("migrations_first", "V2__two"), ("migrations_other", "V1__three")]);
    assert_eq!(migrate(&config, &[FIRST, OTHER]).await?.applied, []);
    Ok(())
}

#[tokio::test]
async fn processes_that_start_together_migrate_once() -> Result<()> {
    let database = testing::empty_database().await;
    let racers: Vec<_> = (0..8)
        .map(|_| {
            tokio::spawn({
                let config = database.superuser();
                async move { migrate(&config, &[FIRST, OTHER]).await }
            })
        })
        .collect();
    let mut applied = 0;
    for racer in racers {
        applied += racer.await??.applied.len();
    }
    assert_eq!(applied, 3);
    Ok(())
}

#[tokio::test]
async fn a_migration_that_was_edited_or_removed_after_it_ran_is_refused() -> Result<()> {
    let database = testing::empty_database().await;
    let config = database.superuser();
    migrate(&config, &[FIRST]).await?;
    let edited = MigrationSet {
        files: &[("V1__one", "CREATE TABLE one (x integer)"), ("V2__two", "CREATE TABLE two (); INSERT INTO two DEFAULT VALUES")],
        ..FIRST
    };
    assert!(matches!(migrate(&config, &[edited]).await, Err(Error::Migration { history: "migrations_first", .. })));
    let removed = MigrationSet { files: &[("V2__two", "CREATE TABLE two (); INSERT INTO two DEFAULT VALUES")], ..FIRST };
    assert!(matches!(migrate(&config, &[removed]).await, Err(Error::Migration { .. })));
    Ok(())
}

#[tokio::test]
async fn a_migration_that_fails_leaves_nothing_of_itself() -> Result<()> {
    let database = testing::empty_database().await;
    let config = database.superuser();
    let failing = MigrationSet {
        history: "migrations_failing",
        files: &[("V1__good", "CREATE TABLE good ()"), ("V2__bad", "CREATE TABLE half (); SELECT 1 / 0")],
    };
    assert!(matches!(migrate(&config, &[failing]).await, Err(Error::Migration { .. })));
    let (client, connection) = idempo_pg::connect(&config).await?;
    tokio::spawn(connection);
    let row = client.query_one("SELECT to_regclass('good') IS NOT NULL, to_regclass('half') IS NULL", &[]).await?;
    assert!(row.get::<_, bool>(0) && row.get::<_, bool>(1), "what went before stays, what failed is rolled back");
    let mended = MigrationSet { files: &[("V1__good", "CREATE TABLE good ()"), ("V2__bad", "CREATE TABLE half ()")], ..failing };
    assert_eq!(migrate(&config, &[mended]).await?.applied.len(), 1);
    Ok(())
}
