//! A session in a database.

use std::ops::Deref;

use anyhow::{Context as _, Result};
use idempo_pg::Config;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

/// A session in a database; its connection ends with it.
pub struct Session {
    client: Client,
    connection: JoinHandle<()>,
}

impl Session {
    pub(crate) async fn open(config: &Config) -> Result<Self> {
        let (client, connection) = idempo_pg::connect(config).await.context("connecting to a database")?;
        // How it ends is told by the statement that needed it.
        let connection = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Self { client, connection })
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
