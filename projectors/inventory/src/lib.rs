//! The inventory projector: turns what happened to items into who has what, and answers queries on it.
//!
//! Place in the flow: it reads `economy-events`, where the relay puts what the inventory service appended; it is the only writer of
//! `inventory_view_db`; its gRPC services are `idempo.inventory.v1.InventoryQueryService` and, for operators, `idempo.ops.v1.ProjectionService` and
//! `idempo.ops.v1.ParkedService`.
//!
//! Invariants: the rows are those of [`fold`] over the events, whichever order the streams came in, and at every moment those of the events up to
//! the streams' versions beside them. The row of a unique item is that of its greatest hop; an item's history has each event once. An answer
//! with a position has that position in it, and every answer says how far behind it is. It is wholly from one generation: the live one.
//!
//! Not here: what may be done with items (the inventory service's), how events come exactly once (`idempo-projection`'s).

mod apply;
mod config;
mod copy;
mod grpc;
mod handlers;
mod metrics;
mod player;
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

use idempo_pg::Pool;
use idempo_projection::{
    Conducted, Conductor, Generations, Halt, Live, Operations, ParkedOperations, PlayerMender, Progress, Projector as _, Reading, Sampler,
};
use idempo_proto::inventory::v1::inventory_query_service_server::InventoryQueryServiceServer;
use idempo_proto::ops::v1::parked_service_server::ParkedServiceServer;
use idempo_proto::ops::v1::projection_service_server::ProjectionServiceServer;
use idempo_rpc::Operators;
use idempo_runtime::{Condition, Invalid, Platform, Role, Running, Stage, Task};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService as _;
use tonic::service::Routes;

use grpc::Grpc;
use handlers::Handlers;

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
        let layout = config.layout();
        let generations = Arc::new(Generations::new(layout.clone(), InventoryTables, platform.clock.clone())?);
        let source = if config.has_event_store() { Some(Pool::open(&config.event_store)?) } else { None };
        let (instance, has_source) = (platform.instance.to_string(), source.is_some());
        let part_events = config.rebuild_part_events;
        let mender = source.clone().map(|source| PlayerMender::<InventoryProjector, _>::new(layout.clone(), source, InventoryTables));
        start_sampler(&config, source.clone(), &generations, &platform)?;
        let conducted = Conducted { layout: layout.clone(), source, part_events, instance: instance.clone() };
        let conductor = Conductor::<InventoryProjector, _>::new(conducted, &generations, InventoryTables)?;
        let (operators, operated) = (start_operators(&config, &platform)?, (instance, has_source));
        let served = (handlers::DOMAIN, operators);
        let operations = Operations::new::<InventoryProjector, _>(served, layout.clone(), operated, &generations, platform.clock.clone())?;
        let operations = Arc::new(match mender {
            Some(mender) => operations.with_players(mender),
            None => operations,
        });
        let parked = Parked::new(Arc::clone(&operations), &generations, InventoryTables);

        let pool = layout.control()?;
        platform.watch("database", move || {
            let pool = pool.clone();
            async move { pool.check().await }
        });
        let handlers = Handlers { live: generations.live(), partitions: config.partitions };
        let (condition, topic) = (platform.readiness.condition("projection"), config.topic());
        platform.tasks.spawn(Task::critical("projection").stage(Stage::Edge), |cancel| async move {
            let live = generations.live();
            tokio::try_join!(
                async { Ok(generations.run::<InventoryProjector>(cancel.clone()).await?) },
                watch_live(&topic, live, condition, cancel.clone()),
            )?;
            Ok(())
        });
        platform.tasks.spawn(Task::critical("conductor").stage(Stage::Edge), |cancel| async move {
            conductor.run(cancel).await;
            Ok(())
        });
        let address = start_grpc(&config, handlers, (operations, parked), &platform).await?;
        Ok(Running::new().with_address("grpc", address))
    }
}

type Parked = ParkedOperations<InventoryProjector, InventoryTables>;

