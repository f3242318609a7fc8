//! What integration tests run on: a database of their own, topics of their own, and waits that are bounded.
//!
//! The servers are found through `DATABASE_URL`, `KAFKA_BROKERS` and `REDIS_URL`, which `cargo xtask test` sets. Everything here panics where
//! it can't do its work: it is for tests only.
#![expect(clippy::panic, clippy::expect_used, reason = "for tests, which fail by panicking")]

mod proxy;

pub use proxy::Proxy;
pub use rustix::process::Signal;

use std::env;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use idempo_pg::Config;
use idempo_schemas::{Database, OWNER};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::cluster::{Cluster, grant_connect, quoted, session};

/// The first and the longest pause between two looks at an awaited condition, in milliseconds.
const EVENTUALLY_PAUSE_MS: (u64, u64) = (2, 50);

/// A database that belongs to one test, and is dropped with this value.
#[derive(Debug)]
pub struct TestDatabase {
    cluster: Cluster,
    name: String,
}

/// A copy of one of the platform's databases (`wallet_db`, …), with everything migrated into it.
///
/// The first call in a cluster migrates a template; each other copies it, in some tens of milliseconds.
///
/// # Panics
/// When there is no `DATABASE_URL`, no such database, or the copy can't be made.
pub async fn database(like: &str) -> TestDatabase {
    let like = idempo_schemas::database(like).unwrap_or_else(|| panic!("idempo-schemas has no database {like}"));
    database_like(like).await
}

/// A database with the given histories of migrations: for the tests of a mechanism that is not bound to one of the platform's databases.
///
/// # Panics
/// As [`database`].
pub async fn database_like(like: &Database) -> TestDatabase {
    let cluster = cluster();
    let name = unique("test_");
    copy(&cluster, like, &name).await.unwrap_or_else(|error| panic!("no database like {}: {error:#}", like.name));
    TestDatabase { cluster, name }
}

/// A database without anything in it; the roles exist.
///
/// # Panics
/// As [`database`].
pub async fn empty_database() -> TestDatabase {
    database_like(&Database { name: "empty", sets: &[], connect_roles: &[] }).await
}

impl TestDatabase {
    /// The database's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The configuration of a role (`idempo_wallet`, …) for this database.
    #[must_use]
    pub fn config(&self, role: &str) -> Config {
        self.cluster.role(&self.name, role)
    }

    /// The configuration of a role for this database, reached through `proxy`, which stands before the cluster ([`Cluster::address`]).
    #[must_use]
    pub fn config_through(&self, proxy: &Proxy, role: &str) -> Config {
        self.cluster.clone().at(proxy.address()).role(&self.name, role)
    }

    /// The superuser's configuration for this database.
    #[must_use]
    pub fn superuser(&self) -> Config {
        self.cluster.superuser(&self.name)
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let cluster = self.cluster.clone();
        let name = self.name.clone();
        // A thread and runtime of its own: the test's may be ending, and a task of it would not be run to the end.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let client = session(&cluster.superuser("postgres")).await?;
                client.batch_execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(&name))).await?;
                anyhow::Ok(())
            })
        });
        if !matches!(dropped.join(), Ok(Ok(()))) && !std::thread::panicking() {
            tracing::warn!(database = self.name, "a test's database could not be dropped");
        }
    }
}

/// The cluster that tests run on.
///
/// # Panics
/// When there is no `DATABASE_URL`.
#[must_use]
pub fn cluster() -> Cluster {
    Cluster::new(&server("DATABASE_URL")).expect("DATABASE_URL is a PostgreSQL URL")
}

/// The brokers that tests run on, `host:port[,host:port…]`.
///
/// # Panics
/// When there is no `KAFKA_BROKERS`.
#[must_use]
pub fn kafka_brokers() -> String {
    server("KAFKA_BROKERS")
}

/// The Redis that tests run on.
///
/// # Panics
/// When there is no `REDIS_URL`.
#[must_use]
pub fn redis_url() -> String {
    server("REDIS_URL")
}

