//! A PostgreSQL cluster as its superuser sees it: roles, databases, migrations.

use std::fmt;
use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use idempo_pg::Config;
use idempo_schemas::{DATABASE_SQL, Database, OWNER, ROLES_SQL};
use tokio_postgres::Client;
use url::Url;

/// A statement of ours on the cluster may take this long, in milliseconds: copying a template waits for its readers.
const STATEMENT_TIMEOUT_MS: u64 = 60_000;

/// Where PostgreSQL listens when a URL does not say.
const PORT: u16 = 5_432;

/// A cluster, by a superuser's URL of one of its databases.
#[derive(Clone)]
pub struct Cluster {
    superuser: Url,
}

impl Cluster {
    /// The cluster behind a superuser's URL, such as `postgres://postgres@127.0.0.1:5432/postgres`.
    ///
    /// # Errors
    /// When it is not a URL with a host.
    pub fn new(superuser_url: &str) -> Result<Self> {
        // The parser's error does not repeat the URL, which may hold a password.
        let superuser = Url::parse(superuser_url).context("the database URL is not a URL")?;
        anyhow::ensure!(superuser.has_host(), "the database URL names no host");
        Ok(Self { superuser })
    }

    /// Where the server listens, `host:port`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}:{}", self.superuser.host_str().unwrap_or_default(), self.superuser.port().unwrap_or(PORT))
    }

    /// The same cluster, reached at another address.
    #[must_use]
    pub fn at(mut self, address: SocketAddr) -> Self {
        // Refused only for URLs without a host, which `new` does not let in.
        if self.superuser.set_ip_host(address.ip()).is_err() || self.superuser.set_port(Some(address.port())).is_err() {
            tracing::error!("a URL with a host takes an address");
        }
        self
    }

    /// The superuser's configuration for a database.
    #[must_use]
    pub fn superuser(&self, database: &str) -> Config {
        let mut url = self.superuser.clone();
        url.set_path(database);
        Config { statement_timeout_ms: STATEMENT_TIMEOUT_MS, application_name: "idempo-devstack".to_owned(), ..Config::at(url.as_str()) }
    }

    /// The configuration of `role` for a database.
    ///
    /// On a cluster that trusts local users the role itself logs in. On one that asks for passwords, where only the superuser's is known, the
    /// superuser logs in and takes the role's place: the rights are the role's, except the right to connect.
    #[must_use]
    pub fn role(&self, database: &str, role: &str) -> Config {
        Config { application_name: role.to_owned(), ..Config::at(self.role_url(database, role)) }
    }

    /// The URL of `role` for a database, with every secret in it; see [`Cluster::role`].
    #[must_use]
    pub fn role_url(&self, database: &str, role: &str) -> String {
        let mut url = self.superuser.clone();
        url.set_path(database);
        if url.password().is_some() {
            // Not `query_pairs_mut`: it writes a space as `+`, which PostgreSQL's URLs don't know.
            let query = url.query().map_or_else(String::new, |query| format!("{query}&"));
            url.set_query(Some(&format!("{query}options=-c%20role%3D{role}")));
        } else if url.set_username(role).is_err() {
            // Refused only for URLs without a host, which `new` does not let in.
            tracing::error!("a URL with a host takes a user name");
        }
        url.into()
    }

    /// Makes the platform's roles; they are the cluster's, so once is enough for all its databases.
    ///
    /// # Errors
    /// When the cluster can't be reached or the user is no superuser.
    pub async fn make_roles(&self) -> Result<()> {
        let client = session(&self.superuser("postgres")).await?;
        client.batch_execute(ROLES_SQL).await.context("making the roles")
    }

    /// Makes a database called `name` like `database`, unless it is there, and brings it up to date. Needs the roles.
    ///
    /// # Errors
    /// When the cluster can't be reached, or a migration fails.
    pub async fn make_database(&self, database: &Database, name: &str) -> Result<()> {
        let client = session(&self.superuser("postgres")).await?;
        // Ends with the session. Two processes that make the same one at the same moment would collide.
        client.execute(include_str!("sql/lock_name.sql"), &[&name]).await.context("waiting for another who makes this database")?;
        let there = client.query_one(include_str!("sql/database_exists.sql"), &[&name]).await?.try_get::<_, bool>(0)?;
        if !there {
            client.batch_execute(&format!("CREATE DATABASE {} OWNER {OWNER}", quoted(name))).await.context("making a database")?;
        }
        grant_connect(&client, name, database.connect_roles).await?;
        session(&self.superuser(name)).await?.batch_execute(DATABASE_SQL).await.context("preparing a database")?;
        idempo_pg::migrate(&self.role(name, OWNER), database.sets).await.with_context(|| format!("migrating {name}"))?;
        Ok(())
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cluster").field(&self.superuser.host_str()).field(&self.superuser.port()).finish()
    }
}

/// Lets only these roles, and the owner, connect to a database. A copy of a database does not inherit this.
pub(crate) async fn grant_connect(client: &Client, database: &str, roles: &[&str]) -> Result<()> {
    let database = quoted(database);
    let mut sql = format!("REVOKE ALL ON DATABASE {database} FROM PUBLIC;");
    for role in roles {
        sql.push_str(&format!("GRANT CONNECT ON DATABASE {database} TO {};", quoted(role)));
    }
    client.batch_execute(&sql).await.context("granting the right to connect")
}

/// A client whose connection runs by itself until the client is dropped.
pub(crate) async fn session(config: &Config) -> Result<Client> {
    let (client, connection) = idempo_pg::connect(config).await.context("connecting to PostgreSQL")?;
    tokio::spawn(connection);
    Ok(client)
}

/// An identifier as SQL writes it.
pub(crate) fn quoted(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_logs_in_itself_where_no_password_is_asked() {
        let cluster = Cluster::new("postgres://postgres@127.0.0.1:5433/postgres").expect("a URL");
        assert_eq!(cluster.role("wallet_db", "idempo_wallet").url.masked(), "postgres://idempo_wallet@127.0.0.1:5433/wallet_db");
    }

    #[test]
    fn a_cluster_that_is_reached_elsewhere_keeps_everything_else() {
        let cluster = Cluster::new("postgres://postgres@localhost/postgres").expect("a URL");
        assert_eq!(cluster.address(), "localhost:5432");
        let elsewhere = cluster.at(([127, 0, 0, 1], 7_000).into());
        assert_eq!(elsewhere.role("wallet_db", "idempo_wallet").url.masked(), "postgres://idempo_wallet@127.0.0.1:7000/wallet_db");
    }

    #[test]
    fn the_superuser_takes_a_roles_place_where_a_password_is_asked() {
        let cluster = Cluster::new("postgres://admin:secret@db/postgres?sslmode=prefer").expect("a URL");
        let url = cluster.role("wallet_db", "idempo_wallet").url.masked();
        assert_eq!(url, "postgres://admin:***@db/wallet_db?sslmode=prefer&options=-c%20role%3Didempo_wallet");
    }
}
