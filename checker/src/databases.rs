//! Reads the databases, as an auditor who can change nothing.

use std::collections::BTreeMap;
use std::str::FromStr as _;

use bytes::Bytes;
use idempo_proto::event::v1::EventEnvelope;
use prost::Message as _;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row};
use uuid::Uuid;

use crate::checks::money::Sums;
use crate::error::Error;
use crate::facts::{
    AuditRow, Checkpoint, DeadLetters, IdleTransaction, Job, KeyRow, Letter, Member, Outbox, Rows, Store, StoredEvent, StreamRow, Tables,
    View,
};
use crate::ids;
use crate::ledger::Balance;
use crate::live::Cursor;

/// What every session is bounded by: it reads whole tables, and writes nothing.
const OPTIONS: &str = "-c statement_timeout=60s -c default_transaction_read_only=on";

/// A connection of the auditor's. It is closed when this is dropped.
pub struct Session {
    name: String,
    client: Client,
    connection: tokio::task::JoinHandle<()>,
}

impl Session {
    /// Connects to `url`: `postgres://role[:password]@host[:port]/database[?options]`.
    ///
    /// # Errors
    /// When the URL is none, the database is away, or does not let the auditor in.
    pub async fn open(url: &str) -> Result<Self, Error> {
        let unnamed = |source| Error::Database { name: "of this URL".to_owned(), source };
        let mut config = tokio_postgres::Config::from_str(url).map_err(unnamed)?;
        let name = config.get_dbname().unwrap_or_default().to_owned();
        let options = config.get_options().map_or_else(|| OPTIONS.to_owned(), |given| format!("{given} {OPTIONS}"));
        config.options(options).application_name("idempo-checker");
        let (client, connection) = config.connect(NoTls).await.map_err(|source| Error::Database { name: name.clone(), source })?;
        let connection = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::warn!(%error, "the auditor's connection was lost");
            }
        });
        Ok(Self { name, client, connection })
    }

    /// The database's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Every event, stream and key of an event store, as of one moment.
    ///
    /// # Errors
    /// When the store can't be read, or holds what is no event.
    pub async fn store(&self) -> Result<Store, Error> {
        self.as_of_one_moment(async || self.read_store().await).await
    }

    async fn read_store(&self) -> Result<Store, Error> {
        Ok(Store {
            name: self.name.clone(),
            events: self.read(include_str!("sql/events.sql"), &[], Self::event).await?,
            streams: self.read(include_str!("sql/streams.sql"), &[], Self::stream).await?,
            keys: self.read(include_str!("sql/keys.sql"), &[], Self::key).await?,
        })
    }

    /// The wallet's store, its own tables and its own sums, all as of one moment.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn wallet(&self) -> Result<(Store, Tables, Sums), Error> {
        self.as_of_one_moment(async || Ok((self.read_store().await?, self.read_wallet_tables().await?, self.read_wallet_sums().await?)))
            .await
    }

    /// How far the outbox says that it is in Kafka, and what it keeps from it, as of one moment.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn cursor(&self) -> Result<Cursor, Error> {
        self.as_of_one_moment(async || {
            let row = self.one(include_str!("sql/cursor.sql")).await?;
            let quarantined = self.read(include_str!("sql/quarantined.sql"), &[], |_, row| self.get(row, "seq")).await?;
            let (first, second): (String, Option<String>) = (self.get(&row, "s1")?, self.get(&row, "s2")?);
            Cursor::parse(&first, second.as_deref(), self.get(&row, "acked_seq")?, quarantined.into_iter().collect())
        })
        .await
    }

    /// How the outbox is relayed, and how many of its rows are not in Kafka that are at least so many milliseconds old.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn outbox_older_than(&self, age_ms: i64) -> Result<Outbox, Error> {
        let counted = |_: &Self, row: &Row| self.unsigned(row, "rows");
        let rows = self.read(include_str!("sql/backlog_older_than.sql"), &[&age_ms], counted).await?;
        Ok(Outbox { backlog_rows: rows.into_iter().sum(), ..self.relay().await? })
    }

    fn event(&self, row: &Row) -> Result<StoredEvent, Error> {
        let (envelope, seq) = (Bytes::from(self.get::<Vec<u8>>(row, "envelope")?), self.get(row, "seq")?);
        let decoded = EventEnvelope::decode(envelope.clone())
            .map_err(|error| Error::Format(format!("{}: event {seq} can't be decoded: {error}", self.name)))?;
        Ok(StoredEvent {
            xid: self.unsigned(row, "xid")?,
            seq,
            stream_id: self.get(row, "stream_id")?,
            version: self.unsigned(row, "version")?,
            event_id: self.get(row, "event_id")?,
            envelope,
            decoded,
        })
    }

    fn stream(&self, row: &Row) -> Result<StreamRow, Error> {
        Ok(StreamRow {
            stream_id: self.get(row, "stream_id")?,
            partition_key: self.get(row, "partition_key")?,
            version: self.unsigned(row, "version")?,
        })
    }

    fn key(&self, row: &Row) -> Result<KeyRow, Error> {
        let scope = ids::of_bytes(&self.get::<Vec<u8>>(row, "scope")?);
        Ok(KeyRow {
            key: self.get(row, "key")?,
            scope: scope.ok_or_else(|| Error::Format(format!("{}: a key's scope has not 16 bytes", self.name)))?,
            is_refused: self.get::<i16>(row, "outcome")? != 0,
            reply: self.get::<Vec<u8>>(row, "reply")?.into(),
        })
    }

    /// How the outbox is relayed, and how much of it is not in Kafka.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn outbox(&self) -> Result<Outbox, Error> {
        let backlog = self.one(include_str!("sql/backlog.sql")).await?;
        Ok(Outbox { backlog_rows: self.unsigned(&backlog, "rows")?, ..self.relay().await? })
    }

    /// How the outbox is relayed, without counting its rows: cheap enough to be asked every few milliseconds.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn relay(&self) -> Result<Outbox, Error> {
        let row = self.one(include_str!("sql/relay_state.sql")).await?;
        Ok(Outbox {
            name: self.name.clone(),
            owner: self.get(&row, "owner")?,
            lease_epoch: self.get(&row, "lease_epoch")?,
            held: self.get(&row, "held")?,
            cursor: self.get(&row, "cursor")?,
            backlog_rows: 0,
        })
    }

    /// Sessions of this database that have been idle in a transaction for at least so many milliseconds.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn idle_in_transaction(&self, least_ms: i64) -> Result<Vec<IdleTransaction>, Error> {
        let idle = |_: &Self, row: &Row| {
            let (user, application) = (self.get(row, "user")?, self.get(row, "application")?);
            Ok(IdleTransaction { database: self.name.clone(), user, application, idle_ms: self.get(row, "idle_ms")? })
        };
        self.read(include_str!("sql/idle_in_transaction.sql"), &[&least_ms], idle).await
    }

    /// The wallet's own tables, as of one moment.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn wallet_tables(&self) -> Result<Tables, Error> {
        self.as_of_one_moment(async || self.read_wallet_tables().await).await
    }

    async fn read_wallet_tables(&self) -> Result<Tables, Error> {
        Ok(Tables::from([
            ("entries", self.rows(include_str!("sql/wallet_entries.sql")).await?),
            ("transactions", self.rows(include_str!("sql/wallet_transactions.sql")).await?),
            ("holds", self.rows(include_str!("sql/wallet_holds.sql")).await?),
        ]))
    }

    /// The wallet database's own sums, as of one moment.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn wallet_sums(&self) -> Result<Sums, Error> {
        self.as_of_one_moment(async || self.read_wallet_sums().await).await
    }

    async fn read_wallet_sums(&self) -> Result<Sums, Error> {
        let mut sums = Sums::default();
        for row in self.query(include_str!("sql/posting_sums.sql"), &[]).await? {
            sums.transactions += self.unsigned(&row, "transactions")?;
            let total = self.get::<String>(&row, "total")?.parse();
            let total = total.map_err(|error| Error::Format(format!("{}: a sum is no number: {error}", self.name)))?;
            sums.total.insert(self.get::<i16>(&row, "asset")?.into(), total);
        }
        for row in self.query(include_str!("sql/unbalanced_transactions.sql"), &[]).await? {
            let (transaction, total): (Uuid, String) = (self.get(&row, "transaction_id")?, self.get(&row, "total")?);
            sums.unbalanced.push(format!("{transaction}, which sums to {total},"));
        }
        for row in self.query(include_str!("sql/wallet_balances.sql"), &[]).await? {
            let account = (self.get(&row, "player_id")?, self.get::<i16>(&row, "asset")?.into());
            let (posted, held): (i64, i64) = (self.get(&row, "posted_after")?, self.get(&row, "held_after")?);
            sums.balances.insert(account, Balance { posted: posted.into(), held: held.into() });
        }
        Ok(sums)
    }

    /// The live generation of the inventory's read model: rows, checkpoints and stream versions, as of one moment.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn view(&self) -> Result<View, Error> {
        self.as_of_one_moment(async || {
            let generation: i32 = self.get(&self.one(include_str!("sql/generation.sql")).await?, "live_generation")?;
            self.query(include_str!("sql/search_generation.sql"), &[&format!("inventory_g{generation}")]).await?;
            let tables = Tables::from([
                ("items", self.rows(include_str!("sql/view_items.sql")).await?),
                ("stacks", self.rows(include_str!("sql/view_stacks.sql")).await?),
                ("loadouts", self.rows(include_str!("sql/view_loadouts.sql")).await?),
                ("item_events", self.rows(include_str!("sql/view_item_events.sql")).await?),
            ]);
            let (checkpoints, versions) = self.progress_of(generation).await?;
            let place = |_: &Self, row: &Row| Ok((self.get(row, "topic")?, self.get(row, "partition")?, self.get(row, "record_offset")?));
            let parked = self.read(include_str!("sql/parked.sql"), &[&generation], place).await?;
            Ok(View { tables, checkpoints, versions, parked: parked.into_iter().collect() })
        })
        .await
    }

    /// The dead letters and jobs of the service that people settle them with, and its audit, as of one moment.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn dead_letters(&self) -> Result<DeadLetters, Error> {
        self.as_of_one_moment(async || {
            let letter = |_: &Self, row: &Row| {
                let place = (self.get(row, "topic")?, self.get(row, "partition")?, self.get(row, "record_offset")?);
                let (key, state, code) = (self.get(row, "key_text")?, self.get(row, "state")?, self.get(row, "code")?);
                let letter = Letter { consumer_group: self.get(row, "consumer_group")?, place, key, state, code, members: Vec::new() };
                Ok((self.get::<i64>(row, "id")?, letter))
            };
            let mut letters: BTreeMap<i64, Letter> =
                self.read(include_str!("sql/ops_letters.sql"), &[], letter).await?.into_iter().collect();
            for row in self.query(include_str!("sql/ops_members.sql"), &[]).await? {
                let member =
                    Member { job: self.get(&row, "job_id")?, state: self.get(&row, "state")?, records: self.unsigned(&row, "records")? };
                letters.entry(self.get(&row, "letter_id")?).or_default().members.push(member);
            }
            let job =
                |_: &Self, row: &Row| Ok(Job { id: self.get(row, "id")?, state: self.get(row, "state")?, begun: self.get(row, "begun")? });
            let jobs = self.read(include_str!("sql/ops_jobs.sql"), &[], job).await?;
            let audit = self.read(include_str!("sql/ops_audit.sql"), &[], Self::audit_row).await?;
            Ok(DeadLetters { letters: letters.into_values().collect(), jobs, audit, wishes: Vec::new() })
        })
        .await
    }

    /// What was asked of the read model by those who operate it.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn wishes(&self) -> Result<Vec<AuditRow>, Error> {
        self.read(include_str!("sql/projection_audit.sql"), &[], Self::audit_row).await
    }

    fn audit_row(&self, row: &Row) -> Result<AuditRow, Error> {
        let (caller, action) = (self.get(row, "caller")?, self.get(row, "action")?);
        Ok(AuditRow { caller, action, target: self.get(row, "target")?, outcome: self.get(row, "outcome")? })
    }

    /// The version of each stream of an event store.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn stream_versions(&self) -> Result<BTreeMap<Uuid, u64>, Error> {
        let streams = self.read(include_str!("sql/streams.sql"), &[], Self::stream).await?;
        Ok(streams.into_iter().map(|stream| (stream.stream_id, stream.version)).collect())
    }

    /// How many holds should have expired and have not.
    ///
    /// # Errors
    /// When they can't be counted.
    pub async fn overdue_holds(&self) -> Result<i64, Error> {
        self.get(&self.one(include_str!("sql/overdue_holds.sql")).await?, "overdue")
    }

    /// How many reservations should have expired and have not.
    ///
    /// # Errors
    /// When they can't be counted.
    pub async fn overdue_reservations(&self) -> Result<i64, Error> {
        self.get(&self.one(include_str!("sql/overdue_reservations.sql")).await?, "overdue")
    }

    /// How far the live generation of the inventory's read model is: its checkpoints, and the last version of each stream in it.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn progress(&self) -> Result<(Vec<Checkpoint>, BTreeMap<Uuid, u64>), Error> {
        self.as_of_one_moment(async || {
            let generation: i32 = self.get(&self.one(include_str!("sql/generation.sql")).await?, "live_generation")?;
            self.progress_of(generation).await
        })
        .await
    }

    async fn progress_of(&self, generation: i32) -> Result<(Vec<Checkpoint>, BTreeMap<Uuid, u64>), Error> {
        let checkpoint = |_: &Self, row: &Row| {
            let (topic, partition) = (self.get(row, "topic")?, self.get(row, "partition")?);
            Ok(Checkpoint { topic, partition, next_offset: self.get(row, "next_offset")? })
        };
        let version = |_: &Self, row: &Row| Ok((self.get(row, "stream_id")?, self.unsigned(row, "version")?));
        let versions = self.read(include_str!("sql/stream_versions.sql"), &[&generation], version).await?;
        Ok((self.read(include_str!("sql/checkpoints.sql"), &[&generation], checkpoint).await?, versions.into_iter().collect()))
    }

    /// All statements of `reading` see the database as it is at the first of them.
    async fn as_of_one_moment<T>(&self, reading: impl AsyncFnOnce() -> Result<T, Error>) -> Result<T, Error> {
        self.batch("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let read = reading().await;
        self.batch("ROLLBACK").await?;
        read
    }

    async fn batch(&self, statements: &str) -> Result<(), Error> {
        self.client.batch_execute(statements).await.map_err(|source| self.wrong(source))
    }

    async fn query(&self, statement: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Error> {
        self.client.query(statement, parameters).await.map_err(|source| self.wrong(source))
    }

    async fn one(&self, statement: &str) -> Result<Row, Error> {
        self.client.query_one(statement, &[]).await.map_err(|source| self.wrong(source))
    }

    async fn read<T>(
        &self,
        statement: &str,
        parameters: &[&(dyn ToSql + Sync)],
        decode: impl Fn(&Self, &Row) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        self.query(statement, parameters).await?.iter().map(|row| decode(self, row)).collect()
    }

    async fn rows(&self, statement: &str) -> Result<Rows, Error> {
        self.query(statement, &[]).await?.iter().map(|row| Ok((self.get(row, "key")?, self.get(row, "value")?))).collect()
    }

    fn get<'a, T: tokio_postgres::types::FromSql<'a>>(&self, row: &'a Row, column: &str) -> Result<T, Error> {
        row.try_get(column).map_err(|source| self.wrong(source))
    }

    fn unsigned(&self, row: &Row, column: &str) -> Result<u64, Error> {
        let number: i64 = self.get(row, column)?;
        u64::try_from(number).map_err(|_| Error::Format(format!("{}: {column} is {number}", self.name)))
    }

    fn wrong(&self, source: tokio_postgres::Error) -> Error {
        Error::Database { name: self.name.clone(), source }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
