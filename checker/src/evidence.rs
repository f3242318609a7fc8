//! Everything that a run left behind, gathered to be checked.

use std::collections::HashMap;
use std::time::Duration;

use crate::checks::money::Sums;
use crate::checks::vacuity::Seen;
use crate::databases::Session;
use crate::error::Error;
use crate::facts::{CursorMove, DeadLetters, IdleTransaction, Outbox, Store, Tables, Topic, View};
use crate::history::History;
use crate::kafka;
use crate::poison::Injected;

/// How long one topic may take to be read.
const DUMP_LIMIT: Duration = Duration::from_secs(60);
/// For how long a session may be idle in a transaction: less is a transaction under way.
const IDLE_LEAST_MS: i64 = 1_000;
/// How often everything is read at most.
const READS_MAX: usize = 5;
/// The pause between two looks at what is awaited.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// Where a run's traces are.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The wallet's database, `postgres://…`, for a role that reads everything.
    pub wallet: String,
    /// The inventory's database.
    pub inventory: String,
    /// The database of the inventory's read model.
    pub inventory_view: String,
    /// The brokers, `host:port` with commas between.
    pub brokers: String,
    /// The topics that carry events.
    pub topics: Vec<String>,
    /// The topics that carry dead letters.
    pub dead_letters: Vec<String>,
    /// The database of the dead letters that people settle; `None` where they are not looked at.
    pub ops: Option<String>,
}

/// A time in which keys were parked and nothing else was wrong, in microseconds since the load began. Only who ran it knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Calm {
    /// All of the keys were parked then.
    pub from_us: u64,
    /// Reads that were sent up to here are looked at.
    pub to_us: u64,
    /// From here on the keys were freed.
    pub settling_us: u64,
}

/// What is known of a run. What is empty or `None` is not checked, and the report says so by having looked at nothing.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// What the clients did and were told.
    pub history: History,
    /// The event stores, at the end.
    pub stores: Vec<Store>,
    /// The topics with events, at the end.
    pub topics: Vec<Topic>,
    /// The topics with dead letters, at the end.
    pub dead_letters: Vec<Topic>,
    /// Topics as they were earlier in the run, in the order in which they were dumped.
    pub earlier_topics: Vec<Topic>,
    /// Event stores as they were earlier in the run.
    pub earlier_stores: Vec<Store>,
    /// The wallet's own tables.
    pub wallet_tables: Tables,
    /// The wallet database's own sums.
    pub wallet_sums: Option<Sums>,
    /// The inventory's read model.
    pub view: Option<View>,
    /// How each outbox is relayed.
    pub outboxes: Vec<Outbox>,
    /// Every move of the outboxes' cursors, each cursor's in order. Only who ran it knows, by a trigger.
    pub cursor_moves: Vec<CursorMove>,
    /// Sessions that are idle in a transaction at the end.
    pub idle: Vec<IdleTransaction>,
    /// What only who ran it knows that it met: take-overs, fenced writes.
    pub met: Seen,
    /// What was put into the topics by hand.
    pub poison: Vec<Injected>,
    /// What has become of dead letters.
    pub ops: Option<DeadLetters>,
    /// A time in which keys were parked and nothing else was wrong.
    pub calm: Option<Calm>,
    /// When the last fault ended, in microseconds since the load began; `None` where there was none.
    pub last_fault_us: Option<u64>,
}

impl Evidence {
    /// Reads everything that is in databases and brokers. The platform has to be at rest; see [`wait_until_quiet`].
    ///
    /// A timer may fire all the same while it is read, and no moment is common to databases and brokers: where a store went on, all is read again.
    ///
    /// # Errors
    /// When one of them can't be read.
    pub async fn read(sources: &Sources, history: History) -> Result<Self, Error> {
        let auditor = Auditor::open(sources).await?;
        let mut evidence = auditor.read(sources).await?;
        for _ in 1..READS_MAX {
            if auditor.stands_still(&evidence.stores).await? {
                break;
            }
            evidence = auditor.read(sources).await?;
        }
        Ok(Self { history, ..evidence })
    }
}

/// A session in each database.
struct Auditor {
    wallet: Session,
    inventory: Session,
    view: Session,
    ops: Option<Session>,
}

