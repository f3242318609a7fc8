//! An inventory service of the test's own, on a database of its own, with a clock that the test moves.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use idempo_clock::{Clock as _, ManualClock};
use idempo_devstack::testing::{self, TestDatabase};
use idempo_ids::{PlayerId, StreamId, Uuid, derive};
use idempo_inventory::{Config, Inventory, Timers};
use idempo_proto::event::v1::{ItemKind, Rarity};
use idempo_proto::inventory::v1::inventory_service_client::InventoryServiceClient;
use idempo_proto::inventory::v1::{self as message, consume_item_request, reserve_item_request, transfer_item_request};
use idempo_runtime::{Launched, Platform, launch};
use jiff::{SignedDuration, Timestamp};
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt as _;

/// How long anything may take that is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// When the test's clock starts.
pub(crate) const START: &str = "2026-11-23T12:00:00Z";
pub(crate) const MINUTE_MS: i64 = 60_000;

pub(crate) type Client = InventoryServiceClient<Channel>;

pub(crate) struct World {
    pub(crate) database: TestDatabase,
    pub(crate) clock: Arc<ManualClock>,
    service: Launched,
    client: Client,
    ids: AtomicU64,
}

/// Starts a replica of the service; the client connects when it is first used.
pub(crate) async fn replica(config: idempo_pg::Config, clock: &Arc<ManualClock>) -> (Launched, Client) {
    let config = Config { database: config, timers: Timers { poll_interval_ms: 20 }, ..Config::default() };
    let service = launch::<Inventory>(config, Platform::new("inventory", clock.clone()), None).await.expect("started");
    let address = service.running.address("grpc").expect("an address");
    let channel = Channel::from_shared(format!("http://{address}")).expect("a URI").connect_lazy();
    (service, InventoryServiceClient::new(channel))
}

pub(crate) async fn ready(service: &Launched) {
    tokio::time::timeout(PATIENCE, service.platform.readiness.wait_ready()).await.expect("ready in time");
}

/// A session with a database.
pub(crate) async fn session(config: &idempo_pg::Config) -> tokio_postgres::Client {
    let (client, connection) = idempo_pg::connect(config).await.expect("connected");
    tokio::spawn(connection);
    client
}

impl World {
    pub(crate) async fn new() -> Self {
        let database = testing::database("inventory_db").await;
        let clock = ManualClock::new(START.parse().expect("a time"));
        let (service, client) = replica(database.config("idempo_inventory"), &clock).await;
        ready(&service).await;
        Self { database, clock, service, client, ids: AtomicU64::new(1) }
    }

    /// Stops the service and starts it again after `pause`: nothing is kept but the database.
    pub(crate) async fn restart(self, pause: SignedDuration) -> Self {
        let Self { database, clock, service, ids, .. } = self;
        service.stop(PATIENCE).await.expect("stopped in order");
        clock.advance(pause);
        let (service, client) = replica(database.config("idempo_inventory"), &clock).await;
        ready(&service).await;
        Self { database, clock, service, client, ids }
    }

    /// Another replica on the same database.
    pub(crate) async fn replica(&self) -> (Launched, Client) {
        let (service, client) = replica(self.database.config("idempo_inventory"), &self.clock).await;
        ready(&service).await;
        (service, client)
    }

