//! The dead-letter service's settings.

use std::path::PathBuf;

use idempo_kafka::Copies;
use idempo_rpc::operators::Token;
use idempo_runtime::Invalid;
use serde::{Deserialize, Serialize};

/// The dead-letter service's settings. Processes with the same settings share the partitions of the dead-letter topics and the jobs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The database of the dead letters, as the role `idempo_dlq_admin`.
    pub database: idempo_pg::Config,
    /// The gRPC server: health, reflection and `idempo.ops.v1.DeadLetterService`.
    pub grpc: idempo_rpc::ServerConfig,
    /// Who may use `idempo.ops.v1.DeadLetterService`.
    pub operators: idempo_rpc::OperatorsConfig,
    /// The brokers.
    pub kafka: idempo_kafka::Config,
    /// How the dead-letter topics are read. Without topics, those of all topics in `topics.yaml`.
    pub consumer: idempo_kafka::ConsumerConfig,
    /// The dead-letter topics, as they are made where they are missing.
    pub topics: Topics,
    /// Which projector has the dead letters of which consumer groups.
    pub consumers: Vec<ConsumerOf>,
    /// The token with which their projectors are asked, in the names of operators: of a line with the role `service` in their operators' file.
    pub consumer_token: Option<Token>,
    /// The file with that token, in its place: it is looked at every second, so that another token can take its place. Empty for none.
    pub consumer_token_file: PathBuf,
    /// How long a consumer group is left alone until its consumer is asked again what has become of its open dead letters, in milliseconds, 100 to
    /// 3,600,000; 0 for never.
    pub consumer_check_interval_ms: u32,
    /// How many jobs a process works on at once, 1 to 16.
    pub workers: u32,
    /// How long a process that works on a job may be silent until another goes on with it, in milliseconds, 500 to 60,000.
    pub job_lease_ms: u32,
    /// How long a dead letter that was settled is kept, in days; 0 for always.
    pub settled_keep_days: u32,
}

/// The dead-letter topics.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Topics {
    /// Which of the copies in `topics.yaml` a topic gets that this process makes.
    pub copies: Copies,
    /// What stands before each topic's name; empty, but for tests.
    pub prefix: String,
}

/// Who has the dead letters of some consumer groups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConsumerOf {
    /// The consumer groups: this one, and those whose names begin with it and a dot, as each generation's does.
    pub group_prefix: String,
    /// Where its `ParkedService` is, such as `http://127.0.0.1:7003`.
    pub endpoint: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            database: idempo_pg::Config { application_name: "dlq-admin".to_owned(), ..idempo_pg::Config::default() },
            grpc: idempo_rpc::ServerConfig::default(),
            operators: idempo_rpc::OperatorsConfig::default(),
            kafka: idempo_kafka::Config { client_id: "dlq-admin".to_owned(), ..idempo_kafka::Config::default() },
            consumer: idempo_kafka::ConsumerConfig {
                group_id: "idempo.dlq-admin".to_owned(),
                // A dead letter may be large, and there are few.
                buffer_records: 256,
                ..idempo_kafka::ConsumerConfig::default()
            },
            topics: Topics::default(),
            consumers: Vec::new(),
            consumer_token: None,
            consumer_token_file: PathBuf::new(),
            consumer_check_interval_ms: 30_000,
            workers: 4,
            job_lease_ms: 5_000,
            settled_keep_days: 90,
        }
    }
}

impl Default for Topics {
    fn default() -> Self {
        Self { copies: Copies::Production, prefix: String::new() }
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
        self.operators.validate().map_err(|problem| Invalid::new("operators", problem))?;
        if !(1..=16).contains(&self.workers) {
            return Err(Invalid::new("workers", "must be 1 to 16"));
        }
        if !(500..=60_000).contains(&self.job_lease_ms) {
            return Err(Invalid::new("job_lease_ms", "must be 500 to 60000"));
        }
        if self.consumer_token.is_some() && !self.consumer_token_file.as_os_str().is_empty() {
            return Err(Invalid::new("consumer_token_file", "must not be given beside consumer_token"));
        }
        if self.consumer_check_interval_ms != 0 && !(100..=3_600_000).contains(&self.consumer_check_interval_ms) {
            return Err(Invalid::new("consumer_check_interval_ms", "must be 100 to 3600000, or 0"));
        }
        self.validate_consumers()
    }

