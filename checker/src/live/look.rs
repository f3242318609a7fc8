//! One look at everything, in the order that makes it fit together.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::checks::money::Sums;
use crate::databases::Session;
use crate::error::Error;
use crate::evidence::{Sources, dump};
use crate::facts::{IdleTransaction, Outbox, Place, Store, Tables, Topic, View};
use crate::kafka;

/// For how long a session may be idle in a transaction, in milliseconds: less is a transaction under way.
const IDLE_LEAST_MS: i64 = 5_000;
/// The pause between two looks at what is awaited.
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// How long what was there at the beginning may take to be everywhere.
#[derive(Debug, Clone, Copy)]
pub struct Patience(pub Duration);

/// How far an outbox says that it is in Kafka.
#[derive(Debug, Clone, Default)]
pub struct Cursor {
    /// What was relayed wholly.
    pub(super) first: Snapshot,
    /// What is being relayed; of it, what has a number up to `acked_seq`.
    pub(super) second: Option<Snapshot>,
    pub(super) acked_seq: i64,
    /// The numbers of rows that are kept from Kafka.
    pub(super) quarantined: HashSet<i64>,
}

impl Cursor {
    /// A cursor as the database writes it.
    ///
    /// # Errors
    /// [`Error::Format`] where a snapshot is none.
    pub fn parse(first: &str, second: Option<&str>, acked_seq: i64, quarantined: HashSet<i64>) -> Result<Self, Error> {
        let second = second.map(Snapshot::parse).transpose()?;
        Ok(Self { first: Snapshot::parse(first)?, second, acked_seq, quarantined })
    }

    /// Whether a row has to be in Kafka.
    #[must_use]
    pub fn stands_for(&self, xid: u64, seq: i64) -> bool {
        let second = self.second.as_ref().is_some_and(|snapshot| seq <= self.acked_seq && snapshot.shows(xid));
        (self.first.shows(xid) || second) && !self.quarantined.contains(&seq)
    }
}

/// Which transactions are visible, as `pg_snapshot` has it.
#[derive(Debug, Clone, Default)]
pub(super) struct Snapshot {
    xmin: u64,
    xmax: u64,
    under_way: HashSet<u64>,
}

impl Snapshot {
    fn parse(text: &str) -> Result<Self, Error> {
        let malformed = || Error::Format(format!("`{text}` is no snapshot"));
        let number = |part: &str| part.parse::<u64>().map_err(|_| malformed());
        let mut parts = text.split(':');
        let (Some(xmin), Some(xmax), Some(xip)) = (parts.next(), parts.next(), parts.next()) else { return Err(malformed()) };
        let under_way = xip.split(',').filter(|part| !part.is_empty()).map(number).collect::<Result<_, _>>()?;
        Ok(Self { xmin: number(xmin)?, xmax: number(xmax)?, under_way })
    }

    /// A row has been committed, or nobody would have seen it: so what is below `xmin` is visible.
    fn shows(&self, xid: u64) -> bool {
        xid < self.xmin || (xid < self.xmax && !self.under_way.contains(&xid))
    }
}

/// Everything that was looked at.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// How each outbox is relayed; its backlog is what was there at the beginning and is not in Kafka.
    pub outboxes: Vec<Outbox>,
    /// How far each store's outbox says that it is in Kafka, in the order of the stores.
    pub cursors: Vec<Cursor>,
    /// Streams that had more events at the beginning than the read model has in the end, with both versions.
    pub behind: BTreeMap<Uuid, (u64, u64)>,
    /// How many streams the read model was to have.
    pub awaited_streams: usize,
    /// The read model.
    pub view: View,
    /// The topics.
    pub topics: Vec<Topic>,
    /// Where logs begin that have lost their beginning.
    pub beginnings: HashMap<(String, i32), i64>,
    /// The event stores.
    pub stores: Vec<Store>,
    /// The wallet's own tables.
    pub wallet_tables: Tables,
    /// The wallet database's own sums.
    pub wallet_sums: Sums,
    /// Sessions that are idle in a transaction.
    pub idle: Vec<IdleTransaction>,
    /// How many databases there are.
    pub databases: usize,
}

