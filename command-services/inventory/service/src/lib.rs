//! The inventory service: takes commands on item types and inventories over gRPC, appends what follows, and answers reads of item types from
//! tables kept in the same transaction.
//!
//! Place in the flow: it is the only writer of `inventory_db`. A request is checked by its handler ([`handlers`]), becomes a command of
//! `idempo-inventory-domain`, is decided and appended by one of the event store's two executors (one for item types, one for inventories),
//! and its rows are written beside the events ([`inline`]). The relay takes the events on from there.
//!
//! Invariants: an answer under a key never changes; an item type that was answered is there for the next command; a reservation expires also
//! when the service was down when it was due ([`timers`]).
//!
//! Not here: the rules (the domain's), sending events (the relay's), what players have (the read model's), who may call (the gateway's).

mod codec;
mod config;
mod grpc;
mod handlers;
mod inline;
mod kinds;
mod metrics;
mod queries;
mod timers;

pub use codec::{InventoryDomain, ItemTypeDomain};
pub use config::{Config, Timers};
pub use inline::{Catalogue, Stock};

use std::sync::Arc;
use std::time::Duration;

use idempo_clock::SharedClock;
use idempo_event_store::postgres::{PostgresStore, maintain_key_partitions};
use idempo_event_store::{Domain, Executor, Handle};
use idempo_pg::Pool;
use idempo_proto::inventory::v1::inventory_service_server::InventoryServiceServer;
use idempo_runtime::{Condition, Invalid, Platform, Role, Running, Stage, Task};
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService as _;
use tonic::service::Routes;

use grpc::Grpc;
use handlers::Handlers;
use timers::ReservationTimer;

/// How often the database is asked whether it is there.
const DATABASE_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How often the partitions of the idempotency keys are looked after.
const KEY_PARTITIONS_INTERVAL: Duration = Duration::from_hours(24);
/// How soon that is tried again after a failure.
const KEY_PARTITIONS_RETRY: Duration = Duration::from_secs(1);
/// The most streams of item types whose state is kept: each takes one command in its life.
const CACHED_ITEM_TYPES_MAX: usize = 256;

/// The inventory service.
#[derive(Debug)]
pub struct Inventory;

impl Role for Inventory {
    const NAME: &'static str = "inventory";
    const ABOUT: &'static str = "Items: what kinds there are, who has which, and how every one of them came there";
    type Config = Config;

    fn validate(config: &Config) -> Result<(), Invalid> {
        config.validate()
    }

    async fn start(config: Config, platform: Platform) -> anyhow::Result<Running> {
        metrics::describe();
        let pool = Pool::open(&config.database)?;
        look_after_database(&pool, &platform);
        let limits = idempo_event_store::Config::default();
        let inventories = start_executor(InventoryDomain, limits, &pool, &platform);
        let limits = idempo_event_store::Config { cached_streams_max: CACHED_ITEM_TYPES_MAX, ..limits };
        let item_types = start_executor(ItemTypeDomain, limits, &pool, &platform);
        let interval = Duration::from_millis(config.timers.poll_interval_ms);
        let timer = ReservationTimer::new(inventories.clone(), pool.clone(), platform.clock.clone(), interval);
        platform.tasks.spawn(Task::critical("reservation-timer").stage(Stage::Edge), |cancel| async move {
            timer.run(cancel).await;
            Ok(())
        });
        let handlers = Handlers::new(item_types, inventories, pool, platform.clock.clone());
        let address = start_grpc(&config, handlers, &platform).await?;
        Ok(Running::new().with_address("grpc", address))
    }
}

/// Starts what decides and appends for one domain. It ends after what takes in new work.
fn start_executor<D: Domain>(domain: D, limits: idempo_event_store::Config, pool: &Pool, platform: &Platform) -> Handle<D> {
    let name = domain.category().name;
    let store = Arc::new(PostgresStore::<D::Inline>::new(pool.clone()));
    let (commands, executor) = Executor::new(Arc::new(domain), Arc::clone(&store), platform.clock.clone(), limits);
    platform.tasks.spawn(Task::critical(format!("{name}-executor")), |cancel| async move {
        executor.run(cancel).await;
        Ok(())
    });
    platform.tasks.spawn(Task::critical(format!("{name}-doorbell")), |cancel| async move {
        store.ring_doorbell(cancel).await;
        Ok(())
    });
    commands
}

async fn start_grpc(config: &Config, handlers: Handlers, platform: &Platform) -> anyhow::Result<std::net::SocketAddr> {
    let server = InventoryServiceServer::new(Grpc(handlers))
        .max_decoding_message_size(config.grpc.max_request_bytes)
        .max_encoding_message_size(config.grpc.max_response_bytes);
    let service =
        idempo_rpc::Service { domain: codec::DOMAIN, routes: Routes::new(server), names: vec![InventoryServiceServer::<Grpc>::NAME] };
    let shutdown = platform.tasks.token(Stage::Edge);
    let (address, serving) = idempo_rpc::serve(&config.grpc, service, platform.readiness.subscribe(), shutdown).await?;
    platform.tasks.spawn(Task::critical("grpc").stage(Stage::Edge), |_| async move { Ok(serving.await?) });
    Ok(address)
}

/// Keeps the service's readiness true to whether its database is there, and the key partitions ahead of the time.
fn look_after_database(pool: &Pool, platform: &Platform) {
    let (database, watched) = (platform.readiness.condition("database"), pool.clone());
    platform.tasks.spawn(Task::critical("database-watch"), |cancel| watch_database(watched, database, cancel));
    let (partitions, pool, clock) = (platform.readiness.condition("key-partitions"), pool.clone(), platform.clock.clone());
    platform.tasks.spawn(Task::critical("key-partitions"), |cancel| keep_key_partitions(pool, clock, partitions, cancel));
}

async fn watch_database(pool: Pool, database: Condition, cancel: CancellationToken) -> anyhow::Result<()> {
    while let Some(checked) = cancel.run_until_cancelled(pool.check()).await {
        match checked {
            Ok(()) => database.met(),
            Err(error) => database.unmet(error.to_string()),
        }
        if cancel.run_until_cancelled(tokio::time::sleep(DATABASE_CHECK_INTERVAL)).await.is_none() {
            break;
        }
    }
    Ok(())
}

async fn keep_key_partitions(pool: Pool, clock: SharedClock, partitions: Condition, cancel: CancellationToken) -> anyhow::Result<()> {
    while let Some(kept) = cancel.run_until_cancelled(maintain_key_partitions(&pool, &clock)).await {
        let wait = match kept {
            Ok(()) => {
                partitions.met();
                KEY_PARTITIONS_INTERVAL
            }
            // The partitions reach weeks ahead: a failure matters only before the first success, when the condition is not met anyway.
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "the key partitions could not be looked after");
                KEY_PARTITIONS_RETRY
            }
        };
        if cancel.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
            break;
        }
    }
    Ok(())
}
