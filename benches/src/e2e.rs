//! `e2e`: from a command until it is visible, through the inventory service, the relay, Kafka and the projector, each as its own process.
//!
//! Commands come at a fixed rate that does not follow how fast they are answered, and each latency begins when its command was due: what had to wait
//! counts with its wait.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use idempo_clock::{Clock as _, SystemClock};
use idempo_devstack::{Platform, Servers};
use idempo_ids::{Uuid, derive};
use idempo_kafka::watermarks;
use idempo_proto::event::v1::{ItemKind, Rarity};
use idempo_proto::inventory::v1::inventory_query_service_client::InventoryQueryServiceClient;
use idempo_proto::inventory::v1::inventory_service_client::InventoryServiceClient;
use idempo_proto::inventory::v1::{CreateItemTypeRequest, GetItemRequest, GrantItemRequest, ItemType};
use idempo_rpc::CALLER_METADATA;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tonic::transport::{Channel, Endpoint};

use crate::accounts::key;
use crate::latency::Latencies;
use crate::report::{Bar, Measured, Report};
use crate::usage::{Memory, cpu_seconds, memory, reset_peak};
use crate::{Size, database, platform};

/// Players that the commands are spread over.
const PLAYERS: u32 = 5_000;
/// Connections to each service.
const CHANNELS: usize = 4;
/// How long commands run before the ones that count: everything is warm then.
const WARM_UP_SECONDS: u32 = 3;
/// How long one call may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(20);
/// The topic that inventories' events go to.
const TOPIC: &str = "economy-events";
/// Its partitions.
const PARTITIONS: i32 = 12;

/// What must be, in milliseconds.
const P50_MAX_MS: f64 = 15.0;
/// What must be, in milliseconds.
const P99_MAX_MS: f64 = 50.0;

/// Sends commands and waits for each to be visible.
pub(crate) async fn run(size: Size, report: &mut Report) -> anyhow::Result<()> {
    let (servers, mut running) = platform::start().await?;
    for round in 1..=size.rounds {
        let client = Arc::new(Client::connect(&running).await?);
        client.create_type(round).await?;
        let before = Counts::at_rest(&servers).await?;
        // Up to the first command that counts nothing is watched: the peak of a start is not that of the load.
        let commands = size.rate * (size.seconds + WARM_UP_SECONDS);
        let pids: Vec<(&str, u32)> = running.services().filter_map(|(name, service)| Some((name, service.pid()?))).collect();
        for (_, pid) in &pids {
            reset_peak(*pid)?;
        }
        let cpu = pids.iter().map(|(_, pid)| cpu_seconds(*pid)).collect::<anyhow::Result<Vec<f64>>>()?;
        let found = client.load(round, size.rate, commands).await?;
        found.report(round, report);
        for ((name, pid), cpu) in pids.iter().zip(cpu) {
            let million = (cpu_seconds(*pid)? - cpu) * 1_000_000.0 / f64::from(commands);
            report.add(round, Measured::new(format!("{name}: CPU"), million, "s/million"));
            let Memory { peak, .. } = memory(*pid)?;
            report.add(round, Measured::new(format!("{name}: peak memory"), peak, "MiB"));
        }
        Counts::of(&servers).await?.check(&before, commands)?;
        ensure!(running.fallen()?.is_none(), "a process ended by itself");
    }
    running.stop().await
}

/// What the stores and the topic have.
struct Counts {
    events: i64,
    granted: i64,
    records: i64,
    items: i64,
    history: i64,
}

impl Counts {
    async fn of(servers: &Servers) -> anyhow::Result<Self> {
        let cluster = servers.cluster()?;
        let store = database::session(&cluster.superuser("inventory_db")).await?;
        let view = database::session(&cluster.superuser("inventory_view_db")).await?;
        let events = store.query_one(include_str!("sql/e2e_events.sql"), &[]).await?;
        let rows = view.query_one(include_str!("sql/e2e_items.sql"), &[]).await?;
        let kafka = idempo_kafka::Config { brokers: servers.kafka_brokers().to_owned(), ..idempo_kafka::Config::default() };
        let records = watermarks(&kafka, TOPIC, PARTITIONS).await?.iter().map(|(_, high)| high).sum();
        Ok(Self { events: events.try_get(0)?, granted: events.try_get(1)?, records, items: rows.try_get(0)?, history: rows.try_get(1)? })
    }

