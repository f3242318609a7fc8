//! The wallet service: takes commands on wallets over gRPC, appends what follows, and answers reads from tables kept in the same transaction.
//!
//! Place in the flow: it is the only writer of `wallet_db`. A request is checked by its handler ([`handlers`]), becomes a command of
//! `idempo-wallet-domain`, is decided and appended by the event store's executor, and its rows are written beside the events ([`inline`]).
//! The relay takes the events on from there.
//!
//! Invariants: an answer under a key never changes; what a read returns includes every answered command; a hold expires also when the
//! service was down when it was due ([`timers`]).
//!
//! Not here: the rules (the domain's), sending events (the relay's), who may call (the gateway's).

mod codec;
mod config;
mod grpc;
mod handlers;
mod inline;
mod ledger;
mod metrics;
mod queries;
mod timers;

pub use codec::WalletDomain;
pub use config::Config;
pub use idempo_command_service::{Shedding, Timers};
pub use inline::Ledger;

use idempo_command_service::{Admission, look_after_database, start_admission, start_executor, start_grpc, start_timer};
use idempo_pg::Pool;
use idempo_proto::wallet::v1::wallet_service_server::WalletServiceServer;
use idempo_rpc::Service;
use idempo_runtime::{Invalid, Platform, Role, Running};
use tonic::server::NamedService as _;
use tonic::service::Routes;

use grpc::Grpc;
use handlers::Handlers;
use timers::HoldExpiry;

/// The wallet service.
#[derive(Debug)]
pub struct Wallet;

impl Role for Wallet {
    const NAME: &'static str = "wallet";
    const ABOUT: &'static str = "Coins and Stamps: who has how many, and how every one of them came there";
    type Config = Config;

    fn validate(config: &Config) -> Result<(), Invalid> {
        config.validate()
    }

    async fn start(config: Config, platform: Platform) -> anyhow::Result<Running> {
        metrics::describe();
        let pool = Pool::open(&config.database)?;
        look_after_database(&pool, &platform);
        let commands = start_executor(WalletDomain, config.executor, &pool, &platform);
        start_timer::<HoldExpiry>(commands.clone(), &config.timers, &pool, &platform);
        ledger::watch(&pool, &platform);
        let admission = start_admission(codec::DOMAIN, &config.shedding, &pool, &platform);
        let handlers = Handlers::new(commands, pool, platform.clock.clone());
        let address = start_grpc(&config.grpc, service(&config, handlers, admission), &platform).await?;
        Ok(Running::new().with_address("grpc", address))
    }
}

fn service(config: &Config, handlers: Handlers, admission: Admission) -> Service {
    let server = WalletServiceServer::new(Grpc { handlers, admission })
        .max_decoding_message_size(config.grpc.max_request_bytes)
        .max_encoding_message_size(config.grpc.max_response_bytes);
    Service { domain: codec::DOMAIN, routes: Routes::new(server), names: vec![WalletServiceServer::<Grpc>::NAME] }
}
