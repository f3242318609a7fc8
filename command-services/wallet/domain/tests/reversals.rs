//! Reversing transactions.

use idempo_ids::TransactionId;
use idempo_wallet_domain::{
    Asset, Command, Event, Original, Party, Reason, Rejection, Reversal, ReversalLookup, Shortfall, Side, SystemAccount,
};

use crate::scenario::*;

fn original(from: Party, to: Party, value: i64) -> Original {
    Original { asset: Asset::Coin, amount: amount(value), from, to, is_reversal: false }
}

fn alice() -> Party {
    Party::Player(player(ALICE))
}

fn bob() -> Party {
    Party::Player(player(BOB))
}

fn reversal(transaction: TransactionId, original: Option<Original>, shortfall: Shortfall) -> Command {
    let lookup = ReversalLookup { version: 0, original, reversed: false };
    Command::reverse(Reversal { transaction, lookup, shortfall, reason: Reason::default() })
}

fn reverse(transaction: u128, original: Original) -> Command {
    reversal(transaction_of(transaction), Some(original), Shortfall::Refuse)
}

#[test]
fn a_mint_is_taken_back_to_where_it_came_from() {
    let mut scenario = Scenario::both_open();
    scenario.when_as(1, &grant(ALICE, 10)).unwrap();
    let events = scenario.when_as(2, &reverse(1, original(Party::System(SystemAccount::Mint), alice(), 10))).unwrap();
    assert!(matches!(
        events.as_slice(),
        [Event::Burned { to: SystemAccount::Mint, reverses: Some(reversed), .. }] if *reversed == transaction_of(1)
    ));
    assert_eq!(scenario.coins(ALICE), (0, 0));
}

#[test]
fn a_burn_is_given_back() {
    let mut scenario = Scenario::with_coins(10);
    scenario.when_as(1, &burn(ALICE, 4)).unwrap();
    let events = scenario.when_as(2, &reverse(1, original(alice(), Party::System(SystemAccount::Burn), 4))).unwrap();
    assert!(matches!(events.as_slice(), [Event::Minted { from: SystemAccount::Burn, reverses: Some(_), .. }]));
    assert_eq!(scenario.coins(ALICE), (10, 0));
}

#[test]
fn a_transfer_is_sent_the_other_way() {
    let mut scenario = Scenario::with_coins(10);
    scenario.when_as(1, &transfer(ALICE, BOB, 4)).unwrap();
    let asked = reverse(1, original(alice(), bob(), 4));
    assert_eq!((asked.wallet, asked.peer()), (player(BOB), Some(player(ALICE))));
    assert!(scenario.when_as(2, &asked).is_ok());
    assert_eq!((scenario.coins(ALICE), scenario.coins(BOB)), ((10, 0), (0, 0)));
}

#[test]
fn funds_that_are_gone_are_refused_or_taken_in_part() {
    let mut scenario = Scenario::with_coins(10);
    scenario.when_as(1, &transfer(ALICE, BOB, 4)).unwrap();
    scenario.when_as(2, &burn(BOB, 3)).unwrap();
    let was = original(alice(), bob(), 4);
    let short = Rejection::InsufficientFunds { asset: Asset::Coin, available: 1, required: 4 };
    assert_eq!(scenario.when_as(3, &reverse(1, was)), refused(short));
    let partial = reversal(transaction_of(1), Some(was), Shortfall::Partial);
    assert!(scenario.when_as(4, &partial).is_ok());
    assert_eq!((scenario.coins(ALICE), scenario.coins(BOB)), ((7, 0), (0, 0)));
    assert_eq!(scenario.when_as(5, &partial), refused(Rejection::TransactionAlreadyReversed));
}

#[test]
fn where_nothing_is_left_nothing_is_taken_in_part() {
    let mut scenario = Scenario::both_open();
    scenario.when_as(1, &grant(ALICE, 10)).unwrap();
    scenario.when_as(2, &burn(ALICE, 10)).unwrap();
    let partial = reversal(transaction_of(1), Some(original(Party::System(SystemAccount::Mint), alice(), 10)), Shortfall::Partial);
    let short = Rejection::InsufficientFunds { asset: Asset::Coin, available: 0, required: 1 };
    assert_eq!(scenario.when_as(3, &partial), refused(short));
}

#[test]
fn a_transaction_is_reversed_once() {
    let mut scenario = Scenario::with_coins(100);
    scenario.when_as(1, &grant(ALICE, 10)).unwrap();
    let asked = reverse(1, original(Party::System(SystemAccount::Mint), alice(), 10));
    assert!(scenario.when_as(2, &asked).is_ok());
    assert_eq!(scenario.when_as(3, &asked), refused(Rejection::TransactionAlreadyReversed));
    assert_eq!(scenario.coins(ALICE), (100, 0));
}

#[test]
fn a_reversal_that_the_state_has_forgotten_is_known_from_the_look_up_or_refused() {
    let mut scenario = Scenario::with_coins(10_000);
    let was = original(Party::System(SystemAccount::Mint), alice(), 1);
    for number in 1..=257 {
        scenario.when_as(number, &grant(ALICE, 1)).unwrap();
        scenario.when_as(1_000 + number, &reverse(number, was)).unwrap();
    }
    let with = |lookup| {
        Command::reverse(Reversal { transaction: transaction_of(1), lookup, shortfall: Shortfall::Refuse, reason: Reason::default() })
    };
    let stale = ReversalLookup { version: 3, original: Some(was), reversed: false };
    assert_eq!(scenario.when_as(5_000, &with(stale)), refused(Rejection::Outpaced));
    let fresh = ReversalLookup { version: 4, original: Some(was), reversed: true };
    assert_eq!(scenario.when_as(5_001, &with(fresh)), refused(Rejection::TransactionAlreadyReversed));
}

#[test]
fn a_reversal_is_not_reversed_and_an_unknown_transaction_is_not_found() {
    let mut scenario = Scenario::with_coins(10);
    let again = Original { is_reversal: true, ..original(Party::System(SystemAccount::Mint), alice(), 1) };
    assert_eq!(scenario.when_as(1, &reverse(900, again)), refused(Rejection::TransactionNotReversible));
    let unknown = reversal(transaction_of(77), None, Shortfall::Refuse);
    assert_eq!(scenario.when_as(2, &unknown), refused(Rejection::TransactionNotFound));
}

#[test]
fn what_is_given_back_has_to_fit_the_wallet_that_gets_it() {
    let mut scenario = Scenario::with_coins(10);
    scenario.when_as(1, &transfer(ALICE, BOB, 4)).unwrap();
    let mut number = 100;
    while scenario.coins(ALICE).0 < i64::MAX {
        let room = (i64::MAX - scenario.coins(ALICE).0).min(1_000_000_000_000_000);
        scenario.when_as(number, &grant(ALICE, room)).unwrap();
        number += 1;
    }
    assert_eq!(scenario.when_as(2, &reverse(1, original(alice(), bob(), 4))), refused(Rejection::BalanceLimit(Side::Peer, Asset::Coin)));
}
