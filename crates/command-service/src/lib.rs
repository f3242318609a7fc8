//! What every command service is made of, beside its rules and its requests.
//!
//! Place in the flow: the event store knows no tasks and the runtime no events, and neither may know the other. A service puts the two
//! together, and here is how: on its pool ([`look_after_database`]) it starts an executor for each of its domains ([`start_executor`]), timers
//! for what happens by itself ([`start_timer`]), its front door ([`start_admission`]) and its gRPC server ([`start_grpc`]); its handlers take what all
//! mutations share through an [`Attempt`].
//!
//! Invariants: what takes in new work (server, timers) is stopped and drained before what decides and appends; a service is ready only while
//! its database answers and there is a place for the keys of its commands; what ends something that was begun is let in however old the backlog.
//!
//! Not here: what a service decides, which fields its requests have, its settings as a whole.

mod admission;
mod attempt;
mod database;
mod timers;

pub use admission::{Admission, Criticality, Shedding, start_admission};
pub use attempt::{Attempt, Shared};
pub use database::look_after_database;
pub use timers::{Timers, start_timer};

use std::net::SocketAddr;
use std::sync::Arc;

use idempo_event_store::postgres::PostgresStore;
use idempo_event_store::{Config, Domain, Executor, Handle};
use idempo_pg::Pool;
use idempo_runtime::{Platform, Stage, Task};

/// Starts what decides and appends for one domain, and wakes the relay after it. Both end after what takes in new work.
///
/// # Panics
/// Outside a tokio runtime.
pub fn start_executor<D: Domain>(domain: D, limits: Config, pool: &Pool, platform: &Platform) -> Handle<D> {
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

/// Starts the gRPC server; answers with its address as soon as it listens.
///
/// # Errors
/// That the server can't be set up or can't listen.
///
/// # Panics
/// Outside a tokio runtime.
pub async fn start_grpc(
    config: &idempo_rpc::ServerConfig,
    service: idempo_rpc::Service,
    platform: &Platform,
) -> Result<SocketAddr, idempo_rpc::Error> {
    let shutdown = platform.tasks.token(Stage::Edge);
    let (address, serving) = idempo_rpc::serve(config, service, platform.readiness.subscribe(), shutdown).await?;
    platform.tasks.spawn(Task::critical("grpc").stage(Stage::Edge), |_| async move { Ok(serving.await?) });
    Ok(address)
}
