//! Servers that stop and come back. The processes stay, say what they miss, and go on by themselves.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use idempo_devstack::Server;
use idempo_devstack::testing::eventually;
use idempo_ids::derive;
use idempo_proto::wallet::v1 as api;
use idempo_proto::wallet::v1::wallet_service_client::WalletServiceClient;
use idempo_tests::{World, probe};
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;

use crate::takeovers::readable;
use crate::wallets::is_replay;

/// How long a process may take to see that a server is away, or there again.
const NOTICE_LIMIT: Duration = Duration::from_secs(15);
/// How long a command may take to succeed once its server is back.
const RESUME_LIMIT: Duration = Duration::from_secs(30);
/// How long four answers may take while a server is away.
const AWAY_ANSWERS_LIMIT: Duration = Duration::from_secs(20);
/// How many callers grant coins while PostgreSQL stops.
const CALLERS: usize = 16;
/// How many items are granted while Kafka is away.
const BACKLOG: usize = 40;
/// The pause between two attempts.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Asserts that an answer says that it is worth trying again, and when.
#[track_caller]
fn assert_away<T>(answer: Result<Response<T>, Status>) -> Result<()> {
    let status = answer.err().context("a server is away, and the call succeeds")?;
    ensure!(status.code() == Code::Unavailable, "instead of UNAVAILABLE: {status:?}");
    ensure!(status.get_details_retry_info().is_some_and(|info| info.retry_delay.is_some()), "no RetryInfo in {status:?}");
    ensure!(status.get_details_error_info().is_some_and(|info| !info.reason.is_empty()), "no ErrorInfo in {status:?}");
    Ok(())
}

/// Waits until what a process misses is as wanted.
async fn noticed(world: &World, process: &str, wanted: impl Fn(&[String]) -> bool) -> Result<Vec<String>> {
    let began = Instant::now();
    loop {
        let missing = probe::missing(world.platform.service(process)?).await?;
        if wanted(&missing) {
            return Ok(missing);
        }
        ensure!(began.elapsed() < NOTICE_LIMIT, "{process} misses {missing:?} after {:?}", began.elapsed());
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// Waits until every process is ready.
async fn all_ready(world: &World) -> Result<()> {
    for (name, _) in world.platform.services() {
        noticed(world, name, <[String]>::is_empty).await?;
    }
    Ok(())
}

/// Requests that were answered, with their answers.
type Granted = Vec<(api::GrantFundsRequest, api::GrantFundsResponse)>;

/// Grants a coin again and again until `over`; every request that was answered, with its answer. Behaves as a client should: the same key until
/// there is an answer, and another attempt only after an answer that allows it.
async fn keep_granting(
    mut wallets: WalletServiceClient<Channel>,
    mut next: impl FnMut() -> api::GrantFundsRequest,
    answered: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
) -> Result<Granted> {
    let mut granted = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let grant = next();
        let began = Instant::now();
        let answer = loop {
            match wallets.grant_funds(grant.clone()).await {
                Ok(answer) => break answer.into_inner(),
                Err(status) if began.elapsed() > RESUME_LIMIT => bail!("still {status:?} after {:?}", began.elapsed()),
                Err(status) => {
                    let may_retry = matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded);
                    ensure!(may_retry, "a server that stops is no reason for {status:?}");
                    let wanted = status.get_details_retry_info().and_then(|info| info.retry_delay);
                    tokio::time::sleep(wanted.unwrap_or(RETRY_PAUSE)).await;
                }
            }
        };
        granted.push((grant, answer));
        answered.fetch_add(1, Ordering::Relaxed);
    }
    Ok(granted)
}

/// Callers who grant coins to one wallet.
struct Callers {
    tasks: Vec<JoinHandle<Result<Granted>>>,
    answered: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
}

impl Callers {
    fn start(world: &World, wallet: &str) -> Result<Self> {
        let (answered, over) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let mut tasks = Vec::new();
        for _ in 0..CALLERS {
            let (base, template) = (world.id(), world.grant(wallet, 1));
            let mut count = 0;
            let next = move || {
                count += 1;
                api::GrantFundsRequest { request_id: derive(base, "grant", count).to_string(), ..template.clone() }
            };
            tasks.push(tokio::spawn(keep_granting(world.wallets()?, next, Arc::clone(&answered), Arc::clone(&over))));
        }
        Ok(Self { tasks, answered, over })
    }

    /// Waits until so many more grants were answered.
    async fn answered_more(&self, more: usize) {
        let wanted = self.answered.load(Ordering::Relaxed) + more;
        eventually(RESUME_LIMIT, "grants are answered", async || self.answered.load(Ordering::Relaxed) >= wanted).await;
    }

    async fn end(self) -> Result<Granted> {
        self.over.store(true, Ordering::Relaxed);
        let mut granted = Vec::new();
        for task in self.tasks {
            granted.extend(task.await??);
        }
        Ok(granted)
    }
}

