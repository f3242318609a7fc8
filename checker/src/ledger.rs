//! The wallet's events added up, independently of the wallet: what every account has after each event, and what the tables must hold.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use idempo_proto::event::v1::event_envelope::Data;
use idempo_proto::event::v1::{HoldCaptured, SystemAccount, hold_captured};
use idempo_proto::wallet::v1::{EntryKind, HoldState};
use uuid::Uuid;

use crate::facts::{Rows, StoredEvent, Tables, micros};
use crate::ids::of_bytes as id;

/// What one wallet has of one asset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Balance {
    /// What belongs to it, held or not.
    pub posted: i128,
    /// What is on hold.
    pub held: i128,
}

/// A wallet's owner and an asset's number.
pub type Account = (Uuid, i32);

/// The wallet's events added up.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// What every wallet has at the end.
    pub balances: BTreeMap<Account, Balance>,
    /// What every system account has at the end, by account and asset.
    pub system: BTreeMap<(i32, i32), i128>,
    /// How many balances were passed through.
    pub positions: u64,
    /// What was below zero or above what is posted on the way.
    pub broken: Vec<String>,
    /// Commands whose postings don't sum to zero.
    pub unbalanced: Vec<Uuid>,
    /// What the tables `entries`, `transactions` and `holds` must hold.
    pub tables: Tables,
}

/// One event's line.
struct Line {
    asset: i32,
    kind: EntryKind,
    posted: i64,
    held: i64,
    transaction: Option<Uuid>,
    hold: Option<Uuid>,
    counterparty: Option<Side>,
    reason: String,
}

/// A side of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Player(Uuid),
    System(i32),
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Player(id) => write!(f, "player {id}"),
            Self::System(number) => write!(f, "account {number}"),
        }
    }
}

/// Adds the events up, in the order in which they are given: that of the store's sequence.
#[must_use]
pub fn fold<'a>(events: impl IntoIterator<Item = &'a StoredEvent>) -> Ledger {
    fold_seeing(events, |_, _| {})
}

/// Adds the events up, and shows all balances after each event.
pub fn fold_seeing<'a>(
    events: impl IntoIterator<Item = &'a StoredEvent>,
    mut see: impl FnMut(&StoredEvent, &BTreeMap<Account, Balance>),
) -> Ledger {
    let mut ledger = Ledger::default();
    let mut sums: HashMap<(Uuid, i32), i128> = HashMap::new();
    let mut holds: BTreeMap<Uuid, HoldRow> = BTreeMap::new();
    let (mut entries, mut transactions) = (Rows::new(), Rows::new());
    for event in events {
        let player = event.partition_key();
        note_hold(&mut holds, event);
        let Some(line) = event.data().and_then(line_of) else {
            see(event, &ledger.balances);
            continue;
        };
        let balance = ledger.balances.entry((player, line.asset)).or_default();
        balance.posted += i128::from(line.posted);
        balance.held += i128::from(line.held);
        ledger.positions += 1;
        if balance.posted < 0 || balance.held < 0 || balance.held > balance.posted {
            ledger.broken.push(format!("wallet {player} has {balance:?} of asset {} at version {}", line.asset, event.version));
        }
        let after = *balance;
        see(event, &ledger.balances);
        *sums.entry((event.command_id(), line.asset)).or_default() += i128::from(line.posted);
        if let Some(Side::System(account)) = line.counterparty {
            *ledger.system.entry((account, line.asset)).or_default() -= i128::from(line.posted);
            *sums.entry((event.command_id(), line.asset)).or_default() -= i128::from(line.posted);
        }
        note_transaction(&mut transactions, event, player, &line);
        entries.insert(format!("{player} {} {:08}", line.asset, event.version), entry_text(event, &line, after));
    }
    ledger.unbalanced = sums.into_iter().filter(|(_, sum)| *sum != 0).map(|((command, _), _)| command).collect();
    let holds = holds.into_iter().map(|(id, hold)| (id.to_string(), hold.text())).collect();
    ledger.tables = Tables::from([("entries", entries), ("transactions", transactions), ("holds", holds)]);
    ledger
}

fn line_of(data: &Data) -> Option<Line> {
    let line = |asset, kind, posted, held| Line {
        asset,
        kind,
        posted,
        held,
        transaction: None,
        hold: None,
        counterparty: None,
        reason: String::new(),
    };
    Some(match data {
        Data::FundsMinted(e) => Line {
            transaction: id(&e.transaction_id),
            counterparty: Some(Side::System(e.from)),
            reason: e.reason.clone(),
            ..line(e.asset, EntryKind::Mint, e.amount, 0)
        },
        Data::FundsBurned(e) => Line {
            transaction: id(&e.transaction_id),
            counterparty: Some(Side::System(e.to)),
            reason: e.reason.clone(),
            ..line(e.asset, EntryKind::Burn, -e.amount, 0)
        },
        Data::FundsSent(e) => Line {
            transaction: id(&e.transaction_id),
            counterparty: id(&e.to_player_id).map(Side::Player),
            reason: e.reason.clone(),
            ..line(e.asset, EntryKind::TransferOut, -e.amount, 0)
        },
        Data::FundsReceived(e) => Line {
            transaction: id(&e.transaction_id),
            counterparty: id(&e.from_player_id).map(Side::Player),
            reason: e.reason.clone(),
            ..line(e.asset, EntryKind::TransferIn, e.amount, 0)
        },
        Data::HoldPlaced(e) => Line { hold: id(&e.hold_id), reason: e.reason.clone(), ..line(e.asset, EntryKind::Hold, 0, e.amount) },
        Data::HoldCaptured(e) => Line {
            transaction: id(&e.transaction_id),
            hold: id(&e.hold_id),
            counterparty: captured_to(e),
            ..line(e.asset, EntryKind::CaptureOut, -e.captured_amount, -e.held_amount)
        },
        Data::HoldReleased(e) => Line { hold: id(&e.hold_id), ..line(e.asset, EntryKind::Release, 0, -e.amount) },
        Data::HoldExpired(e) => Line { hold: id(&e.hold_id), ..line(e.asset, EntryKind::Expiry, 0, -e.amount) },
        Data::CaptureReceived(e) => Line {
            transaction: id(&e.transaction_id),
            hold: id(&e.hold_id),
            counterparty: id(&e.from_player_id).map(Side::Player),
            ..line(e.asset, EntryKind::CaptureIn, e.amount, 0)
        },
        _ => return None,
    })
}

