//! Opening, minting, burning, transferring.

use idempo_wallet_domain::{Action, Amount, Asset, Event, Reason, Rejection, Side, SystemAccount};

use crate::scenario::*;

#[test]
fn a_wallet_opens_once_and_is_empty() {
    let mut scenario = Scenario::new();
    assert_eq!(scenario.when(&command(ALICE, Action::Open)), Ok(vec![opened(ALICE)]));
    assert_eq!(scenario.coins(ALICE), (0, 0));
    assert_eq!(scenario.when(&command(ALICE, Action::Open)), refused(Rejection::WalletAlreadyOpen));
}

#[test]
fn nothing_happens_to_a_wallet_that_is_not_open() {
    for asked in [grant(ALICE, 1), burn(ALICE, 1), transfer(ALICE, BOB, 1), place_hold(ALICE, 1, 1_000), release(ALICE, hold_of(1))] {
        let mut scenario = Scenario::new().given(BOB, [opened(BOB)]);
        assert_eq!(scenario.when(&asked), refused(Rejection::WalletNotFound(Side::Own)));
    }
}

#[test]
fn funds_are_not_sent_to_a_wallet_that_is_not_open() {
    let mut scenario = Scenario::new().given(ALICE, [opened(ALICE), minted(900, Asset::Coin, 10)]);
    assert_eq!(scenario.when(&transfer(ALICE, BOB, 1)), refused(Rejection::WalletNotFound(Side::Peer)));
}

#[test]
fn a_grant_comes_from_the_mint_and_a_burn_goes_to_the_burn_account() {
    let mut scenario = Scenario::both_open();
    assert_eq!(scenario.when_as(1, &grant(ALICE, 10)), Ok(vec![minted(1, Asset::Coin, 10)]));
    let burned = Event::Burned {
        transaction: transaction_of(2),
        asset: Asset::Coin,
        amount: amount(4),
        to: SystemAccount::Burn,
        reason: Reason::default(),
        reverses: None,
    };
    assert_eq!(scenario.when_as(2, &burn(ALICE, 4)), Ok(vec![burned]));
    assert_eq!(scenario.coins(ALICE), (6, 0));
}

#[test]
fn a_transfer_has_two_legs_of_one_transaction() {
    let mut scenario = Scenario::with_coins(10);
    let events = scenario.when_as(7, &transfer(ALICE, BOB, 10)).unwrap();
    assert!(events.iter().all(|event| event.transaction() == Some(transaction_of(7))));
    assert_eq!((scenario.coins(ALICE), scenario.coins(BOB)), ((0, 0), (10, 0)));
}

#[test]
fn what_is_not_available_is_neither_sent_nor_burned_nor_held() {
    let short = Rejection::InsufficientFunds { asset: Asset::Coin, available: 6, required: 7 };
    for asked in [burn(ALICE, 7), transfer(ALICE, BOB, 7), place_hold(ALICE, 7, 1_000)] {
        let mut scenario = Scenario::with_coins(10).given(ALICE, [hold_placed(800, 4, 60_000)]);
        assert_eq!(scenario.when(&asked), refused(short));
    }
}

#[test]
fn assets_are_apart() {
    let mut scenario = Scenario::both_open().given(ALICE, [minted(900, Asset::Stamp, 10)]);
    let short = Rejection::InsufficientFunds { asset: Asset::Coin, available: 0, required: 1 };
    assert_eq!(scenario.when(&burn(ALICE, 1)), refused(short));
}

#[test]
fn nobody_pays_oneself() {
    let mut scenario = Scenario::with_coins(10);
    assert_eq!(scenario.when(&transfer(ALICE, ALICE, 1)), refused(Rejection::SelfTransfer));
}

#[test]
fn a_balance_stays_in_the_range_of_its_type() {
    let mut scenario = Scenario::both_open().given(BOB, [minted(901, Asset::Coin, 10)]);
    let mut grants = 0;
    while scenario.when(&grant(ALICE, Amount::MAX)).is_ok() {
        grants += 1;
    }
    assert_eq!(grants, i64::MAX / Amount::MAX);
    assert_eq!(scenario.when(&grant(ALICE, Amount::MAX)), refused(Rejection::BalanceLimit(Side::Own, Asset::Coin)));
    let room = i64::MAX - scenario.coins(ALICE).0;
    assert!(scenario.when(&grant(ALICE, room - 5)).is_ok());
    assert_eq!(scenario.when(&transfer(BOB, ALICE, 6)), refused(Rejection::BalanceLimit(Side::Peer, Asset::Coin)));
    assert!(scenario.when(&transfer(BOB, ALICE, 5)).is_ok());
    assert_eq!(scenario.coins(ALICE), (i64::MAX, 0));
}
