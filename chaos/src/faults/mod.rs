//! Faults: what each does is data, and how it is done stands with its family.

pub mod brokers;
pub mod network;
pub mod poison;
pub mod postgres;
pub mod processes;
pub mod transactions;

use std::fmt;

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;

use self::brokers::BrokerFault;
use self::network::NetworkFault;
use self::poison::PoisonFault;
use self::postgres::PostgresStop;
use self::processes::{ProcessFault, What, Who};
use self::transactions::TransactionFault;
use crate::stage::{Begun, Stage};

/// Faults of one sort, to be chosen by `--faults`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// Processes of the platform are killed and started again.
    Kill,
    /// Processes of the platform are frozen, past their leases, and thawed.
    Freeze,
    /// PostgreSQL is stopped at once and started again.
    Postgres,
    /// Connections are cut, or a process does not reach its server for a while.
    Cut,
    /// The answer to a COMMIT is lost.
    Swallow,
    /// Bytes come late, or are held back while connections stay.
    Delay,
    /// One broker of three is killed, or one or two are frozen.
    Broker,
    /// All brokers are away.
    KafkaAway,
    /// Transactions are held open.
    Transactions,
    /// Somebody else writes into the topic, the read model refuses rows, and jobs on dead letters are interrupted.
    Poison,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 10] = [
        Self::Kill,
        Self::Freeze,
        Self::Postgres,
        Self::Cut,
        Self::Swallow,
        Self::Delay,
        Self::Broker,
        Self::KafkaAway,
        Self::Transactions,
        Self::Poison,
    ];

    /// What `--faults` calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Freeze => "freeze",
            Self::Postgres => "postgres",
            Self::Cut => "cut",
            Self::Swallow => "swallow",
            Self::Delay => "delay",
            Self::Broker => "broker",
            Self::KafkaAway => "kafka-away",
            Self::Transactions => "transactions",
            Self::Poison => "poison",
        }
    }
}

/// What a fault takes for itself: two faults never take the same at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resource {
    /// A process that is known by name.
    Process(&'static str),
    /// Both relays: which of them is meant is known only when the fault begins.
    Relays,
    /// PostgreSQL, in a state that must last.
    Postgres,
    /// That PostgreSQL runs, for who asks it something.
    PostgresUp,
    /// The brokers.
    Kafka,
    /// The network between clients and a server.
    Link(Link),
    /// A database, for transactions that are held open.
    Database(&'static str),
}

/// A network that can fail: it has a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// Between a process and PostgreSQL.
    Postgres(&'static str),
    /// Between all processes and a broker, by its number from 1.
    Broker(u8),
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postgres(process) => write!(f, "{process} ↔ PostgreSQL"),
            Self::Broker(number) => write!(f, "all ↔ broker {number}"),
        }
    }
}

/// A fault, with everything that says what it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Of a process of the platform.
    Process(ProcessFault),
    /// Of PostgreSQL.
    Postgres(PostgresStop),
    /// Of a network.
    Network(NetworkFault),
    /// Of brokers.
    Broker(BrokerFault),
    /// Of other writers in the same database.
    Transaction(TransactionFault),
    /// Of what the read model is to read.
    Poison(PoisonFault),
}

impl Fault {
    /// The family it belongs to.
    #[must_use]
    pub const fn family(&self) -> Family {
        match self {
            Self::Process(fault) => fault.family(),
            Self::Postgres(_) => Family::Postgres,
            Self::Network(fault) => fault.family(),
            Self::Broker(fault) => fault.family(),
            Self::Transaction(_) => Family::Transactions,
            Self::Poison(_) => Family::Poison,
        }
    }

    /// What it takes for itself.
    #[must_use]
    pub fn uses(&self) -> Vec<Resource> {
        match self {
            Self::Process(fault) => fault.uses(),
            Self::Postgres(_) => vec![Resource::Postgres, Resource::PostgresUp],
            Self::Network(fault) => fault.uses(),
            Self::Broker(_) => vec![Resource::Kafka],
            Self::Transaction(fault) => fault.uses(),
            Self::Poison(fault) => fault.uses(),
        }
    }

    /// What it befalls, for people.
    #[must_use]
    pub fn target(&self) -> String {
        match self {
            Self::Process(fault) => fault.who.to_string(),
            Self::Postgres(_) => "PostgreSQL".to_owned(),
            Self::Network(fault) => fault.link.to_string(),
            Self::Broker(fault) => fault.target(),
            Self::Transaction(fault) => fault.database.to_owned(),
            Self::Poison(fault) => fault.target().to_owned(),
        }
    }

    /// Whether it is a process of this sort that is befallen like this.
    #[must_use]
    pub fn is_process(&self, what: What, who: impl Fn(Who) -> bool) -> bool {
        matches!(self, Self::Process(fault) if fault.what == what && who(fault.who))
    }

    /// Begins it.
    pub(crate) async fn begin(&self, stage: &mut Stage) -> Result<Begun> {
        match self {
            Self::Process(fault) => fault.begin(stage).await,
            Self::Postgres(fault) => fault.begin(stage).await,
            Self::Network(fault) => fault.begin(stage).await,
            Self::Broker(fault) => fault.begin(stage).await,
            Self::Transaction(fault) => fault.begin(stage).await,
            Self::Poison(fault) => fault.begin(stage).await,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(fault) => fault.fmt(f),
            Self::Postgres(fault) => fault.fmt(f),
            Self::Network(fault) => fault.fmt(f),
            Self::Broker(fault) => fault.fmt(f),
            Self::Transaction(fault) => fault.fmt(f),
            Self::Poison(fault) => fault.fmt(f),
        }
    }
}
