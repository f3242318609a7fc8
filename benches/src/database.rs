//! Sessions on the database servers that are measured.

use anyhow::Context as _;
use idempo_devstack::testing::TestDatabase;
use tokio_postgres::Client;

/// The superuser's address of a database, for programs that are given one.
pub(crate) fn url_of(database: &TestDatabase) -> anyhow::Result<String> {
    let server = std::env::var("DATABASE_URL").context("run it through `cargo xtask bench`")?;
    let (server, _) = server.rsplit_once('/').context("DATABASE_URL names no database")?;
    Ok(format!("{server}/{}", database.name()))
}

/// A session that runs by itself until it is dropped.
pub(crate) async fn session(config: &idempo_pg::Config) -> anyhow::Result<Client> {
    // What fills a table takes as long as it takes.
    let config = idempo_pg::Config { statement_timeout_ms: 0, ..config.clone() };
    let (client, connection) = idempo_pg::connect(&config).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Writes out what is dirty, so that the work of one measurement is not paid for by the next.
pub(crate) async fn settle(client: &Client) -> anyhow::Result<()> {
    Ok(client.batch_execute("CHECKPOINT").await?)
}
