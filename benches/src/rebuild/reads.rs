//! Reads of the read model at a rate that does not follow how fast they are answered.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use idempo_ids::Uuid;
use idempo_projection::Event;
use idempo_proto::event::v1::event_envelope::Data;
use idempo_proto::event::v1::item_portion::What;
use idempo_proto::inventory::v1::inventory_query_service_client::InventoryQueryServiceClient;
use idempo_proto::inventory::v1::{Freshness, GetItemRequest, ListItemsRequest};
use idempo_rpc::CALLER_METADATA;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::transport::Channel;

use super::stage::Stage;
use crate::latency::Latencies;
use crate::project::world::Record;

/// Connections.
const CHANNELS: usize = 4;
/// How long one read may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// From so many records players and items are taken that are read.
const SAMPLED_RECORDS: usize = 20_000;
/// How many things a page has.
const PAGE: i32 = 50;

/// One read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Read {
    pub(super) due: Instant,
    pub(super) answered: Instant,
    /// Where it was answered from.
    pub(super) generation: i32,
}

/// Connections, and what is read.
pub(super) struct Readers {
    queries: Vec<Channel>,
    players: Vec<Uuid>,
    items: Vec<Uuid>,
}

/// Reads that go on.
pub(super) struct Reading {
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<Vec<Read>>>,
}

impl Reading {
    /// Ends them; gives all, in the order in which they were answered.
    pub(super) async fn end(self) -> anyhow::Result<Vec<Read>> {
        self.stop.cancel();
        let mut reads = self.task.await??;
        reads.sort_unstable_by_key(|read| read.answered);
        Ok(reads)
    }
}

/// Their latencies, from when each was due.
pub(super) fn latencies(reads: &[Read]) -> anyhow::Result<Latencies> {
    let mut latencies = Latencies::new()?;
    reads.iter().for_each(|read| latencies.record(read.answered - read.due));
    Ok(latencies)
}

impl Readers {
    /// Readers of players and items that the records tell of.
    pub(super) async fn of(stage: &Stage, records: &[Record]) -> anyhow::Result<Arc<Self>> {
        let mut queries = Vec::new();
        for _ in 0..CHANNELS {
            queries.push(stage.channel().await?);
        }
        let (mut players, mut items) = (Vec::new(), Vec::new());
        // From all over the history.
        for record in records.iter().step_by(records.len().div_ceil(SAMPLED_RECORDS)) {
            players.push(record.key);
            if let Data::ItemGranted(granted) = Event::decode(&Bytes::copy_from_slice(&record.value))?.data
                && let Some(What::Unique(unique)) = granted.portion.and_then(|portion| portion.what)
            {
                items.push(Uuid::from_slice(&unique.item_id)?);
            }
        }
        ensure!(!players.is_empty() && !items.is_empty(), "there is nothing to read");
        Ok(Arc::new(Self { queries, players, items }))
    }

    /// Reads so many times a second, until it is told to end. Any read that fails fails all.
    pub(super) fn begin(self: &Arc<Self>, per_second: u32) -> Reading {
        let (readers, stop) = (Arc::clone(self), CancellationToken::new());
        let token = stop.clone();
        let task = tokio::spawn(async move {
            let mut due = tokio::time::interval(Duration::from_secs(1) / per_second);
            due.set_missed_tick_behavior(MissedTickBehavior::Burst);
            let (mut calls, mut reads) = (JoinSet::new(), Vec::new());
            let mut number = 0_usize;
            while let Some(due) = token.run_until_cancelled(due.tick()).await {
                let readers = Arc::clone(&readers);
                calls.spawn(async move { readers.read(number, due).await });
                number = number.wrapping_add(1);
                while let Some(read) = calls.try_join_next() {
                    reads.push(read??);
                }
            }
            while let Some(read) = calls.join_next().await {
                reads.push(read??);
            }
            Ok(reads)
        });
        Reading { stop, task }
    }

    /// A player's things or one item, in turn.
    async fn read(&self, number: usize, due: Instant) -> anyhow::Result<Read> {
        let channel = self.queries.get(number % self.queries.len()).context("a connection")?.clone();
        let mut client = InventoryQueryServiceClient::new(channel);
        let freshness: Option<Freshness> = if number.is_multiple_of(2) {
            let player = self.players.get(number / 2 % self.players.len()).context("a player")?;
            let asked = ListItemsRequest { parent: format!("players/{player}"), page_size: PAGE, ..ListItemsRequest::default() };
            client.list_items(patient(asked)?).await?.into_inner().freshness
        } else {
            let item = self.items.get(number / 2 % self.items.len()).context("an item")?;
            let asked = GetItemRequest { name: format!("items/{item}"), ..GetItemRequest::default() };
            client.get_item(patient(asked)?).await?.into_inner().freshness
        };
        let generation = freshness.context("a read says how fresh it is")?.generation;
        Ok(Read { due, answered: Instant::now(), generation })
    }
}

fn patient<T>(message: T) -> anyhow::Result<Request<T>> {
    let mut request = Request::new(message);
    request.set_timeout(PATIENCE);
    request.metadata_mut().insert(CALLER_METADATA, "bench".parse()?);
    Ok(request)
}