    fn validate_consumers(&self) -> Result<(), Invalid> {
        for consumer in &self.consumers {
            if consumer.group_prefix.is_empty() {
                return Err(Invalid::new("consumers.group_prefix", "must not be empty"));
            }
            if tonic::transport::Endpoint::from_shared(consumer.endpoint.clone()).is_err() || !consumer.endpoint.starts_with("http") {
                return Err(Invalid::new("consumers.endpoint", "must be an address such as http://127.0.0.1:7003"));
            }
        }
        let mut prefixes: Vec<&str> = self.consumers.iter().map(|consumer| consumer.group_prefix.as_str()).collect();
        prefixes.sort_unstable();
        if prefixes.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err(Invalid::new("consumers.group_prefix", "must be another one for each"));
        }
        Ok(())
    }

    /// How the dead-letter topics are read, with the topics' names.
    pub(crate) fn intake(&self) -> idempo_kafka::ConsumerConfig {
        let mut consumer = self.consumer.clone();
        if consumer.topics.is_empty() {
            consumer.topics =
                idempo_schemas::topics().topics.iter().map(|topic| format!("{}{}", self.topics.prefix, topic.dead_letter)).collect();
        }
        consumer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured() -> Config {
        let consumers = vec![ConsumerOf { group_prefix: "idempo.inventory".to_owned(), endpoint: "http://127.0.0.1:7003".to_owned() }];
        Config { database: idempo_pg::Config::at("postgres://idempo_dlq_admin@127.0.0.1/ops_db"), consumers, ..Config::default() }
    }

    #[test]
    fn the_dead_letter_topics_of_all_topics_are_read_unless_some_are_named() {
        let mut config = configured();
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(config.intake().topics.len(), idempo_schemas::topics().topics.len());
        assert!(config.intake().topics.contains(&"economy-events.dlq".to_owned()));
        config.consumer.topics = vec!["mine.dlq".to_owned()];
        assert_eq!(config.intake().topics, ["mine.dlq"]);
    }

    #[test]
    fn consumers_are_asked_in_an_interval_that_is_none_or_sane_and_with_one_token() {
        let key = |config: &Config| config.validate().map_err(|invalid| invalid.key);
        for (interval, is_sane) in [(0, true), (1, false), (99, false), (100, true), (3_600_000, true), (3_600_001, false)] {
            let expected = if is_sane { Ok(()) } else { Err("consumer_check_interval_ms".to_owned()) };
            assert_eq!(key(&Config { consumer_check_interval_ms: interval, ..configured() }), expected, "{interval}");
        }
        let twice = Config { consumer_token: Some(Token::generate()), consumer_token_file: "/run/token".into(), ..configured() };
        assert_eq!(key(&twice), Err("consumer_token_file".to_owned()));
    }

    #[test]
    fn consumers_must_be_told_apart_and_be_somewhere() {
        for endpoint in ["", "not an address", "127.0.0.1:7003"] {
            let mut config = configured();
            config.consumers.iter_mut().for_each(|consumer| consumer.endpoint = endpoint.to_owned());
            assert_eq!(config.validate().map_err(|invalid| invalid.key), Err("consumers.endpoint".to_owned()), "{endpoint}");
        }
        let mut config = configured();
        config.consumers.extend(configured().consumers);
        assert_eq!(config.validate().map_err(|invalid| invalid.key), Err("consumers.group_prefix".to_owned()));
    }
}
