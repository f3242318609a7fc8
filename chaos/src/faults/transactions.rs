//! Transactions that stay open in the database of an outbox, as another writer's would: what was written after them must not wait, and what is
//! hidden by them must not be lost.
//!
//! They write into a table of their own: an event or an outbox row that no command made would be a ghost, and the checker would say so. What the
//! relay has to get right is about transaction ids and snapshots, and for those any write will do. [`Kind::StreamsLocked`] goes further: it makes
//! transactions of the services themselves wait in the middle, each with its id taken and its rows unwritten.

use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use idempo_devstack::Server;
use idempo_pg::Config;
use serde::Serialize;
use tokio_postgres::Client;
use uuid::Uuid;

use super::Resource;
use crate::stage::{Begun, Stage, Undo};

/// How long the inner of two transactions is over before the outer one.
const INNER_FIRST: Duration = Duration::from_millis(250);

/// How a transaction stays open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It takes its id, others come and go, it commits: the oldest that still runs.
    Leading,
    /// As that, and another one with a subtransaction begins while it runs and ends before it.
    Inner,
    /// It takes its id, rolls back a part, goes on, and rolls all back.
    RolledBack,
    /// It writes nothing and keeps a snapshot.
    Idle,
    /// It locks streams, and lets them go.
    StreamsLocked {
        /// What decides which.
        by: Uuid,
        /// How many.
        count: i64,
    },
}

/// A transaction stays open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TransactionFault {
    /// In which database.
    pub database: &'static str,
    /// How.
    pub kind: Kind,
}

impl TransactionFault {
    pub(super) fn uses(&self) -> Vec<Resource> {
        // A database that stops would end the transaction before its time.
        vec![Resource::Database(self.database), Resource::Postgres]
    }

    pub(super) async fn begin(&self, stage: &mut Stage) -> Result<Begun> {
        // After a stop the server reads its log first.
        stage.servers.wait_ready(Server::Postgres).await?;
        let superuser = stage.superuser(self.database);
        let mut sessions = vec![open(&superuser).await?];
        let first = sessions.first().context("one was opened")?;
        let mut note = String::new();
        match self.kind {
            Kind::Leading => first.batch_execute(include_str!("../sql/begin_and_write.sql")).await?,
            Kind::Inner => {
                first.batch_execute(include_str!("../sql/begin_and_write.sql")).await?;
                let inner = open(&superuser).await?;
                inner.batch_execute(include_str!("../sql/begin_and_write_inside.sql")).await?;
                sessions.push(inner);
            }
            Kind::RolledBack => first.batch_execute(include_str!("../sql/begin_and_take_back.sql")).await?,
            Kind::Idle => first.batch_execute(include_str!("../sql/begin_and_look.sql")).await?,
            Kind::StreamsLocked { by, count } => {
                first.batch_execute("BEGIN").await?;
                let locked = first.query(include_str!("../sql/lock_streams.sql"), &[&by, &count]).await?;
                ensure!(!locked.is_empty(), "there are no streams to lock");
                note = format!("{} streams", locked.len());
            }
        }
        let ending = if self.kind == Kind::RolledBack { "ROLLBACK" } else { "COMMIT" };
        Ok(Begun { note, undo: Undo::EndTransactions(sessions, ending) })
    }
}

/// Ends transactions, the inner ones first.
pub(crate) async fn end(mut sessions: Vec<Client>, ending: &str) -> Result<()> {
    while let Some(session) = sessions.pop() {
        session.batch_execute(ending).await.context("ending a transaction that was held open")?;
        if !sessions.is_empty() {
            tokio::time::sleep(INNER_FIRST).await;
        }
    }
    Ok(())
}

/// A session that may be idle in a transaction for as long as it likes.
async fn open(superuser: &Config) -> Result<Client> {
    let config = Config { idle_in_transaction_timeout_ms: 0, application_name: "idempo-chaos".to_owned(), ..superuser.clone() };
    let (client, connection) = idempo_pg::connect(&config).await?;
    tokio::spawn(connection);
    Ok(client)
}

impl fmt::Display for TransactionFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Leading => f.write_str("transaction held, leading"),
            Kind::Inner => f.write_str("transaction held, inner"),
            Kind::RolledBack => f.write_str("transaction held, rolled back"),
            Kind::Idle => f.write_str("transaction held, idle"),
            Kind::StreamsLocked { .. } => f.write_str("streams locked"),
        }
    }
}
