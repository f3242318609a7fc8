//! Reads of the wallet's tables. Each function is a statement of its name in `sql/`.

use idempo_decider::Timestamp;
use idempo_ids::{HoldId, PlayerId, StreamId, TransactionId, Uuid};
use idempo_pg::{Client, Error};
use idempo_proto::wallet::v1 as message;
use idempo_rpc::timestamp;
use idempo_wallet_domain::{Amount, Asset, HoldLookup, Original, Party, ReversalLookup};
use tokio_postgres::Row;

use crate::codec::{account_from_number, asset_from_number, asset_number, balance, hold_name, resolution_from_number, wallet_name};

/// Whether each stream has at least the version beside it.
pub(crate) async fn position_reached(client: &Client, streams: &[(StreamId, u64)]) -> Result<bool, Error> {
    let (ids, versions): (Vec<Uuid>, Vec<i64>) =
        streams.iter().map(|(stream, version)| (stream.uuid(), i64::try_from(*version).unwrap_or(i64::MAX))).unzip();
    let statement = client.prepare_cached(include_str!("sql/position_reached.sql")).await?;
    Ok(client.query_one(&statement, &[&ids, &versions]).await?.try_get("reached")?)
}

/// When a wallet was opened; `None` where there is none.
pub(crate) async fn opened_at(client: &Client, player: PlayerId) -> Result<Option<Timestamp>, Error> {
    let statement = client.prepare_cached(include_str!("sql/opened_at.sql")).await?;
    let row = client.query_opt(&statement, &[&player.uuid()]).await?;
    Ok(row.map(|row| row.try_get("opened_at")).transpose()?)
}

/// When a wallet was opened, and the wallet now or as it was; `None` where there is none.
pub(crate) async fn wallet(
    client: &Client,
    player: PlayerId,
    as_of: Option<Timestamp>,
) -> Result<Option<(Timestamp, message::Wallet)>, Error> {
    let statement = client.prepare_cached(include_str!("sql/wallet.sql")).await?;
    let Some(row) = client.query_opt(&statement, &[&player.uuid(), &as_of]).await? else { return Ok(None) };
    let opened_at: Timestamp = row.try_get("opened_at")?;
    let version: i64 = row.try_get("version")?;
    let wallet = message::Wallet {
        name: wallet_name(player),
        balances: vec![
            balance(Asset::Coin, row.try_get("coin_posted")?, row.try_get("coin_held")?),
            balance(Asset::Stamp, row.try_get("stamp_posted")?, row.try_get("stamp_held")?),
        ],
        etag: version.to_string(),
        open_time: Some(timestamp::to_proto(opened_at)),
    };
    Ok(Some((opened_at, wallet)))
}

/// A hold of a wallet; `None` where it has none of this id.
pub(crate) async fn hold(client: &Client, player: PlayerId, hold: HoldId) -> Result<Option<message::Hold>, Error> {
    let statement = client.prepare_cached(include_str!("sql/hold.sql")).await?;
    let Some(row) = client.query_opt(&statement, &[&player.uuid(), &hold.uuid()]).await? else { return Ok(None) };
    let resolved_at: Option<Timestamp> = row.try_get("resolved_at")?;
    Ok(Some(message::Hold {
        name: hold_name(player, hold),
        asset: number(&row, "asset")?,
        amount: row.try_get("amount")?,
        captured_amount: row.try_get("captured_amount")?,
        state: number(&row, "state")?,
        create_time: Some(timestamp::to_proto(row.try_get("placed_at")?)),
        expire_time: Some(timestamp::to_proto(row.try_get("expires_at")?)),
        resolve_time: resolved_at.map(timestamp::to_proto),
        reason: row.try_get("reason")?,
    }))
}

/// How a hold was resolved, and up to which version of its wallet that is known.
pub(crate) async fn hold_lookup(client: &Client, player: PlayerId, hold: HoldId) -> Result<HoldLookup, Error> {
    let statement = client.prepare_cached(include_str!("sql/hold_lookup.sql")).await?;
    let row = client.query_one(&statement, &[&player.uuid(), &hold.uuid()]).await?;
    let state: Option<i16> = row.try_get("state")?;
    Ok(HoldLookup { version: version(&row)?, resolution: state.and_then(resolution_from_number) })
}

