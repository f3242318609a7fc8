//! The handlers of the queries: check the request, wait for its position, read, and say how far behind the answer is.

mod get_item;
mod list_item_events;
mod list_items;

use std::sync::Arc;

use idempo_errors::Classified;
use idempo_ids::{ItemId, PlayerId, StreamId};
use idempo_kafka::partition_of;
use idempo_pg::Client;
use idempo_projection::{Live, PostgresStore, Projector as _, Reached, Reading, Stopped, StoreError, View};
use idempo_proto::event::v1::ItemKind;
use idempo_proto::inventory::v1::{Freshness, Item};
use idempo_rpc::{Deadline, refusal, status, timestamp};
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::{Code, Status};

use crate::apply::InventoryProjector;
use crate::metrics;
use crate::queries::Holding;
use crate::store::InventoryTables;

pub(crate) use get_item::get_item;
pub(crate) use list_item_events::list_item_events;
pub(crate) use list_items::list_items;

/// The domain of this service's errors.
pub(crate) const DOMAIN: &str = "inventory-projector.idempo";

/// What the handlers work with.
pub(crate) struct Handlers {
    pub(crate) live: watch::Receiver<Live<InventoryTables>>,
    pub(crate) partitions: i32,
}

/// A read of one generation, from its beginning to its end.
struct Reader {
    client: Client,
    reading: Arc<Reading<InventoryTables>>,
    partition: Option<i32>,
}

/// On what an answer depends.
#[derive(Clone, Copy)]
enum Basis {
    /// The stream of one player, which is in one partition.
    Player(PlayerId),
    /// Streams of any players.
    All,
}

impl Handlers {
    /// A connection on which the live generation has what the caller asks for.
    async fn reader_at(&self, basis: Basis, text: &str, position: &[(StreamId, u64)], deadline: Deadline) -> Result<Reader, Status> {
        let reading = self.reading()?;
        let partition = self.partition(basis);
        if !position.is_empty() {
            let started = Instant::now();
            let reached = reading.view.reached(position, deadline.wait_budget()).await.map_err(|error| away(&error))?;
            metrics::waited(&reached, started.elapsed());
            match reached {
                Reached::Yes => {}
                Reached::NotYet => return Err(not_reached(&reading.view, partition, text)),
                Reached::Parked(letter) => {
                    return Err(refusal::key_parked(DOMAIN, InventoryProjector::NAME, text, &letter.to_string()).into_status());
                }
            }
        }
        let client = reading.pool.get().await.map_err(|error| away(&error))?;
        Ok(Reader { client, reading, partition })
    }

    /// The generation that is live, as far as this process has heard.
    fn reading(&self) -> Result<Arc<Reading<InventoryTables>>, Status> {
        match &*self.live.borrow() {
            Live::Reading(reading) => Ok(Arc::clone(reading)),
            Live::Unknown => {
                let text = "the database has not said yet which generation is live";
                Err(status::refusal(Code::Unavailable, "READ_MODEL_UNAVAILABLE", DOMAIN, text)
                    .retry_after(status::RETRY_AFTER)
                    .into_status())
            }
            Live::OtherLogic { generation, logic } => {
                let (projection, generation) = (InventoryProjector::NAME, *generation);
                let error = StoreError::OtherLogic { projection, generation, logic: InventoryProjector::LOGIC };
                tracing::debug!(generation, logic, "a read is refused: the live generation is of other logic");
                Err(away(&error))
            }
        }
    }

    /// The one partition that an answer depends on.
    fn partition(&self, basis: Basis) -> Option<i32> {
        match basis {
            Basis::Player(player) => Some(partition_of(player.to_string().as_bytes(), self.partitions)),
            Basis::All => None,
        }
    }
}

impl Reader {
    fn freshness(&self) -> Option<Freshness> {
        let lag = self.reading.view.lag(self.partition);
        Some(Freshness { lag_events: lag.events, lag_ms: lag.ms, generation: self.reading.view.generation() })
    }
}

/// Why a position is not reached. Streams don't tell their partitions, so of those that have stopped the player's own comes first, then any.
fn not_reached(view: &View<PostgresStore<InventoryTables>>, partition: Option<i32>, text: &str) -> Status {
    let own = view.stops(partition).into_iter().next();
    match own.or_else(|| view.stops(None).into_iter().next()) {
        Some(Stopped { partition, offset, code }) => {
            refusal::projection_stopped(DOMAIN, InventoryProjector::NAME, text, (partition, offset, &code)).into_status()
        }
        None => refusal::projection_behind(DOMAIN, InventoryProjector::NAME, text, view.lag(None).ms).into_status(),
    }
}

/// The answer to a failure of the database.
fn away<E: Classified + 'static>(error: &E) -> Status {
    status::of_error(error, DOMAIN)
}

fn item_not_found(item: ItemId) -> Status {
    refusal::not_found(DOMAIN, "ITEM_NOT_FOUND", "item", &format!("items/{item}")).into_status()
}

fn item_message(holding: Holding) -> Item {
    let Holding { item, item_type, owner, quantity, reserved, state, equipped, hop, updated_at } = holding;
    let (name, kind) = match item {
        Some(item) => (format!("players/{owner}/items/{item}"), ItemKind::Unique),
        None => (format!("players/{owner}/stacks/{item_type}"), ItemKind::Stackable),
    };
    Item {
        name,
        item_type: format!("itemTypes/{item_type}"),
        kind: kind.into(),
        quantity,
        reserved_quantity: reserved,
        state: state.into(),
        equipped,
        hop,
        update_time: Some(timestamp::to_proto(updated_at)),
    }
}

/// Cuts what was read, one more than the page where there is more, to the page; says whether there is more.
fn cut<T>(rows: &mut Vec<T>, page_size: u32) -> bool {
    let size = usize::try_from(page_size).unwrap_or(usize::MAX);
    let has_more = rows.len() > size;
    rows.truncate(size);
    has_more
}
