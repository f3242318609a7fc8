//! Poison: records that somebody else writes into the topic of the economy, under keys of players who play and under keys of nobody; rows that the read
//! model refuses for a while; and kills of those whom a job on dead letters needs, while it is under way.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use idempo_checker::facts::Topic;
use idempo_checker::ids;
use idempo_checker::poison::Injected;
use idempo_clock::SystemClock;
use idempo_devstack::Server;
use idempo_ids::PlayerId;
use idempo_showcase::poison::kinds::{ForgottenTrigger, Kind, out_of_place, write};
use serde::Serialize;
use uuid::Uuid;

use super::{Link, Resource};
use crate::stage::{Begun, DEAD_LETTERS, ECONOMY_TOPIC, PROJECTORS, Stage, Undo};

/// How many players are poisoned at once, each with another kind; the first of them twice, so that poison waits behind poison.
const PLAYERS: usize = 5;
/// How many streams are looked at for one that is a player's.
const STREAMS_PER_PLAYER: usize = 4;
/// A version that no stream comes to.
const FAR_AWAY: u64 = 1 << 40;
/// How long is waited at most until a job is under way on what was just poisoned: it has to be parked, known and planned before.
const JOB_LIMIT: Duration = Duration::from_secs(10);
/// The pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(25);
/// The read model's live generation: nobody builds another one here.
const GENERATION: i64 = 1;

/// Something goes wrong that people have to settle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PoisonFault {
    /// Records of every kind.
    Records {
        /// What decides whose keys they have.
        by: Uuid,
    },
    /// The read model refuses rows of one item type.
    RowsRefused {
        /// What decides of which.
        by: Uuid,
    },
    /// Records as above; and when a job works on them, SIGKILL to a process that it needs, and a start at the end.
    JobInterrupted {
        /// What decides whose keys they have.
        by: Uuid,
        /// Who is killed.
        process: &'static str,
    },
}

impl PoisonFault {
    pub(super) fn uses(&self) -> Vec<Resource> {
        // What is asked of the database, and written to the topic, needs both to be there.
        let mut uses = vec![Resource::PostgresUp];
        let whole = |process: &'static str| [Resource::Process(process), Resource::Link(Link::Postgres(process))];
        match self {
            Self::Records { .. } => uses.push(Resource::Kafka),
            // Nothing is refused while nothing comes; and a projector that stands still in the middle of a transaction would keep the table.
            Self::RowsRefused { .. } => {
                uses.push(Resource::Kafka);
                uses.extend(PROJECTORS.into_iter().flat_map(whole));
            }
            // Whatever it takes until a job is under way.
            Self::JobInterrupted { .. } => {
                uses.push(Resource::Kafka);
                uses.extend(PROJECTORS.into_iter().chain([DEAD_LETTERS]).flat_map(whole));
            }
        }
        uses
    }

    pub(super) fn target(&self) -> &'static str {
        match *self {
            Self::Records { .. } => "economy-events",
            Self::RowsRefused { .. } => "inventory_view_db",
            Self::JobInterrupted { process, .. } => process,
        }
    }

    pub(super) async fn begin(&self, stage: &mut Stage) -> Result<Begun> {
        // After a stop the server reads its log first.
        stage.servers.wait_ready(Server::Postgres).await?;
        match *self {
            Self::Records { by } => {
                let records = inject(stage, by).await?;
                Ok(Begun { note: format!("{} records", records.len()), undo: Undo::Nothing })
            }
            Self::RowsRefused { by } => refuse_rows(stage, by).await,
            Self::JobInterrupted { by, process } => {
                let records = inject(stage, by).await?.len();
                let began = Instant::now();
                while stage.unsettled_members().await == 0 && began.elapsed() < JOB_LIMIT {
                    tokio::time::sleep(LOOK_PAUSE).await;
                }
                stage.platform.kill(process)?;
                let left = stage.note_interrupted(process).await;
                Ok(Begun { note: format!("{records} records, {left} not settled"), undo: Undo::StartProcess(process) })
            }
        }
    }
}

