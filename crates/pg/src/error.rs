//! What can go wrong with the database, by what the caller can do about it.

use idempo_errors::{Class, Classified};

/// A failure of the database or of the way to it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is unusable; the text says how, without secrets.
    #[error("the database configuration is unusable: {0}")]
    Config(String),
    /// The database can't be reached or refuses work now. Nothing was applied.
    #[error("the database is not available")]
    Unavailable(#[source] Option<tokio_postgres::Error>),
    /// The database refuses us: role, password or database name. Nothing was applied, and only an operator can mend it.
    #[error("the database refuses this role")]
    Refused(#[source] tokio_postgres::Error),
    /// No connection became free in time. Nothing was applied.
    #[error("no database connection became free in time")]
    Busy,
    /// The database is out of disk, memory or another resource. Nothing was applied.
    #[error("the database is out of a resource")]
    Exhausted(#[source] tokio_postgres::Error),
    /// The connection was lost during a statement: it was applied, or it was not.
    #[error("the connection was lost during a statement, its outcome is unknown")]
    Unknown(#[source] tokio_postgres::Error),
    /// Another transaction was in the way (serialization failure, deadlock, lock timeout). Nothing was applied; at once again may succeed.
    #[error("another transaction was in the way")]
    Contention(#[source] tokio_postgres::Error),
    /// The statement took longer than it may and was stopped. Nothing was applied.
    #[error("the statement took longer than it may")]
    Timeout(#[source] tokio_postgres::Error),
    /// A constraint of the schema was violated. Nothing was applied.
    #[error("a constraint of the database was violated")]
    Constraint {
        /// The constraint's name, where the database tells it.
        constraint: Option<String>,
        /// The SQLSTATE (23…).
        sqlstate: String,
        /// What the database said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// The statement or its data is wrong: a defect of ours, or damaged data. Nothing was applied.
    #[error("the database rejects the statement")]
    Data {
        /// The SQLSTATE; empty where the driver rejected a value itself.
        sqlstate: String,
        /// What the database said.
        #[source]
        source: tokio_postgres::Error,
    },
    /// A migration failed, differs from what has run, or is missing.
    #[error("the migration of history {history} failed")]
    Migration {
        /// The history table.
        history: &'static str,
        /// What happened.
        #[source]
        source: refinery::Error,
    },
}

impl Error {
    /// The SQLSTATE, where the database gave one.
    #[must_use]
    pub fn sqlstate(&self) -> Option<&str> {
        let source = match self {
            Self::Unavailable(source) => source.as_ref()?,
            Self::Refused(source) | Self::Exhausted(source) | Self::Unknown(source) | Self::Contention(source) | Self::Timeout(source) => {
                source
            }
            Self::Constraint { source, .. } | Self::Data { source, .. } => source,
            Self::Config(_) | Self::Busy | Self::Migration { .. } => return None,
        };
        source.code().map(tokio_postgres::error::SqlState::code)
    }
}

impl Classified for Error {
    fn class(&self) -> Class {
        match self {
            Self::Unavailable(_) | Self::Unknown(_) | Self::Contention(_) | Self::Timeout(_) => Class::Unavailable,
            Self::Busy | Self::Exhausted(_) => Class::Exhausted,
            Self::Config(_) | Self::Refused(_) | Self::Constraint { .. } | Self::Data { .. } | Self::Migration { .. } => Class::Internal,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Config(_) => "DATABASE_CONFIG_INVALID",
            Self::Unavailable(_) => "DATABASE_UNAVAILABLE",
            Self::Refused(_) => "DATABASE_REFUSED",
            Self::Busy => "DATABASE_BUSY",
            Self::Exhausted(_) => "DATABASE_EXHAUSTED",
            Self::Unknown(_) => "DATABASE_OUTCOME_UNKNOWN",
            Self::Contention(_) => "DATABASE_CONTENTION",
            Self::Timeout(_) => "DATABASE_TIMEOUT",
            Self::Constraint { .. } => "DATABASE_CONSTRAINT",
            Self::Data { .. } => "DATABASE_STATEMENT_REJECTED",
            Self::Migration { .. } => "DATABASE_MIGRATION_FAILED",
        }
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        crate::classify(error)
    }
}
