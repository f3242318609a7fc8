//! I1: no money comes from nothing, none is overdrawn.

use std::collections::BTreeMap;

use super::Verdict;
use crate::ledger::{Account, Balance, Ledger};

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

#[cfg(test)]
mod tests {
    use idempo_proto::event::v1::event_envelope::Data;
    use idempo_proto::event::v1::{Asset, FundsMinted, FundsReceived, FundsSent, HoldPlaced, SystemAccount};

    use super::*;
    use crate::checks::samples::{event_of, key, stream};
    use crate::facts::StoredEvent;
    use crate::ledger;

    fn minted(seq: i64, amount: i64) -> StoredEvent {
        let data = FundsMinted {
            transaction_id: vec![1; 16].into(),
            asset: Asset::Coin.into(),
            amount,
            from: SystemAccount::Mint.into(),
            ..FundsMinted::default()
        };
        event_of(seq, stream(1), 1, 1, 0, Data::FundsMinted(data))
    }

    fn sent(seq: i64, amount: i64) -> StoredEvent {
        let data = FundsSent {
            transaction_id: vec![2; 16].into(),
            asset: Asset::Coin.into(),
            amount,
            to_player_id: stream(2).bytes().to_vec().into(),
            ..FundsSent::default()
        };
        event_of(seq, stream(1), 2, 2, 0, Data::FundsSent(data))
    }

    fn received(seq: i64, amount: i64) -> StoredEvent {
        let data = FundsReceived {
            transaction_id: vec![2; 16].into(),
            asset: Asset::Coin.into(),
            amount,
            from_player_id: stream(1).bytes().to_vec().into(),
            ..FundsReceived::default()
        };
        event_of(seq, stream(2), 1, 2, 1, Data::FundsReceived(data))
    }

    fn held(seq: i64, amount: i64) -> StoredEvent {
        let data = HoldPlaced { hold_id: vec![5; 16].into(), asset: Asset::Coin.into(), amount, ..HoldPlaced::default() };
        event_of(seq, stream(2), 2, 3, 0, Data::HoldPlaced(data))
    }

    fn check(events: &[StoredEvent]) -> Verdict {
        events_balance(&ledger::fold(events))
    }

    #[test]
    fn a_mint_a_transfer_and_a_hold_balance() {
        let ledger = ledger::fold(&[minted(1, 100), sent(2, 30), received(3, 30), held(4, 30)]);
        assert!(events_balance(&ledger).holds());
        assert_eq!(ledger.balances.get(&(key(1), 1)), Some(&Balance { posted: 70, held: 0 }));
        assert_eq!(ledger.balances.get(&(key(2), 1)), Some(&Balance { posted: 30, held: 30 }));
        assert_eq!(ledger.system.get(&(1, 1)), Some(&-100));
        assert_eq!(ledger.tables.get("transactions").map(crate::facts::Rows::len), Some(2));
    }

    #[test]
    fn money_from_nothing_an_overdraft_and_an_overheld_wallet_are_flagged() {
        assert!(check(&[minted(1, 100), sent(2, 30), received(3, 31)]).flaw_count > 0, "the legs differ");
        assert!(check(&[minted(1, 100), sent(2, 30)]).flaw_count > 0, "one leg is missing");
        assert!(check(&[minted(1, 20), sent(2, 30), received(3, 30)]).flaw_count > 0, "overdrawn on the way");
        assert!(check(&[minted(1, 100), sent(2, 30), received(3, 30), held(4, 31)]).flaw_count > 0, "more on hold than there is");
    }

    #[test]
    fn tables_that_say_otherwise_are_flagged() {
        let ledger = ledger::fold(&[minted(1, 100)]);
        let good = Sums { transactions: 1, unbalanced: vec![], total: BTreeMap::from([(1, 0)]), balances: ledger.balances.clone() };
        assert!(tables_balance(&good, &ledger).holds());
        assert!(!tables_balance(&Sums { unbalanced: vec!["x".to_owned()], ..good.clone() }, &ledger).holds());
        assert!(!tables_balance(&Sums { total: BTreeMap::from([(1, 5)]), ..good.clone() }, &ledger).holds());
        assert!(!tables_balance(&Sums { balances: BTreeMap::new(), ..good }, &ledger).holds());
    }
}
