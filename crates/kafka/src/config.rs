//! How the cluster is reached.

use std::collections::BTreeMap;
use std::fmt;

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use serde::{Deserialize, Serialize};

use crate::Error;

/// What `properties` may set: how to connect and who we are. All else is decided by this crate, because its invariants hang on it.
const PROPERTY_PREFIXES: [&str; 5] = ["ssl.", "sasl.", "security.", "socket.", "reconnect."];

/// How long a request waits for its answer where it brings no limit of its own, in milliseconds: a broker that is cut off without a word is given up
/// then. Below the transactions' timeout, as librdkafka demands.
const SOCKET_TIMEOUT_MS: &str = "8000";
/// How long a connection may take to be made, in milliseconds.
const CONNECT_TIMEOUT_MS: &str = "5000";

/// Properties whose value is a secret.
const SECRET_PROPERTIES: [&str; 4] = ["sasl.password", "ssl.key.password", "ssl.keystore.password", "ssl.key.pem"];

/// How the cluster is reached.
#[derive(Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The first brokers to ask, `host:port` with commas between.
    pub brokers: String,
    /// Who this client says it is; shown in the broker's logs and quotas.
    pub client_id: String,
    /// Further librdkafka properties; only those that begin with `ssl.`, `sasl.`, `security.`, `socket.` or `reconnect.`.
    pub properties: BTreeMap<String, String>,
}

impl Default for Config {
    fn default() -> Self {
        Self { brokers: "127.0.0.1:9092".to_owned(), client_id: "idempo".to_owned(), properties: BTreeMap::new() }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: BTreeMap<_, _> = self
            .properties
            .iter()
            .map(|(name, value)| (name, if SECRET_PROPERTIES.contains(&name.as_str()) { "***" } else { value.as_str() }))
            .collect();
        f.debug_struct("Config").field("brokers", &self.brokers).field("client_id", &self.client_id).field("properties", &shown).finish()
    }
}

impl Config {
    /// The configuration of a client without what is particular to producers or consumers.
    ///
    /// # Errors
    /// [`Error::ForbiddenProperty`].
    pub(crate) fn client(&self) -> Result<ClientConfig, Error> {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", &self.client_id)
            .set("allow.auto.create.topics", "false")
            .set("socket.nagle.disable", "true")
            .set("socket.keepalive.enable", "true")
            .set("socket.timeout.ms", SOCKET_TIMEOUT_MS)
            .set("socket.connection.setup.timeout.ms", CONNECT_TIMEOUT_MS)
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("log.connection.close", "false");
        client.set_log_level(RDKafkaLogLevel::Warning);
        for (name, value) in &self.properties {
            if !PROPERTY_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
                return Err(Error::ForbiddenProperty { property: name.clone() });
            }
            client.set(name, value);
        }
        Ok(client)
    }
}

/// Puts a line of librdkafka's own log into ours. It reports lost connections as errors; for us they are what a cluster does.
pub(crate) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        // That a setting of ours is experimental is known, and tested.
        RDKafkaLogLevel::Warning if facility.starts_with("CONFWARN") => tracing::debug!(facility, message, "librdkafka"),
        // A successor asks again until what its predecessor left open is settled.
        RDKafkaLogLevel::Warning if facility.starts_with("GETPID") => tracing::debug!(facility, message, "librdkafka"),
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => tracing::error!(facility, message, "librdkafka"),
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => tracing::warn!(facility, message, "librdkafka"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(facility, message, "librdkafka"),
        RDKafkaLogLevel::Debug => tracing::debug!(facility, message, "librdkafka"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_that_an_invariant_hangs_on_is_refused() {
        let properties = BTreeMap::from([("enable.idempotence".to_owned(), "false".to_owned())]);
        let config = Config { properties, ..Config::default() };
        assert!(matches!(config.client(), Err(Error::ForbiddenProperty { property }) if property == "enable.idempotence"));
    }

    #[test]
    fn a_secret_is_not_shown() {
        let properties = BTreeMap::from([("sasl.password".to_owned(), "hunter2".to_owned())]);
        let shown = format!("{:?}", Config { properties, ..Config::default() });
        assert!(!shown.contains("hunter2") && shown.contains("sasl.password"));
    }
}
