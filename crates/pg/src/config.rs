//! Where the database is and what a connection to it is bounded by.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio_postgres::config::{SslMode, TargetSessionAttrs};

use crate::Error;

/// What stands in place of a secret wherever a configuration is printed.
const MASK: &str = "***";
/// How long a connection may be silent before the kernel asks whether the other side is there, in seconds, on both sides.
const KEEPALIVE_IDLE_S: u64 = 10;
/// How long between two such questions, in seconds.
const KEEPALIVE_INTERVAL_S: u64 = 3;
/// How many of them may go unanswered.
const KEEPALIVE_RETRIES: u32 = 3;

/// A connection's URL, `postgres://role[:password]@host[:port]/database[?option=value]`. Printed and serialised with its password masked.
#[derive(Clone, Default)]
pub struct DatabaseUrl(SecretString);

impl DatabaseUrl {
    /// The URL with everything in it.
    pub(crate) fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The URL with `***` in place of its password.
    #[must_use]
    pub fn masked(&self) -> String {
        mask(self.expose())
    }
}

/// Masks what stands between the user's name and the host, and a `password` among the options.
fn mask(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        // The key = value form has no place that is surely free of the password.
        return if url.contains("password") { MASK.to_owned() } else { url.to_owned() };
    };
    let (base, query) = rest.split_once('?').map_or((rest, None), |(base, query)| (base, Some(query)));
    let base = match base.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((name, _)) => format!("{name}:{MASK}@{host}"),
            None => format!("{user}@{host}"),
        },
        None => base.to_owned(),
    };
    let Some(query) = query else { return format!("{scheme}://{base}") };
    let options: Vec<String> = query
        .split('&')
        .map(|option| match option.split_once('=') {
            Some((key, _)) if key.eq_ignore_ascii_case("password") => format!("{key}={MASK}"),
            _ => option.to_owned(),
        })
        .collect();
    format!("{scheme}://{base}?{}", options.join("&"))
}

impl From<&str> for DatabaseUrl {
    fn from(url: &str) -> Self {
        Self(url.into())
    }
}

impl From<String> for DatabaseUrl {
    fn from(url: String) -> Self {
        Self(url.into())
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl Serialize for DatabaseUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.masked())
    }
}

impl<'de> Deserialize<'de> for DatabaseUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

/// A password, printed and serialised as `***`.
#[derive(Clone)]
pub struct Password(SecretString);

impl From<&str> for Password {
    fn from(password: &str) -> Self {
        Self(password.into())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Password {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|password| Self(password.into()))
    }
}

/// Where the database is and what a connection to it is bounded by.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the database is, and the role: `postgres://role@host:port/database`.
    pub url: DatabaseUrl,
    /// The role's password, where it is not in the URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Password>,
    /// A file whose first line is the role's password; it is read again for each pool, and goes before `password`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Connections of the pool at most, 1 to 1,000.
    pub max_connections: u32,
    /// How long to wait for a connection of the pool to become free, in milliseconds.
    pub acquire_timeout_ms: u64,
    /// How long connecting may take, in milliseconds.
    pub connect_timeout_ms: u64,
    /// How long a statement may take, in milliseconds; 0 for no limit.
    pub statement_timeout_ms: u64,
    /// How long a statement may wait for a lock, in milliseconds; 0 for no limit.
    pub lock_timeout_ms: u64,
    /// How long a transaction may be idle before the server ends it, in milliseconds; 0 for no limit.
    pub idle_in_transaction_timeout_ms: u64,
    /// How long sent bytes may stay unacknowledged before the connection counts as lost, in milliseconds, on both sides.
    pub tcp_user_timeout_ms: u64,
    /// The age at which a pooled connection is replaced, in milliseconds.
    pub max_lifetime_ms: u64,
    /// What `pg_stat_activity` shows.
    pub application_name: String,
    /// The schemas that unqualified names are looked up in; the server's default where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search_path: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: DatabaseUrl::default(),
            password: None,
            password_file: None,
            max_connections: 16,
            acquire_timeout_ms: 2_000,
            connect_timeout_ms: 3_000,
            statement_timeout_ms: 10_000,
            lock_timeout_ms: 5_000,
            idle_in_transaction_timeout_ms: 10_000,
            tcp_user_timeout_ms: 10_000,
            max_lifetime_ms: 30 * 60 * 1_000,
            application_name: "idempo".to_owned(),
            search_path: None,
        }
    }
}

