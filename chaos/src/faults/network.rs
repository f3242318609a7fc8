//! Networks between processes and servers, each of which has a proxy: connections cut, bytes late or held back, answers lost.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use idempo_devstack::{Delay, Held, Swallow};
use serde::Serialize;

use super::{Family, Link, Resource};
use crate::stage::{Begun, Stage, Undo};

/// Statements that commit something that the platform stands or falls with: a batch of commands, a relay's cursor and lease, a projector's batch, and
/// what the dead-letter service has read and settled.
const COMMITS: &[&str] = &[".append(", "UPDATE outbox.", "COMMIT", "ops.take_in(", "ops.next_members(", "ops.settle_members("];

/// What a network does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Weather {
    /// Connections are cut at the beginning and at the end, each with this likelihood.
    Cut {
        /// How many of a thousand.
        per_thousand: u32,
    },
    /// Nothing goes through: connections are cut and refused.
    Away,
    /// Each chunk of bytes is late, both ways, by a time between the two.
    Late {
        /// The shortest delay, in milliseconds.
        least_ms: u64,
        /// The longest delay, in milliseconds.
        most_ms: u64,
    },
    /// Requests don't arrive, and connections stay.
    RequestsHeld,
    /// Answers don't arrive, and connections stay.
    AnswersHeld,
    /// The first answer to a statement that commits is lost once it is whole, and the connection with it.
    CommitUnanswered,
}

/// A network fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct NetworkFault {
    /// Which.
    pub link: Link,
    /// How.
    pub weather: Weather,
}

impl NetworkFault {
    pub(super) const fn family(&self) -> Family {
        match self.weather {
            Weather::Cut { .. } | Weather::Away => Family::Cut,
            Weather::Late { .. } | Weather::RequestsHeld | Weather::AnswersHeld => Family::Delay,
            Weather::CommitUnanswered => Family::Swallow,
        }
    }

    pub(super) fn uses(&self) -> Vec<Resource> {
        let mut uses = vec![Resource::Link(self.link)];
        if self.weather == Weather::CommitUnanswered {
            // What is to be committed needs who commits it, and where.
            uses.push(Resource::Postgres);
            if let Link::Postgres(process) = self.link {
                uses.push(if process.starts_with("relay") { Resource::Relays } else { Resource::Process(process) });
            }
        }
        uses
    }

    pub(super) async fn begin(&self, stage: &mut Stage) -> Result<Begun> {
        let proxy = stage.proxy(self.link)?;
        let mut note = String::new();
        match self.weather {
            Weather::Cut { per_thousand } => note = format!("{} connections", proxy.cut(per_thousand)),
            Weather::Away => proxy.shut().await,
            Weather::Late { least_ms, most_ms } => {
                proxy.delay(Some(Delay { least: Duration::from_millis(least_ms), most: Duration::from_millis(most_ms) }));
            }
            Weather::RequestsHeld => proxy.hold(Held::Requests),
            Weather::AnswersHeld => proxy.hold(Held::Answers),
            Weather::CommitUnanswered => proxy.swallow(Swallow::AnswerTo(COMMITS)),
        }
        let undo = match self.weather {
            Weather::Cut { per_thousand } => Undo::CutAgain(self.link, per_thousand),
            Weather::CommitUnanswered => Undo::CountSwallowed(self.link, proxy.swallowed()),
            _ => Undo::Calm(self.link),
        };
        Ok(Begun { note, undo })
    }
}

impl fmt::Display for NetworkFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.weather {
            Weather::Cut { per_thousand } => write!(f, "cut {} %", per_thousand / 10),
            Weather::Away => f.write_str("unreachable"),
            Weather::Late { least_ms, most_ms } => write!(f, "late by {least_ms}–{most_ms} ms"),
            Weather::RequestsHeld => f.write_str("requests held"),
            Weather::AnswersHeld => f.write_str("answers held"),
            Weather::CommitUnanswered => f.write_str("COMMIT unanswered"),
        }
    }
}