    pub(crate) async fn stop(self) {
        self.service.stop(PATIENCE).await.expect("stopped in order");
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A new id with the time of the clock.
    pub(crate) fn id(&self) -> Uuid {
        self.id_of(self.now())
    }

    pub(crate) fn id_of(&self, time: Timestamp) -> Uuid {
        let millis = u64::try_from(time.as_millisecond()).expect("after 1970");
        let base = uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]).into_uuid();
        derive(base, "test", u32::try_from(self.ids.fetch_add(1, Ordering::Relaxed)).expect("few"))
    }

    /// A new idempotency key.
    pub(crate) fn key(&self) -> String {
        self.id().to_string()
    }

    /// A new player's name.
    pub(crate) fn player(&self) -> String {
        format!("players/{}", self.id())
    }

    /// Creates a weapon, a gem that can't be equipped, and arrows, which are stackable.
    pub(crate) async fn with_types(self) -> Self {
        for item_type in [weapon("sword"), unique("gem"), stackable("arrow")] {
            let request = message::CreateItemTypeRequest { request_id: self.key(), item_type: Some(item_type), ..Default::default() };
            self.client().create_item_type(request).await.expect("created");
        }
        self
    }

    /// Grants a unique item; its name.
    pub(crate) async fn grant(&self, player: &str, item_type: &str) -> String {
        self.client().grant_item(self.grant_request(player, item_type, 1)).await.expect("granted").into_inner().item
    }

    /// Grants a quantity.
    pub(crate) async fn grant_stack(&self, player: &str, quantity: i64) {
        self.client().grant_item(self.grant_request(player, "arrow", quantity)).await.expect("granted");
    }

    pub(crate) fn grant_request(&self, player: &str, item_type: &str, quantity: i64) -> message::GrantItemRequest {
        message::GrantItemRequest {
            request_id: self.key(),
            player: player.to_owned(),
            item_type: format!("itemTypes/{item_type}"),
            quantity,
            ..Default::default()
        }
    }

    pub(crate) fn reserve_item(&self, item: &str, ttl_ms: i64) -> message::ReserveItemRequest {
        let what = Some(reserve_item_request::What::Item(item.to_owned()));
        message::ReserveItemRequest { request_id: self.key(), player: owner(item), what, ttl_ms, ..Default::default() }
    }

    pub(crate) fn reserve_stack(&self, player: &str, quantity: i64, ttl_ms: i64) -> message::ReserveItemRequest {
        let what = Some(reserve_item_request::What::Stack(arrows(quantity)));
        message::ReserveItemRequest { request_id: self.key(), player: player.to_owned(), what, ttl_ms, ..Default::default() }
    }

    /// Reserves an item for a minute; the reservation's name.
    pub(crate) async fn reserve(&self, item: &str) -> String {
        let reserved = self.client().reserve_item(self.reserve_item(item, MINUTE_MS)).await.expect("reserved").into_inner();
        reserved.reservation.expect("a reservation").name
    }

    /// Reserves `count` arrows one by one, all at the same moment, for a minute; the reservations' names.
    pub(crate) async fn reserve_each(&self, player: &str, count: usize) -> Vec<String> {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..count {
            let (mut client, request) = (self.client(), self.reserve_stack(player, 1, MINUTE_MS));
            tasks.spawn(async move { client.reserve_item(request).await });
        }
        let reserved = |answer: Result<Response<message::ReserveItemResponse>, Status>| {
            answer.expect("reserved").into_inner().reservation.expect("a reservation").name
        };
        tasks.join_all().await.into_iter().map(reserved).collect()
    }

    pub(crate) fn release(&self, reservation: &str) -> message::ReleaseReservationRequest {
        message::ReleaseReservationRequest { request_id: self.key(), reservation: reservation.to_owned(), ..Default::default() }
    }

    pub(crate) fn transfer(&self, from: &str, to: &str, what: transfer_item_request::What) -> message::TransferItemRequest {
        message::TransferItemRequest {
            request_id: self.key(),
            from_player: from.to_owned(),
            to_player: to.to_owned(),
            what: Some(what),
            ..Default::default()
        }
    }

    pub(crate) fn consume_item(&self, item: &str) -> message::ConsumeItemRequest {
        let what = Some(consume_item_request::What::Item(item.to_owned()));
        message::ConsumeItemRequest { request_id: self.key(), player: owner(item), what, ..Default::default() }
    }

    pub(crate) fn consume_stack(&self, player: &str, quantity: i64) -> message::ConsumeItemRequest {
        let what = Some(consume_item_request::What::Stack(arrows(quantity)));
        message::ConsumeItemRequest { request_id: self.key(), player: player.to_owned(), what, ..Default::default() }
    }

    pub(crate) fn equip(&self, item: &str) -> message::EquipItemRequest {
        message::EquipItemRequest { request_id: self.key(), item: item.to_owned(), ..Default::default() }
    }

    pub(crate) fn unequip(&self, player: &str) -> message::UnequipItemRequest {
        message::UnequipItemRequest { request_id: self.key(), player: player.to_owned(), ..Default::default() }
    }

    /// How many arrows a player has: what would be left if one more were granted, less that one.
    pub(crate) async fn arrows(&self, player: &str) -> i64 {
        let request = message::GrantItemRequest { validate_only: true, ..self.grant_request(player, "arrow", 1) };
        self.client().grant_item(request).await.expect("would be granted").into_inner().quantity - 1
    }

    /// Whether the player has the item and can use it.
    pub(crate) async fn is_free(&self, item: &str) -> bool {
        let request = message::ConsumeItemRequest { validate_only: true, ..self.consume_item(item) };
        self.client().consume_item(request).await.is_ok()
    }

    /// The answer to a query of a superuser, as a number.
    pub(crate) async fn count(&self, query: &str) -> i64 {
        session(&self.database.superuser()).await.query_one(query, &[]).await.expect("an answer").get(0)
    }
}

