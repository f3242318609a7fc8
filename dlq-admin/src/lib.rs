//! The dead-letter service: what consumers could not take, where people find, understand and settle it.
//!
//! Place in the flow: a consumer that gives a record up writes it to `<topic>.dlq` and keeps it, with what is parked behind it, in its own database.
//! This service reads all dead-letter topics into `ops_db` ([`intake`]), answers `idempo.ops.v1.DeadLetterService` ([`service`]), and has
//! consumers replay or discard what people decide, through their `idempo.ops.v1.ParkedService` ([`consumers`], [`jobs`]). It asks them what has become
//! of dead letters that are open here ([`reconcile`]).
//!
//! Invariants:
//! * Every record of a dead-letter topic is here, as one row for each (consumer group, topic, partition, offset), however often it was produced: the
//!   position is in the transaction of the rows, and who lost a partition writes nothing ([`intake`]).
//! * What becomes of a dead letter is decided by its consumer alone, in one transaction of its own. What is here follows the consumer's answer; a lost
//!   answer is asked for again, and is never taken for one or the other ([`jobs`]).
//! * What ends at a consumer without this service ends here too, within an interval: nothing is open for ever that is settled ([`reconcile`]).
//! * The members of a job are those of its plan. A job whose members have changed is refused, and a dead letter is in one job at a time.
//! * Each request that would change something leaves a row in the audit in the transaction of its effect; a refused one does too.
//! * A record that can't be decoded is kept, shown and replayed like any other: nothing here depends on what is in it.
//!
//! Not here: the order of a key, which its consumer keeps; and what is done with a replayed record.

mod config;
mod consumers;
pub mod failpoint;
mod intake;
mod jobs;
mod letter;
mod metrics;
mod reconcile;
mod service;
mod token;

use std::sync::Arc;
use std::time::Duration;

use idempo_pg::Pool;
use idempo_proto::ops::v1::dead_letter_service_server::DeadLetterServiceServer;
use idempo_rpc::{Operators, OperatorsConfig};
use idempo_runtime::{Invalid, Platform, Restart, Role, Running, Stage, Task};
use tokio::sync::Notify;
use tonic::server::NamedService as _;

pub use config::{Config, ConsumerOf, Topics};

use consumers::Consumers;
use intake::Intake;
use jobs::Workers;
use reconcile::Reconciliation;
use service::Service;
use token::ConsumerToken;

/// The dead-letter service.
#[derive(Debug)]
pub struct DlqAdmin;

impl Role for DlqAdmin {
    const NAME: &'static str = "dlq-admin";
    const ABOUT: &'static str = "Dead letters: what consumers could not take, found, rehearsed, replayed, discarded";
    type Config = Config;

    fn validate(config: &Config) -> Result<(), Invalid> {
        config.validate()
    }

    async fn start(config: Config, platform: Platform) -> anyhow::Result<Running> {
        metrics::describe();
        let pool = Pool::open(&config.database)?;
        let token = follow_token(&config, &platform)?;
        let consumers = Arc::new(Consumers::new(&config.consumers, &token)?);
        let instance = format!("{}:{}", Self::NAME, platform.instance);
        watch_database(&platform, pool.clone());

        spawn_reconciliation(&platform, &config, pool.clone(), Arc::clone(&consumers), &instance);
        let process = (instance.clone(), platform.clock.clone());
        let intake = Intake::new(&config, pool.clone(), platform.readiness.condition("intake"), process);
        platform.tasks.spawn(Task::critical("intake").stage(Stage::Edge), |cancel| async move {
            intake.run(cancel).await?;
            Ok(())
        });
        let bell = Arc::new(Notify::new());
        let workers = Workers::new(pool.clone(), Arc::clone(&consumers), instance, config.job_lease_ms, Arc::clone(&bell));
        for number in 0..config.workers {
            let workers = workers.clone();
            platform.tasks.spawn(Task::critical(format!("jobs {number}")).stage(Stage::Edge), |cancel| async move {
                workers.run(cancel).await;
                Ok(())
            });
        }
        spawn_observer(&platform, pool.clone(), config.settled_keep_days);

        let operators = start_operators(&config.operators, &platform)?;
        let service = DeadLetterServiceServer::new(Service { operators, pool, consumers, bell })
            .max_decoding_message_size(config.grpc.max_request_bytes)
            .max_encoding_message_size(config.grpc.max_response_bytes);
        let service = idempo_rpc::Service {
            domain: service::DOMAIN,
            routes: tonic::service::Routes::new(service),
            names: vec![DeadLetterServiceServer::<Service>::NAME],
        };
        let (ready, shutdown) = (platform.readiness.subscribe(), platform.tasks.token(Stage::Edge));
        let (address, serving) = idempo_rpc::serve(&config.grpc, service, ready, shutdown).await?;
        platform.tasks.spawn(Task::critical("grpc").stage(Stage::Edge), |_| async move { Ok(serving.await?) });
        Ok(Running::new().with_address("grpc", address))
    }
}

fn start_operators(config: &OperatorsConfig, platform: &Platform) -> anyhow::Result<Arc<Operators>> {
    let operators = Operators::new(config, service::DOMAIN)?;
    let followed = Arc::clone(&operators);
    platform.tasks.spawn(Task::critical("operators").stage(Stage::Edge), |cancel| async move {
        followed.follow(cancel).await;
        Ok(())
    });
    Ok(operators)
}

/// The token with which consumers are asked, kept up to date.
fn follow_token(config: &Config, platform: &Platform) -> anyhow::Result<Arc<ConsumerToken>> {
    let token = ConsumerToken::new(config)?;
    let followed = Arc::clone(&token);
    platform.tasks.spawn(Task::critical("consumer token").stage(Stage::Edge), |cancel| async move {
        followed.follow(cancel).await;
        Ok(())
    });
    Ok(token)
}

/// Asks consumers what has become of open dead letters, unless the settings say never.
fn spawn_reconciliation(platform: &Platform, config: &Config, pool: Pool, consumers: Arc<Consumers>, instance: &str) {
    if config.consumer_check_interval_ms == 0 {
        return;
    }
    let interval = Duration::from_millis(config.consumer_check_interval_ms.into());
    let reconciliation = Arc::new(Reconciliation::new(pool, consumers, instance.to_owned(), interval));
    platform.tasks.spawn_restarting(Task::restarting("reconciliation", Restart::default()).stage(Stage::Edge), move |cancel| {
        let reconciliation = Arc::clone(&reconciliation);
        async move {
            reconciliation.run(cancel).await;
            Ok(())
        }
    });
}

fn watch_database(platform: &Platform, pool: Pool) {
    platform.watch("database", move || {
        let pool = pool.clone();
        async move { pool.check().await }
    });
}

/// Measures, and forgets what was settled long ago. Nothing rests on it: a failure is tried again with the next round.
fn spawn_observer(platform: &Platform, pool: Pool, keep_days: u32) {
    let clock = platform.clock.clone();
    platform.tasks.spawn_restarting(Task::restarting("observer", Restart::default()).stage(Stage::Edge), move |cancel| {
        let (pool, clock) = (pool.clone(), clock.clone());
        async move {
            metrics::observe(&pool, &clock, keep_days, cancel).await;
            Ok(())
        }
    });
}
