//! What stands in the database about a projection and its generations.

use std::collections::BTreeMap;

use idempo_pg::{Error, Pool};
use jiff::Timestamp;
use tokio_postgres::Row;

use crate::gate::Limits;

/// A projection, and its generations, as they are noted beside the read model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) live: i32,
    pub(crate) previous: Option<i32>,
    pub(crate) pause: Option<Pause>,
    /// By number.
    pub(crate) generations: Vec<Generation>,
    /// The offsets that consumers don't go beyond: by generation and partition.
    holds: BTreeMap<i32, BTreeMap<i32, i64>>,
}

/// Who has paused a projection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pause {
    pub(crate) by: String,
    pub(crate) reason: String,
    pub(crate) at: Timestamp,
}

/// Where a generation is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Building,
    Ready,
    Live,
    Retired,
    Dropping,
}

/// What a rebuild is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Waiting,
    Scanning,
    Indexing,
    CatchingUp,
    Done,
    Failed,
}

/// What a generation is built from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    EventStore,
    Kafka,
}

impl Source {
    /// The name at rest.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::EventStore => "event_store",
            Self::Kafka => "kafka",
        }
    }
}

/// A generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Generation {
    pub(crate) number: i32,
    pub(crate) state: State,
    /// The logic that fills it; `None` where nothing has yet.
    pub(crate) logic: Option<String>,
    pub(crate) created_at: Timestamp,
    pub(crate) live_at: Option<Timestamp>,
    /// Whether its tables may be removed.
    pub(crate) is_drop_due: bool,
    pub(crate) rebuild: Option<Rebuild>,
    pub(crate) verification: Option<Verification>,
}

/// How a generation is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rebuild {
    pub(crate) source: Source,
    pub(crate) phase: Phase,
    pub(crate) caller: String,
    pub(crate) reason: String,
    pub(crate) workers: i32,
    pub(crate) events_per_second_max: i64,
    pub(crate) buckets: i32,
    pub(crate) events_total: i64,
    pub(crate) started_at: Timestamp,
    pub(crate) ready_at: Option<Timestamp>,
    pub(crate) failure: Option<(String, String)>,
}

impl Rebuild {
    /// The limit of its rate; 0 for none.
    pub(crate) fn pace(&self) -> u32 {
        u32::try_from(self.events_per_second_max).unwrap_or(u32::MAX)
    }
}

/// Where a comparison is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Waiting,
    Running,
    Equal,
    Different,
    Failed,
}

/// What a generation is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Against {
    /// The live generation.
    Live,
    /// The events of the event store, folded anew.
    Fold,
}

impl Against {
    /// The name at rest.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Fold => "fold",
        }
    }
}

/// What came of comparing a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verification {
    pub(crate) verdict: Verdict,
    pub(crate) against: Against,
    /// The generation that was live; `None` before it runs.
    pub(crate) compared_with: Option<i32>,
    pub(crate) caller: String,
    pub(crate) rows: i64,
    pub(crate) buckets: i32,
    pub(crate) buckets_different: i32,
    pub(crate) live_buckets_different: i32,
    pub(crate) started_at: Timestamp,
    pub(crate) ended_at: Option<Timestamp>,
    pub(crate) failure: Option<String>,
}

impl Known {
    /// Reads what is noted of a projection; `None` where there is no such projection.
    pub(crate) async fn read(pool: &Pool, projection: &str) -> Result<Option<Self>, Error> {
        let client = pool.get().await?;
        let statement = client.prepare_cached(include_str!("../sql/read_projection.sql")).await?;
        let Some(row) = client.query_opt(&statement, &[&projection]).await? else { return Ok(None) };
        let pause = match row.try_get::<_, Option<Timestamp>>(4)? {
            Some(at) => Some(Pause { by: row.try_get(2)?, reason: row.try_get(3)?, at }),
            None => None,
        };
        let statement = client.prepare_cached(include_str!("../sql/read_generations.sql")).await?;
        let generations = client.query(&statement, &[&projection]).await?;
        let statement = client.prepare_cached(include_str!("../sql/read_holds.sql")).await?;
        let mut holds: BTreeMap<i32, BTreeMap<i32, i64>> = BTreeMap::new();
        for row in client.query(&statement, &[&projection]).await? {
            holds.entry(row.try_get(0)?).or_default().insert(row.try_get(1)?, row.try_get(2)?);
        }
        Ok(Some(Self {
            live: row.try_get(0)?,
            previous: row.try_get(1)?,
            pause,
            generations: generations.iter().map(generation).collect::<Result<_, _>>()?,
            holds,
        }))
    }

    /// How many events a rebuild has read that is reading the event store; `None` where none is.
    pub(crate) async fn events_read(&self, pool: &Pool, projection: &str) -> Result<Option<i64>, Error> {
        let is_scanning = |generation: &&Generation| generation.rebuild.as_ref().is_some_and(|rebuild| rebuild.phase == Phase::Scanning);
        let Some(generation) = self.generations.iter().find(is_scanning) else { return Ok(None) };
        let client = pool.get().await?;
        let statement = client.prepare_cached(include_str!("../sql/events_read.sql")).await?;
        Ok(Some(client.query_one(&statement, &[&projection, &generation.number]).await?.try_get(0)?))
    }

