//! The platform that the tests share, with a few events in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use idempo_checker::evidence::{Sources, wait_until_quiet};
use idempo_clock::{Clock as _, SystemClock};
use idempo_devstack::{Cluster, Options, Platform, Progress, Servers};
use idempo_ids::derive;
use idempo_proto::event::v1::{Asset, ItemKind, Rarity};
use idempo_proto::inventory::v1::inventory_service_client::InventoryServiceClient;
use idempo_proto::inventory::v1::{CreateItemTypeRequest, GrantItemRequest, ItemType, TransferItemRequest, transfer_item_request};
use idempo_proto::wallet::v1::wallet_service_client::WalletServiceClient;
use idempo_proto::wallet::v1::{GrantFundsRequest, OpenWalletRequest, TransferFundsRequest};
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

/// How long what was written may take to be everywhere.
const QUIET_LIMIT: Duration = Duration::from_secs(30);
/// The players of the transcripts.
pub(crate) const RED: &str = "01890000-0000-7000-8000-00000000000a";
pub(crate) const BLUE: &str = "01890000-0000-7000-8000-00000000000b";

/// Starts the platform for the first test that needs it, and runs tests on it.
pub(crate) struct Suite {
    runtime: Runtime,
    world: Mutex<Option<World>>,
}

impl Suite {
    pub(crate) fn new() -> Result<Arc<Self>> {
        Ok(Arc::new(Self { runtime: Runtime::new()?, world: Mutex::new(None) }))
    }

    pub(crate) fn run(&self, test: impl AsyncFnOnce(&mut World) -> Result<()>) -> Result<()> {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        self.runtime.block_on(async {
            let world = match &mut *world {
                Some(world) => world,
                none => none.insert(World::start().await?),
            };
            test(world).await
        })
    }
}

/// The platform that the tests share.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) platform: Platform,
    pub(crate) servers: Servers,
    /// The profile that leads to it.
    pub(crate) profile: PathBuf,
    /// The key of the transfer from Red to Blue.
    pub(crate) transfer: Uuid,
    /// The key of a transfer that was refused.
    pub(crate) refused: Uuid,
    /// What was poisoned, once something was.
    pub(crate) letters: Option<Letters>,
}

/// The dead letters of the transcripts.
pub(crate) struct Letters {
    /// The name of the one that the read model refuses.
    pub(crate) refused: String,
    /// The name of the one that is no event.
    pub(crate) garbage: String,
    /// The key of the command whose event is parked behind the first.
    pub(crate) parked: String,
}

/// A new idempotency key.
pub(crate) fn key(number: u32) -> Uuid {
    let time = u128::from(SystemClock.now().as_millisecond().unsigned_abs()) << 80;
    derive(Uuid::from_u128(time), "idempo-cli-tests", number)
}

/// Players at play. They stop when this is dropped.
pub(crate) struct Playing {
    task: tokio::task::JoinHandle<Result<()>>,
    count: Arc<AtomicUsize>,
}

impl Playing {
    /// How many commands were answered.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a command printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl World {
    async fn start() -> Result<Self> {
        let servers = Servers::start(Options::isolated(Progress::to_stderr())).await?;
        servers.prepare().await?;
        let platform = Platform::start(&servers).await?;
        let profile = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{}.toml", std::process::id()));
        std::fs::write(&profile, idempo_devstack::profile(&servers, &platform)?)?;
        let cluster = servers.cluster()?;
        let mut world = Self { cluster, platform, servers, profile, transfer: Uuid::nil(), refused: Uuid::nil(), letters: None };
        (world.transfer, world.refused) = world.play().await?;
        world.wait_until_quiet().await?;
        Ok(world)
    }

    /// Where everything is that the platform has written.
    pub(crate) fn sources(&self) -> Sources {
        let url = |database| self.cluster.role_url(database, "idempo_auditor");
        Sources {
            wallet: url("wallet_db"),
            inventory: url("inventory_db"),
            inventory_view: url("inventory_view_db"),
            brokers: self.servers.kafka_brokers().to_owned(),
            topics: vec!["economy-events".to_owned()],
            dead_letters: Vec::new(),
            ops: None,
        }
    }

    /// Waits until everything that was written is in Kafka and in the read model.
    pub(crate) async fn wait_until_quiet(&self) -> Result<()> {
        ensure!(wait_until_quiet(&self.sources(), QUIET_LIMIT).await?, "the platform did not come to rest");
        Ok(())
    }

    pub(crate) fn channel(&self, process: &str) -> Result<Channel> {
        Ok(Endpoint::from_shared(format!("http://{}", self.platform.service(process)?.grpc()))?.connect_lazy())
    }

    /// A few commands, one after the other, so that everything has its place: two wallets, a grant, a transfer, an item that goes from hand to hand.
    async fn play(&self) -> Result<(Uuid, Uuid)> {
        let mut count = 0;
        let mut key = || {
            count += 1;
            key(count)
        };
        let mut wallets = WalletServiceClient::new(self.channel("wallet")?);
        for player in [RED, BLUE] {
            let request = OpenWalletRequest { request_id: key().to_string(), player_id: player.to_owned(), ..Default::default() };
            wallets.open_wallet(request).await?;
        }
        let grant = GrantFundsRequest {
            request_id: key().to_string(),
            wallet: format!("wallets/{RED}"),
            asset: Asset::Coin.into(),
            amount: 500,
            reason: "welcome".to_owned(),
            ..Default::default()
        };
        wallets.grant_funds(grant).await?;
        let transfer = key();
        let pay = TransferFundsRequest {
            request_id: transfer.to_string(),
            from_wallet: format!("wallets/{RED}"),
            to_wallet: format!("wallets/{BLUE}"),
            asset: Asset::Coin.into(),
            amount: 120,
            reason: "a sword".to_owned(),
            ..Default::default()
        };
        wallets.transfer_funds(pay.clone()).await?;
        let refused = key();
        let too_much = TransferFundsRequest { request_id: refused.to_string(), amount: 9_000, ..pay };
        ensure!(wallets.transfer_funds(too_much).await.is_err(), "Red has not so much");
        self.play_with_items(&mut key).await?;
        Ok((transfer, refused))
    }

