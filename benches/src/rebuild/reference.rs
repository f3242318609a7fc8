//! What a rebuild is measured beside.

use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use idempo_ids::Uuid;
use idempo_inventory_projector::{InventoryProjector, Writes};
use idempo_projection::{Event, Micros, Projector as _};
use tokio_postgres::{Client, Statement};

use super::stage::Stage;
use crate::project::world::Record;
use crate::usage::float;

/// How many events are upserted row by row: enough for a rate.
const UPSERTED_MAX: usize = 20_000;
/// Events of one transaction.
const EVENTS_PER_TRANSACTION: usize = 100;

/// Events a second that psql copies out of the store, and another psql in again, into a table with these columns and no index. Of the columns, what
/// a rebuild reads.
pub(super) async fn psql(stage: &Stage, format: &'static str, events: u64) -> anyhow::Result<f64> {
    stage.store.batch_execute(include_str!("../sql/rebuild_copied.sql")).await?;
    let url = stage.store_url()?;
    let began = Instant::now();
    tokio::task::spawn_blocking(move || copy(&url, format)).await??;
    let rate = float(events) / began.elapsed().as_secs_f64();
    let copied: i64 = stage.store.query_one(include_str!("../sql/rebuild_count_copied.sql"), &[]).await?.try_get(0)?;
    ensure!(copied.unsigned_abs() == events, "psql copied {copied} events of {events}");
    stage.store.batch_execute("DROP TABLE public.copied").await?;
    Ok(rate)
}

fn copy(url: &str, format: &str) -> anyhow::Result<()> {
    let psql = |sql: &str| {
        let mut command = Command::new("psql");
        command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", url, "-c", &sql.replace("CHOSEN_FORMAT", format)]);
        command
    };
    let out = include_str!("../sql/rebuild_copy_out.sql");
    let mut out = psql(out).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("psql can't be run")?;
    let pipe = out.stdout.take().context("psql has no output")?;
    let status = psql(include_str!("../sql/rebuild_copy_in.sql")).stdin(pipe).status()?;
    ensure!(out.wait()?.success() && status.success(), "psql failed");
    Ok(())
}

/// Events a second where each is folded by itself, and each row that follows is one statement of one session.
pub(super) async fn upserts(stage: &Stage, records: &[Record]) -> anyhow::Result<f64> {
    let client = &stage.view;
    client.batch_execute(include_str!("../sql/rebuild_upserted.sql")).await?;
    let statements = Statements::prepare(client).await?;
    let records = records.get(..UPSERTED_MAX.min(records.len())).unwrap_or_default();
    let began = Instant::now();
    for part in records.chunks(EVENTS_PER_TRANSACTION) {
        client.batch_execute("BEGIN").await?;
        for record in part {
            let mut writes = Writes::default();
            InventoryProjector::apply(&Event::decode(&Bytes::copy_from_slice(&record.value))?, &mut writes)?;
            statements.upsert(client, &writes).await?;
        }
        client.batch_execute("COMMIT").await?;
    }
    let rate = float(u64::try_from(records.len())?) / began.elapsed().as_secs_f64();
    client.batch_execute("DROP SCHEMA upserted CASCADE").await?;
    Ok(rate)
}

struct Statements {
    item: Statement,
    stack: Statement,
    item_event: Statement,
}

impl Statements {
    async fn prepare(client: &Client) -> anyhow::Result<Self> {
        Ok(Self {
            item: client.prepare(include_str!("../sql/rebuild_upsert_item.sql")).await?,
            stack: client.prepare(include_str!("../sql/rebuild_upsert_stack.sql")).await?,
            item_event: client.prepare(include_str!("../sql/rebuild_insert_item_event.sql")).await?,
        })
    }

    /// What one event says; what it equips is left out.
    async fn upsert(&self, client: &Client, writes: &Writes) -> anyhow::Result<()> {
        for (item, row) in &writes.items {
            let (item, owner, state, reservation) =
                (item.uuid(), row.owner.uuid(), row.state.number(), row.state.reservation().map(Uuid::from));
            let at = Micros(row.updated_at);
            client.execute(&self.item, &[&item, &row.item_type, &owner, &state, &reservation, &row.hop, &row.revision, &at]).await?;
        }
        for (key, change) in &writes.stacks {
            let at = Micros(change.updated_at);
            client.execute(&self.stack, &[&key.player.uuid(), &key.item_type, &change.quantity, &change.reserved, &at]).await?;
        }
        for entry in writes.history.iter().filter(|entry| entry.hop.is_some()) {
            let (item, event, player) = (entry.item.uuid(), entry.event_id.uuid(), entry.player.uuid());
            let (other, at) = (entry.counterparty.map(Uuid::from), Micros(entry.decided_at));
            let row: [&(dyn tokio_postgres::types::ToSql + Sync); 8] =
                [&item, &entry.hop, &entry.ordinal, &event, &entry.event_type, &player, &other, &at];
            client.execute(&self.item_event, &row).await?;
        }
        Ok(())
    }
}
