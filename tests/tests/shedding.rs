//! Events that nobody carries away, and what is refused meanwhile.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use idempo_proto::inventory::v1 as api;
use idempo_proto::inventory::v1::inventory_service_client::InventoryServiceClient;
use idempo_tests::{World, metrics, probe};
use tonic::transport::Channel;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

use crate::takeovers::readable;
use crate::wallets::is_replay;

/// A replica of the inventory service that sheds early.
const REPLICA: &str = "inventory-shedding";
/// Its settings: low commands are shed long before normal ones, so that there is time to see the difference.
const SETTINGS: [(&str, &str); 3] =
    [("IDEMPO_SHEDDING__LOW_AFTER_MS", "1000"), ("IDEMPO_SHEDDING__NORMAL_AFTER_MS", "8000"), ("IDEMPO_SHEDDING__POLL_INTERVAL_MS", "100")];
const RELAYS: [&str; 2] = ["relay-1", "relay-2"];
/// How long a change of what is shed may take: the later age, and time to look.
const NOTICE_LIMIT: Duration = Duration::from_secs(25);
/// The pause between two attempts.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

type Client = InventoryServiceClient<Channel>;

/// A player who has an equipped sword, another sword, and a third one reserved.
struct Player {
    name: String,
    equipped: String,
    reservation: String,
}

impl Player {
    async fn new(world: &World, client: &mut Client, item_type: &str) -> Result<Self> {
        let name = world.player();
        let (equipped, _) = world.item(&name, item_type).await?;
        let (reserved, _) = world.item(&name, item_type).await?;
        let request = api::ReserveItemRequest {
            request_id: world.request_id(),
            player: name.clone(),
            ttl_ms: 600_000,
            what: Some(api::reserve_item_request::What::Item(reserved)),
            ..Default::default()
        };
        let reservation = client.reserve_item(request).await?.into_inner().reservation.context("a reservation")?.name;
        client.equip_item(equip(world, &equipped)).await?;
        Ok(Self { name, equipped, reservation })
    }
}

fn equip(world: &World, item: &str) -> api::EquipItemRequest {
    api::EquipItemRequest { request_id: world.request_id(), item: item.to_owned(), validate_only: false }
}

fn unequip(world: &World, player: &str) -> api::UnequipItemRequest {
    api::UnequipItemRequest { request_id: world.request_id(), player: player.to_owned(), validate_only: false }
}

/// Whether an answer says that the backlog is too old, and when to come again.
fn is_shed<T>(answer: &Result<Response<T>, Status>) -> Result<bool> {
    let Err(status) = answer else { return Ok(false) };
    let info = status.get_details_error_info().with_context(|| format!("no ErrorInfo in {status:?}"))?;
    ensure!(status.code() == Code::ResourceExhausted && info.reason == "BACKLOG_TOO_OLD", "instead of BACKLOG_TOO_OLD: {status:?}");
    ensure!(status.get_details_retry_info().is_some_and(|info| info.retry_delay.is_some()), "no RetryInfo in {status:?}");
    ensure!(status.get_details_quota_failure().is_some(), "no QuotaFailure in {status:?}");
    ensure!(info.metadata.contains_key("backlog_age_ms"), "no age in {status:?}");
    Ok(true)
}

/// Sends a request again and again until it is, or is not, shed; the last answer.
async fn until<T>(shed: bool, mut send: impl AsyncFnMut() -> Result<Response<T>, Status>) -> Result<Result<Response<T>, Status>> {
    let began = Instant::now();
    loop {
        let answer = send().await;
        if is_shed(&answer)? == shed {
            return Ok(answer);
        }
        if began.elapsed() > NOTICE_LIMIT {
            bail!("nothing has changed after {:?}", began.elapsed());
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

pub(crate) async fn commands_that_can_wait_are_refused_while_no_relay_is_alive(world: &mut World) -> Result<()> {
    world.platform.start_replica("inventory", REPLICA, &SETTINGS).await?;
    let mut client = InventoryServiceClient::new(world.channel(REPLICA)?);
    let item_type = world.item_type().await?;
    let player = Player::new(world, &mut client, &item_type).await?;
    for relay in RELAYS {
        world.platform.kill(relay)?;
    }
    let began = Instant::now();
    // The event that waits.
    let (_, position) = world.item(&player.name, &item_type).await?;
    let (unequip, grant) = (unequip(world, &player.name), world.grant_item(&player.name, &item_type));
    let validate = api::UnequipItemRequest { validate_only: true, ..unequip.clone() };
    until(true, async || client.clone().unequip_item(validate.clone()).await).await?.err().context("shed")?;
    writeln!(std::io::stderr(), "low commands are shed {} ms after the relays' end", began.elapsed().as_millis())?;
    assert!(is_shed(&client.unequip_item(unequip.clone()).await)?);
    client.grant_item(world.grant_item(&player.name, &item_type)).await.context("a normal command, while only low ones are shed")?;
    client.get_item_type(api::GetItemTypeRequest { name: item_type.clone() }).await.context("a read")?;

    until(true, async || client.clone().grant_item(world.grant_item(&player.name, &item_type)).await).await?.err().context("shed")?;
    writeln!(std::io::stderr(), "normal commands are shed {} ms after the relays' end", began.elapsed().as_millis())?;
    assert!(is_shed(&client.grant_item(grant.clone()).await)?);
    client.get_item_type(api::GetItemTypeRequest { name: item_type.clone() }).await.context("a read")?;
    let release = api::ReleaseReservationRequest { request_id: world.request_id(), reservation: player.reservation, ..Default::default() };
    client.release_reservation(release).await.context("what ends something begun")?;
    tells_what_it_sheds(world).await?;

    for relay in RELAYS {
        world.platform.start_again(relay).await?;
    }
    let back = Instant::now();
    let unequipped = until(false, async || client.clone().unequip_item(unequip.clone()).await).await??;
    let granted = until(false, async || client.clone().grant_item(grant.clone()).await).await??;
    writeln!(std::io::stderr(), "everything is admitted {} ms after the relays were back", back.elapsed().as_millis())?;
    assert!(!is_replay(unequipped.metadata()) && !is_replay(granted.metadata()), "what was shed had bound no key");
    client.equip_item(equip(world, &player.equipped)).await.context("it was unequipped once, and not before")?;
    readable(world, &player.name, &position, NOTICE_LIMIT).await?;
    Ok(())
}

/// The metrics of the replica while it sheds.
async fn tells_what_it_sheds(world: &World) -> Result<()> {
    let (_, page) = probe::get(world.platform.service(REPLICA)?.admin(), "/metrics").await?;
    let samples = metrics::parse(&page)?;
    let sum = |name: &str| samples.iter().filter(|(sample, _)| sample.starts_with(name)).map(|(_, value)| value).sum::<f64>();
    assert!(sum("idempo_backlog_age_seconds") >= 8.0, "{page}");
    assert_eq!(sum("idempo_shedding"), 2.0);
    assert!(sum("idempo_shed_commands_total{criticality=\"low\"}") >= 2.0, "{page}");
    assert!(sum("idempo_shed_commands_total{criticality=\"normal\"}") >= 2.0, "{page}");
    Ok(())
}
