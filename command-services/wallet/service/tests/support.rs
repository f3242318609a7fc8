//! A wallet service of the test's own, on a database of its own, with a clock that the test moves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use idempo_clock::ManualClock;
use idempo_devstack::testing::{self, TestDatabase};
use idempo_ids::{Uuid, derive};
use idempo_proto::event::v1::Asset;
use idempo_proto::wallet::v1 as api;
use idempo_proto::wallet::v1::wallet_service_client::WalletServiceClient;
use idempo_runtime::{Launched, Platform, launch};
use idempo_wallet::{Config, Timers, Wallet};
use jiff::Timestamp;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

pub(crate) type Client = WalletServiceClient<Channel>;

/// When the test's clock starts.
pub(crate) const START: &str = "2026-11-23T12:00:00Z";

/// How long a condition may take to become true.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct World {
    pub(crate) database: TestDatabase,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) wallets: Client,
    service: Launched,
    count: AtomicU32,
}

/// Starts a replica of the service; answers once it is ready.
pub(crate) async fn replica(config: idempo_pg::Config, clock: &Arc<ManualClock>) -> (Launched, Client) {
    let config = Config { database: config, timers: Timers { poll_interval_ms: 20 }, ..Config::default() };
    let service = launch::<Wallet>(config, Platform::new("wallet", clock.clone()), None).await.unwrap();
    let address = service.running.address("grpc").unwrap();
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect_lazy();
    (service, WalletServiceClient::new(channel))
}

impl World {
    pub(crate) async fn new() -> Self {
        let database = testing::database("wallet_db").await;
        let clock = ManualClock::new(START.parse().unwrap());
        let (service, wallets) = replica(database.config("idempo_wallet"), &clock).await;
        tokio::time::timeout(PATIENCE, service.platform.readiness.wait_ready()).await.unwrap();
        Self { database, clock, wallets, service, count: AtomicU32::new(0) }
    }

    /// Another replica on the same database.
    pub(crate) async fn replica(&self) -> (Launched, Client) {
        let (service, client) = replica(self.database.config("idempo_wallet"), &self.clock).await;
        tokio::time::timeout(PATIENCE, service.platform.readiness.wait_ready()).await.unwrap();
        (service, client)
    }

    pub(crate) async fn stop(self) -> TestDatabase {
        self.service.stop(PATIENCE).await.unwrap();
        self.database
    }

    /// Stops the service and starts it again, as after a crash of the process: nothing is kept but the database.
    pub(crate) async fn restart(self) -> Self {
        let Self { database, clock, service, count, .. } = self;
        service.stop(PATIENCE).await.unwrap();
        let (service, wallets) = replica(database.config("idempo_wallet"), &clock).await;
        tokio::time::timeout(PATIENCE, service.platform.readiness.wait_ready()).await.unwrap();
        Self { database, clock, wallets, service, count }
    }

    pub(crate) fn now(&self) -> Timestamp {
        use idempo_clock::Clock as _;
        self.clock.now()
    }

    /// A new id: a UUIDv7 of the clock's time.
    pub(crate) fn id(&self) -> Uuid {
        let time = u128::from(self.now().as_millisecond().unsigned_abs()) << 80;
        derive(Uuid::from_u128(time), self.database.name(), self.count.fetch_add(1, Ordering::Relaxed))
    }

    /// A new idempotency key.
    pub(crate) fn request_id(&self) -> String {
        self.id().to_string()
    }

    /// A wallet with some coins; its name.
    pub(crate) async fn wallet(&self, coins: i64) -> String {
        let player_id = self.id().to_string();
        let name = format!("wallets/{player_id}");
        let request = api::OpenWalletRequest { request_id: self.request_id(), player_id, validate_only: false };
        self.wallets.clone().open_wallet(request).await.unwrap();
        if coins > 0 {
            self.wallets.clone().grant_funds(self.grant(&name, coins)).await.unwrap();
        }
        name
    }

    pub(crate) fn grant(&self, wallet: &str, amount: i64) -> api::GrantFundsRequest {
        api::GrantFundsRequest {
            request_id: self.request_id(),
            wallet: wallet.to_owned(),
            asset: Asset::Coin.into(),
            amount,
            ..Default::default()
        }
    }

    pub(crate) fn burn(&self, wallet: &str, amount: i64) -> api::BurnFundsRequest {
        api::BurnFundsRequest {
            request_id: self.request_id(),
            wallet: wallet.to_owned(),
            asset: Asset::Coin.into(),
            amount,
            ..Default::default()
        }
    }

