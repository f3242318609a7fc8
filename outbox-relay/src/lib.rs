//! The relay: carries the rows of every outbox to Kafka, in order, without losing one.
//!
//! Place in the flow: command services write events and outbox rows in one transaction; this process reads the rows ([`reader`]), sends each as a
//! record to the topic that it names, and remembers how far everything is acknowledged ([`tracker`], [`keeper`]). Projectors read the topics.
//!
//! Invariants:
//! * Every committed row is sent, and its stream's rows in their order; [`position`] says why, and what may be sent twice.
//! * Behind a take-over, rows that are in Kafka already are not sent again ([`readback`], [`tails`]); in transactions that is exact ([`transaction`]).
//! * One process at a time relays an outbox, and one that has lost its lease can't move the cursor ([`lease`]).
//! * No row is skipped but by people. What Kafka refuses for ever is kept in quarantine, and the rows of its key behind it; other keys flow
//!   ([`quarantine`]). A broker that is away costs nothing but time.
//! * A database that was restored is noticed before anything is sent ([`rebase`]).
//! * What people do to an outbox leaves a row in its audit ([`admin`]).
//! * Outbox rows are never updated or deleted; tables are emptied as a whole, when everything in them is in Kafka ([`maintenance`]).
//!
//! Not here: what is in a row. The payload goes to Kafka as the bytes that the command service stored.

mod admin;
mod config;
mod control;
pub mod failpoint;
mod keeper;
mod lease;
mod maintenance;
mod metrics;
mod outbox;
mod position;
mod publisher;
mod quarantine;
mod readback;
mod reader;
#[cfg(test)]
mod reader_tests;
mod rebase;
mod routes;
mod snapshot;
mod status;
mod tails;
mod tracker;
mod transaction;

use std::sync::Arc;

use idempo_proto::ops::v1::relay_service_server::RelayServiceServer;
use idempo_rpc::{Operators, OperatorsConfig};
use idempo_runtime::{Invalid, Platform, Role, Running, Stage, Task};

pub use config::{Config, OutboxConfig, Rotation, Topics};

use admin::Operations;
use outbox::{Outbox, Shared};
use routes::Routes;

/// The relay.
#[derive(Debug)]
pub struct Relay;

impl Role for Relay {
    const NAME: &'static str = "outbox-relay";
    const ABOUT: &'static str = "Carries what the command services have stored to Kafka, in order";
    type Config = Config;

    fn validate(config: &Config) -> Result<(), Invalid> {
        config.validate()
    }

    async fn start(config: Config, platform: Platform) -> anyhow::Result<Running> {
        metrics::describe();
        let shared = Arc::new(Shared {
            kafka: config.kafka,
            producer: config.producer,
            routes: Routes::new(config.topics.copies, &config.topics.prefix, &config.topics.exactly_once),
            rotation: config.rotation,
            page_rows_max: config.page_rows_max,
            quarantine_rows_max: config.quarantine_rows_max,
            prefix: config.topics.prefix,
            owner: platform.instance.to_string(),
        });
        let operators = start_operators(&config.operators, &platform)?;
        let mut operations = Operations { instance: platform.instance.to_string(), operators, outboxes: Vec::new() };
        for outbox in config.outboxes {
            let name = outbox.name.clone();
            let condition = platform.readiness.condition(format!("outbox {name}"));
            let outbox = Outbox::new(Arc::clone(&shared), outbox, condition, platform.clock.clone())?;
            operations.outboxes.push(outbox.operated());
            platform.tasks.spawn(Task::critical(format!("relay {name}")).stage(Stage::Edge), |cancel| async move {
                outbox.run(cancel).await;
                Ok(())
            });
        }
        let operations = RelayServiceServer::new(operations).max_encoding_message_size(config.grpc.max_response_bytes);
        let service = idempo_rpc::Service {
            domain: admin::DOMAIN,
            routes: tonic::service::Routes::new(operations),
            names: vec![<RelayServiceServer<Operations> as tonic::server::NamedService>::NAME],
        };
        let shutdown = platform.tasks.token(Stage::Edge);
        let (address, serving) = idempo_rpc::serve(&config.grpc, service, platform.readiness.subscribe(), shutdown).await?;
        platform.tasks.spawn(Task::critical("grpc").stage(Stage::Edge), |_| async move { Ok(serving.await?) });
        Ok(Running::new().with_address("grpc", address))
    }
}

fn start_operators(config: &OperatorsConfig, platform: &Platform) -> anyhow::Result<Arc<Operators>> {
    let operators = Operators::new(config, admin::DOMAIN)?;
    let followed = Arc::clone(&operators);
    platform.tasks.spawn(Task::critical("operators").stage(Stage::Edge), |cancel| async move {
        followed.follow(cancel).await;
        Ok(())
    });
    Ok(operators)
}
