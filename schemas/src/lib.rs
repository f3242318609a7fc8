//! What defines data at rest: the migrations of each database, the roles, and the topics. Data only: `idempo-pg` runs the migrations,
//! `idempo-kafka` makes the topics.
//!
//! A migration is a file `V<n>__<name>.sql` in the folder of its history; the build lists the folders, so adding one is adding a file. A
//! migration is never edited once it has landed: the checksum in the database would differ and the next boot refuse.

mod topics;

pub use topics::{DeadLetters, Replication, Topic, Topics, WhenRefused};

include!(concat!(env!("OUT_DIR"), "/data.rs"));

/// A history of migrations: what has run is recorded in a table of its own, so that one database can have several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MigrationSet {
    /// The name of the table that records what has run.
    pub history: &'static str,
    /// Name without `.sql` (`V1__event_store`) and text of each migration, in the order they run.
    pub files: &'static [(&'static str, &'static str)],
}

/// A database of the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Database {
    /// Its name in production and in `up`; tests have copies under other names.
    pub name: &'static str,
    /// What is migrated into it, in this order.
    pub sets: &'static [MigrationSet],
    /// The roles that may connect to it, beside its owner ([`OWNER`]).
    pub connect_roles: &'static [&'static str],
}

/// The role that owns every database and every schema, and runs the migrations. No service connects as this one.
pub const OWNER: &str = "idempo_owner";

/// The event store and outbox that every command service's database has.
pub const EVENT_STORE: MigrationSet = MigrationSet { history: "migrations_event_store", files: EVENT_STORE_FILES };
/// The wallet's own tables.
pub const WALLET_DB: MigrationSet = MigrationSet { history: "migrations_wallet", files: WALLET_DB_FILES };
/// The inventory's own tables.
pub const INVENTORY_DB: MigrationSet = MigrationSet { history: "migrations_inventory", files: INVENTORY_DB_FILES };
/// The inventory's read model.
pub const INVENTORY_VIEW_DB: MigrationSet = MigrationSet { history: "migrations_inventory_view", files: INVENTORY_VIEW_DB_FILES };

/// The dead letters of all consumers, and the jobs that settle them.
pub const OPS_DB: MigrationSet = MigrationSet { history: "migrations_ops", files: OPS_DB_FILES };

/// The effects of reactors: for any database whose process has some.
pub const REACTOR: MigrationSet = MigrationSet { history: "migrations_reactor", files: REACTOR_FILES };

/// Makes the roles. Run by a superuser, in any database, before the others; running it again changes nothing.
pub const ROLES_SQL: &str = include_str!("../roles.sql");

/// What is set in a new database before its first migration. Run by a superuser in that database; running it again changes nothing.
pub const DATABASE_SQL: &str = include_str!("../database.sql");

static DATABASES: [Database; 4] = [
    Database { name: "wallet_db", sets: &[EVENT_STORE, WALLET_DB], connect_roles: &["idempo_wallet", "idempo_relay", "idempo_auditor"] },
    Database {
        name: "inventory_db",
        sets: &[EVENT_STORE, INVENTORY_DB],
        connect_roles: &["idempo_inventory", "idempo_relay", "idempo_rebuilder", "idempo_auditor"],
    },
    Database { name: "inventory_view_db", sets: &[INVENTORY_VIEW_DB], connect_roles: &["idempo_inventory_projector", "idempo_auditor"] },
    Database { name: "ops_db", sets: &[OPS_DB], connect_roles: &["idempo_dlq_admin", "idempo_auditor"] },
];

/// The databases of the platform.
#[must_use]
pub fn databases() -> &'static [Database] {
    &DATABASES
}

/// The database with this name.
#[must_use]
pub fn database(name: &str) -> Option<&'static Database> {
    DATABASES.iter().find(|database| database.name == name)
}

/// The topics of the platform, as `topics.yaml` has them.
#[must_use]
pub fn topics() -> &'static Topics {
    &TOPICS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_that_may_connect_is_made_by_the_roles_file() {
        for role in databases().iter().flat_map(|database| database.connect_roles).chain([&OWNER]) {
            assert!(ROLES_SQL.contains(role), "{role} is not in roles.sql");
        }
    }

    #[test]
    fn every_history_of_a_database_has_its_own_table() {
        for database in databases() {
            let mut names: Vec<_> = database.sets.iter().map(|set| set.history).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), database.sets.len());
        }
    }

    #[test]
    fn every_set_has_a_first_migration() {
        for set in [EVENT_STORE, WALLET_DB, INVENTORY_DB, INVENTORY_VIEW_DB, OPS_DB, REACTOR] {
            assert!(set.files.first().is_some_and(|(name, _)| name.starts_with("V1__")), "{} has no V1", set.history);
        }
    }
}