    pub(crate) fn transfer(&self, from: &str, to: &str, amount: i64) -> api::TransferFundsRequest {
        api::TransferFundsRequest {
            request_id: self.request_id(),
            from_wallet: from.to_owned(),
            to_wallet: to.to_owned(),
            asset: Asset::Coin.into(),
            amount,
            ..Default::default()
        }
    }

    pub(crate) fn place(&self, wallet: &str, amount: i64, ttl_ms: i64) -> api::PlaceHoldRequest {
        api::PlaceHoldRequest {
            request_id: self.request_id(),
            wallet: wallet.to_owned(),
            asset: Asset::Coin.into(),
            amount,
            ttl_ms,
            reason: "a match".to_owned(),
            ..Default::default()
        }
    }

    /// A hold of a minute; its name.
    pub(crate) async fn hold(&self, wallet: &str, amount: i64) -> String {
        self.wallets.clone().place_hold(self.place(wallet, amount, 60_000)).await.unwrap().into_inner().hold.unwrap().name
    }

    pub(crate) fn capture(&self, hold: &str, amount: i64, to: &str) -> api::CaptureHoldRequest {
        api::CaptureHoldRequest { request_id: self.request_id(), hold: hold.to_owned(), amount, to: to.to_owned(), ..Default::default() }
    }

    pub(crate) fn release(&self, hold: &str) -> api::ReleaseHoldRequest {
        api::ReleaseHoldRequest { request_id: self.request_id(), hold: hold.to_owned(), ..Default::default() }
    }

    pub(crate) fn reverse(&self, transaction_id: &str) -> api::ReverseTransactionRequest {
        api::ReverseTransactionRequest { request_id: self.request_id(), transaction_id: transaction_id.to_owned(), ..Default::default() }
    }

    /// A wallet's coins: posted, held.
    pub(crate) async fn coins(&self, wallet: &str) -> (i64, i64) {
        let wallet = self.get(wallet).await;
        (wallet.balances[0].posted, wallet.balances[0].held)
    }

    pub(crate) async fn get(&self, wallet: &str) -> api::Wallet {
        let request = api::GetWalletRequest { name: wallet.to_owned(), ..Default::default() };
        self.wallets.clone().get_wallet(request).await.unwrap().into_inner().wallet.unwrap()
    }

    pub(crate) async fn hold_state(&self, hold: &str) -> api::HoldState {
        let request = api::GetHoldRequest { name: hold.to_owned(), ..Default::default() };
        self.wallets.clone().get_hold(request).await.unwrap().into_inner().hold.unwrap().state()
    }

    /// A session of the superuser, to look past the service.
    pub(crate) async fn superuser(&self) -> tokio_postgres::Client {
        session(&self.database.superuser()).await
    }
}

/// A session with a database.
pub(crate) async fn session(config: &idempo_pg::Config) -> tokio_postgres::Client {
    let (client, connection) = idempo_pg::connect(config).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A refusal: its code, its reason, and what its ErrorInfo says beside.
pub(crate) fn refused<T: std::fmt::Debug>(answer: Result<Response<T>, Status>) -> (Code, String, BTreeMap<String, String>) {
    let status = answer.unwrap_err();
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "wallet.idempo");
    (status.code(), info.reason, info.metadata.into_iter().collect())
}

/// Asserts a refusal with this code and reason.
#[track_caller]
pub(crate) fn assert_refused<T: std::fmt::Debug>(answer: Result<Response<T>, Status>, code: Code, reason: &str) {
    let (was_code, was_reason, _) = refused(answer);
    assert_eq!((was_code, was_reason.as_str()), (code, reason));
}

/// The fields that an INVALID_ARGUMENT names.
#[track_caller]
pub(crate) fn violations<T: std::fmt::Debug>(answer: Result<Response<T>, Status>) -> Vec<String> {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert_eq!(status.get_details_error_info().unwrap().reason, "INVALID_FIELD");
    status.get_details_bad_request().unwrap().field_violations.into_iter().map(|violation| violation.field).collect()
}

/// Whether an answer is that of an earlier attempt.
pub(crate) fn is_replay(metadata: &tonic::metadata::MetadataMap) -> bool {
    metadata.get("idempo-replayed").is_some_and(|value| value == "true")
}
