//! I1: no money comes from nothing, none is overdrawn.

use std::collections::BTreeMap;

use crate::ledger::{Account, Balance, Ledger};
use crate::verdict::Verdict;

/// What the database's own sums say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sums {
    /// How many transactions there are.
    pub transactions: u64,
    /// Transactions whose postings don't sum to zero, per asset.
    pub unbalanced: Vec<String>,
    /// What each asset's postings sum to over all accounts, by the asset's number.
    pub total: BTreeMap<i32, i128>,
    /// The last entry of each wallet and asset.
    pub balances: BTreeMap<Account, Balance>,
}

/// I1 on the events: every command's postings sum to zero per asset, and no balance is ever below zero or more on hold than there is.
#[must_use]
pub fn events_balance(ledger: &Ledger) -> Verdict {
    let mut verdict = Verdict::new("I1", "Σ of all accounts is 0 per asset at every position; nothing is overdrawn", "balances");
    verdict.looked_at = ledger.positions;
    for flaw in &ledger.broken {
        verdict.require(false, || flaw.clone());
    }
    for command in &ledger.unbalanced {
        verdict.require(false, || format!("the postings of command {command} don't sum to zero"));
    }
    let mut totals: BTreeMap<i32, i128> = BTreeMap::new();
    for ((_, asset), balance) in &ledger.balances {
        *totals.entry(*asset).or_default() += balance.posted;
    }
    for ((_, asset), sum) in &ledger.system {
        *totals.entry(*asset).or_default() += sum;
    }
    for (asset, sum) in totals {
        verdict.require(sum == 0, || format!("all accounts of asset {asset} sum to {sum}"));
    }
    verdict
}

/// I1 on the tables: the database's own sums over its double-entry lines, and its balances beside the events'.
#[must_use]
pub fn tables_balance(sums: &Sums, ledger: &Ledger) -> Verdict {
    let mut verdict = Verdict::new("I1", "the ledger's own sums, by SQL, say the same", "transactions");
    verdict.looked_at = sums.transactions;
    for flaw in &sums.unbalanced {
        verdict.require(false, || format!("transaction {flaw} does not sum to zero"));
    }
    for (asset, sum) in &sums.total {
        verdict.require(*sum == 0, || format!("all postings of asset {asset} sum to {sum}"));
    }
    verdict.require(sums.balances == ledger.balances, || {
        let other = ledger.balances.iter().find(|(account, balance)| sums.balances.get(account) != Some(balance));
        format!("{} balances in the tables, {} in the events; first difference {other:?}", sums.balances.len(), ledger.balances.len())
    });
    verdict
}
