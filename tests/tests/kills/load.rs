//! Clients that go on while processes are killed. Each sends one command after the other, the same bytes under the same key until there is a definite
//! answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use idempo_ids::{Uuid, derive};
use idempo_proto::event::v1::Asset;
use idempo_proto::inventory::v1 as inventory;
use idempo_proto::inventory::v1::inventory_service_client::InventoryServiceClient;
use idempo_proto::wallet::v1 as wallet;
use idempo_proto::wallet::v1::wallet_service_client::WalletServiceClient;
use idempo_tests::World;
use prost::Message;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt as _;

use super::dice::Dice;
use crate::wallets::is_replay;

/// How many clients there are.
const CLIENTS: usize = 6;
/// How many coins each begins with.
pub(super) const COINS: i64 = 100;
/// How long a client waits for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a command may take until it is settled, whatever is killed meanwhile.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);
/// The pause after an answer that is none.
const RETRY_PAUSE: Duration = Duration::from_millis(20);
/// How long so many answers may take.
const PROGRESS_LIMIT: Duration = Duration::from_secs(30);

/// A command as it is sent.
#[derive(Debug, Clone)]
pub(super) enum Command {
    GrantFunds(wallet::GrantFundsRequest),
    TransferFunds(wallet::TransferFundsRequest),
    GrantItem(inventory::GrantItemRequest),
    TransferItem(inventory::TransferItemRequest),
}

/// A definite answer, so that two can be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Replied(Vec<u8>),
    Refused { code: Code, message: String, details: Vec<u8> },
}

/// A command that has its answer.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) command: Command,
    pub(super) answer: Answer,
    /// How often it was sent.
    pub(super) attempts: u32,
}

/// The clients at work.
pub(super) struct Load {
    tasks: Vec<JoinHandle<Result<Vec<Settled>>>>,
    wallets: Vec<String>,
    answered: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    lines: Lines,
}

/// What the clients leave.
pub(super) struct Ended {
    pub(super) settled: Vec<Settled>,
    pub(super) wallets: Vec<String>,
    pub(super) lines: Lines,
}

impl Ended {
    /// How many commands were sent more than once.
    pub(super) fn unsure(&self) -> usize {
        self.settled.iter().filter(|settled| settled.attempts > 1).count()
    }
}

impl Load {
    /// Makes wallets, players and an item type, and lets the clients begin.
    pub(super) async fn start(world: &World, dice: &mut Dice) -> Result<Self> {
        let item_type = world.item_type().await?;
        let wallets = try_join_all((0..CLIENTS).map(|_| world.wallet(COINS))).await?;
        let players: Vec<String> = (0..CLIENTS).map(|_| world.player()).collect();
        let (answered, over) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let lines = Lines { wallets: world.wallets()?, inventories: world.inventories()? };
        let mut tasks = Vec::new();
        for number in 0..CLIENTS {
            // The clients stand in a circle: each gives to the next.
            let at = |names: &[String], number: usize| names.get(number % CLIENTS).cloned().context("one for each");
            let client = Client {
                lines: Lines { wallets: world.wallets()?, inventories: world.inventories()? },
                dice: dice.fork(),
                base: world.id(),
                sent: 0,
                wallets: (at(&wallets, number)?, at(&wallets, number + 1)?),
                players: (at(&players, number)?, at(&players, number + 1)?),
                item_type: item_type.clone(),
                items: Vec::new(),
            };
            tasks.push(tokio::spawn(client.work(Arc::clone(&answered), Arc::clone(&over))));
        }
        Ok(Self { tasks, wallets, answered, over, lines })
    }

    /// Waits until so many more commands are settled.
    pub(super) async fn answered_more(&self, more: usize) -> Result<()> {
        let wanted = self.answered.load(Ordering::Relaxed) + more;
        let began = Instant::now();
        while self.answered.load(Ordering::Relaxed) < wanted {
            ensure!(!self.tasks.iter().any(JoinHandle::is_finished), "a client has given up");
            ensure!(began.elapsed() < PROGRESS_LIMIT, "{more} answers take more than {PROGRESS_LIMIT:?}");
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        Ok(())
    }

    /// Lets each client settle its last command.
    pub(super) async fn end(mut self) -> Result<Ended> {
        self.over.store(true, Ordering::Relaxed);
        let mut settled = Vec::new();
        for task in std::mem::take(&mut self.tasks) {
            settled.extend(task.await??);
        }
        Ok(Ended { settled, wallets: std::mem::take(&mut self.wallets), lines: self.lines.clone() })
    }
}

impl Drop for Load {
    /// Where a test fails, its clients go with it.
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// The connections of a client.
#[derive(Debug, Clone)]
pub(super) struct Lines {
    wallets: WalletServiceClient<Channel>,
    inventories: InventoryServiceClient<Channel>,
}

impl Lines {
    /// Sends a command once: its definite answer and whether it is a repeated one, or why there is none.
    pub(super) async fn send(&mut self, command: &Command) -> Result<(Answer, bool), Status> {
        match command.clone() {
            Command::GrantFunds(request) => answer(self.wallets.grant_funds(timed(request)).await),
            Command::TransferFunds(request) => answer(self.wallets.transfer_funds(timed(request)).await),
            Command::GrantItem(request) => answer(self.inventories.grant_item(timed(request)).await),
            Command::TransferItem(request) => answer(self.inventories.transfer_item(timed(request)).await),
        }
    }

