//! Migrations: forward only, checked by checksum, one process at a time.

use idempo_schemas::MigrationSet;
use refinery::{Migration, Runner};
use tokio_postgres::Client;

use crate::classify::classify;
use crate::{Config, Error, connect};

/// How long to wait for another process that migrates the same database, in milliseconds.
const MIGRATION_LOCK_WAIT_MS: u64 = 60_000;

/// What a run of migrations did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// History and name of each migration that was applied now, in order. Empty when all had run before.
    pub applied: Vec<(&'static str, String)>,
}

/// Brings a database up to date: each history in the given order, each migration in a transaction of its own.
///
/// Several processes may call it at once: an advisory lock lets one through, the others wait (at most a minute) and then find nothing to do.
/// Connects as the role of `config.url`, which owns what the migrations make; the statement timeout does not apply, the lock timeout does.
///
/// # Errors
/// [`Error::Migration`] when one fails, when one that has run differs from its file, or when its file is missing; [`Error::Contention`] when
/// another process holds the lock for over a minute; and the errors of [`connect`].
pub async fn migrate(config: &Config, sets: &[MigrationSet]) -> Result<Report, Error> {
    let (mut client, connection) = connect(&Config { statement_timeout_ms: 0, ..config.clone() }).await?;
    let work = async {
        lock(&client, config.lock_timeout_ms).await?;
        let mut report = Report::default();
        for set in sets {
            run(&mut client, set, &mut report).await?;
        }
        Ok(report)
    };
    // The lock belongs to the session and ends with it, also when this future is dropped.
    tokio::select! {
        biased;
        outcome = work => outcome,
        lost = connection => Err(lost.err().unwrap_or(Error::Unavailable(None))),
    }
}

async fn lock(client: &Client, lock_timeout_ms: u64) -> Result<(), Error> {
    client.batch_execute(&format!("SET lock_timeout = {MIGRATION_LOCK_WAIT_MS}")).await.map_err(classify)?;
    client.execute(include_str!("sql/lock_migrations.sql"), &[]).await.map_err(classify)?;
    client.batch_execute(&format!("SET lock_timeout = {lock_timeout_ms}")).await.map_err(classify)
}

async fn run(client: &mut Client, set: &MigrationSet, report: &mut Report) -> Result<(), Error> {
    let history = set.history;
    let failed = |source| Error::Migration { history, source };
    let migrations: Vec<Migration> =
        set.files.iter().map(|(name, sql)| Migration::unapplied(name, sql)).collect::<Result<_, _>>().map_err(failed)?;
    let mut runner = Runner::new(&migrations).set_abort_divergent(true).set_abort_missing(true);
    runner.set_migration_table_name(history);
    let done = runner.run_async(client).await.map_err(failed)?;
    report.applied.extend(done.applied_migrations().iter().map(|migration| (history, migration.to_string())));
    Ok(())
}
