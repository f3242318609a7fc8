//! What the roles may do in the migrated databases.

use anyhow::Result;
use idempo_devstack::testing;
use idempo_pg::{Config, Error, classify};
use tokio_postgres::Client;

const LOGINS: [&str; 6] =
    ["idempo_wallet", "idempo_inventory", "idempo_relay", "idempo_inventory_projector", "idempo_rebuilder", "idempo_auditor"];

async fn client(config: &Config) -> Result<Client> {
    let (client, connection) = idempo_pg::connect(config).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// The tables whose rows a trigger keeps as they are.
async fn append_only(client: &Client) -> Result<Vec<String>> {
    let sql = "SELECT DISTINCT tgrelid::regclass::text FROM pg_trigger WHERE tgname LIKE '%append_only' ORDER BY 1";
    Ok(client.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect())
}

#[tokio::test]
async fn events_and_ledger_lines_stay_as_they_are_even_for_their_owner() -> Result<()> {
    for (name, expected) in
        [("wallet_db", ["es.events", "wallet.entries", "wallet.transactions"].as_slice()), ("inventory_db", ["es.events"].as_slice())]
    {
        let database = testing::database(name).await;
        let superuser = client(&database.superuser()).await?;
        let tables = append_only(&superuser).await?;
        for table in expected {
            assert!(tables.iter().any(|found| found == table), "{table} of {name} has no such trigger: {tables:?}");
        }
        let owner = client(&database.config(idempo_schemas::OWNER)).await?;
        for table in tables {
            let column: String = superuser.query_one(include_str!("sql/first_writable_column.sql"), &[&table]).await?.get(0);
            for change in [format!("UPDATE {table} SET {column} = {column}"), format!("DELETE FROM {table}"), format!("TRUNCATE {table}")] {
                let refused = owner.batch_execute(&change).await.map_err(classify);
                assert!(matches!(refused, Err(Error::Constraint { .. })), "{change}: {refused:?}");
            }
            for role in LOGINS {
                let may = superuser.query_one("SELECT has_table_privilege($1, $2, 'UPDATE, DELETE, TRUNCATE')", &[&role, &table]).await?;
                assert!(!may.get::<_, bool>(0), "{role} may change {table}");
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_auditor_reads_everything_and_changes_nothing() -> Result<()> {
    for wanted in idempo_schemas::databases() {
        let database = testing::database(wanted.name).await;
        let superuser = client(&database.superuser()).await?;
        let auditor = client(&database.config("idempo_auditor")).await?;
        let sql =
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')";
        let tables: Vec<String> = superuser.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect();
        assert!(tables.len() > 3, "{tables:?}");
        for table in tables {
            auditor.batch_execute(&format!("SELECT FROM {table} LIMIT 1")).await?;
            let sql = "SELECT has_table_privilege('idempo_auditor', $1, 'INSERT, UPDATE, DELETE, TRUNCATE')";
            let may = superuser.query_one(sql, &[&table]).await?;
            assert!(!may.get::<_, bool>(0), "the auditor may change {table}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_role_connects_to_its_own_databases_only() -> Result<()> {
    for wanted in idempo_schemas::databases() {
        let database = testing::database(wanted.name).await;
        let superuser = client(&database.superuser()).await?;
        for role in LOGINS {
            let may: bool = superuser.query_one("SELECT has_database_privilege($1, current_database(), 'CONNECT')", &[&role]).await?.get(0);
            assert_eq!(may, wanted.connect_roles.contains(&role), "{role} and {}", wanted.name);
        }
    }
    Ok(())
}

#[tokio::test]
async fn nobody_executes_a_function_that_was_not_granted() -> Result<()> {
    for wanted in idempo_schemas::databases() {
        let database = testing::database(wanted.name).await;
        let superuser = client(&database.superuser()).await?;
        // A grantee of 0 is PUBLIC, and no list of rights at all means that PUBLIC may.
        let sql = "SELECT p.oid::regprocedure::text FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
            WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
                AND (p.proacl IS NULL OR EXISTS (SELECT FROM aclexplode(p.proacl) AS a WHERE a.grantee = 0))";
        let open: Vec<String> = superuser.query(sql, &[]).await?.iter().map(|row| row.get(0)).collect();
        assert_eq!(open, Vec::<String>::new(), "{}", wanted.name);
    }
    Ok(())
}