impl Auditor {
    async fn open(sources: &Sources) -> Result<Self, Error> {
        let (wallet, inventory, view) =
            tokio::try_join!(Session::open(&sources.wallet), Session::open(&sources.inventory), Session::open(&sources.inventory_view))?;
        let ops = match &sources.ops {
            Some(url) => Some(Session::open(url).await?),
            None => None,
        };
        Ok(Self { wallet, inventory, view, ops })
    }

    async fn read(&self, sources: &Sources) -> Result<Evidence, Error> {
        let (wallet, inventory, topics, dead_letters) = tokio::try_join!(
            self.wallet.store(),
            self.inventory.store(),
            dump(&sources.brokers, &sources.topics),
            dump(&sources.brokers, &sources.dead_letters)
        )?;
        let mut idle = Vec::new();
        for session in [&self.wallet, &self.inventory, &self.view].into_iter().chain(&self.ops) {
            idle.extend(session.idle_in_transaction(IDLE_LEAST_MS).await?);
        }
        Ok(Evidence {
            stores: vec![wallet, inventory],
            topics,
            dead_letters,
            wallet_tables: self.wallet.wallet_tables().await?,
            wallet_sums: Some(self.wallet.wallet_sums().await?),
            view: Some(self.view.view().await?),
            outboxes: vec![self.wallet.outbox().await?, self.inventory.outbox().await?],
            idle,
            ops: self.dead_letters().await?,
            ..Evidence::default()
        })
    }

    async fn dead_letters(&self) -> Result<Option<DeadLetters>, Error> {
        let Some(ops) = &self.ops else { return Ok(None) };
        Ok(Some(DeadLetters { wishes: self.view.wishes().await?, ..ops.dead_letters().await? }))
    }

    /// Whether nothing was appended since the stores were read.
    async fn stands_still(&self, stores: &[Store]) -> Result<bool, Error> {
        let mut versions = self.wallet.stream_versions().await?;
        versions.extend(self.inventory.stream_versions().await?);
        let rows = stores.iter().flat_map(|store| &store.streams);
        Ok(versions == rows.map(|row| (row.stream_id, row.version)).collect())
    }

    /// Whether nothing is under way any more.
    async fn is_quiet(&self, sources: &Sources) -> Result<bool, Error> {
        let overdue = self.wallet.overdue_holds().await? + self.inventory.overdue_reservations().await?;
        let backlog = self.wallet.outbox().await?.backlog_rows + self.inventory.outbox().await?.backlog_rows;
        Ok(overdue == 0 && backlog == 0 && self.view_has_all(sources).await?)
    }

    /// Whether the read model has every event of the inventory, and has passed over the wallet's. The last offset of a partition may be the mark of
    /// a transaction's end, which no consumer sees.
    async fn view_has_all(&self, sources: &Sources) -> Result<bool, Error> {
        let (checkpoints, versions) = self.view.progress().await?;
        if versions != self.inventory.stream_versions().await? {
            return Ok(false);
        }
        let next: HashMap<(&str, i32), i64> =
            checkpoints.iter().map(|checkpoint| ((checkpoint.topic.as_str(), checkpoint.partition), checkpoint.next_offset)).collect();
        let ends = kafka::ends(&sources.brokers, &sources.topics).await?;
        Ok(ends.iter().all(|end| next.get(&(end.topic.as_str(), end.partition)).copied().unwrap_or(0) >= end.next_offset - 1))
    }
}

/// Dumps topics.
///
/// # Errors
/// As [`kafka::dump`].
pub async fn dump(brokers: &str, topics: &[String]) -> Result<Vec<Topic>, Error> {
    let mut dumps = Vec::with_capacity(topics.len());
    for topic in topics {
        dumps.push(kafka::dump(brokers, topic, DUMP_LIMIT).await?);
    }
    Ok(dumps)
}

/// Waits until nothing moves any more: what is past its time has expired, outboxes are empty, and the read model has read all that the topics hold. `false` where
/// this is not so after `limit`; what is still behind then stands in the report (I13).
///
/// # Errors
/// When databases or brokers can't be read.
pub async fn wait_until_quiet(sources: &Sources, limit: Duration) -> Result<bool, Error> {
    let auditor = Auditor::open(sources).await?;
    let quiet = async {
        while !auditor.is_quiet(sources).await? {
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        Ok(true)
    };
    tokio::time::timeout(limit, quiet).await.unwrap_or(Ok(false))
}