pub(crate) async fn work_goes_on_by_itself_when_postgresql_is_back(world: &mut World) -> Result<()> {
    let (wallet, player, item_type) = (world.wallet(0).await?, world.player(), world.item_type().await?);
    let open = world.open(&world.id().to_string());
    let callers = Callers::start(world, &wallet)?;
    callers.answered_more(5 * CALLERS).await;
    world.servers.crash(Server::Postgres).await?;

    let began = Instant::now();
    let mut wallets = world.wallets()?;
    assert_away(wallets.open_wallet(open.clone()).await).context("opening a wallet")?;
    assert_away(wallets.get_wallet(api::GetWalletRequest { name: wallet.clone(), ..Default::default() }).await).context("reading one")?;
    assert_away(world.inventories()?.grant_item(world.grant_item(&player, &item_type)).await).context("granting an item")?;
    assert_away(world.items(&player, "").await.map(Response::new)).context("listing items")?;
    writeln!(std::io::stderr(), "four answers while PostgreSQL is away: {} ms", began.elapsed().as_millis())?;
    ensure!(began.elapsed() < AWAY_ANSWERS_LIMIT, "they took {:?}", began.elapsed());
    for process in ["wallet", "inventory", "inventory-projector"] {
        let missing = noticed(world, process, |missing| !missing.is_empty()).await?;
        assert!(missing.iter().any(|condition| condition.starts_with("database: ")), "{process} misses {missing:?}");
    }
    for relay in ["relay-1", "relay-2"] {
        let missing = noticed(world, relay, |missing| missing.len() == 2).await?;
        assert!(missing.iter().all(|condition| condition.starts_with("outbox ")), "{relay} misses {missing:?}");
    }
    assert_eq!(world.platform.fallen()?, None);

    world.servers.start_again(Server::Postgres).await?;
    let back = Instant::now();
    callers.answered_more(5 * CALLERS).await;
    writeln!(std::io::stderr(), "{} grants were answered {} ms after PostgreSQL was back", 5 * CALLERS, back.elapsed().as_millis())?;
    let granted = callers.end().await?;
    all_ready(world).await?;
    writeln!(std::io::stderr(), "all processes were ready after {} ms", back.elapsed().as_millis())?;
    assert_eq!(world.coins(&wallet, "").await?, i64::try_from(granted.len())?, "each grant that was answered once, and no other");
    for (grant, answer) in granted {
        assert_eq!(*wallets.grant_funds(grant).await?.get_ref(), answer);
    }
    let (first, second) = (wallets.open_wallet(open.clone()).await?, wallets.open_wallet(open).await?);
    assert_eq!((is_replay(first.metadata()), is_replay(second.metadata())), (false, true), "the outage has bound no key");
    let (_, position) = world.item(&player, &item_type).await?;
    readable(world, &player, &position, RESUME_LIMIT).await?;
    Ok(())
}

pub(crate) async fn commands_go_on_while_kafka_is_away_and_the_backlog_drains(world: &mut World) -> Result<()> {
    let item_type = world.item_type().await?;
    let (from, to) = (world.wallet(100).await?, world.wallet(0).await?);
    let player = world.player();
    let (_, seen) = world.item(&player, &item_type).await?;
    readable(world, &player, &seen, RESUME_LIMIT).await?;

    world.servers.crash(Server::Kafka).await?;
    let mut positions = Vec::new();
    for _ in 0..BACKLOG {
        positions.push(world.item(&player, &item_type).await?.1);
    }
    let last = positions.last().context("a position")?;
    world.wallets()?.transfer_funds(world.transfer(&from, &to, 40)).await?;
    assert_eq!((world.coins(&from, "").await?, world.coins(&to, "").await?), (60, 40));
    // What was read before can be read still; what came since is said to be missing.
    assert_eq!(world.items(&player, &seen).await?.items.len(), 1);
    let mut behind = tonic::Request::new(idempo_proto::inventory::v1::ListItemsRequest {
        parent: player.clone(),
        min_position: last.clone(),
        ..Default::default()
    });
    behind.set_timeout(Duration::from_secs(1));
    let answer = world.queries()?.list_items(behind).await;
    assert_eq!(
        answer.as_ref().err().and_then(Status::get_details_error_info).map(|info| info.reason).as_deref(),
        Some("PROJECTION_BEHIND")
    );
    assert_away(answer)?;
    assert_eq!(world.platform.fallen()?, None);
    let mut missing = Vec::new();
    for relay in ["relay-1", "relay-2"] {
        missing.extend(probe::missing(world.platform.service(relay)?).await?);
    }
    writeln!(std::io::stderr(), "while Kafka is away the relays miss {missing:?}")?;

    world.servers.start_again(Server::Kafka).await?;
    let took = readable(world, &player, last, RESUME_LIMIT).await?;
    writeln!(std::io::stderr(), "the backlog of {BACKLOG} was readable {} ms after Kafka was back", took.as_millis())?;
    assert_eq!(world.items(&player, last).await?.items.len(), BACKLOG + 1);
    all_ready(world).await
}

/// I5, I6 and I7 of the catalogue of invariants, once everything is quiet.
pub(crate) async fn what_is_stored_is_in_kafka_and_in_the_read_model(world: &mut World) -> Result<()> {
    let mut stored = world.envelopes("wallet_db").await?;
    stored.extend(world.envelopes("inventory_db").await?);
    let began = Instant::now();
    let sent = loop {
        let mut sent = HashMap::new();
        for record in world.records().await? {
            *sent.entry(record.value).or_insert(0_usize) += 1;
        }
        if stored.iter().all(|envelope| sent.contains_key(envelope)) {
            break sent;
        }
        let there = stored.iter().filter(|envelope| sent.contains_key(*envelope)).count();
        ensure!(began.elapsed() < RESUME_LIMIT, "{there} of {} stored events are in Kafka", stored.len());
    };
    assert_eq!(sent.len(), stored.len(), "nothing is in Kafka that is not stored");
    let records: usize = sent.values().sum();
    writeln!(std::io::stderr(), "{} events, {} records sent a second time", stored.len(), records - stored.len())?;
    assert_eq!(world.projected().await?, world.folded().await?);
    Ok(())
}