/// Has players' rows compared with their events all the time, where there is an event store to compare them with.
fn start_sampler(
    config: &Config,
    source: Option<Pool>,
    generations: &Generations<InventoryTables>,
    platform: &Platform,
) -> anyhow::Result<()> {
    let (Some(source), Some(interval)) = (source, config.sample_interval()) else { return Ok(()) };
    let sampler = Sampler::<InventoryProjector, _>::new(&config.layout(), source, generations, InventoryTables, interval)?;
    platform.tasks.spawn(Task::critical("sampler").stage(Stage::Edge), |cancel| async move {
        sampler.run(cancel).await;
        Ok(())
    });
    Ok(())
}

fn start_operators(config: &Config, platform: &Platform) -> anyhow::Result<Arc<Operators>> {
    let operators = Operators::new(&config.operators, handlers::DOMAIN)?;
    let followed = Arc::clone(&operators);
    platform.tasks.spawn(Task::critical("operators").stage(Stage::Edge), |cancel| async move {
        followed.follow(cancel).await;
        Ok(())
    });
    Ok(operators)
}

async fn start_grpc(
    config: &Config,
    handlers: Handlers,
    (operations, parked): (Arc<Operations>, Parked),
    platform: &Platform,
) -> anyhow::Result<std::net::SocketAddr> {
    let queries = InventoryQueryServiceServer::new(Grpc(handlers))
        .max_decoding_message_size(config.grpc.max_request_bytes)
        .max_encoding_message_size(config.grpc.max_response_bytes);
    let operations = ProjectionServiceServer::from_arc(operations)
        .max_decoding_message_size(config.grpc.max_request_bytes)
        .max_encoding_message_size(config.grpc.max_response_bytes);
    let parked = ParkedServiceServer::new(parked)
        .max_decoding_message_size(config.grpc.max_request_bytes)
        .max_encoding_message_size(config.grpc.max_response_bytes);
    let service = idempo_rpc::Service {
        domain: handlers::DOMAIN,
        names: vec![
            InventoryQueryServiceServer::<Grpc>::NAME,
            ProjectionServiceServer::<Operations>::NAME,
            ParkedServiceServer::<Parked>::NAME,
        ],
        routes: Routes::new(queries).add_service(operations).add_service(parked),
    };
    let (ready, shutdown) = (platform.readiness.subscribe(), platform.tasks.token(Stage::Edge));
    let (address, serving) = idempo_rpc::serve(&config.grpc, service, ready, shutdown).await?;
    platform.tasks.spawn(Task::critical("grpc").stage(Stage::Edge), |_| async move { Ok(serving.await?) });
    Ok(address)
}

/// Ready while reads can be answered from the live generation, and its partitions go on.
async fn watch_live(
    topic: &str,
    mut live: watch::Receiver<Live<InventoryTables>>,
    condition: Condition,
    cancel: CancellationToken,
) -> anyhow::Result<()> {
    loop {
        let now = live.borrow_and_update().clone();
        let watched = async {
            match &now {
                Live::Unknown => condition.unmet("the database has not said yet which generation is live"),
                Live::OtherLogic { generation, logic } => {
                    condition.unmet(format!("the live generation {generation} is of logic {logic}, not {}", InventoryProjector::LOGIC));
                }
                Live::Reading(reading) => return watch_partitions(topic, reading, &condition).await,
            }
            std::future::pending().await
        };
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            () = watched => {}
            changed = live.changed() => if changed.is_err() { return Ok(()) },
        }
    }
}

/// Ready while no partition of this process has stopped, and the topic is as it must be: what a stopped one holds falls behind until a person has
/// mended the cause. Never ends while the generation is followed.
async fn watch_partitions(topic: &str, reading: &Reading<InventoryTables>, condition: &Condition) {
    let progress: &Progress = &reading.progress;
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
        if changed.await.is_err() {
            return;
        }
    }
}