impl Look {
    /// Whether every log has its beginning.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.beginnings.is_empty()
    }

    /// Looks at everything.
    ///
    /// # Errors
    /// When something can't be read.
    pub async fn take(sources: &Sources, patience: Patience, discarded: &HashSet<Place>) -> Result<Self, Error> {
        let (wallet, inventory, view) =
            tokio::try_join!(Session::open(&sources.wallet), Session::open(&sources.inventory), Session::open(&sources.inventory_view))?;
        let mut look = Self { databases: 3, ..Self::default() };
        look.await_what_is_there([&wallet, &inventory], &inventory, &view, patience).await?;
        look.cursors = vec![wallet.cursor().await?, inventory.cursor().await?];
        look.view = view.view().await?;
        (look.topics, look.beginnings) = topics(sources).await?;
        let (wallet_store, tables, sums) = wallet.wallet().await?;
        look.stores = vec![wallet_store, inventory.store().await?];
        (look.wallet_tables, look.wallet_sums) = (tables, sums);
        look.leave_out(discarded);
        for session in [&wallet, &inventory, &view] {
            look.idle.extend(session.idle_in_transaction(IDLE_LEAST_MS).await?);
        }
        Ok(look)
    }

    /// Leaves out the records at these places that are no event of a store, as these bytes: people have looked at them, and said that nobody is to have
    /// them. An event of a store stays, whatever people have said of it.
    pub fn leave_out(&mut self, discarded: &HashSet<Place>) {
        let stored: HashSet<&[u8]> = self.stores.iter().flat_map(|store| &store.events).map(|event| event.envelope.as_ref()).collect();
        for topic in &mut self.topics {
            let is_discarded = |partition, offset| discarded.contains(&(topic.name.clone(), partition, offset));
            topic.records.retain(|record| !is_discarded(record.partition, record.offset) || stored.contains(record.value.as_ref()));
        }
    }

    /// Waits until what is there now is in Kafka and in the read model, or patience ends; notes what is missing then.
    async fn await_what_is_there(
        &mut self,
        stores: [&Session; 2],
        inventory: &Session,
        view: &Session,
        patience: Patience,
    ) -> Result<(), Error> {
        let until = Instant::now() + patience.0;
        let began = Instant::now();
        let awaited = inventory.stream_versions().await?;
        self.awaited_streams = awaited.len();
        loop {
            let age_ms = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
            self.outboxes.clear();
            for store in stores {
                self.outboxes.push(store.outbox_older_than(age_ms).await?);
            }
            let (_, versions) = view.progress().await?;
            let there = |stream: &Uuid| versions.get(stream).copied().unwrap_or(0);
            let behind = awaited.iter().filter(|(stream, version)| there(stream) < **version);
            self.behind = behind.map(|(stream, version)| (*stream, (*version, there(stream)))).collect();
            let is_there = self.behind.is_empty() && self.outboxes.iter().all(|outbox| outbox.backlog_rows == 0);
            if is_there || Instant::now() > until {
                return Ok(());
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }
}

/// Every topic, all read at once, and where logs begin that have lost their beginning: asked after the topic was read, so that none is missed that it lost
/// before.
async fn topics(sources: &Sources) -> Result<(Vec<Topic>, HashMap<(String, i32), i64>), Error> {
    let read = |name: &String| {
        let (brokers, names) = (sources.brokers.clone(), vec![name.clone()]);
        tokio::spawn(async move {
            let topics = dump(&brokers, &names).await?;
            Ok((topics, kafka::beginnings(&brokers, &names).await?))
        })
    };
    let reading: Vec<_> = sources.topics.iter().map(read).collect();
    let (mut topics, mut beginnings) = (Vec::new(), HashMap::new());
    for (reading, name) in reading.into_iter().zip(&sources.topics) {
        let read: Result<_, Error> = reading.await.unwrap_or_else(|_| Err(Error::Late(format!("reading {name}"))));
        let (found, begins) = read?;
        topics.extend(found);
        beginnings.extend(begins);
    }
    Ok((topics, beginnings))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_stands_for_what_its_snapshots_show_and_is_not_in_quarantine() {
        let cursor = Cursor::parse("10:20:12,15", Some("18:30:"), 7, HashSet::from([3])).expect("a cursor");
        for (xid, seq, stands) in
            [(9, 100, true), (12, 100, false), (12, 7, true), (13, 100, true), (25, 7, true), (25, 8, false), (30, 1, false)]
        {
            assert_eq!(cursor.stands_for(xid, seq), stands, "xid {xid}, seq {seq}");
        }
        assert!(!cursor.stands_for(9, 3), "it is in quarantine");
        assert!(Cursor::parse("nothing", None, 0, HashSet::new()).is_err());
    }
}
