//! Reads the databases, as an auditor who can change nothing.

use anyhow::{Context as _, Result};
use bytes::Bytes;
use idempo_ids::{EventId, StreamId, Uuid};
use idempo_proto::event::v1::EventEnvelope;
use prost::Message as _;
use tokio_postgres::Client;

use crate::checks::money::Sums;
use crate::facts::{Rows, Store, StoredEvent, StreamRow, Tables};
use crate::ledger::Balance;

/// How long one of these statements may take, in milliseconds: they read whole tables.
const STATEMENT_TIMEOUT_MS: u64 = 60_000;

/// A connection of the auditor's. It is closed when this is dropped.
pub struct Session {
    client: Client,
    connection: tokio::task::JoinHandle<()>,
}

impl Session {
    /// Connects.
    ///
    /// # Errors
    /// When the database is away or does not let the auditor in.
    pub async fn open(config: idempo_pg::Config) -> Result<Self> {
        let config = idempo_pg::Config { statement_timeout_ms: STATEMENT_TIMEOUT_MS, ..config };
        let (client, connection) = idempo_pg::connect(&config).await.context("connecting as the auditor")?;
        let connection = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::warn!(%error, "the auditor's connection was lost");
            }
        });
        Ok(Self { client, connection })
    }

    /// Every event and stream of an event store.
    ///
    /// # Errors
    /// When the store can't be read, or holds what is no event.
    pub async fn store(&self, name: &'static str) -> Result<Store> {
        // Both tables as of one moment: a timer may append between the two statements.
        self.client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        let mut store = Store { name, ..Store::default() };
        for row in self.client.query(include_str!("sql/events.sql"), &[]).await? {
            let envelope = Bytes::from(row.try_get::<_, Vec<u8>>("envelope")?);
            let seq = row.try_get("seq")?;
            store.events.push(StoredEvent {
                xid: u64::try_from(row.try_get::<_, i64>("xid")?)?,
                seq,
                stream_id: StreamId::new(row.try_get("stream_id")?),
                version: u64::try_from(row.try_get::<_, i64>("version")?)?,
                event_id: EventId::new(row.try_get("event_id")?),
                decoded: EventEnvelope::decode(envelope.clone()).with_context(|| format!("{name}: event {seq} can't be decoded"))?,
                envelope,
            });
        }
        for row in self.client.query(include_str!("sql/streams.sql"), &[]).await? {
            store.streams.push(StreamRow {
                stream_id: StreamId::new(row.try_get("stream_id")?),
                partition_key: row.try_get("partition_key")?,
                version: u64::try_from(row.try_get::<_, i64>("version")?)?,
            });
        }
        self.client.batch_execute("COMMIT").await?;
        Ok(store)
    }

    /// The wallet's own tables.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn wallet_tables(&self) -> Result<Tables> {
        Ok(Tables::from([
            ("entries", self.rows(include_str!("sql/wallet_entries.sql")).await?),
            ("transactions", self.rows(include_str!("sql/wallet_transactions.sql")).await?),
            ("holds", self.rows(include_str!("sql/wallet_holds.sql")).await?),
        ]))
    }

    /// The wallet database's own sums.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn wallet_sums(&self) -> Result<Sums> {
        let mut sums = Sums::default();
        for row in self.client.query(include_str!("sql/posting_sums.sql"), &[]).await? {
            sums.transactions += u64::try_from(row.try_get::<_, i64>("transactions")?)?;
            sums.total.insert(row.try_get::<_, i16>("asset")?.into(), row.try_get::<_, &str>("total")?.parse()?);
        }
        for row in self.client.query(include_str!("sql/unbalanced_transactions.sql"), &[]).await? {
            let (transaction, total): (Uuid, &str) = (row.try_get("transaction_id")?, row.try_get("total")?);
            sums.unbalanced.push(format!("{transaction}, which sums to {total},"));
        }
        for row in self.client.query(include_str!("sql/wallet_balances.sql"), &[]).await? {
            let account = (row.try_get::<_, Uuid>("player_id")?, row.try_get::<_, i16>("asset")?.into());
            let (posted, held): (i64, i64) = (row.try_get("posted_after")?, row.try_get("held_after")?);
            sums.balances.insert(account, Balance { posted: posted.into(), held: held.into() });
        }
        Ok(sums)
    }

    /// The generation of the inventory read model that answers.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn live_generation(&self) -> Result<i32> {
        Ok(self.client.query_one(include_str!("sql/live_generation.sql"), &[]).await?.try_get(0)?)
    }

    /// The tables of the generation of the inventory read model that the session's search path names.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn view_tables(&self) -> Result<Tables> {
        Ok(Tables::from([
            ("items", self.rows(include_str!("sql/view_items.sql")).await?),
            ("stacks", self.rows(include_str!("sql/view_stacks.sql")).await?),
            ("loadouts", self.rows(include_str!("sql/view_loadouts.sql")).await?),
            ("item_events", self.rows(include_str!("sql/view_item_events.sql")).await?),
        ]))
    }

    /// How many holds should have expired and have not.
    ///
    /// # Errors
    /// When they can't be counted.
    pub async fn overdue_holds(&self) -> Result<i64> {
        Ok(self.client.query_one(include_str!("sql/overdue_holds.sql"), &[]).await?.try_get(0)?)
    }

    /// How many reservations should have expired and have not.
    ///
    /// # Errors
    /// When they can't be counted.
    pub async fn overdue_reservations(&self) -> Result<i64> {
        Ok(self.client.query_one(include_str!("sql/overdue_reservations.sql"), &[]).await?.try_get(0)?)
    }

    /// The driver's client, for a statement of one's own.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    async fn rows(&self, statement: &str) -> Result<Rows> {
        let rows = self.client.query(statement, &[]).await?;
        rows.iter().map(|row| Ok((row.try_get("key")?, row.try_get("value")?))).collect()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
