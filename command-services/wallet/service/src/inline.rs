//! The wallet's tables as they are kept in the transaction of the events: gathered here by columns, written by `wallet.append`.

use idempo_decider::Timestamp;
use idempo_event_store::{InlineProjection, Parameter, table_rows};
use idempo_ids::Uuid;

/// The wallet's inline projection: wallets, entries, transactions and holds.
#[derive(Debug)]
pub struct Ledger;

impl InlineProjection for Ledger {
    type Rows = Rows;

    fn statement() -> &'static str {
        include_str!("sql/append.sql")
    }

    fn begin(rows: &mut Rows, command: i32) {
        rows.command = command;
    }

    fn parameters(rows: Rows) -> Vec<Parameter> {
        let Rows { command: _, wallets, entries, transactions, placed, resolved } = rows;
        let groups = [wallets.columns(), entries.columns(), transactions.columns(), placed.columns(), resolved.columns()];
        groups.into_iter().flatten().collect()
    }
}

table_rows! {
    /// Rows of `wallet.wallets`.
    Wallets of
    /// An opened wallet.
    WalletRow {
        player: Uuid,
        opened_at: Timestamp,
    }
}

table_rows! {
    /// Rows of `wallet.entries`.
    Entries of
    /// What an event did to a wallet, with the balance after it.
    EntryRow {
        player: Uuid,
        asset: i16,
        version: i64,
        kind: i16,
        posted_delta: i64,
        held_delta: i64,
        posted_after: i64,
        held_after: i64,
        transaction: Option<Uuid>,
        hold: Option<Uuid>,
        counterparty_player: Option<Uuid>,
        counterparty_account: Option<i16>,
        event: Uuid,
        created_at: Timestamp,
        reason: String,
    }
}

table_rows! {
    /// Rows of `wallet.transactions`.
    Transactions of
    /// A transaction: an amount from one side to the other.
    TransactionRow {
        id: Uuid,
        asset: i16,
        amount: i64,
        from_player: Option<Uuid>,
        from_account: Option<i16>,
        to_player: Option<Uuid>,
        to_account: Option<i16>,
        reverses: Option<Uuid>,
        created_at: Timestamp,
    }
}

table_rows! {
    /// Rows of `wallet.holds`.
    PlacedHolds of
    /// A placed hold.
    PlacedHoldRow {
        id: Uuid,
        player: Uuid,
        version: i64,
        asset: i16,
        amount: i64,
        placed_at: Timestamp,
        expires_at: Timestamp,
        reason: String,
    }
}

table_rows! {
    /// Changes of rows of `wallet.holds`.
    ResolvedHolds of
    /// How a hold was resolved.
    ResolvedHoldRow {
        hold: Uuid,
        state: i16,
        captured: i64,
        resolved_at: Timestamp,
    }
}

/// The rows of one batch.
#[derive(Debug, Default)]
pub struct Rows {
    command: i32,
    wallets: Wallets,
    entries: Entries,
    transactions: Transactions,
    placed: PlacedHolds,
    resolved: ResolvedHolds,
}

impl Rows {
    pub(crate) fn wallet(&mut self, row: WalletRow) {
        self.wallets.push(self.command, row);
    }

    pub(crate) fn entry(&mut self, row: EntryRow) {
        self.entries.push(self.command, row);
    }

    pub(crate) fn transaction(&mut self, row: TransactionRow) {
        self.transactions.push(self.command, row);
    }

    pub(crate) fn placed_hold(&mut self, row: PlacedHoldRow) {
        self.placed.push(self.command, row);
    }

    pub(crate) fn resolved_hold(&mut self, row: ResolvedHoldRow) {
        self.resolved.push(self.command, row);
    }
}
