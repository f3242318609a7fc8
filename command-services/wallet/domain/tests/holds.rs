//! The life of a hold.

use idempo_ids::HoldId;
use idempo_wallet_domain::{Action, Amount, Asset, Command, Event, HoldLookup, Party, Rejection, Resolution, Side, SystemAccount};

use crate::scenario::*;

fn capture(hold: HoldId, value: Option<i64>, to: Party) -> Command {
    command(ALICE, Action::CaptureHold { hold, amount: value.map(amount), to, lookup: HoldLookup::default() })
}

fn expire(hold: HoldId, seen_ms: i64) -> Command {
    command(ALICE, Action::ExpireHold { hold, seen_at: at(seen_ms), lookup: HoldLookup::default() })
}

fn fees() -> Party {
    Party::System(SystemAccount::Fees)
}

/// Alice has 10 coins, 6 of them on hold until 60 s.
fn held() -> (Scenario, HoldId) {
    (Scenario::with_coins(10).given(ALICE, [hold_placed(800, 6, 60_000)]), hold_of(800))
}

#[test]
fn a_hold_takes_from_what_is_available_and_ends_after_its_ttl() {
    let mut scenario = Scenario::with_coins(10).at(500);
    let events = scenario.when_as(7, &place_hold(ALICE, 6, 1_000)).unwrap();
    assert!(
        matches!(events.as_slice(), [Event::HoldPlaced { expires_at, placed_at, .. }] if *expires_at == at(1_500) && *placed_at == at(500))
    );
    assert_eq!(scenario.coins(ALICE), (10, 6));
    assert_eq!(scenario.alice.hold(hold_of(7)).map(|hold| hold.amount), Some(amount(6)));
}

#[test]
fn a_ttl_has_bounds() {
    for ttl_ms in [i64::MIN, -1, 0, 999, 2_592_000_001, i64::MAX] {
        assert_eq!(Scenario::with_coins(10).when(&place_hold(ALICE, 1, ttl_ms)), refused(Rejection::TtlOutOfRange));
    }
    for ttl_ms in [1_000, 2_592_000_000] {
        assert!(Scenario::with_coins(10).when(&place_hold(ALICE, 1, ttl_ms)).is_ok());
    }
}

#[test]
fn a_capture_in_part_gives_the_remainder_back() {
    let (mut scenario, hold) = held();
    scenario.when(&capture(hold, Some(4), fees())).unwrap();
    assert_eq!(scenario.coins(ALICE), (6, 0));
    assert_eq!(scenario.alice.last_resolved().map(|(id, was)| (*id, was.amount)), Some((hold, amount(6))));
}

#[test]
fn a_capture_to_a_player_has_two_legs() {
    let (mut scenario, hold) = held();
    let events = scenario.when_as(7, &capture(hold, None, Party::Player(player(BOB)))).unwrap();
    assert!(events.iter().all(|event| event.transaction() == Some(transaction_of(7))));
    assert_eq!((scenario.coins(ALICE), scenario.coins(BOB)), ((4, 0), (6, 0)));
}

#[test]
fn a_capture_to_a_wallet_that_cannot_take_it_is_refused() {
    let (mut scenario, hold) = held();
    assert_eq!(scenario.when(&capture(hold, None, Party::Player(player(ALICE)))), refused(Rejection::SelfTransfer));
    let full = (i64::MAX / Amount::MAX) + 1;
    let mut bob_full = scenario.clone();
    for _ in 0..full {
        let _ = bob_full.when(&grant(BOB, Amount::MAX));
    }
    bob_full.when(&grant(BOB, i64::MAX - bob_full.coins(BOB).0)).unwrap();
    assert_eq!(bob_full.when(&capture(hold, None, Party::Player(player(BOB)))), refused(Rejection::BalanceLimit(Side::Peer, Asset::Coin)));
    let mut closed = Scenario::new().given(ALICE, [opened(ALICE), minted(900, Asset::Coin, 10), hold_placed(800, 6, 60_000)]);
    assert_eq!(closed.when(&capture(hold, None, Party::Player(player(BOB)))), refused(Rejection::WalletNotFound(Side::Peer)));
}

