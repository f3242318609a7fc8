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
pub use config::Config;
pub use idempo_command_service::{Shedding, Timers};
pub use inline::{Catalogue, Stock};

use idempo_command_service::{Admission, look_after_database, start_admission, start_executor, start_grpc, start_timer};
use idempo_pg::Pool;
use idempo_proto::inventory::v1::inventory_service_server::InventoryServiceServer;
use idempo_rpc::Service;
use idempo_runtime::{Invalid, Platform, Role, Running};
use tonic::server::NamedService as _;
use tonic::service::Routes;

use grpc::Grpc;
use handlers::Handlers;
use timers::ReservationExpiry;

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
        let inventories = start_executor(InventoryDomain, config.executor, &pool, &platform);
        let limits = idempo_event_store::Config { cached_streams_max: CACHED_ITEM_TYPES_MAX, ..config.executor };
        let item_types = start_executor(ItemTypeDomain, limits, &pool, &platform);
        start_timer::<ReservationExpiry>(inventories.clone(), &config.timers, &pool, &platform);
        let admission = start_admission(codec::DOMAIN, &config.shedding, &pool, &platform);
        let handlers = Handlers::new(item_types, inventories, pool, platform.clock.clone());
        let address = start_grpc(&config.grpc, service(&config, handlers, admission), &platform).await?;
        Ok(Running::new().with_address("grpc", address))
    }
}

fn service(config: &Config, handlers: Handlers, admission: Admission) -> Service {
    let server = InventoryServiceServer::new(Grpc { handlers, admission })
        .max_decoding_message_size(config.grpc.max_request_bytes)
        .max_encoding_message_size(config.grpc.max_response_bytes);
    Service { domain: codec::DOMAIN, routes: Routes::new(server), names: vec![InventoryServiceServer::<Grpc>::NAME] }
}