    /// The generation with this number.
    pub(crate) fn generation(&self, number: i32) -> Option<&Generation> {
        self.generations.iter().find(|generation| generation.number == number)
    }

    /// Up to where a generation's partitions are read now.
    pub(crate) fn limits(&self, generation: i32) -> Limits {
        Limits { paused: self.pause.is_some(), before: self.holds.get(&generation).cloned().unwrap_or_default() }
    }
}

impl Generation {
    /// Whether it has a consumer: not while the event store is read, nor when it is given up.
    pub(crate) fn is_followed(&self) -> bool {
        match self.state {
            State::Ready | State::Live | State::Retired => true,
            State::Building => self.rebuild.as_ref().is_some_and(|rebuild| rebuild.phase == Phase::CatchingUp),
            State::Dropping => false,
        }
    }

    /// Whether its last comparison found no difference, and speaks for a switch while this generation is live: one with another generation does not.
    pub(crate) fn is_verified_beside(&self, live: i32) -> bool {
        let speaks = |found: &Verification| found.against == Against::Fold || found.compared_with == Some(live);
        self.verification.as_ref().is_some_and(|found| found.verdict == Verdict::Equal && speaks(found))
    }

    /// What it is to be compared with, where somebody wants that.
    pub(crate) fn to_be_compared(&self) -> Option<Against> {
        let found = self.verification.as_ref().filter(|found| matches!(found.verdict, Verdict::Waiting | Verdict::Running))?;
        let is_comparable = match self.state {
            State::Ready | State::Retired => true,
            State::Live => found.against == Against::Fold,
            State::Building | State::Dropping => false,
        };
        is_comparable.then_some(found.against)
    }

    /// The limit of its consumer's rate: while it is built from Kafka, that of its rebuild; 0 for none.
    pub(crate) fn consumer_pace(&self) -> u32 {
        let limited = self.rebuild.as_ref().filter(|rebuild| rebuild.phase != Phase::Done && rebuild.source == Source::Kafka);
        limited.map_or(0, Rebuild::pace)
    }

    /// Whether a program of this logic may fill it.
    pub(crate) fn is_of(&self, logic: &str) -> bool {
        self.logic.as_deref().is_none_or(|known| known == logic)
    }
}

fn generation(row: &Row) -> Result<Generation, tokio_postgres::Error> {
    Ok(Generation {
        number: row.try_get("generation")?,
        state: match row.try_get("state")? {
            "building" => State::Building,
            "ready" => State::Ready,
            "live" => State::Live,
            "retired" => State::Retired,
            _ => State::Dropping,
        },
        logic: row.try_get("code_hash")?,
        created_at: row.try_get("created_at")?,
        live_at: row.try_get("live_at")?,
        is_drop_due: row.try_get("drop_due")?,
        rebuild: row.try_get::<_, Option<&str>>("source")?.map(|source| rebuild(row, source)).transpose()?,
        verification: row.try_get::<_, Option<&str>>("verdict")?.map(|verdict| verification(row, verdict)).transpose()?,
    })
}

fn rebuild(row: &Row, source: &str) -> Result<Rebuild, tokio_postgres::Error> {
    let failure_code: Option<String> = row.try_get("failure_code")?;
    Ok(Rebuild {
        source: if source == Source::Kafka.name() { Source::Kafka } else { Source::EventStore },
        phase: match row.try_get("phase")? {
            "waiting" => Phase::Waiting,
            "scanning" => Phase::Scanning,
            "indexing" => Phase::Indexing,
            "catching_up" => Phase::CatchingUp,
            "done" => Phase::Done,
            _ => Phase::Failed,
        },
        caller: row.try_get("caller")?,
        reason: row.try_get("reason")?,
        workers: row.try_get("workers")?,
        events_per_second_max: row.try_get("events_per_second_max")?,
        buckets: row.try_get("buckets")?,
        events_total: row.try_get("events_total")?,
        started_at: row.try_get("started_at")?,
        ready_at: row.try_get("ready_at")?,
        failure: failure_code.zip(row.try_get("failure")?),
    })
}

fn verification(row: &Row, verdict: &str) -> Result<Verification, tokio_postgres::Error> {
    Ok(Verification {
        verdict: match verdict {
            "waiting" | "waiting_fold" => Verdict::Waiting,
            "running" | "running_fold" => Verdict::Running,
            "equal" => Verdict::Equal,
            "different" => Verdict::Different,
            _ => Verdict::Failed,
        },
        against: if row.try_get::<_, &str>("against")? == Against::Fold.name() { Against::Fold } else { Against::Live },
        compared_with: row.try_get("compared_with")?,
        caller: row.try_get("verified_by")?,
        rows: row.try_get("rows")?,
        buckets: row.try_get("compared_buckets")?,
        buckets_different: row.try_get("buckets_different")?,
        live_buckets_different: row.try_get("live_buckets_different")?,
        started_at: row.try_get("verification_started_at")?,
        ended_at: row.try_get("ended_at")?,
        failure: row.try_get("verification_failure")?,
    })
}