impl Config {
    /// The default bounds for the database at `url`.
    pub fn at(url: impl Into<DatabaseUrl>) -> Self {
        Self { url: url.into(), ..Self::default() }
    }

    /// Checks the bounds and the URL.
    ///
    /// # Errors
    /// [`Error::Config`] that names the field.
    pub fn validate(&self) -> Result<(), Error> {
        self.driver().map(|_| ())
    }

    /// How long to wait for a connection of the pool.
    pub(crate) fn acquire_timeout(&self) -> Duration {
        Duration::from_millis(self.acquire_timeout_ms)
    }

    /// How long connecting may take.
    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    /// The driver's configuration with every bound in it.
    pub(crate) fn driver(&self) -> Result<tokio_postgres::Config, Error> {
        self.check_bounds()?;
        // The parser's error quotes no value, but the text before it could: it is not passed on.
        let mut driver: tokio_postgres::Config =
            self.url.expose().parse().map_err(|_| Error::Config("url is not a PostgreSQL connection URL".to_owned()))?;
        if driver.get_hosts().is_empty() {
            return Err(Error::Config("url names no host".to_owned()));
        }
        if driver.get_ssl_mode() == SslMode::Require {
            return Err(Error::Config("url asks for sslmode=require, and this build has no TLS for PostgreSQL".to_owned()));
        }
        if let Some(password) = self.read_password()? {
            driver.password(password.expose_secret());
        }
        let options = match driver.get_options() {
            Some(given) => format!("{given} {}", self.session_options()),
            None => self.session_options(),
        };
        driver
            .options(options)
            .application_name(&self.application_name)
            .connect_timeout(self.connect_timeout())
            .tcp_user_timeout(Duration::from_millis(self.tcp_user_timeout_ms))
            .keepalives(true)
            .keepalives_idle(Duration::from_secs(KEEPALIVE_IDLE_S))
            .keepalives_interval(Duration::from_secs(KEEPALIVE_INTERVAL_S))
            .keepalives_retries(KEEPALIVE_RETRIES);
        if driver.get_hosts().len() > 1 && driver.get_target_session_attrs() == TargetSessionAttrs::Any {
            driver.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        Ok(driver)
    }

    fn check_bounds(&self) -> Result<(), Error> {
        let bounds = [
            ("max_connections", u64::from(self.max_connections), 1, 1_000),
            ("acquire_timeout_ms", self.acquire_timeout_ms, 1, 600_000),
            ("connect_timeout_ms", self.connect_timeout_ms, 1, 600_000),
            ("statement_timeout_ms", self.statement_timeout_ms, 0, 86_400_000),
            ("lock_timeout_ms", self.lock_timeout_ms, 0, 86_400_000),
            ("idle_in_transaction_timeout_ms", self.idle_in_transaction_timeout_ms, 0, 86_400_000),
            ("tcp_user_timeout_ms", self.tcp_user_timeout_ms, 100, 600_000),
            ("max_lifetime_ms", self.max_lifetime_ms, 1_000, 86_400_000),
        ];
        for (field, value, least, most) in bounds {
            if value < least || value > most {
                return Err(Error::Config(format!("{field} is {value}, and must be {least} to {most}")));
            }
        }
        Ok(())
    }

    fn read_password(&self) -> Result<Option<SecretString>, Error> {
        let Some(file) = &self.password_file else {
            return Ok(self.password.as_ref().map(|password| password.0.clone()));
        };
        let text = std::fs::read_to_string(file)
            .map_err(|error| Error::Config(format!("password_file {} can't be read: {}", file.display(), error.kind())))?;
        Ok(Some(text.lines().next().unwrap_or_default().into()))
    }

    /// What the session starts with. `RESET ALL` returns to it, so a connection that comes back to the pool has it too.
    fn session_options(&self) -> String {
        let mut settings = vec![
            ("statement_timeout", self.statement_timeout_ms.to_string()),
            ("lock_timeout", self.lock_timeout_ms.to_string()),
            ("idle_in_transaction_session_timeout", self.idle_in_transaction_timeout_ms.to_string()),
            ("tcp_keepalives_idle", KEEPALIVE_IDLE_S.to_string()),
            ("tcp_keepalives_interval", KEEPALIVE_INTERVAL_S.to_string()),
            ("tcp_keepalives_count", KEEPALIVE_RETRIES.to_string()),
            ("tcp_user_timeout", self.tcp_user_timeout_ms.to_string()),
            ("client_connection_check_interval", self.tcp_user_timeout_ms.to_string()),
            ("timezone", "UTC".to_owned()),
            // Compiling a plan costs more than any of our statements take.
            ("jit", "off".to_owned()),
        ];
        if let Some(search_path) = &self.search_path {
            settings.push(("search_path", search_path.clone()));
        }
        let settings: Vec<String> = settings.iter().map(|(name, value)| format!("-c {name}={}", escape(value))).collect();
        settings.join(" ")
    }
}

/// Escapes a value for the `options` of a connection, where a space ends it.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace(' ', "\\ ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_output_shows_a_password() {
        for url in [
            "postgres://wallet:hunter2@db:5432/wallet_db",
            "postgres://wallet:hunt@er2@db/wallet_db?sslmode=disable",
            "postgresql://wallet@db/wallet_db?password=hunter2&sslmode=prefer",
            "host=db user=wallet password=hunter2",
        ] {
            let config = Config { password: Some("hunter2".into()), ..Config::at(url) };
            for text in [format!("{config:?}"), config.url.to_string(), toml::to_string(&config).expect("a table of plain values")] {
                assert!(!text.contains("hunter2") && !text.contains("er2@"), "{text}");
            }
        }
        assert_eq!(mask("postgres://wallet@db:5432/wallet_db?a=b"), "postgres://wallet@db:5432/wallet_db?a=b");
        assert_eq!(mask("postgres://wallet:x@db/y"), "postgres://wallet:***@db/y");
    }

    #[test]
    fn a_bound_outside_its_range_is_named() {
        let config = Config { max_connections: 0, ..Config::at("postgres://wallet@db/wallet_db") };
        assert!(matches!(config.validate(), Err(Error::Config(text)) if text.contains("max_connections")));
        assert!(matches!(Config::at("postgres:///x").validate(), Err(Error::Config(text)) if text.contains("host")));
        assert!(matches!(Config::at("mysql://x:secret@y").validate(), Err(Error::Config(text)) if !text.contains("secret")));
    }

    #[test]
    fn an_unknown_field_is_refused() {
        assert!(toml::from_str::<Config>("url = \"postgres://a@b/c\"\nmax_conections = 3").is_err());
        assert!(toml::from_str::<Config>("url = \"postgres://a@b/c\"\nmax_connections = 3").is_ok());
    }

    #[test]
    fn options_of_the_url_are_kept_and_spaces_are_escaped() {
        let config =
            Config { search_path: Some("es, outbox".to_owned()), ..Config::at("postgres://a@b/c?options=-c%20role%3Didempo_wallet") };
        let driver = config.driver().expect("a valid URL");
        let options = driver.get_options().expect("options are set");
        assert!(options.starts_with("-c role=idempo_wallet "), "{options}");
        assert!(options.ends_with("-c search_path=es,\\ outbox"), "{options}");
    }
}
