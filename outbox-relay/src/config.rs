//! The relay's settings.

use idempo_kafka::{Copies, ProducerConfig};
use idempo_runtime::Invalid;
use serde::{Deserialize, Serialize};

use crate::tracker::PAGE_ROWS_MAX;

/// The relay's settings. Processes with the same settings share the outboxes and stand by for each other.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The gRPC server: health, reflection and `idempo.ops.v1.RelayService`.
    pub grpc: idempo_rpc::ServerConfig,
    /// Who may use `idempo.ops.v1.RelayService`.
    pub operators: idempo_rpc::OperatorsConfig,
    /// The cluster that rows go to.
    pub kafka: idempo_kafka::Config,
    /// How records are batched, and how many are under way.
    pub producer: ProducerConfig,
    /// The topics.
    pub topics: Topics,
    /// When outbox tables take turns.
    pub rotation: Rotation,
    /// The most rows that are read at once, 16 to 65,536.
    pub page_rows_max: usize,
    /// The most rows of an outbox that wait in quarantine; beyond that the outbox stands still. 0 to let it stand still at the first.
    pub quarantine_rows_max: u32,
    /// The outboxes.
    pub outboxes: Vec<OutboxConfig>,
}

/// The topics that rows go to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Topics {
    /// Which of the copies in `topics.yaml` a topic gets that this process makes.
    pub copies: Copies,
    /// What stands before each topic's name; empty, but for tests.
    pub prefix: String,
    /// Topics, by their names in `topics.yaml`, whose rows go in Kafka transactions: who reads what is committed sees each row exactly once, up
    /// to some 100 ms later. All relays must have the same list.
    pub exactly_once: Vec<String>,
}

/// When outbox tables take turns.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rotation {
    /// The size from which the written table is left, in bytes.
    pub table_bytes_max: u64,
    /// The age from which the written table is left if there is anything in it, in seconds.
    pub table_age_max_s: u64,
    /// How often the tables are looked at, in milliseconds, at least 10.
    pub check_interval_ms: u64,
}

/// One outbox.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OutboxConfig {
    /// What it is called in metrics and logs: the name of its domain.
    pub name: String,
    /// Its database, as the role `idempo_relay`. All relays of an outbox must have the same role: a session sees only the sessions of its own.
    pub database: idempo_pg::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            grpc: idempo_rpc::ServerConfig::default(),
            operators: idempo_rpc::OperatorsConfig::default(),
            kafka: idempo_kafka::Config { client_id: "idempo-outbox-relay".to_owned(), ..idempo_kafka::Config::default() },
            producer: ProducerConfig::default(),
            topics: Topics::default(),
            rotation: Rotation::default(),
            page_rows_max: 1_000,
            quarantine_rows_max: 100_000,
            outboxes: Vec::new(),
        }
    }
}

impl Default for Topics {
    fn default() -> Self {
        Self { copies: Copies::Production, prefix: String::new(), exactly_once: Vec::new() }
    }
}

impl Default for Rotation {
    fn default() -> Self {
        Self { table_bytes_max: 256 << 20, table_age_max_s: 300, check_interval_ms: 1_000 }
    }
}

impl Config {
    /// Checks what the types can't say.
    ///
    /// # Errors
    /// The setting that can't be used.
    pub fn validate(&self) -> Result<(), Invalid> {
        self.grpc.validate().map_err(|error| Invalid::new("grpc", error))?;
        self.operators.validate().map_err(|error| Invalid::new("operators", error))?;
        self.producer.validate().map_err(|(setting, reason)| Invalid::new(format!("producer.{setting}"), reason))?;
        if !(16..=PAGE_ROWS_MAX).contains(&self.page_rows_max) {
            return Err(Invalid::new("page_rows_max", "must be 16 to 65536"));
        }
        if self.rotation.check_interval_ms < 10 {
            return Err(Invalid::new("rotation.check_interval_ms", "must be at least 10"));
        }
        if let Some(name) = self.topics.exactly_once.iter().find(|name| idempo_schemas::topics().by_name(name).is_none()) {
            return Err(Invalid::new("topics.exactly_once", format!("{name} is not in topics.yaml")));
        }
        if self.outboxes.is_empty() {
            return Err(Invalid::new("outboxes", "must name at least one outbox"));
        }
        let mut names: Vec<&str> = self.outboxes.iter().map(|outbox| outbox.name.as_str()).collect();
        names.sort_unstable();
        if names.first() == Some(&"") || names.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(Invalid::new("outboxes", "each must have a name of its own"));
        }
        for outbox in &self.outboxes {
            outbox.database.validate().map_err(|error| Invalid::new("outboxes.database", error.to_string()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox(name: &str) -> OutboxConfig {
        OutboxConfig { name: name.to_owned(), database: idempo_pg::Config::at("postgres://idempo_relay@127.0.0.1/wallet_db") }
    }

    #[test]
    fn outboxes_must_be_named_apart() {
        let config = |outboxes| Config { outboxes, ..Config::default() };
        assert!(config(vec![]).validate().is_err());
        assert!(config(vec![outbox("")]).validate().is_err());
        assert!(config(vec![outbox("wallet"), outbox("wallet")]).validate().is_err());
        assert!(config(vec![outbox("wallet"), outbox("inventory")]).validate().is_ok());
    }
}
