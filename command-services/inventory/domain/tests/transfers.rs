use idempo_ids::PlayerId;
use idempo_inventory_domain::inventory::{
    Action, Capacity, Command, Ending, Event, ItemSelection, Rejection, ReservationLookup, Resource, TransferSelection, UNIQUE_ITEMS_MAX,
};
use idempo_inventory_domain::portion::{Portion, QUANTITY_MAX};
use jiff::SignedDuration;

use crate::scenario::{
    ANN, BOB, MINUTE_MS, Scenario, arrow, arrows, ask, equipped, granted, item, item_of, one_sword, reservation, reserved, stack, stack_of,
    sword, transferred_by,
};

fn transfer(what: ItemSelection) -> Command {
    ask(Action::Transfer { to: BOB, what: TransferSelection::Free(what) })
}

fn transfer_reserved(owner: PlayerId, n: u128, ending: Option<Ending>) -> Command {
    let lookup = ReservationLookup { version: 0, ending };
    ask(Action::Transfer { to: BOB, what: TransferSelection::Reserved { owner, reservation: reservation(n), lookup } })
}

fn legs(n: u128, portion: Portion, fulfilled: Option<u128>) -> [(PlayerId, Event); 2] {
    let transfer = transferred_by(n);
    let sent = Event::Sent { transfer, portion: portion.clone(), to: BOB, reservation: fulfilled.map(reservation) };
    [(ANN, sent), (BOB, Event::Received { transfer, portion, from: ANN })]
}

fn with_sword() -> Scenario {
    Scenario::given(ANN, [granted(one_sword(item(1), 3))])
}

#[test]
fn a_transferred_item_changes_hands_and_takes_its_next_hop_on_both_legs() {
    let after = with_sword().when(transfer(item_of(ANN, item(1)))).then(legs(1, one_sword(item(1), 4), None));
    assert!(after.inventory(ANN).items().is_empty());
    assert_eq!(after.inventory(ANN).quantity(&sword()), 0);
    assert_eq!(after.inventory(BOB).items()[&item(1)].hop, 4);
    assert_eq!(after.inventory(BOB).quantity(&sword()), 1);
}

#[test]
fn a_transferred_quantity_is_taken_here_and_added_there() {
    let after = Scenario::given(ANN, [granted(arrows(10))]).and(BOB, [granted(arrows(1))]).when(transfer(stack(10))).then(legs(
        1,
        arrows(10),
        None,
    ));
    assert!(after.inventory(ANN).stacks().is_empty());
    assert_eq!(after.inventory(BOB).quantity(&arrow()), 11);
}

#[test]
fn a_transfer_of_a_reservation_takes_what_it_holds_and_fulfils_it() {
    let given = with_sword().and(ANN, [reserved(reservation(9), one_sword(item(1), 3))]);
    let after = given.when(transfer_reserved(ANN, 9, None)).then(legs(1, one_sword(item(1), 4), Some(9)));
    assert_eq!(after.inventory(BOB).items()[&item(1)].reserved_by, None);
    let fulfilled = Rejection::ReservationEnded { reservation: reservation(9), ending: Ending::Fulfilled };
    after.clone().when(transfer_reserved(ANN, 9, None)).refused(fulfilled.clone());
    after.when(ask(Action::Release { reservation: reservation(9), lookup: ReservationLookup::default() })).refused(fulfilled);
}

#[test]
fn a_transfer_of_a_reserved_quantity_leaves_the_other_reservations_alone() {
    let given = Scenario::given(ANN, [granted(arrows(10)), reserved(reservation(8), arrows(3)), reserved(reservation(9), arrows(4))]);
    let after = given.when(transfer_reserved(ANN, 9, None)).then(legs(1, arrows(4), Some(9)));
    let stack = after.inventory(ANN).stack(&arrow());
    assert_eq!((stack.quantity, stack.reserved), (6, 3));
}

#[test]
fn a_transfer_to_oneself_is_refused() {
    for what in [TransferSelection::Free(item_of(ANN, item(1))), TransferSelection::Free(stack(1))] {
        with_sword().when(ask(Action::Transfer { to: ANN, what })).refused(Rejection::SelfTransfer);
    }
}

#[test]
fn what_is_not_the_senders_can_not_be_sent() {
    let not_owner = |n| Rejection::NotResourceOwner { player: ANN, resource: Resource::Item(item(n)) };
    with_sword().when(transfer(item_of(ANN, item(2)))).refused(not_owner(2));
    with_sword().when(transfer(item_of(BOB, item(1)))).refused(not_owner(1));
    let bobs = Scenario::given(BOB, [granted(one_sword(item(5), 1))]);
    bobs.when(transfer(item_of(ANN, item(5)))).refused(not_owner(5));
    with_sword()
        .when(transfer_reserved(BOB, 9, None))
        .refused(Rejection::NotResourceOwner { player: ANN, resource: Resource::Reservation(reservation(9)) });
}

#[test]
fn what_is_reserved_or_equipped_can_not_be_sent() {
    with_sword()
        .and(ANN, [reserved(reservation(9), one_sword(item(1), 3))])
        .when(transfer(item_of(ANN, item(1))))
        .refused(Rejection::ItemReserved { item: item(1), reservation: reservation(9) });
    with_sword().and(ANN, [equipped(item(1))]).when(transfer(item_of(ANN, item(1)))).refused(Rejection::ItemEquipped { item: item(1) });
    Scenario::given(ANN, [granted(arrows(10)), reserved(reservation(9), arrows(8))])
        .when(transfer(stack(3)))
        .refused(Rejection::InsufficientQuantity { item_type: arrow(), available: 2, required: 3 });
}

#[test]
fn a_quantity_of_an_unknown_type_can_not_be_sent() {
    with_sword().when(transfer(stack_of(arrow(), None, 1))).refused(Rejection::ItemTypeNotFound { item_type: arrow() });
}

#[test]
fn an_unknown_an_ended_and_an_expired_reservation_can_not_be_sent() {
    with_sword().when(transfer_reserved(ANN, 9, None)).refused(Rejection::ReservationNotFound { reservation: reservation(9) });
    with_sword()
        .when(transfer_reserved(ANN, 9, Some(Ending::Fulfilled)))
        .refused(Rejection::ReservationEnded { reservation: reservation(9), ending: Ending::Fulfilled });
    with_sword()
        .and(ANN, [reserved(reservation(9), one_sword(item(1), 3))])
        .after(SignedDuration::from_millis(MINUTE_MS))
        .when(transfer_reserved(ANN, 9, None))
        .refused(Rejection::ReservationEnded { reservation: reservation(9), ending: Ending::Expired });
}

#[test]
fn a_receiver_without_room_gets_nothing_and_the_sender_keeps_what_it_has() {
    let full = (0..UNIQUE_ITEMS_MAX as u128).map(|n| granted(one_sword(item(1_000 + n), 1)));
    let after = with_sword()
        .and(BOB, full)
        .when(transfer(item_of(ANN, item(1))))
        .refused(Rejection::InventoryFull { player: BOB, capacity: Capacity::UniqueItems });
    assert_eq!(after.inventory(ANN).items().size(), 1);
    Scenario::given(ANN, [granted(arrows(1))])
        .and(BOB, [granted(arrows(QUANTITY_MAX))])
        .when(transfer(stack(1)))
        .refused(Rejection::QuantityLimit { player: BOB, item_type: arrow(), quantity: QUANTITY_MAX, added: 1 });
}
