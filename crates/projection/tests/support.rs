//! A projection that is easy to check: how much each player was granted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use idempo_clock::SystemClock;
use idempo_devstack::testing::{self, TestDatabase};
use idempo_ids::{StreamId, Uuid};
use idempo_pg::{Pool, Transaction};
use idempo_projection::memory::{MemoryStore, MemoryTopic, Model};
use idempo_projection::{
    DeadLetters, Entry, Event, Feed, Home, Interest, Malformed, PostgresStore, Progress, Projector, Scope, Tables, TouchedRow,
};
use idempo_proto::event::v1::event_envelope::Data;
use idempo_proto::event::v1::item_portion::What;
use idempo_proto::event::v1::{EventEnvelope, FundsMinted, ItemGranted, ItemPortion};
use prost::Message as _;
use prost::bytes::Bytes;
use tokio::sync::mpsc;

pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// What the read model refuses to go beyond.
pub(crate) const TOTAL_MAX: i64 = 1_000_000;

/// Sums up what was granted, and counts the events.
pub(crate) struct Tally;

pub(crate) type Totals = BTreeMap<Uuid, (i64, i64)>;

#[derive(Debug, Default, Clone)]
pub(crate) struct TallyWrites(pub(crate) Totals);

impl Projector for Tally {
    type Writes = TallyWrites;

    const NAME: &'static str = "tally";
    const LOGIC: &'static str = "tally/1";

    fn interest(event_type: u16) -> Interest {
        match event_type {
            100..=199 => Interest::PassedOver,
            201 => Interest::Consumed,
            _ => Interest::Unknown,
        }
    }

    fn category(_event_type: u16) -> &'static str {
        "inventory"
    }

    fn apply(event: &Event, writes: &mut TallyWrites) -> Result<(), Malformed> {
        // Changed before it is known to be good: the runtime must throw it away when it is not.
        let (total, count) = writes.0.entry(event.partition_key).or_default();
        *count += 1;
        let Data::ItemGranted(ItemGranted { portion: Some(ItemPortion { what: Some(What::Quantity(quantity)), .. }), .. }) = &event.data
        else {
            return Err(Malformed("no quantity"));
        };
        *total += quantity;
        Ok(())
    }
}

#[derive(Debug, Default, Clone)]
pub(crate) struct TallyModel(pub(crate) Totals);

impl Model for TallyModel {
    type Writes = TallyWrites;

    fn merge(&mut self, writes: &TallyWrites) -> Result<(), &'static str> {
        let mut merged = self.0.clone();
        for (player, (total, count)) in &writes.0 {
            let row = merged.entry(*player).or_default();
            *row = (row.0 + total, row.1 + count);
            if row.0 > TOTAL_MAX {
                return Err("total");
            }
        }
        self.0 = merged;
        Ok(())
    }
}

pub(crate) struct TallyTables;

impl Tables for TallyTables {
    type Writes = TallyWrites;

    const READS: &'static [&'static str] = &[];

    async fn write(&self, transaction: &Transaction<'_>, writes: &TallyWrites) -> Result<(), idempo_pg::Error> {
        let players: Vec<Uuid> = writes.0.keys().copied().collect();
        let totals: Vec<i64> = writes.0.values().map(|(total, _)| *total).collect();
        let counts: Vec<i64> = writes.0.values().map(|(_, count)| *count).collect();
        let sql = "INSERT INTO tally AS t SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bigint[])
             ON CONFLICT (player) DO UPDATE SET total = t.total + excluded.total, events = t.events + excluded.events";
        transaction.execute(sql, &[&players, &totals, &counts]).await?;
        Ok(())
    }

    fn together(writes: &[&TallyWrites]) -> Option<TallyWrites> {
        let mut together = TallyModel::default();
        writes.iter().try_for_each(|writes| together.merge(writes)).ok()?;
        Some(TallyWrites(together.0))
    }

    async fn touched(&self, _: &Transaction<'_>, _: &TallyWrites, _: i64) -> Result<Vec<TouchedRow>, idempo_pg::Error> {
        Ok(Vec::new())
    }
}

/// The consumer group of tests in memory.
pub(crate) const GROUP: &str = "idempo.tally.g1";

/// Dead letters that go to a topic in memory.
pub(crate) fn letters_to(topic: &Arc<MemoryTopic>) -> DeadLetters {
    DeadLetters { group: Arc::from(GROUP), topic: Arc::clone(topic) as Arc<dyn idempo_projection::DeadLetterTopic> }
}

pub(crate) type Memory = MemoryStore<TallyModel>;
pub(crate) type Postgres = PostgresStore<TallyTables>;

/// A database with the tables of the runtime and the tally's.
pub(crate) struct View {
    pub(crate) database: TestDatabase,
    pub(crate) pool: Pool,
}

impl View {
    pub(crate) async fn new() -> Self {
        let database = testing::database("inventory_view_db").await;
        let config = idempo_pg::Config { search_path: Some("projection".to_owned()), ..database.superuser() };
        let pool = Pool::open(&config).expect("a pool");
        let client = pool.get().await.expect("the database answers");
        client
            .batch_execute(&format!(
                "INSERT INTO generation (projection, generation, state) VALUES ('tally', 1, 'live');
                 CREATE TABLE tally (player uuid PRIMARY KEY, total bigint NOT NULL CHECK (total <= {TOTAL_MAX}), events bigint NOT NULL)"
            ))
            .await
            .expect("the tally's table");
        Self { database, pool }
    }

