//! Brokers that are killed, frozen, or away altogether.

use std::fmt;

use anyhow::Result;
use idempo_devstack::Server;
use serde::Serialize;

use super::Family;
use crate::stage::{Begun, Stage, Undo};

/// Brokers fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BrokerFault {
    /// SIGKILL to one, by its number, and a start at the end.
    Kill(u8),
    /// SIGSTOP to these, and SIGCONT at the end. Two of three are a majority: nothing is acknowledged then.
    Freeze(Vec<u8>),
    /// No process reaches any of them.
    AllUnreachable,
    /// SIGKILL to all, and a start of all at the end.
    AllKilled,
}

impl BrokerFault {
    pub(super) const fn family(&self) -> Family {
        match self {
            Self::Kill(_) | Self::Freeze(_) => Family::Broker,
            Self::AllUnreachable | Self::AllKilled => Family::KafkaAway,
        }
    }

    pub(super) fn target(&self) -> String {
        match self {
            Self::Kill(number) => format!("broker {number}"),
            Self::Freeze(numbers) => format!("broker {}", numbers.iter().map(u8::to_string).collect::<Vec<_>>().join(", ")),
            Self::AllUnreachable | Self::AllKilled => "all brokers".to_owned(),
        }
    }

    pub(super) async fn begin(&self, stage: &mut Stage) -> Result<Begun> {
        let undo = match self {
            Self::Kill(number) => {
                stage.servers.crash(Server::Broker(*number)).await?;
                Undo::StartServer(Server::Broker(*number))
            }
            Self::Freeze(numbers) => {
                numbers.iter().try_for_each(|number| stage.servers.freeze(Server::Broker(*number)))?;
                Undo::ThawBrokers(numbers.clone())
            }
            Self::AllUnreachable => {
                for proxy in &mut stage.broker_links {
                    proxy.shut().await;
                }
                Undo::OpenBrokers
            }
            Self::AllKilled => {
                stage.servers.crash(Server::Kafka).await?;
                Undo::StartServer(Server::Kafka)
            }
        };
        Ok(Begun { note: String::new(), undo })
    }
}

impl fmt::Display for BrokerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill(_) | Self::AllKilled => "kill -9",
            Self::Freeze(_) => "freeze",
            Self::AllUnreachable => "unreachable",
        })
    }
}
