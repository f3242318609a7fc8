//! The inventory projector's settings.

use idempo_projection::Projector as _;
use idempo_runtime::Invalid;
use serde::{Deserialize, Serialize};

use crate::apply::InventoryProjector;

/// The number of the topic that inventories' events go to, in `schemas/topics.yaml`.
const TOPIC: i16 = 3;

/// The inventory projector's settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The read model's database, as the role `idempo_inventory_projector`. Its search path follows from the generation.
    pub database: idempo_pg::Config,
    /// The gRPC server of the queries.
    pub grpc: idempo_rpc::ServerConfig,
    /// The brokers.
    pub kafka: idempo_kafka::Config,
    /// How the topic is read: exactly one topic; `group_id` has the generation appended.
    pub consumer: idempo_kafka::ConsumerConfig,
    /// The number of the topic's partitions.
    pub partitions: i32,
    /// The generation of the read model that is filled and read, from 1.
    pub generation: i32,
}

impl Default for Config {
    fn default() -> Self {
        let topic = idempo_schemas::topics().by_number(TOPIC);
        Self {
            database: idempo_pg::Config { application_name: "inventory-projector".to_owned(), ..idempo_pg::Config::default() },
            grpc: idempo_rpc::ServerConfig::default(),
            kafka: idempo_kafka::Config { client_id: "inventory-projector".to_owned(), ..idempo_kafka::Config::default() },
            consumer: idempo_kafka::ConsumerConfig {
                group_id: format!("idempo.{}", InventoryProjector::NAME),
                topics: topic.iter().map(|topic| topic.name.to_owned()).collect(),
                ..idempo_kafka::ConsumerConfig::default()
            },
            partitions: topic.map_or(1, |topic| topic.partitions),
            generation: 1,
        }
    }
}

impl Config {
    /// Checks what the types can't say.
    ///
    /// # Errors
    /// The setting that can't be used.
    pub fn validate(&self) -> Result<(), Invalid> {
        self.database.validate().map_err(|error| Invalid::new("database", error.to_string()))?;
        self.grpc.validate().map_err(|problem| Invalid::new("grpc", problem))?;
        if self.database.search_path.is_some() {
            return Err(Invalid::new("database.search_path", "follows from the generation and can't be set"));
        }
        if self.consumer.topics.len() != 1 {
            return Err(Invalid::new("consumer.topics", "must name exactly one topic"));
        }
        if self.partitions < 1 {
            return Err(Invalid::new("partitions", "must be at least 1"));
        }
        if self.generation < 1 {
            return Err(Invalid::new("generation", "must be at least 1"));
        }
        Ok(())
    }

    /// How connections to the generation's tables are made.
    #[must_use]
    pub fn generation_database(&self) -> idempo_pg::Config {
        let search_path = format!("inventory_g{}, projection", self.generation);
        idempo_pg::Config { search_path: Some(search_path), ..self.database.clone() }
    }

    /// How the topic is read.
    pub(crate) fn options(&self) -> idempo_projection::Options {
        idempo_projection::Options {
            kafka: self.kafka.clone(),
            consumer: self.consumer.clone(),
            group_id: format!("{}.g{}", self.consumer.group_id, self.generation),
            topic: self.topic(),
            partitions: self.partitions,
            generation: self.generation,
        }
    }

    /// The topic.
    pub(crate) fn topic(&self) -> String {
        self.consumer.topics.first().cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured() -> Config {
        Config {
            database: idempo_pg::Config::at("postgres://idempo_inventory_projector@db.example/inventory_view_db"),
            ..Config::default()
        }
    }

    #[test]
    fn the_defaults_are_valid_but_for_the_database_and_read_the_economy_events() {
        let config = configured();
        assert_eq!(config.validate(), Ok(()));
        assert_eq!((config.topic().as_str(), config.partitions), ("economy-events", 12));
        assert_eq!(config.options().group_id, "idempo.inventory.g1");
        assert_eq!(Config::default().validate().map_err(|invalid| invalid.key), Err("database".to_owned()));
    }

    #[test]
    fn a_setting_that_would_read_another_generation_than_it_fills_is_refused() {
        let mut config = configured();
        config.database.search_path = Some("inventory_g7".to_owned());
        assert_eq!(config.validate().map_err(|invalid| invalid.key), Err("database.search_path".to_owned()));
    }
}
