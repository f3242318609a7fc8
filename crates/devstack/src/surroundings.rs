//! What is particular to where the platform's processes run.

use std::collections::BTreeMap;
use std::net::SocketAddr;

/// How the platform's processes reach the servers where they don't go there directly, and settings that they get beside their own.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    postgres: BTreeMap<&'static str, SocketAddr>,
    kafka: Option<String>,
    variables: Vec<(&'static str, &'static str, String)>,
}

impl Surroundings {
    /// Lets a process reach PostgreSQL at another address.
    #[must_use]
    pub fn postgres_at(mut self, process: &'static str, address: SocketAddr) -> Self {
        self.postgres.insert(process, address);
        self
    }

    /// Lets all processes reach Kafka at other addresses, `host:port[,host:port…]`.
    #[must_use]
    pub fn kafka_at(mut self, brokers: String) -> Self {
        self.kafka = Some(brokers);
        self
    }

    /// Sets a variable of a process, which goes before what the process would have got.
    #[must_use]
    pub fn with(mut self, process: &'static str, variable: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((process, variable, value.into()));
        self
    }

    /// Where a process reaches PostgreSQL, where that is not directly.
    pub(crate) fn postgres(&self, process: &str) -> Option<SocketAddr> {
        self.postgres.get(process).copied()
    }

    /// Where processes reach Kafka, where that is not directly.
    pub(crate) fn kafka(&self) -> Option<&str> {
        self.kafka.as_deref()
    }

    /// The variables of a process.
    pub(crate) fn variables(&self, process: &str) -> impl Iterator<Item = (String, String)> {
        self.variables.iter().filter(move |(of, ..)| *of == process).map(|(_, variable, value)| ((*variable).to_owned(), value.clone()))
    }
}
