//! Reads everything back through the public API, with positions that include the last event of each player.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use idempo_checker::facts::{Rows, Store};
use idempo_checker::history::Answer;
use idempo_checker::ids;
use idempo_checker::inventory::item_text;
use idempo_checker::ledger::Ledger;
use idempo_checker::method::Method;
use idempo_checker::position;
use idempo_ids::PlayerId;
use idempo_proto::event::v1::Asset;
use idempo_proto::inventory::v1::{ListItemsRequest, ListItemsResponse};
use idempo_proto::wallet::v1::{GetWalletRequest, GetWalletResponse};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::wire::{Line, Wire};

/// How many reads are under way at a time.
const CONCURRENCY: usize = 32;
/// How long one read may take: the read model may still be behind.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often a read that came too early is made again.
const RETRIES_MAX: u32 = 5;
/// How many items a page has at most.
const PAGE_SIZE: i32 = 1_000;

/// What the API shows of all players.
#[derive(Debug, Default)]
pub struct Shown {
    /// What `ListItems` shows, by name.
    pub items: Rows,
    /// What `GetWallet` shows, by name and asset.
    pub wallets: Rows,
    /// The most events that an answer of the read model said it was behind.
    pub lag_events_max: i64,
    /// How many reads were made.
    pub reads: u64,
}

/// Reads the items and the wallet of every player.
///
/// # Errors
/// When a read has no answer in time, or one that can't be read.
pub async fn read(wire: &Wire, players: &[PlayerId], stores: &[Store]) -> Result<Shown> {
    let versions: HashMap<Uuid, u64> =
        stores.iter().flat_map(|store| &store.streams).map(|stream| (stream.stream_id, stream.version)).collect();
    let shown = Arc::new(Mutex::new(Shown::default()));
    let permits = Arc::new(Semaphore::new(CONCURRENCY));
    let mut tasks = JoinSet::new();
    for (player, number) in players.iter().copied().zip((0_u16..).cycle()) {
        let min_position = |category| {
            let stream = ids::stream(category, player.uuid());
            versions.get(&stream).map(|version| position::encode(&[(stream, *version)])).unwrap_or_default()
        };
        let (wallet, inventory) = (min_position("wallet"), min_position("inventory"));
        let (line, shown, permits) = (wire.line(number)?, shown.clone(), permits.clone());
        tasks.spawn(async move {
            let _permit = permits.acquire_owned().await?;
            read_items(&line, player, inventory, &shown).await?;
            read_wallet(&line, player, wallet, &shown).await
        });
    }
    while let Some(joined) = tasks.join_next().await {
        joined.context("a reader died")??;
    }
    let shown = std::mem::take(&mut *shown.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(shown)
}

async fn read_items(line: &Line, player: PlayerId, min_position: String, shown: &Mutex<Shown>) -> Result<()> {
    let mut request = ListItemsRequest { parent: format!("players/{player}"), page_size: PAGE_SIZE, min_position, ..Default::default() };
    loop {
        let page: ListItemsResponse = ask(line, Method::ListItems, &request).await?;
        let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.reads += 1;
        shown.lag_events_max = shown.lag_events_max.max(page.freshness.map_or(0, |freshness| freshness.lag_events));
        for item in page.items {
            shown.items.insert(item.name.clone(), item_text(&item));
        }
        if page.next_page_token.is_empty() {
            return Ok(());
        }
        request.page_token = page.next_page_token;
    }
}

async fn read_wallet(line: &Line, player: PlayerId, min_position: String, shown: &Mutex<Shown>) -> Result<()> {
    let request = GetWalletRequest { name: format!("wallets/{player}"), as_of: None, min_position };
    let response: GetWalletResponse = ask(line, Method::GetWallet, &request).await?;
    let wallet = response.wallet.context("GetWallet answered without a wallet")?;
    let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
    shown.reads += 1;
    for balance in &wallet.balances {
        let text = balance_text(balance.posted.into(), balance.held.into(), balance.available.into());
        shown.wallets.insert(format!("{} {}", wallet.name, balance.asset().as_str_name()), text);
    }
    Ok(())
}

async fn ask<R: prost::Message, A: prost::Message + Default>(line: &Line, method: Method, request: &R) -> Result<A> {
    let bytes = bytes::Bytes::from(request.encode_to_vec());
    let mut last = String::new();
    for _ in 0..=RETRIES_MAX {
        match line.send(method, bytes.clone(), PATIENCE).await {
            Answer::Replied { reply, .. } => return Ok(A::decode(reply)?),
            Answer::Refused { refusal, .. } => bail!("{} was refused: {} {}", method.name(), refusal.reason, refusal.message),
            Answer::Unknown { code, reason } => last = format!("{code:?} {reason}"),
        }
    }
    bail!("{} has no answer after {RETRIES_MAX} retries: {last}", method.name())
}

/// What `GetWallet` has to show of these players: both assets of each.
#[must_use]
pub fn wallets_due(ledger: &Ledger, players: &[PlayerId]) -> Rows {
    let mut due = Rows::new();
    for player in players {
        for asset in [Asset::Coin, Asset::Stamp] {
            let balance = ledger.balances.get(&(player.uuid(), asset.into())).copied().unwrap_or_default();
            let text = balance_text(balance.posted, balance.held, balance.posted - balance.held);
            due.insert(format!("wallets/{player} {}", asset.as_str_name()), text);
        }
    }
    due
}

fn balance_text(posted: i128, held: i128, available: i128) -> String {
    format!("posted {posted} held {held} available {available}")
}