    /// The same once every event of the store is on the topic.
    async fn at_rest(servers: &Servers) -> anyhow::Result<Self> {
        let began = Instant::now();
        loop {
            let counts = Self::of(servers).await?;
            if counts.records >= counts.events {
                return Ok(counts);
            }
            ensure!(began.elapsed() < PATIENCE, "{} records of {} events after {PATIENCE:?}", counts.records, counts.events);
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    /// Each command has one event, one record, one item and one line of history.
    fn check(&self, before: &Self, commands: u32) -> anyhow::Result<()> {
        let commands = i64::from(commands);
        for (what, now, then) in [
            ("events", self.events, before.events),
            ("grants", self.granted, before.granted),
            ("records", self.records, before.records),
            ("items", self.items, before.items),
            ("lines of history", self.history, before.history),
        ] {
            ensure!(now - then == commands, "{} {what} for {commands} commands", now - then);
        }
        Ok(())
    }
}

/// Connections to the inventory service and to its read model.
struct Client {
    commands: Vec<Channel>,
    queries: Vec<Channel>,
    began: i64,
}

/// How long one command took, from when it was due.
struct Taken {
    item: String,
    answered: Duration,
    visible: Duration,
}

impl Client {
    async fn connect(platform: &Platform) -> anyhow::Result<Self> {
        let channels = async |name| {
            let endpoint = Endpoint::from_shared(format!("http://{}", platform.service(name)?.grpc()))?.tcp_nodelay(true);
            let mut channels = Vec::new();
            for _ in 0..CHANNELS {
                channels.push(endpoint.connect().await?);
            }
            anyhow::Ok(channels)
        };
        let began = SystemClock.now().as_millisecond();
        Ok(Self { commands: channels("inventory").await?, queries: channels("inventory-projector").await?, began })
    }

    async fn create_type(&self, round: u32) -> anyhow::Result<()> {
        let item_type = ItemType {
            name: self.item_type(round),
            display_name: "A sword".to_owned(),
            kind: ItemKind::Unique.into(),
            rarity: Rarity::Common.into(),
            weapon_bonus: 1,
            equippable: true,
        };
        let request = CreateItemTypeRequest {
            request_id: key(self.began, u32::MAX).to_string(),
            item_type: Some(item_type),
            ..CreateItemTypeRequest::default()
        };
        let channel = self.commands.first().context("a connection")?.clone();
        InventoryServiceClient::new(channel).create_item_type(patient(request)?).await?;
        Ok(())
    }

    /// A type that no other run has.
    fn item_type(&self, round: u32) -> String {
        format!("itemTypes/bench_{}_{round}", self.began)
    }

    /// Sends so many commands, each when it is due.
    async fn load(self: &Arc<Self>, round: u32, rate: u32, commands: u32) -> anyhow::Result<Found> {
        let period = Duration::from_secs(1) / rate;
        let mut due = tokio::time::interval(period);
        due.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let item_type: Arc<str> = self.item_type(round).into();
        let mut calls = JoinSet::new();
        let mut found = Found::after(rate * WARM_UP_SECONDS)?;
        for n in 0..commands {
            let due = due.tick().await;
            let (client, item_type) = (Arc::clone(self), Arc::clone(&item_type));
            calls.spawn(async move { Ok((n, client.grant_and_see(&item_type, n, due).await?)) });
            while let Some(call) = calls.try_join_next() {
                found.take(call?)?;
            }
        }
        while let Some(call) = calls.join_next().await {
            found.take(call?)?;
        }
        ensure!(found.items.len() == usize::try_from(commands)?, "{} items for {commands} commands", found.items.len());
        Ok(found)
    }

    async fn grant_and_see(&self, item_type: &str, n: u32, due: Instant) -> anyhow::Result<Taken> {
        let player = derive(Uuid::nil(), "bench-player", n % PLAYERS);
        let request = GrantItemRequest {
            request_id: key(self.began, n).to_string(),
            player: format!("players/{player}"),
            item_type: item_type.to_owned(),
            reason: "a quest was completed".to_owned(),
            ..GrantItemRequest::default()
        };
        let at = usize::try_from(n)? % CHANNELS;
        let (commands, queries) = (self.commands.get(at).context("a connection")?, self.queries.get(at).context("a connection")?);
        let granted = InventoryServiceClient::new(commands.clone()).grant_item(patient(request)?).await?.into_inner();
        let answered = due.elapsed();
        let request = GetItemRequest { name: granted.item.clone(), min_position: granted.position };
        let seen = InventoryQueryServiceClient::new(queries.clone()).get_item(patient(request)?).await?.into_inner();
        let visible = due.elapsed();
        ensure!(seen.item.is_some_and(|item| item.name == granted.item && item.hop == 1), "another item than the one that was granted");
        Ok(Taken { item: granted.item, answered, visible })
    }
}

fn patient<T>(message: T) -> anyhow::Result<tonic::Request<T>> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(PATIENCE);
    request.metadata_mut().insert(CALLER_METADATA, "bench".parse()?);
    Ok(request)
}

/// What the commands that count came to.
struct Found {
    answered: Latencies,
    visible: Latencies,
    items: HashSet<String>,
    /// How many commands come before those that count.
    warm_up: u32,
}

impl Found {
    fn after(warm_up: u32) -> anyhow::Result<Self> {
        Ok(Self { warm_up, answered: Latencies::new()?, visible: Latencies::new()?, items: HashSet::new() })
    }

    /// Any call that fails fails the run.
    fn take(&mut self, call: anyhow::Result<(u32, Taken)>) -> anyhow::Result<()> {
        let (n, taken) = call?;
        ensure!(self.items.insert(taken.item), "one item for two commands");
        if n >= self.warm_up {
            self.answered.record(taken.answered);
            self.visible.record(taken.visible);
        }
        Ok(())
    }

    fn report(&self, round: u32, report: &mut Report) {
        for (what, quantile, bar) in [("p50", 0.5, P50_MAX_MS), ("p99", 0.99, P99_MAX_MS)] {
            let visible = Measured::new(format!("command due to visible, {what}"), self.visible.ms(quantile), "ms");
            report.add(round, visible.bar(Bar::AtMost(bar)));
            report.add(round, Measured::new(format!("command due to answered, {what}"), self.answered.ms(quantile), "ms"));
        }
        report.distribution(format!("command due to visible, µs, round {round}"), &self.visible);
        report.distribution(format!("command due to answered, µs, round {round}"), &self.answered);
    }
}