    /// Sends it until there is a definite answer.
    pub(super) async fn settle(&mut self, command: Command) -> Result<Settled> {
        let began = Instant::now();
        for attempts in 1.. {
            match self.send(&command).await {
                Ok((answer, _)) => return Ok(Settled { command, answer, attempts }),
                Err(status) => {
                    ensure!(may_be_sent_again(&status), "a kill is no reason for {status:?}");
                    ensure!(began.elapsed() < SETTLE_LIMIT, "{command:?} is not settled after {attempts} attempts: {status:?}");
                }
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
        anyhow::bail!("attempts are without end")
    }
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(ANSWER_TIMEOUT);
    request
}

fn answer<T: Message>(answer: Result<Response<T>, Status>) -> Result<(Answer, bool), Status> {
    match answer {
        Ok(response) => Ok((Answer::Replied(response.get_ref().encode_to_vec()), is_replay(response.metadata()))),
        // The only refusal that these commands can meet.
        Err(status) if status.code() == Code::FailedPrecondition => {
            let replayed = is_replay(status.metadata());
            let (code, message, details) = (status.code(), status.message().to_owned(), status.details().to_vec());
            Ok((Answer::Refused { code, message, details }, replayed))
        }
        Err(status) => Err(status),
    }
}

/// Whether the connection broke, or the service says that it has no definite answer.
fn may_be_sent_again(status: &Status) -> bool {
    let is_by_the_service = status.get_details_error_info().is_some();
    !is_by_the_service || matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted | Code::Aborted)
}

/// One client: its own wallet and player, and those it gives to.
struct Client {
    lines: Lines,
    dice: Dice,
    base: Uuid,
    sent: u32,
    wallets: (String, String),
    players: (String, String),
    item_type: String,
    /// What its player has been granted and still has.
    items: Vec<String>,
}

impl Client {
    async fn work(mut self, answered: Arc<AtomicUsize>, over: Arc<AtomicBool>) -> Result<Vec<Settled>> {
        let mut all = Vec::new();
        while !over.load(Ordering::Relaxed) {
            let command = self.next();
            let settled = self.lines.settle(command).await?;
            if let (Command::GrantItem(_), Answer::Replied(reply)) = (&settled.command, &settled.answer) {
                self.items.push(inventory::GrantItemResponse::decode(reply.as_slice())?.item);
            }
            all.push(settled);
            answered.fetch_add(1, Ordering::Relaxed);
        }
        Ok(all)
    }

    fn next(&mut self) -> Command {
        self.sent += 1;
        let request_id = derive(self.base, "kills", self.sent).to_string();
        let (own, other) = self.wallets.clone();
        match (self.dice.up_to(10), self.items.pop()) {
            (1..=2, Some(item)) => Command::TransferItem(inventory::TransferItemRequest {
                request_id,
                from_player: self.players.0.clone(),
                to_player: self.players.1.clone(),
                what: Some(inventory::transfer_item_request::What::Item(item)),
                validate_only: false,
            }),
            (1..=4, kept) => {
                self.items.extend(kept);
                Command::GrantItem(inventory::GrantItemRequest {
                    request_id,
                    player: self.players.0.clone(),
                    item_type: self.item_type.clone(),
                    quantity: 1,
                    ..Default::default()
                })
            }
            (5..=7, kept) => {
                self.items.extend(kept);
                let amount = i64::from(self.dice.up_to(9));
                let asset = Asset::Coin.into();
                Command::GrantFunds(wallet::GrantFundsRequest { request_id, wallet: own, asset, amount, ..Default::default() })
            }
            (_, kept) => {
                self.items.extend(kept);
                // Some are more than there is.
                let amount = i64::from(self.dice.up_to(60));
                let (from_wallet, to_wallet, asset) = (own, other, Asset::Coin.into());
                Command::TransferFunds(wallet::TransferFundsRequest {
                    request_id,
                    from_wallet,
                    to_wallet,
                    asset,
                    amount,
                    ..Default::default()
                })
            }
        }
    }
}