fn captured_to(event: &HoldCaptured) -> Option<Side> {
    match event.to.as_ref()? {
        hold_captured::To::ToPlayerId(player) => id(player).map(Side::Player),
        hold_captured::To::ToSystemAccount(account) => Some(Side::System(*account)),
    }
}

fn entry_text(event: &StoredEvent, line: &Line, after: Balance) -> String {
    format!(
        "kind {} posted {} = {} held {} = {} transaction {} hold {} counterparty {} event {} at {} reason {}",
        i32::from(line.kind),
        line.posted,
        after.posted,
        line.held,
        after.held,
        or_dash(line.transaction),
        or_dash(line.hold),
        or_dash(line.counterparty),
        event.event_id,
        event.decided_us(),
        line.reason,
    )
}

/// A transaction is told by the leg that gives, or by the only leg.
fn note_transaction(transactions: &mut Rows, event: &StoredEvent, player: Uuid, line: &Line) {
    let (Some(transaction), Some(counterparty)) = (line.transaction, line.counterparty) else { return };
    let own = Side::Player(player);
    let (from, to) = match line.kind {
        EntryKind::Mint => (counterparty, own),
        EntryKind::Burn | EntryKind::TransferOut | EntryKind::CaptureOut => (own, counterparty),
        _ => return,
    };
    let mut text = String::new();
    let _ = write!(text, "asset {} amount {} from {from} to {to}", line.asset, line.posted.unsigned_abs());
    let _ = write!(text, " reverses {} at {}", or_dash(reverses(event)), event.decided_us());
    transactions.insert(transaction.to_string(), text);
}

fn reverses(event: &StoredEvent) -> Option<Uuid> {
    match event.data()? {
        Data::FundsMinted(e) => id(&e.reverses_transaction_id),
        Data::FundsBurned(e) => id(&e.reverses_transaction_id),
        Data::FundsSent(e) => id(&e.reverses_transaction_id),
        _ => None,
    }
}

struct HoldRow {
    player: Uuid,
    placed_version: u64,
    asset: i32,
    amount: i64,
    captured: i64,
    state: HoldState,
    placed_us: i64,
    expires_us: i64,
    resolved_us: Option<i64>,
    reason: String,
}

impl HoldRow {
    fn text(&self) -> String {
        format!(
            "player {} placed {} at {} asset {} amount {} expires {} captured {} state {} resolved {} reason {}",
            self.player,
            self.placed_version,
            self.placed_us,
            self.asset,
            self.amount,
            self.expires_us,
            self.captured,
            i32::from(self.state),
            or_dash(self.resolved_us),
            self.reason,
        )
    }

    fn resolve(&mut self, state: HoldState, captured: i64, at_us: i64) {
        self.state = state;
        self.captured = captured;
        self.resolved_us = Some(at_us);
    }
}

fn note_hold(holds: &mut BTreeMap<Uuid, HoldRow>, event: &StoredEvent) {
    let at = event.decided_us();
    let mut resolve = |hold: &[u8], state, captured| {
        if let Some(row) = id(hold).and_then(|hold| holds.get_mut(&hold)) {
            row.resolve(state, captured, at);
        }
    };
    match event.data() {
        Some(Data::HoldPlaced(e)) => {
            let row = HoldRow {
                player: event.partition_key(),
                placed_version: event.version,
                asset: e.asset,
                amount: e.amount,
                captured: 0,
                state: HoldState::Pending,
                placed_us: at,
                expires_us: e.expires_at.as_ref().map_or(0, micros),
                resolved_us: None,
                reason: e.reason.clone(),
            };
            holds.extend(id(&e.hold_id).map(|hold| (hold, row)));
        }
        Some(Data::HoldCaptured(e)) => resolve(&e.hold_id, HoldState::Captured, e.captured_amount),
        Some(Data::HoldReleased(e)) => resolve(&e.hold_id, HoldState::Released, 0),
        Some(Data::HoldExpired(e)) => resolve(&e.hold_id, HoldState::Expired, 0),
        _ => {}
    }
}

/// The text of a value, or a dash where there is none.
pub fn or_dash(value: Option<impl std::fmt::Display>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// The name of a system account.
#[must_use]
pub fn account_name(account: i32) -> &'static str {
    match SystemAccount::try_from(account) {
        Ok(SystemAccount::Mint) => "mint",
        Ok(SystemAccount::Burn) => "burn",
        Ok(SystemAccount::Fees) => "fees",
        _ => "unknown",
    }
}
