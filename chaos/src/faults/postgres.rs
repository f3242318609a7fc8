//! PostgreSQL stops as in a crash (immediate shutdown: nothing is written any more, sessions are cut) and is started again, from its log.

use std::fmt;

use anyhow::Result;
use idempo_devstack::Server;
use serde::Serialize;

use crate::stage::{Begun, Stage, Undo};

/// PostgreSQL is stopped by SIGQUIT, and started at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PostgresStop;

impl PostgresStop {
    pub(super) async fn begin(self, stage: &mut Stage) -> Result<Begun> {
        stage.servers.crash(Server::Postgres).await?;
        Ok(Begun { note: String::new(), undo: Undo::StartServer(Server::Postgres) })
    }
}

impl fmt::Display for PostgresStop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("immediate stop")
    }
}
