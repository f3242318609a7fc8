//! The inventory projector: turns what happened to items into who has what, and answers queries on it.
//!
//! Place in the flow: it reads `economy-events`, where the relay puts what the inventory service appended; it is the only writer of
//! `inventory_view_db`; its gRPC service is `idempo.inventory.v1.InventoryQueryService`.
//!
//! Invariants: the rows are those of [`fold`] over the events, whichever order the streams came in, and at every moment those of the events up to
//! the streams' versions beside them. The row of a unique item is that of its greatest hop; an item's history has each event once. An answer
//! with a position has that position in it, and every answer says how far behind it is.
//!
//! Not here: what may be done with items (the inventory service's), how events come exactly once (`idempo-projection`'s).

mod apply;
mod config;
mod grpc;
mod handlers;
mod metrics;
mod queries;
mod rows;
mod store;
mod writes;

pub use apply::InventoryProjector;
pub use config::Config;
pub use queries::read_rows;
pub use rows::{ItemEventKey, ItemEventRow, LoadoutRow, Rows, StackRow, fold};
pub use store::InventoryTables;
pub use writes::{HistoryEntry, ItemRow, ItemState, LoadoutChange, StackChange, StackKey, Writes};

use std::sync::Arc;
use std::time::Duration;

use idempo_pg::Pool;
use idempo_projection::{Halt, PostgresStore, Progress, Projection, Projector as _, Scope, StoreError};
use idempo_proto::inventory::v1::inventory_query_service_server::InventoryQueryServiceServer;
use idempo_runtime::{Condition, Invalid, Platform, Role, Running, Stage, Task};
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService as _;
use tonic::service::Routes;

use grpc::Grpc;
use handlers::Handlers;

/// How soon the generation is claimed again when the database was away.
const CLAIM_RETRY: Duration = Duration::from_millis(200);

/// The inventory projector.
#[derive(Debug)]
pub struct InventoryProjection;

impl Role for InventoryProjection {
    const NAME: &'static str = "inventory-projector";
    const ABOUT: &'static str = "Who has which items: follows the events, answers queries";
    type Config = Config;

    fn validate(config: &Config) -> Result<(), Invalid> {
        config.validate()
    }

    async fn start(config: Config, platform: Platform) -> anyhow::Result<Running> {
        metrics::describe();
        let pool = Pool::open(&config.generation_database())?;
        let scope = Scope { generation: config.generation, topic: config.topic() };
        let store = Arc::new(PostgresStore::new::<InventoryProjector>(pool.clone(), scope, InventoryTables));
        let topic = config.topic();
        let progress = Arc::new(Progress::new(platform.clock.clone(), InventoryProjector::NAME, config.generation));
        let projection = Projection::new(Arc::clone(&store), Arc::clone(&progress), config.options());
        let handlers = Handlers { pool: pool.clone(), view: projection.view(), partitions: config.partitions };

        platform.watch("database", move || {
            let pool = pool.clone();
            async move { pool.check().await }
        });
        let condition = platform.readiness.condition("projection");
        platform.tasks.spawn(Task::critical("projection").stage(Stage::Edge), |cancel| async move {
            if claim(&store, &cancel).await? {
                tokio::try_join!(
                    async { Ok(projection.run::<InventoryProjector>(cancel.clone()).await?) },
                    watch_partitions(&topic, &progress, condition, cancel.clone()),
                )?;
            }
            Ok(())
        });
        let address = start_grpc(&config, handlers, &platform).await?;
        Ok(Running::new().with_address("grpc", address))
    }
}

async fn start_grpc(config: &Config, handlers: Handlers, platform: &Platform) -> anyhow::Result<std::net::SocketAddr> {
    let server = InventoryQueryServiceServer::new(Grpc(handlers))
        .max_decoding_message_size(config.grpc.max_request_bytes)
        .max_encoding_message_size(config.grpc.max_response_bytes);
    let service = idempo_rpc::Service {
        domain: handlers::DOMAIN,
        names: vec![InventoryQueryServiceServer::<Grpc>::NAME],
        routes: Routes::new(server),
    };
    let (ready, shutdown) = (platform.readiness.subscribe(), platform.tasks.token(Stage::Edge));
    let (address, serving) = idempo_rpc::serve(&config.grpc, service, ready, shutdown).await?;
    platform.tasks.spawn(Task::critical("grpc").stage(Stage::Edge), |_| async move { Ok(serving.await?) });
    Ok(address)
}

/// Claims the generation for this program's logic, and waits for the database as long as it is away. `false` when the process stops first.
async fn claim(store: &PostgresStore<InventoryTables>, cancel: &CancellationToken) -> Result<bool, StoreError> {
    while let Some(claimed) = cancel.run_until_cancelled(store.claim::<InventoryProjector>()).await {
        match claimed {
            Ok(()) => return Ok(true),
            Err(error) if error.is_transient() => tracing::debug!(error = &error as &dyn std::error::Error, "the read model is away"),
            Err(error) => return Err(error),
        }
        if cancel.run_until_cancelled(tokio::time::sleep(CLAIM_RETRY)).await.is_none() {
            break;
        }
    }
    Ok(false)
}

/// Ready while no partition of this process has stopped, and the topic is as it must be: what a stopped one holds falls behind until a person has
/// mended the cause.
async fn watch_partitions(topic: &str, progress: &Progress, condition: Condition, cancel: CancellationToken) -> anyhow::Result<()> {
    let (mut stopped, mut fault) = (progress.stopped(), progress.topic_fault());
    loop {
        let name = |(partition, halt): &(i32, Halt)| format!("{}: topic {topic}, partition {partition} {halt}", halt.cause.code());
        let mut reasons: Vec<String> = stopped.borrow_and_update().iter().map(name).collect();
        reasons.extend(fault.borrow_and_update().iter().map(ToString::to_string));
        if reasons.is_empty() {
            condition.met();
        } else {
            condition.unmet(reasons.join("; "));
        }
        let changed = async {
            tokio::select! { changed = stopped.changed() => changed, changed = fault.changed() => changed }
        };
        match cancel.run_until_cancelled(changed).await {
            Some(Ok(())) => {}
            Some(Err(_)) | None => return Ok(()),
        }
    }
}
