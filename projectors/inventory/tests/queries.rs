//! The whole projector: records in Kafka, answers over gRPC.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use idempo_clock::SystemClock;
use idempo_devstack::testing::{self, TestDatabase, eventually};
use idempo_ids::Uuid;
use idempo_inventory_projector::{Config, InventoryProjection, ItemState, fold, read_rows};
use idempo_kafka::{ConsumerConfig, Delivery, Outgoing, Producer, ProducerConfig, SendError, TopicSpec, ensure_topics, partition_of};
use idempo_pg::Pool;
use idempo_projection::POISON_PER_MINUTE_MAX;
use idempo_proto::event::v1::{EventEnvelope, ItemKind};
use idempo_proto::inventory::v1::inventory_query_service_client::InventoryQueryServiceClient;
use idempo_proto::inventory::v1::{GetItemRequest, Item, ItemFilter, ListItemEventsRequest, ListItemsRequest};
use idempo_runtime::{Launched, Platform, launch};
use prost::Message as _;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::stage::DEAD_LETTER_PARTITIONS;
use crate::support::LIMIT;
use crate::world::{PLAYERS, World, player, sample, stream};

const PARTITIONS: i32 = 4;

fn kafka() -> idempo_kafka::Config {
    idempo_kafka::Config { brokers: testing::kafka_brokers(), ..idempo_kafka::Config::default() }
}

struct Service {
    topic: String,
    config: Config,
    launched: Launched,
    client: InventoryQueryServiceClient<Channel>,
    _database: TestDatabase,
}

impl Service {
    async fn start() -> Self {
        let database = testing::database("inventory_view_db").await;
        let topic = format!("{}economy-events", testing::topic_prefix());
        let spec = |name, partitions| TopicSpec { name, partitions, retention_hours: 1, replication: 1, min_insync: 1 };
        let specs = [spec(topic.clone(), PARTITIONS), spec(format!("{topic}.dlq"), DEAD_LETTER_PARTITIONS)];
        ensure_topics(&kafka(), &specs).await.expect("the topics can be made");
        let config = Config {
            database: database.config("idempo_inventory_projector"),
            kafka: kafka(),
            consumer: ConsumerConfig { group_id: topic.clone(), topics: vec![topic.clone()], ..ConsumerConfig::default() },
            partitions: PARTITIONS,
            ..Config::default()
        };
        let platform = Platform::new("inventory-projector", SystemClock::shared());
        let launched = launch::<InventoryProjection>(config.clone(), platform, None).await.expect("it starts");
        let address = launched.running.address("grpc").expect("an address");
        let client = InventoryQueryServiceClient::connect(format!("http://{address}")).await.expect("it is reached");
        tokio::time::timeout(LIMIT, launched.platform.readiness.wait_ready()).await.expect("it gets ready");
        Self { topic, config, launched, client, _database: database }
    }

    /// Writes envelopes as the relay does, and waits until the broker has them.
    async fn publish(&self, envelopes: &[EventEnvelope]) {
        let values = envelopes.iter().map(|envelope| (Uuid::from_slice(&envelope.partition_key).expect("a key"), envelope.encode_to_vec()));
        self.write(values.collect()).await;
    }

    async fn write(&self, values: Vec<(Uuid, Vec<u8>)>) {
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&acknowledged);
        let producer = Producer::start(&kafka(), &ProducerConfig::default(), move |_, delivery| {
            assert!(matches!(delivery, Delivery::Acknowledged { .. }), "{delivery:?}");
            seen.fetch_add(1, Ordering::SeqCst);
        })
        .expect("a producer");
        for (number, (key, value)) in values.iter().enumerate() {
            let key = key.to_string();
            let partition = partition_of(key.as_bytes(), PARTITIONS);
            let record = Outgoing { topic: &self.topic, partition, key: key.as_bytes(), value, headers: &[] };
            while let Err(error) = producer.send(&record, number) {
                assert!(matches!(error, SendError::Full), "{error:?}");
                tokio::task::yield_now().await;
            }
        }
        eventually(LIMIT, "every record is acknowledged", async || acknowledged.load(Ordering::SeqCst) == values.len()).await;
    }

    async fn list(&mut self, request: ListItemsRequest) -> Result<Vec<Item>, Status> {
        let mut items = Vec::new();
        let mut request = request;
        loop {
            let response = self.client.list_items(request.clone()).await?.into_inner();
            assert!(response.freshness.is_some());
            items.extend(response.items);
            if response.next_page_token.is_empty() {
                return Ok(items);
            }
            request.page_token = response.next_page_token;
        }
    }

    async fn stop(self) {
        self.launched.stop(Duration::from_secs(10)).await.expect("it stops in time");
    }
}

