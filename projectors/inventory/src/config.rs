//! The inventory projector's settings.

use std::time::Duration;

use idempo_projection::{Layout, Options, PART_EVENTS_DEFAULT, Projector as _, SAMPLE_INTERVAL_MS_DEFAULT};
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
    /// The inventory's event store, as the role `idempo_rebuilder`: from where a generation is built anew. Without a URL, that is refused.
    pub event_store: idempo_pg::Config,
    /// The gRPC server of the queries.
    pub grpc: idempo_rpc::ServerConfig,
    /// Who may use `idempo.ops.v1.ProjectionService` and `idempo.ops.v1.ParkedService`.
    pub operators: idempo_rpc::OperatorsConfig,
    /// The brokers.
    pub kafka: idempo_kafka::Config,
    /// How the topic is read: exactly one topic; `group_id` has the generation's number appended.
    pub consumer: idempo_kafka::ConsumerConfig,
    /// The number of the topic's partitions.
    pub partitions: i32,
    /// The number of the partitions of its dead-letter topic, `<topic>.dlq`.
    pub dead_letter_partitions: i32,
    /// About how many events of the event store a rebuild folds at once, 1 to 1,000,000: what they add is held in memory, for each worker.
    pub rebuild_part_events: u32,
    /// How long it takes on average from one comparison of a player's rows with the player's events to the next, in milliseconds, 100 to 86,400,000; 0 for
    /// none. It needs the event store.
    pub sample_interval_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        let topic = idempo_schemas::topics().by_number(TOPIC);
        Self {
            database: idempo_pg::Config { application_name: "inventory-projector".to_owned(), ..idempo_pg::Config::default() },
            event_store: idempo_pg::Config { application_name: "inventory-rebuilder".to_owned(), ..idempo_pg::Config::default() },
            grpc: idempo_rpc::ServerConfig::default(),
            operators: idempo_rpc::OperatorsConfig::default(),
            kafka: idempo_kafka::Config { client_id: "inventory-projector".to_owned(), ..idempo_kafka::Config::default() },
            consumer: idempo_kafka::ConsumerConfig {
                group_id: format!("idempo.{}", InventoryProjector::NAME),
                topics: topic.iter().map(|topic| topic.name.to_owned()).collect(),
                ..idempo_kafka::ConsumerConfig::default()
            },
            partitions: topic.map_or(1, |topic| topic.partitions),
            dead_letter_partitions: idempo_schemas::topics().dead_letters.partitions,
            rebuild_part_events: PART_EVENTS_DEFAULT,
            sample_interval_ms: SAMPLE_INTERVAL_MS_DEFAULT,
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
        if self.has_event_store() {
            self.event_store.validate().map_err(|error| Invalid::new("event_store", error.to_string()))?;
        }
        self.grpc.validate().map_err(|problem| Invalid::new("grpc", problem))?;
        self.operators.validate().map_err(|problem| Invalid::new("operators", problem))?;
        if self.database.search_path.is_some() {
            return Err(Invalid::new("database.search_path", "follows from the generation and can't be set"));
        }
        if self.consumer.topics.len() != 1 {
            return Err(Invalid::new("consumer.topics", "must name exactly one topic"));
        }
        if !(1..=1_000_000).contains(&self.rebuild_part_events) {
            return Err(Invalid::new("rebuild_part_events", "must be 1 to 1000000"));
        }
        if self.sample_interval_ms != 0 && !(100..=86_400_000).contains(&self.sample_interval_ms) {
            return Err(Invalid::new("sample_interval_ms", "must be 100 to 86400000, or 0 for none"));
        }
        if self.partitions < 1 {
            return Err(Invalid::new("partitions", "must be at least 1"));
        }
        if self.dead_letter_partitions < 1 {
            return Err(Invalid::new("dead_letter_partitions", "must be at least 1"));
        }
        Ok(())
    }

    /// How connections to a generation's tables are made.
    #[must_use]
    pub fn generation_database(&self, generation: i32) -> idempo_pg::Config {
        self.layout().database_of(InventoryProjector::NAME, generation)
    }

    /// Whether it is told where the event store is.
    pub(crate) fn has_event_store(&self) -> bool {
        !self.event_store.url.masked().is_empty()
    }

    /// How long it takes on average from one comparison of a player with the events to the next; `None` where there are none.
    pub(crate) fn sample_interval(&self) -> Option<Duration> {
        Some(Duration::from_millis(self.sample_interval_ms)).filter(|interval| !interval.is_zero())
    }

    /// Where the generations are, and what they are read from.
    pub(crate) fn layout(&self) -> Layout {
        let options = Options {
            kafka: self.kafka.clone(),
            consumer: self.consumer.clone(),
            group_id: self.consumer.group_id.clone(),
            topic: self.topic(),
            partitions: self.partitions,
            dead_letter_partitions: self.dead_letter_partitions,
            generation: 0,
        };
        Layout { database: self.database.clone(), options }
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
        assert_eq!(config.layout().options.group_id, "idempo.inventory");
        assert_eq!(config.generation_database(2).search_path.as_deref(), Some("inventory_g2, projection"));
        assert!(!config.has_event_store());
        assert_eq!(config.sample_interval(), Some(Duration::from_secs(30)));
        assert_eq!(Config::default().validate().map_err(|invalid| invalid.key), Err("database".to_owned()));
    }

    #[test]
    fn a_setting_that_would_read_another_generation_than_it_fills_is_refused() {
        let mut config = configured();
        config.database.search_path = Some("inventory_g7".to_owned());
        assert_eq!(config.validate().map_err(|invalid| invalid.key), Err("database.search_path".to_owned()));
    }
    #[test]
    fn comparisons_of_players_can_be_rare_or_none_but_not_without_a_pause() {
        let key = |sample_interval_ms| Config { sample_interval_ms, ..configured() }.validate().map_err(|invalid| invalid.key);
        for usable in [0, 100, 86_400_000] {
            assert_eq!(key(usable), Ok(()));
        }
        for unusable in [1, 99, 86_400_001] {
            assert_eq!(key(unusable), Err("sample_interval_ms".to_owned()));
        }
        assert_eq!(Config { sample_interval_ms: 0, ..configured() }.sample_interval(), None);
    }
}