pub(crate) fn weapon(id: &str) -> message::ItemType {
    message::ItemType { weapon_bonus: 7, equippable: true, ..unique(id) }
}

pub(crate) fn unique(id: &str) -> message::ItemType {
    message::ItemType { kind: ItemKind::Unique.into(), ..stackable(id) }
}

pub(crate) fn stackable(id: &str) -> message::ItemType {
    message::ItemType {
        name: format!("itemTypes/{id}"),
        display_name: format!("The {id}"),
        kind: ItemKind::Stackable.into(),
        rarity: Rarity::Uncommon.into(),
        weapon_bonus: 0,
        equippable: false,
    }
}

pub(crate) fn arrows(quantity: i64) -> message::StackQuantity {
    message::StackQuantity { item_type: "itemTypes/arrow".to_owned(), quantity }
}

/// The player in the name of an item or a reservation.
pub(crate) fn owner(name: &str) -> String {
    name.split('/').take(2).collect::<Vec<_>>().join("/")
}

/// The name of the same item in another player's inventory.
pub(crate) fn at(player: &str, item: &str) -> String {
    format!("{player}/items/{}", item.rsplit('/').next().expect("an id"))
}

/// The stream of a player's inventory.
pub(crate) fn stream_of(player: &str) -> StreamId {
    let id: PlayerId = player.strip_prefix("players/").and_then(|id| id.parse().ok()).expect("a player's name");
    StreamId::of("inventory", id.uuid())
}

/// Checks a refusal, and gives the metadata of its `ErrorInfo`.
#[track_caller]
pub(crate) fn refused<T: Debug>(answer: Result<T, Status>, code: Code, reason: &str) -> HashMap<String, String> {
    let status = answer.expect_err("a refusal");
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
    assert_eq!((status.code(), info.reason.as_str(), info.domain.as_str()), (code, reason, "inventory.idempo"), "{}", status.message());
    info.metadata
}

/// Checks that a request is INVALID_ARGUMENT because of these fields.
#[track_caller]
pub(crate) fn invalid<T: Debug>(answer: Result<T, Status>, fields: &[&str]) {
    let status = answer.expect_err("a violation");
    let details = status.get_error_details();
    let mut violated: Vec<&str> = details
        .bad_request()
        .map(|request| request.field_violations.iter().map(|violation| violation.field.as_str()).collect())
        .unwrap_or_default();
    violated.sort_unstable();
    let mut expected = fields.to_vec();
    expected.sort_unstable();
    assert_eq!((status.code(), violated), (Code::InvalidArgument, expected), "{}", status.message());
    assert_eq!(details.error_info().map(|info| info.reason.as_str()), Some("INVALID_FIELD"));
}

/// Whether an answer says that it was given before.
pub(crate) fn is_replayed<T>(answer: &Result<Response<T>, Status>) -> bool {
    let metadata = match answer {
        Ok(response) => response.metadata(),
        Err(status) => status.metadata(),
    };
    metadata.get("idempo-replayed").is_some_and(|value| value == "true")
}

/// The request as another caller sends it.
pub(crate) fn from_caller<T>(message: T, caller: &'static str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("idempo-caller", caller.parse().expect("ASCII"));
    request
}