/// A prefix for the names of topics and groups that no other test has.
#[must_use]
pub fn topic_prefix() -> String {
    unique("t").replace('_', "-") + "-"
}

/// Waits until `condition` holds, looking again and again, and gives up after `limit`.
///
/// # Panics
/// When it does not hold within `limit`; the message says what was awaited.
pub async fn eventually(limit: Duration, awaited: &str, mut condition: impl AsyncFnMut() -> bool) {
    let (mut pause_ms, longest_ms) = EVENTUALLY_PAUSE_MS;
    let began = Instant::now();
    while !condition().await {
        assert!(began.elapsed() < limit, "waited {} ms in vain: {awaited}", began.elapsed().as_millis());
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        pause_ms = (pause_ms * 2).min(longest_ms);
    }
}

/// Sends a signal to a child process.
///
/// # Panics
/// When there is no such process any more.
pub fn signal(child: &std::process::Child, signal: Signal) {
    let sent = rustix::process::kill_process(rustix::process::Pid::from_child(child), signal);
    assert!(sent.is_ok(), "process {} can't be signalled: {sent:?}", child.id());
}

fn server(variable: &str) -> String {
    env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: this test needs real servers, run it through `cargo xtask test`"))
}

/// A name that no other test has, in this process or another.
fn unique(prefix: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let random = RandomState::new().hash_one((std::process::id(), count)) & 0xffff_ffff;
    format!("{prefix}{}_{count}_{random:08x}", std::process::id())
}

async fn copy(cluster: &Cluster, like: &Database, name: &str) -> Result<()> {
    let template = template_name(like);
    let client = session(&cluster.superuser("postgres")).await?;
    let statement = format!("CREATE DATABASE {} OWNER {OWNER} TEMPLATE {}", quoted(name), quoted(&template));
    match client.batch_execute(&statement).await {
        Ok(()) => {}
        Err(error) if missing(&error) => {
            make_template(cluster, like, &template).await?;
            client.batch_execute(&statement).await.context("copying the template")?;
        }
        Err(error) => return Err(error).context("copying the template"),
    }
    grant_connect(&client, name, like.connect_roles).await
}

/// Whether a statement failed because the template, or the owner's role, is not there.
fn missing(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::INVALID_CATALOG_NAME) || error.code() == Some(&SqlState::UNDEFINED_OBJECT)
}

/// Other migrations make another template, so one left behind by an earlier state of the code is never used.
fn template_name(like: &Database) -> String {
    let mut hasher = DefaultHasher::new();
    (idempo_schemas::ROLES_SQL, idempo_schemas::DATABASE_SQL).hash(&mut hasher);
    for set in like.sets {
        (set.history, set.files).hash(&mut hasher);
    }
    format!("template_{}_{:016x}", like.name, hasher.finish())
}

/// Builds a template under another name and renames it when it is complete, so that nobody copies half of one.
async fn make_template(cluster: &Cluster, like: &Database, template: &str) -> Result<()> {
    let client = session(&cluster.superuser("postgres")).await?;
    client.execute(include_str!("sql/lock_name.sql"), &[&template]).await.context("waiting for another test's template")?;
    if exists(&client, template).await? {
        return Ok(());
    }
    let building = format!("{template}_new");
    client.batch_execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(&building))).await?;
    cluster.make_roles().await?;
    cluster.make_database(like, &building).await?;
    // Whoever still has a session there (autovacuum, a connection that is closing) would hinder the renaming.
    client.batch_execute(&format!("ALTER DATABASE {} WITH ALLOW_CONNECTIONS false", quoted(&building))).await?;
    client.execute(include_str!("sql/end_sessions.sql"), &[&building]).await?;
    let rename = format!("ALTER DATABASE {} RENAME TO {}", quoted(&building), quoted(template));
    client.batch_execute(&rename).await.context("renaming the template")
}

async fn exists(client: &Client, name: &str) -> Result<bool> {
    Ok(client.query_one(include_str!("sql/database_exists.sql"), &[&name]).await?.try_get(0)?)
}