    pub(crate) fn store(&self, topic: &str) -> Arc<Postgres> {
        let scope = Scope { generation: 1, topic: topic.to_owned() };
        Arc::new(PostgresStore::new::<Tally>(self.pool.clone(), scope, TallyTables))
    }

    pub(crate) async fn totals(&self) -> Totals {
        let client = self.pool.get().await.expect("the database answers");
        let rows = client.query("SELECT player, total, events FROM tally", &[]).await.expect("rows");
        rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect()
    }

    pub(crate) async fn execute(&self, sql: &str) {
        let client = self.pool.get().await.expect("the database answers");
        client.batch_execute(sql).await.expect("it executes");
    }
}

pub(crate) fn progress() -> Arc<Progress> {
    Arc::new(Progress::new(SystemClock::shared(), Tally::NAME, 1))
}

pub(crate) fn player(number: u128) -> Uuid {
    Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0000 + number)
}

pub(crate) fn stream_of(number: u128) -> StreamId {
    StreamId::of("inventory", player(number))
}

fn envelope(number: u128, version: u64, data: Option<Data>) -> EventEnvelope {
    EventEnvelope {
        event_id: idempo_ids::derive(player(number), "event", u32::try_from(version).expect("a small version")).as_bytes().to_vec().into(),
        stream_id: stream_of(number).bytes().to_vec().into(),
        version,
        partition_key: player(number).as_bytes().to_vec().into(),
        decided_at: Some(prost_types::Timestamp { seconds: 1_750_000_000 + i64::try_from(version).expect("small"), nanos: 0 }),
        command_id: vec![7; 16].into(),
        correlation_id: vec![7; 16].into(),
        data,
        ..EventEnvelope::default()
    }
}

/// The event that grants `quantity` to a player.
pub(crate) fn granted(number: u128, version: u64, quantity: i64) -> Vec<u8> {
    let portion = ItemPortion { item_type: "ore".to_owned(), what: Some(What::Quantity(quantity)) };
    let data = Data::ItemGranted(ItemGranted { portion: Some(portion), reason: String::new() });
    envelope(number, version, Some(data)).encode_to_vec()
}

/// An event that the tally knows, but can't apply.
pub(crate) fn malformed(number: u128, version: u64) -> Vec<u8> {
    envelope(number, version, Some(Data::ItemGranted(ItemGranted::default()))).encode_to_vec()
}

/// An event that is none of the tally's business.
pub(crate) fn passed_over(number: u128, version: u64) -> Vec<u8> {
    envelope(number, version, Some(Data::FundsMinted(FundsMinted::default()))).encode_to_vec()
}

/// An event of a type that nobody knows yet: field 299.
pub(crate) fn of_unknown_type(number: u128, version: u64) -> Vec<u8> {
    let mut bytes = envelope(number, version, None).encode_to_vec();
    bytes.extend([0xda, 0x12, 0x00]);
    bytes
}

/// A record in memory, under the key of its event.
pub(crate) fn entry(offset: i64, value: Option<Vec<u8>>) -> Entry {
    let value = value.map(Bytes::from);
    let event = value.as_ref().and_then(|value| Event::decode(value).ok());
    Entry { offset, key: event.map(|event| event.partition_key.to_string().into()), value, ..Entry::default() }
}

/// A record in memory under a player's key, whatever it is.
pub(crate) fn under(number: u128, offset: i64, value: Option<Vec<u8>>) -> Entry {
    Entry { offset, key: Some(player(number).to_string().into()), value: value.map(Bytes::from), ..Entry::default() }
}

/// Records in memory, offsets from 0.
pub(crate) fn entries(values: impl IntoIterator<Item = Vec<u8>>) -> Vec<Entry> {
    (0_i64..).zip(values).map(|(offset, value)| entry(offset, Some(value))).collect()
}

/// The only partition of a topic in memory.
pub(crate) const HOME: Home = Home { partition: 0, partitions: 1 };

/// A feed in memory. It ends when the sender is dropped.
pub(crate) struct MemoryFeed {
    receiver: mpsc::UnboundedReceiver<Entry>,
    done: Arc<AtomicI64>,
}

pub(crate) struct Tap {
    pub(crate) sender: mpsc::UnboundedSender<Entry>,
    pub(crate) done: Arc<AtomicI64>,
}

pub(crate) fn feed() -> (Tap, MemoryFeed) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let done = Arc::new(AtomicI64::new(-1));
    (Tap { sender, done: Arc::clone(&done) }, MemoryFeed { receiver, done })
}

impl Tap {
    pub(crate) fn send(&self, entries: impl IntoIterator<Item = Entry>) {
        for entry in entries {
            self.sender.send(entry).expect("somebody reads");
        }
    }
}

impl Feed for MemoryFeed {
    async fn next(&mut self, entries: &mut Vec<Entry>, limit: usize) -> bool {
        self.receiver.recv_many(entries, limit).await > 0
    }

    fn head(&self) -> i64 {
        0
    }

    fn done(&self, next_offset: i64) {
        self.done.store(next_offset, Ordering::SeqCst);
    }
}