/// Writes poison of every kind, half of it under the keys of players who play, and keeps in mind what was written.
pub(crate) async fn inject(stage: &mut Stage, by: Uuid) -> Result<Vec<Injected>> {
    let clock = SystemClock::shared();
    let key = |player: Uuid| Bytes::from(player.hyphenated().to_string());
    let own = |number: u32| ids::derive(by, "nobody", number);
    let of_kind =
        |player: Uuid, kind: Kind| Injected { key: key(player), value: kind.value(PlayerId::new(player), &clock).unwrap_or_default() };
    let place = |player: Uuid, version: u64, mark: u32| Injected {
        key: key(player),
        value: out_of_place(player, version, ids::derive(by, "mark", mark), &clock),
    };
    let mut records = vec![
        of_kind(own(0), Kind::Garbage),
        of_kind(own(1), Kind::Tombstone),
        of_kind(own(2), Kind::UnknownType),
        place(own(3), FAR_AWAY, 0),
    ];
    let players = players(stage, by).await?;
    let kinds: [&dyn Fn(Uuid, u64) -> Injected; PLAYERS] = [
        &|player, _| of_kind(player, Kind::Garbage),
        &|player, _| of_kind(player, Kind::Tombstone),
        &|player, _| of_kind(player, Kind::UnknownType),
        &|player, _| place(player, FAR_AWAY, 1),
        // Another event than the one that has this version.
        &|player, version| place(player, version, 2),
    ];
    records.extend(players.iter().zip(kinds).map(|((player, version), kind)| kind(*player, *version)));
    records.extend(players.first().map(|(player, _)| place(*player, FAR_AWAY, 3)));
    // What may have been written counts too.
    stage.poison.injected.extend(records.iter().cloned());
    write(&records, stage.servers.kafka_brokers(), &economy()?).await?;
    Ok(records)
}

/// Players with inventories, and how far those are.
async fn players(stage: &Stage, by: Uuid) -> Result<Vec<(Uuid, u64)>> {
    let most = i64::try_from(PLAYERS * STREAMS_PER_PLAYER)?;
    let rows = stage.session("inventory_db").await?.query(include_str!("../sql/players.sql"), &[&by, &most]).await?;
    let mut players = Vec::new();
    for row in rows {
        let (player, stream): (Uuid, Uuid) = (row.try_get("partition_key")?, row.try_get("stream_id")?);
        if stream == ids::stream("inventory", player) {
            players.push((player, u64::try_from(row.try_get::<_, i64>("version")?)?));
        }
    }
    players.truncate(PLAYERS);
    Ok(players)
}

async fn refuse_rows(stage: &Stage, by: Uuid) -> Result<Begun> {
    let row = stage.session("inventory_view_db").await?.query_opt(include_str!("../sql/stack_type.sql"), &[&by]).await?;
    let Some(row) = row else {
        return Ok(Begun { note: "nobody has anything".to_owned(), undo: Undo::Nothing });
    };
    let item_type: String = row.try_get("item_type")?;
    let trigger = ForgottenTrigger::leave(stage.cluster(), GENERATION, &item_type).await?;
    Ok(Begun { note: item_type, undo: Undo::TakeRows(trigger) })
}

fn economy() -> Result<Topic> {
    let economy = idempo_schemas::topics().topics.iter().find(|topic| topic.number == ECONOMY_TOPIC);
    let economy = economy.context("economy-events is in topics.yaml")?;
    Ok(Topic { name: economy.name.to_owned(), partitions: economy.partitions, records: Vec::new() })
}

impl fmt::Display for PoisonFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Records { .. } => "poison",
            Self::RowsRefused { .. } => "rows refused",
            Self::JobInterrupted { .. } => "poison, kill -9 in a job",
        })
    }
}