fn position(world: &World) -> String {
    idempo_rpc::position::encode(&world.position())
}

fn items_of(number: usize) -> ListItemsRequest {
    ListItemsRequest { parent: format!("players/{}", player(number)), ..ListItemsRequest::default() }
}

/// What must be listed of a player: names, in order.
fn expected(world: &World, number: usize, wanted: impl Fn(Option<ItemState>) -> bool) -> Vec<String> {
    let rows = fold(&world.events()).expect("it folds");
    let unique = rows.items.iter().filter(|(_, row)| row.owner == player(number) && wanted(Some(row.state)));
    let unique = unique.map(|(item, _)| format!("players/{}/items/{item}", player(number)));
    let stacks = rows.stacks.iter().filter(|(key, row)| key.player == player(number) && row.quantity > 0 && wanted(None));
    unique.chain(stacks.map(|(key, _)| format!("players/{}/stacks/{}", key.player, key.item_type))).collect()
}

fn violated_fields(status: &Status) -> Vec<String> {
    let details = status.get_details_bad_request().expect("the fields are named");
    details.field_violations.into_iter().map(|violation| violation.field).collect()
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().expect("an ErrorInfo").reason
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_with_a_position_has_what_was_written_and_the_read_model_is_the_fold() {
    let mut service = Service::start().await;
    let world = sample(3);
    service.publish(&world.envelopes).await;
    // The relay sends a tail again after a crash.
    service.publish(&world.envelopes[world.envelopes.len() / 2..]).await;
    for number in 0..PLAYERS {
        let listed = service.list(ListItemsRequest { min_position: position(&world), page_size: 2, ..items_of(number) }).await;
        let names: Vec<String> = listed.expect("a list").into_iter().map(|item| item.name).collect();
        assert_eq!(names, expected(&world, number, |state| state != Some(ItemState::Destroyed)));
    }
    let pool = Pool::open(&service.config.generation_database(1)).expect("a pool");
    assert_eq!(read_rows(&pool).await.expect("rows"), fold(&world.events()).expect("it folds"));
    let mut client = service.client.clone();
    eventually(LIMIT, "an answer says that nothing is missing", async || {
        let freshness = client.list_items(items_of(0)).await.expect("a list").into_inner().freshness.expect("freshness");
        (freshness.lag_events, freshness.lag_ms, freshness.generation) == (0, 0, 1)
    })
    .await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_filtered_by_type_state_and_kind() {
    let mut service = Service::start().await;
    let world = sample(5);
    service.publish(&world.envelopes).await;
    let is_reserved = |state: Option<ItemState>| matches!(state, Some(ItemState::Reserved(_)));
    type Wanted<'a> = &'a dyn Fn(Option<ItemState>) -> bool;
    let filters: [(ItemFilter, Wanted<'_>); 7] = [
        (ItemFilter { state: 1, ..ItemFilter::default() }, &|state| state.is_none_or(|state| state == ItemState::Owned)),
        (ItemFilter { state: 2, ..ItemFilter::default() }, &is_reserved),
        (ItemFilter { state: 3, ..ItemFilter::default() }, &|state| state == Some(ItemState::Destroyed)),
        (ItemFilter { kind: ItemKind::Stackable.into(), ..ItemFilter::default() }, &|state| state.is_none()),
        (ItemFilter { kind: ItemKind::Unique.into(), ..ItemFilter::default() }, &|state| {
            state.is_some_and(|state| state != ItemState::Destroyed)
        }),
        (ItemFilter { item_type: "itemTypes/arrow".to_owned(), ..ItemFilter::default() }, &|state| state.is_none()),
        (ItemFilter { item_type: "itemTypes/sword".to_owned(), state: 2, ..ItemFilter::default() }, &is_reserved),
    ];
    let mut seen = 0;
    for number in 0..PLAYERS {
        for (filter, wanted) in &filters {
            let request =
                ListItemsRequest { filter: Some(filter.clone()), min_position: position(&world), page_size: 3, ..items_of(number) };
            let names: Vec<String> = service.list(request).await.expect("a list").into_iter().map(|item| item.name).collect();
            seen += names.len();
            assert_eq!(names, expected(&world, number, wanted), "{filter:?}");
        }
    }
    assert!(seen > 20, "only {seen} items were seen");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_item_is_read_by_its_name_and_its_history_in_pages() {
    let mut service = Service::start().await;
    let world = sample(3);
    service.publish(&world.envelopes).await;
    let rows = fold(&world.events()).expect("it folds");
    let mut owners: BTreeMap<String, usize> = BTreeMap::new();
    for (at, item) in world.items.iter().enumerate() {
        let name = format!("items/{}", item.id);
        let got = service.client.get_item(GetItemRequest { name: name.clone(), min_position: position(&world) }).await;
        let got = got.expect("the item").into_inner().item.expect("the item");
        let owned_name = format!("players/{}/{name}", player(item.owner));
        assert_eq!((got.name.clone(), got.hop), (owned_name.clone(), i64::try_from(item.hop).expect("small")));
        assert_eq!(got.equipped, world.equipped.get(&item.owner) == Some(&at));
        assert_eq!(got.reserved_quantity, i64::from(item.reserved_by.is_some()));
        let by_owner = service.client.get_item(GetItemRequest { name: owned_name, min_position: String::new() }).await;
        assert_eq!(by_owner.expect("the item").into_inner().item, Some(got));
        let stranger = format!("players/{}/{name}", player((item.owner + 1) % PLAYERS));
        let refused =
            service.client.get_item(GetItemRequest { name: stranger, min_position: String::new() }).await.expect_err("not theirs");
        assert_eq!((refused.code(), reason(&refused)), (Code::NotFound, "ITEM_NOT_FOUND".to_owned()));
        *owners.entry(name.clone()).or_default() += 1;

        let mut request = ListItemEventsRequest { parent: name, page_size: 2, ..ListItemEventsRequest::default() };
        let mut events = Vec::new();
        loop {
            let page = service.client.list_item_events(request.clone()).await.expect("a history").into_inner();
            events.extend(page.events);
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        let history: Vec<String> =
            rows.item_events.iter().filter(|(key, _)| key.item == item.id).map(|(_, row)| row.event_id.to_string()).collect();
        assert_eq!(events.iter().map(|event| event.event_id.clone()).collect::<Vec<_>>(), history);
        assert_eq!(events[0].event_type, "ItemGranted");
        assert!(
            events
                .iter()
                .all(|event| (event.event_type == "ItemSent" || event.event_type == "ItemReceived") != event.counterparty.is_empty())
        );
    }
    assert!(!owners.is_empty());
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_that_is_not_reached_in_time_is_projection_behind() {
    let mut service = Service::start().await;
    let min_position = idempo_rpc::position::encode(&[(stream(0), 7)]);
    let mut request = Request::new(ListItemsRequest { min_position: min_position.clone(), ..items_of(0) });
    request.set_timeout(Duration::from_millis(300));
    let refused = service.client.list_items(request).await.expect_err("it is not there");
    assert_eq!((refused.code(), reason(&refused)), (Code::Unavailable, "PROJECTION_BEHIND".to_owned()));
    assert!(refused.get_details_retry_info().is_some_and(|retry| retry.retry_delay.is_some()));
    assert_eq!(refused.get_details_error_info().expect("an ErrorInfo").metadata["position"], min_position);
    // A reader that has begun to wait gets its answer when the event comes.
    let waiting = tokio::spawn({
        let mut client = service.client.clone();
        let world = sample(1);
        async move { client.list_items(ListItemsRequest { min_position: position(&world), ..items_of(0) }).await }
    });
    service.publish(&sample(1).envelopes).await;
    waiting.await.expect("no panic").expect("the answer");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_field_is_named() {
    let mut service = Service::start().await;
    let lists: [(&str, ListItemsRequest); 8] = [
        ("parent", ListItemsRequest { parent: String::new(), ..items_of(0) }),
        ("parent", ListItemsRequest { parent: "players/me".to_owned(), ..items_of(0) }),
        ("page_size", ListItemsRequest { page_size: -1, ..items_of(0) }),
        ("page_size", ListItemsRequest { page_size: 1_001, ..items_of(0) }),
        ("page_token", ListItemsRequest { page_token: "AAAA".to_owned(), ..items_of(0) }),
        ("min_position", ListItemsRequest { min_position: "?".to_owned(), ..items_of(0) }),
        (
            "filter.item_type",
            ListItemsRequest { filter: Some(ItemFilter { item_type: "Arrow!".to_owned(), ..ItemFilter::default() }), ..items_of(0) },
        ),
        ("filter.state", ListItemsRequest { filter: Some(ItemFilter { state: 9, ..ItemFilter::default() }), ..items_of(0) }),
    ];
    for (field, request) in lists {
        let refused = service.client.list_items(request).await.expect_err(field);
        assert_eq!((refused.code(), violated_fields(&refused)), (Code::InvalidArgument, vec![field.to_owned()]));
    }
    let bad_name = GetItemRequest { name: "items/7".to_owned(), min_position: String::new() };
    assert_eq!(violated_fields(&service.client.get_item(bad_name).await.expect_err("name")), ["name"]);
    let bad_parent = ListItemEventsRequest { parent: "players/7".to_owned(), ..ListItemEventsRequest::default() };
    assert_eq!(violated_fields(&service.client.list_item_events(bad_parent).await.expect_err("parent")), ["parent"]);
    let nobody = ListItemEventsRequest { parent: format!("items/{}", Uuid::max()), ..ListItemEventsRequest::default() };
    let refused = service.client.list_item_events(nobody).await.expect_err("no such item");
    assert_eq!((refused.code(), reason(&refused)), (Code::NotFound, "ITEM_NOT_FOUND".to_owned()));
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_token_belongs_to_its_request() {
    let mut service = Service::start().await;
    let world = sample(3);
    service.publish(&world.envelopes).await;
    let asked = ListItemsRequest { min_position: position(&world), page_size: 1, ..items_of(0) };
    let token = service.client.list_items(asked.clone()).await.expect("a list").into_inner().next_page_token;
    assert!(!token.is_empty());
    let of_another = ListItemsRequest { page_token: token, ..items_of(1) };
    let refused = service.client.list_items(of_another).await.expect_err("another player's");
    assert_eq!(violated_fields(&refused), ["page_token"]);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_partition_shows_in_the_readiness_and_to_readers_that_need_it_and_the_others_answer() {
    let mut service = Service::start().await;
    let poisoned = partition_of(player(0).to_string().as_bytes(), PARTITIONS);
    let in_it = |key: &Uuid| partition_of(key.to_string().as_bytes(), PARTITIONS) == poisoned;
    let keys = (1_000..).map(Uuid::from_u128).filter(in_it).take(POISON_PER_MINUTE_MAX + 1);
    service.write(keys.map(|key| (key, b"not an envelope".to_vec())).collect()).await;
    let readiness = service.launched.platform.readiness.clone();
    eventually(LIMIT, "the readiness says so", async || !readiness.is_ready()).await;
    let missing = readiness.missing();
    assert_eq!(missing.len(), 1, "{missing:?}");
    let said = format!("DEAD_LETTER_FLOOD: topic {}, partition {poisoned} stopped before offset {POISON_PER_MINUTE_MAX}", service.topic);
    assert!(format!("{missing:?}").contains(&said), "{missing:?}");
    let world = sample(3);
    let key = |envelope: &EventEnvelope| Uuid::from_slice(&envelope.partition_key).expect("a key");
    let others = |envelope: &&EventEnvelope| partition_of(key(envelope).to_string().as_bytes(), PARTITIONS) != poisoned;
    service.publish(&world.envelopes.iter().filter(others).cloned().collect::<Vec<_>>()).await;
    let mut asked = 0;
    for number in (0..PLAYERS).filter(|number| partition_of(player(*number).to_string().as_bytes(), PARTITIONS) != poisoned) {
        let position = world.position().into_iter().filter(|(id, _)| *id == stream(number)).collect::<Vec<_>>();
        let min_position = idempo_rpc::position::encode(&position);
        service.client.list_items(ListItemsRequest { min_position, ..items_of(number) }).await.expect("an answer");
        asked += 1;
    }
    assert!(asked > 0);

    let stopped = service.client.list_items(items_of(0)).await.expect("what is there").into_inner();
    assert!(stopped.freshness.expect("freshness").lag_events > 0);
    let min_position = idempo_rpc::position::encode(&[(stream(0), 1)]);
    let item = world.items.iter().find(|item| item.owner == 0).expect("an item of the player");
    let list = service.client.list_items(ListItemsRequest { min_position: min_position.clone(), ..items_of(0) }).await;
    let get = service.client.get_item(GetItemRequest { name: format!("items/{}", item.id), min_position }).await;
    for refused in [list.expect_err("it is not there"), get.expect_err("it is not there")] {
        let info = refused.get_details_error_info().expect("an ErrorInfo");
        assert_eq!((refused.code(), info.reason.as_str()), (Code::Unavailable, "PROJECTION_STOPPED"));
        let named = ["partition", "offset", "code"].map(|name| info.metadata[name].clone());
        assert_eq!(named, [poisoned.to_string(), POISON_PER_MINUTE_MAX.to_string(), "DEAD_LETTER_FLOOD".to_owned()]);
    }
    service.stop().await;
}