    async fn play_with_items(&self, key: &mut impl FnMut() -> Uuid) -> Result<()> {
        let mut inventories = InventoryServiceClient::new(self.channel("inventory")?);
        let sword = ItemType {
            name: "itemTypes/iron_sword".to_owned(),
            display_name: "Iron sword".to_owned(),
            kind: ItemKind::Unique.into(),
            rarity: Rarity::Common.into(),
            weapon_bonus: 3,
            equippable: true,
        };
        inventories
            .create_item_type(CreateItemTypeRequest { request_id: key().to_string(), item_type: Some(sword), ..Default::default() })
            .await?;
        let grant = GrantItemRequest {
            request_id: key().to_string(),
            player: format!("players/{BLUE}"),
            item_type: "itemTypes/iron_sword".to_owned(),
            quantity: 1,
            reason: "forged".to_owned(),
            ..Default::default()
        };
        let item = inventories.grant_item(grant).await?.into_inner().item;
        let hand_over = TransferItemRequest {
            request_id: key().to_string(),
            from_player: format!("players/{BLUE}"),
            to_player: format!("players/{RED}"),
            what: Some(transfer_item_request::What::Item(item)),
            ..Default::default()
        };
        inventories.transfer_item(hand_over).await?;
        Ok(())
    }

    /// The ids by which the rows of generation 1 are compared, of each table that has rows.
    pub(crate) async fn compared_ids(&self) -> Result<Vec<Vec<Uuid>>> {
        let (client, connection) = idempo_pg::connect(&self.cluster.superuser("inventory_view_db")).await?;
        tokio::spawn(connection);
        let mut tables = Vec::new();
        for ids in [
            "item_id FROM inventory_g1.items",
            "item_id FROM inventory_g1.item_events",
            "player_id FROM inventory_g1.stacks",
            "player_id FROM inventory_g1.loadouts",
            "stream_id FROM projection.stream_version WHERE generation = 1",
        ] {
            let rows = client.query(&format!("SELECT {ids}"), &[]).await?;
            tables.push(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?);
        }
        Ok(tables)
    }

    /// Has coins and a sword go from hand to hand until the value is dropped.
    pub(crate) fn play_on(&self) -> Result<Playing> {
        let count = Arc::new(AtomicUsize::new(0));
        let mut wallets = WalletServiceClient::new(self.channel("wallet")?);
        let mut inventories = InventoryServiceClient::new(self.channel("inventory")?);
        let counted = Arc::clone(&count);
        let task = tokio::spawn(async move {
            for number in 1_000.. {
                let grant = GrantFundsRequest {
                    request_id: key(number).to_string(),
                    wallet: format!("wallets/{}", if number % 2 == 0 { RED } else { BLUE }),
                    asset: Asset::Stamp.into(),
                    amount: 1,
                    reason: "played on".to_owned(),
                    ..Default::default()
                };
                wallets.grant_funds(grant).await?;
                let item = GrantItemRequest {
                    request_id: key(number + (1 << 30)).to_string(),
                    player: format!("players/{RED}"),
                    item_type: "itemTypes/iron_sword".to_owned(),
                    quantity: 1,
                    reason: "played on".to_owned(),
                    ..Default::default()
                };
                inventories.grant_item(item).await?;
                counted.fetch_add(2, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
        Ok(Playing { task, count })
    }

    /// A command as a shell runs it: with the platform's profile, without a terminal.
    pub(crate) fn shell(&self, line: &str) -> Command {
        let program = Path::new(env!("CARGO_BIN_EXE_idempo"));
        let folder = program.parent().map_or_else(PathBuf::new, Path::to_owned);
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("sh");
        command.args(["-c", line]).stdin(Stdio::null()).env_clear();
        command.env("PATH", format!("{}:{path}", folder.display()));
        command.env("IDEMPO_CLI_CONFIG", &self.profile).env("USER", "red").env("TERM", "dumb").env("COLUMNS", "160");
        command.env("RED", RED).env("BLUE", BLUE).env("TRANSFER", self.transfer.to_string());
        command.env("REFUSED", self.refused.to_string()).env("VIEWER", self.platform.viewer_token().expose());
        if let Some(letters) = &self.letters {
            command.env("DEAD", &letters.refused).env("GARBAGE", &letters.garbage).env("PARKED", &letters.parked);
            command.env("VIEW", self.cluster.role_url("inventory_view_db", "postgres"));
        }
        command
    }

    /// Runs `idempo` with these words, as a shell would read them.
    pub(crate) fn idempo(&self, words: &str) -> Result<Ended> {
        let output = self.shell(&format!("idempo {words}")).output().context("running a shell")?;
        Ok(Ended {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8(output.stderr)?,
        })
    }
}