#[test]
fn no_more_is_captured_than_is_held() {
    let (mut scenario, hold) = held();
    let exceeds = Rejection::CaptureExceedsHold { held: amount(6), requested: amount(7) };
    assert_eq!(scenario.when(&capture(hold, Some(7), fees())), refused(exceeds));
    assert_eq!(scenario.coins(ALICE), (10, 6));
}

#[test]
fn a_second_resolution_says_which_came_first() {
    type Resolve = fn(HoldId) -> Command;
    let ways: [(Resolve, Resolution); 3] = [
        (|hold| capture(hold, None, fees()), Resolution::Captured),
        (|hold| release(ALICE, hold), Resolution::Released),
        (|hold| expire(hold, 60_000), Resolution::Expired),
    ];
    for (first, resolution) in ways {
        for (second, _) in ways {
            let (mut scenario, hold) = held();
            scenario.when(&first(hold)).unwrap();
            let after = scenario.coins(ALICE);
            assert_eq!(scenario.when(&second(hold)), refused(Rejection::HoldResolved(resolution)));
            assert_eq!(scenario.coins(ALICE), after);
        }
    }
}

#[test]
fn from_the_end_of_its_life_on_a_hold_can_only_expire() {
    let (scenario, hold) = held();
    let mut scenario = scenario.at(60_000);
    for asked in [capture(hold, None, fees()), release(ALICE, hold)] {
        assert_eq!(scenario.when(&asked), refused(Rejection::HoldResolved(Resolution::Expired)));
    }
    assert_eq!(scenario.when(&expire(hold, 59_999)), refused(Rejection::HoldNotDue));
    assert!(scenario.when(&expire(hold, 60_000)).is_ok());
    assert_eq!(scenario.coins(ALICE), (10, 0));
}

#[test]
fn a_clock_that_steps_back_does_not_keep_a_due_hold_from_expiring() {
    let (scenario, hold) = held();
    assert!(scenario.at(1_000).when(&expire(hold, 60_000)).is_ok());
}

#[test]
fn another_wallets_hold_is_not_found() {
    let (mut scenario, hold) = held();
    assert_eq!(scenario.when(&release(BOB, hold)), refused(Rejection::HoldNotFound));
}

#[test]
fn a_wallet_has_at_most_a_thousand_open_holds() {
    let mut scenario = Scenario::with_coins(2_000);
    for number in 1..=1_000 {
        assert!(scenario.when_as(number, &place_hold(ALICE, 1, 60_000)).is_ok());
    }
    assert_eq!(scenario.when_as(1_001, &place_hold(ALICE, 1, 60_000)), refused(Rejection::TooManyHolds));
    scenario.when_as(1_002, &release(ALICE, hold_of(1))).unwrap();
    assert!(scenario.when_as(1_003, &place_hold(ALICE, 1, 60_000)).is_ok());
}

/// Alice's hold 1 was released, and 256 others after it, so that her state has forgotten it. It was released at version 4.
fn forgotten() -> (Scenario, HoldId) {
    let mut scenario = Scenario::with_coins(10);
    for number in 1..=257 {
        scenario.when_as(number, &place_hold(ALICE, 1, 60_000)).unwrap();
        scenario.when_as(1_000 + number, &release(ALICE, hold_of(number))).unwrap();
    }
    (scenario, hold_of(1))
}

#[test]
fn a_resolution_that_the_state_has_forgotten_comes_with_the_command() {
    let (mut scenario, hold) = forgotten();
    let known = HoldLookup { version: 4, resolution: Some(Resolution::Released) };
    let asked = command(ALICE, Action::ReleaseHold { hold, lookup: known });
    assert_eq!(scenario.when_as(5_000, &asked), refused(Rejection::HoldResolved(Resolution::Released)));
}

#[test]
fn a_look_up_from_before_a_forgotten_resolution_is_not_taken_for_an_answer() {
    let (mut scenario, hold) = forgotten();
    let stale = HoldLookup { version: 3, resolution: None };
    let asked = command(ALICE, Action::ReleaseHold { hold, lookup: stale });
    assert_eq!(scenario.when_as(5_000, &asked), refused(Rejection::Outpaced));
    let fresh = HoldLookup { version: 4, resolution: None };
    let unknown = command(ALICE, Action::ReleaseHold { hold: hold_of(9_999), lookup: fresh });
    assert_eq!(scenario.when_as(5_001, &unknown), refused(Rejection::HoldNotFound));
}
