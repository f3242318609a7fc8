//! Processes of the platform that are killed with SIGKILL and started again, or frozen with SIGSTOP and thawed with SIGCONT.

use std::fmt;

use anyhow::Result;
use serde::Serialize;

use super::{Family, Resource};
use crate::stage::{Begun, DEAD_LETTERS, Stage, Undo};

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// A command service, by its process.
    Service(&'static str),
    /// A projector, by its process.
    Projector(&'static str),
    /// The dead-letter service.
    DeadLetters,
    /// Whichever relay holds the outbox of this database when the fault begins.
    RelayOf(&'static str),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(name) | Self::Projector(name) => f.write_str(name),
            Self::DeadLetters => f.write_str(DEAD_LETTERS),
            Self::RelayOf(database) => write!(f, "relay of {database}"),
        }
    }
}

/// What is done to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// SIGKILL, and a start at the end.
    Kill,
    /// SIGSTOP, and SIGCONT at the end.
    Freeze,
}

/// A process is killed or frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ProcessFault {
    /// Which.
    pub who: Who,
    /// How.
    pub what: What,
}

impl ProcessFault {
    pub(super) const fn family(&self) -> Family {
        match self.what {
            What::Kill => Family::Kill,
            What::Freeze => Family::Freeze,
        }
    }

    pub(super) fn uses(&self) -> Vec<Resource> {
        match (self.who, self.what) {
            (Who::Service(name) | Who::Projector(name), _) => vec![Resource::Process(name)],
            (Who::DeadLetters, _) => vec![Resource::Process(DEAD_LETTERS)],
            (Who::RelayOf(_), What::Kill) => vec![Resource::Relays],
            // The other one is to take over, and can only where there is a database.
            (Who::RelayOf(_), What::Freeze) => vec![Resource::Relays, Resource::Postgres],
        }
    }

    pub(super) async fn begin(&self, stage: &mut Stage) -> Result<Begun> {
        let name = match self.who {
            Who::Service(name) | Who::Projector(name) => name,
            Who::DeadLetters => DEAD_LETTERS,
            Who::RelayOf(database) => stage.relay_of(database).await,
        };
        let mut note = if matches!(self.who, Who::RelayOf(_)) { name.to_owned() } else { String::new() };
        let undo = match self.what {
            What::Kill => {
                stage.platform.kill(name)?;
                if matches!(self.who, Who::Projector(_) | Who::DeadLetters) {
                    let left = stage.note_interrupted(name).await;
                    if left > 0 {
                        note = format!("in a job, {left} not settled");
                    }
                }
                Undo::StartProcess(name)
            }
            What::Freeze => {
                stage.platform.freeze(name)?;
                Undo::ThawProcess(name)
            }
        };
        Ok(Begun { note, undo })
    }
}

impl fmt::Display for ProcessFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.what {
            What::Kill => "kill -9",
            What::Freeze => "freeze",
        })
    }
}
