//! Everything that a run left behind, gathered to be checked.

use std::collections::HashMap;
use std::time::Duration;

use crate::checks::money::Sums;
use crate::checks::vacuity::Seen;
use crate::databases::Session;
use crate::error::Error;
use crate::facts::{IdleTransaction, Outbox, Store, Tables, Topic, View};
use crate::history::History;
use crate::kafka;

/// How long one topic may take to be read.
const DUMP_LIMIT: Duration = Duration::from_secs(60);
/// For how long a session may be idle in a transaction: less is a transaction under way.
const IDLE_LEAST_MS: i64 = 1_000;
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
    /// Sessions that are idle in a transaction at the end.
    pub idle: Vec<IdleTransaction>,
    /// What only who ran it knows that it met: take-overs, fenced writes.
    pub met: Seen,
    /// When the last fault ended, in microseconds since the load began; `None` where there was none.
    pub last_fault_us: Option<u64>,
}

impl Evidence {
    /// Reads everything that is in databases and brokers. The platform has to be at rest; see [`wait_until_quiet`].
    ///
    /// # Errors
    /// When one of them can't be read.
    pub async fn read(sources: &Sources, history: History) -> Result<Self, Error> {
        let wallet = Session::open(&sources.wallet).await?;
        let inventory = Session::open(&sources.inventory).await?;
        let view = Session::open(&sources.inventory_view).await?;
        let mut idle = Vec::new();
        for session in [&wallet, &inventory, &view] {
            idle.extend(session.idle_in_transaction(IDLE_LEAST_MS).await?);
        }
        Ok(Self {
            history,
            stores: vec![wallet.store().await?, inventory.store().await?],
            topics: dump(&sources.brokers, &sources.topics).await?,
            dead_letters: dump(&sources.brokers, &sources.dead_letters).await?,
            wallet_tables: wallet.wallet_tables().await?,
            wallet_sums: Some(wallet.wallet_sums().await?),
            view: Some(view.view().await?),
            outboxes: vec![wallet.outbox().await?, inventory.outbox().await?],
            idle,
            ..Self::default()
        })
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

/// Waits until nothing moves any more: timers have fired, outboxes are empty, and the read model has read all that the topics hold. `false` where
/// this is not so after `limit`; what is still behind then stands in the report (I13).
///
/// # Errors
/// When databases or brokers can't be read.
pub async fn wait_until_quiet(sources: &Sources, limit: Duration) -> Result<bool, Error> {
    let wallet = Session::open(&sources.wallet).await?;
    let inventory = Session::open(&sources.inventory).await?;
    let view = Session::open(&sources.inventory_view).await?;
    let quiet = async {
        loop {
            let overdue = wallet.overdue_holds().await? + inventory.overdue_reservations().await?;
            let backlog = wallet.outbox().await?.backlog_rows + inventory.outbox().await?.backlog_rows;
            if overdue == 0 && backlog == 0 && has_all(&view, &inventory, sources).await? {
                return Ok(true);
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    };
    tokio::time::timeout(limit, quiet).await.unwrap_or(Ok(false))
}

/// Whether the read model has every event of the inventory, and has passed over the wallet's. The last offset of a partition may be the mark of a
/// transaction's end, which no consumer sees.
async fn has_all(view: &Session, inventory: &Session, sources: &Sources) -> Result<bool, Error> {
    let (checkpoints, versions) = view.progress().await?;
    if versions != inventory.stream_versions().await? {
        return Ok(false);
    }
    let next: HashMap<(&str, i32), i64> =
        checkpoints.iter().map(|checkpoint| ((checkpoint.topic.as_str(), checkpoint.partition), checkpoint.next_offset)).collect();
    let ends = kafka::ends(&sources.brokers, &sources.topics).await?;
    Ok(ends.iter().all(|end| next.get(&(end.topic.as_str(), end.partition)).copied().unwrap_or(0) >= end.next_offset - 1))
}
