//! Why a run can't be checked. What is wrong with a run stands in the report.

/// Something to be looked at could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A database.
    #[error("the database {name} can't be read")]
    Database {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A topic.
    #[error("the topic {name} can't be read")]
    Topic {
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: rdkafka::error::KafkaError,
    },
    /// A file can't be read or written.
    #[error("a file can't be read or written")]
    Io(#[from] std::io::Error),
    /// Something was read that is none of what it should be.
    #[error("{0}")]
    Format(String),
    /// It took too long.
    #[error("{0} took too long")]
    Late(String),
}