/// A transaction, whether it was reversed, and up to which version of the wallet concerned that is known.
pub(crate) async fn transaction_lookup(client: &Client, transaction: TransactionId) -> Result<ReversalLookup, Error> {
    let statement = client.prepare_cached(include_str!("sql/transaction_lookup.sql")).await?;
    let Some(row) = client.query_opt(&statement, &[&transaction.uuid()]).await? else { return Ok(ReversalLookup::default()) };
    Ok(ReversalLookup { version: version(&row)?, original: original(&row)?, reversed: row.try_get("reversed")? })
}

fn original(row: &Row) -> Result<Option<Original>, Error> {
    let side = |player: &str, account: &str| -> Result<Option<Party>, Error> {
        let (player, account): (Option<Uuid>, Option<i16>) = (row.try_get(player)?, row.try_get(account)?);
        let account = account.and_then(account_from_number).map(Party::System);
        Ok(player.map(|player| Party::Player(PlayerId::new(player))).or(account))
    };
    let (asset, amount) = (asset_from_number(row.try_get("asset")?), Amount::new(row.try_get("amount")?));
    let (from, to) = (side("from_player", "from_account")?, side("to_player", "to_account")?);
    let is_reversal = row.try_get("is_reversal")?;
    // The table's checks leave no other values.
    Ok(asset.zip(amount).zip(from.zip(to)).map(|((asset, amount), (from, to))| Original { asset, amount, from, to, is_reversal }))
}

/// Which entries are wanted.
#[derive(Debug)]
pub(crate) struct EntryQuery {
    /// Whose.
    pub(crate) player: PlayerId,
    /// Before this version.
    pub(crate) before: i64,
    /// Of this asset.
    pub(crate) asset: Option<Asset>,
    /// Of this kind.
    pub(crate) kind: Option<message::EntryKind>,
    /// Made at or after this time.
    pub(crate) start: Option<Timestamp>,
    /// Made before this time.
    pub(crate) end: Option<Timestamp>,
    /// How many at most.
    pub(crate) limit: i64,
}

impl Default for EntryQuery {
    fn default() -> Self {
        Self { player: PlayerId::new(Uuid::nil()), before: i64::MAX, asset: None, kind: None, start: None, end: None, limit: 0 }
    }
}

/// Entries with their versions, newest first.
pub(crate) async fn entries(client: &Client, query: &EntryQuery) -> Result<Vec<(i64, message::Entry)>, Error> {
    let statement = client.prepare_cached(include_str!("sql/entries.sql")).await?;
    let asset = query.asset.map(asset_number);
    let kind = query.kind.and_then(|kind| i16::try_from(i32::from(kind)).ok());
    let (start, end) = (query.start.map(up_to_microsecond), query.end.map(up_to_microsecond));
    let rows = client.query(&statement, &[&query.player.uuid(), &query.before, &asset, &kind, &start, &end, &query.limit]).await?;
    rows.iter().map(|row| entry(query.player, row)).collect()
}

fn entry(player: PlayerId, row: &Row) -> Result<(i64, message::Entry), Error> {
    let version: i64 = row.try_get("version")?;
    let id = |column: &str| -> Result<String, Error> {
        let id: Option<Uuid> = row.try_get(column)?;
        Ok(id.map_or_else(String::new, |id| id.to_string()))
    };
    let entry = message::Entry {
        name: format!("{}/entries/{version}", wallet_name(player)),
        kind: number(row, "kind")?,
        asset: number(row, "asset")?,
        posted_delta: row.try_get("posted_delta")?,
        held_delta: row.try_get("held_delta")?,
        posted_after: row.try_get("posted_after")?,
        held_after: row.try_get("held_after")?,
        transaction_id: id("transaction_id")?,
        counterparty: counterparty(row)?,
        hold_id: id("hold_id")?,
        event_id: id("event_id")?,
        create_time: Some(timestamp::to_proto(row.try_get("created_at")?)),
        reason: row.try_get("reason")?,
    };
    Ok((version, entry))
}

