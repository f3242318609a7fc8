//! What the tests share: other orders of the same events, and the read model in a database.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use idempo_devstack::testing::{self, TestDatabase};
use idempo_ids::StreamId;
use idempo_inventory_projector::{Config, InventoryProjector, Writes};
use idempo_pg::Pool;
use idempo_projection::{Event, Interest, Projector as _};

pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// The same events in another order: those of a stream as they are, streams as `picks` says.
pub(crate) fn interleaved(events: &[Event], picks: &[usize]) -> Vec<Event> {
    let mut streams: BTreeMap<StreamId, VecDeque<Event>> = BTreeMap::new();
    for event in events {
        streams.entry(event.stream_id).or_default().push_back(event.clone());
    }
    let mut picks = picks.iter().cycle();
    let mut order = Vec::new();
    while !streams.is_empty() {
        let at = picks.next().expect("at least one pick") % streams.len();
        let id = *streams.keys().nth(at).expect("it is below the length");
        let stream = streams.get_mut(&id).expect("it has the key");
        order.extend(stream.pop_front());
        if stream.is_empty() {
            streams.remove(&id);
        }
    }
    order
}

/// What a batch of these events adds.
pub(crate) fn writes(events: &[Event]) -> Writes {
    let mut writes = Writes::default();
    for event in events {
        assert_eq!(InventoryProjector::interest(event.event_type), Interest::Consumed);
        InventoryProjector::apply(event, &mut writes).expect("it can be applied");
    }
    writes
}

/// An empty read model, as the projector's own role sees it.
pub(crate) struct ReadModel {
    pub(crate) database: TestDatabase,
    pub(crate) pool: Pool,
}

impl ReadModel {
    pub(crate) async fn new() -> Self {
        let database = testing::database("inventory_view_db").await;
        let config = Config { database: database.config("idempo_inventory_projector"), ..Config::default() };
        let pool = Pool::open(&config.generation_database(1)).expect("a pool");
        Self { database, pool }
    }
}