fn counterparty(row: &Row) -> Result<String, Error> {
    let (player, account): (Option<Uuid>, Option<i16>) = (row.try_get("counterparty_player")?, row.try_get("counterparty_account")?);
    let account = account.and_then(account_from_number).map(|account| account_name(account).to_owned());
    Ok(player.map(|player| wallet_name(PlayerId::new(player))).or(account).unwrap_or_default())
}

const fn account_name(account: idempo_wallet_domain::SystemAccount) -> &'static str {
    match account {
        idempo_wallet_domain::SystemAccount::Mint => "systemAccounts/mint",
        idempo_wallet_domain::SystemAccount::Burn => "systemAccounts/burn",
        idempo_wallet_domain::SystemAccount::Fees => "systemAccounts/fees",
    }
}

/// The sums of a period; `None` where one is above 64 bits.
pub(crate) async fn statement(
    client: &Client,
    player: PlayerId,
    asset: Asset,
    start: Timestamp,
    end: Timestamp,
) -> Result<Option<message::GetStatementResponse>, Error> {
    let statement = client.prepare_cached(include_str!("sql/statement.sql")).await?;
    let (number, start, end) = (asset_number(asset), up_to_microsecond(start), up_to_microsecond(end));
    let row = client.query_one(&statement, &[&player.uuid(), &number, &start, &end]).await?;
    let (credits, debits): (Option<i64>, Option<i64>) = (row.try_get("credits")?, row.try_get("debits")?);
    let Some((credits, debits)) = credits.zip(debits) else { return Ok(None) };
    Ok(Some(message::GetStatementResponse {
        asset: i32::from(number),
        opening_posted: row.try_get("opening_posted")?,
        credits,
        debits,
        closing_posted: row.try_get("closing_posted")?,
        entry_count: row.try_get("entry_count")?,
    }))
}

/// By how much the sides of the postings made from `start` on differ: of those before `settled`, and of those from it on. The first look reads the
/// whole ledger, so this may take longer than other statements.
pub(crate) async fn ledger_sums(client: &mut Client, start: Timestamp, settled: Timestamp) -> Result<(f64, f64), Error> {
    let transaction = client.build_transaction().read_only(true).start().await?;
    transaction.batch_execute(include_str!("sql/ledger_patience.sql")).await?;
    let statement = transaction.prepare_cached(include_str!("sql/ledger_sums.sql")).await?;
    let row = transaction.query_one(&statement, &[&start, &settled]).await?;
    transaction.commit().await?;
    Ok((row.try_get("settled")?, row.try_get("recent")?))
}

/// A hold that is pending.
#[derive(Debug)]
pub(crate) struct PendingHold {
    /// The hold.
    pub(crate) hold: HoldId,
    /// Whose it is.
    pub(crate) player: PlayerId,
    /// The version of its wallet at which it was placed.
    pub(crate) placed_version: u64,
    /// When it expires.
    pub(crate) expires_at: Timestamp,
}

/// The pending holds that expire next, from beyond `after` on, `limit` at most.
pub(crate) async fn pending_holds(client: &Client, after: (Timestamp, Uuid), limit: i64) -> Result<Vec<PendingHold>, Error> {
    let statement = client.prepare_cached(include_str!("sql/pending_holds.sql")).await?;
    let rows = client.query(&statement, &[&after.0, &after.1, &limit]).await?;
    rows.iter()
        .map(|row| {
            let placed_version: i64 = row.try_get("placed_version")?;
            Ok(PendingHold {
                hold: HoldId::new(row.try_get("hold_id")?),
                player: PlayerId::new(row.try_get("player_id")?),
                placed_version: placed_version.unsigned_abs(),
                expires_at: row.try_get("expires_at")?,
            })
        })
        .collect()
}

fn version(row: &Row) -> Result<u64, Error> {
    let version: i64 = row.try_get("version")?;
    Ok(version.unsigned_abs())
}

fn number(row: &Row, column: &str) -> Result<i32, Error> {
    let number: i16 = row.try_get(column)?;
    Ok(i32::from(number))
}

/// The first microsecond at or after a time: what is stored has microseconds, and the bounds of periods are half open.
fn up_to_microsecond(time: Timestamp) -> Timestamp {
    let whole = Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time);
    if whole < time { whole.checked_add(jiff::SignedDuration::from_micros(1)).unwrap_or(time) } else { whole }
}
