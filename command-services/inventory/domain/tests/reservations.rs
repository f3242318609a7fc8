use idempo_decider::Timestamp;
use idempo_ids::{PlayerId, ReservationId};
use idempo_inventory_domain::Reason;
use idempo_inventory_domain::inventory::{
    Action, Capacity, Command, Ending, Event, ItemSelection, OPEN_RESERVATIONS_MAX, RECENT_MAX, RESERVATION_TTL_MAX_MS,
    RESERVATION_TTL_MIN_MS, Rejection, ReservationLookup, Resource,
};
use jiff::SignedDuration;

use crate::scenario::{
    ANN, BOB, MINUTE_MS, SWORD_KIND, Scenario, arrow, arrows, ask, equipped, granted, in_a_minute, item, item_of, one_sword, reservation,
    reserved, reserved_by, stack, stack_of, sword,
};

fn reserve(what: ItemSelection) -> Command {
    ask(Action::Reserve { what, ttl_ms: MINUTE_MS, reason: Reason::default() })
}

fn release(reservation: ReservationId) -> Command {
    ask(Action::Release { reservation, lookup: ReservationLookup::default() })
}

fn expire(reservation: ReservationId, seen_at: Timestamp) -> Command {
    ask(Action::Expire { reservation, seen_at, lookup: ReservationLookup::default() })
}

fn with_sword() -> Scenario {
    Scenario::given(ANN, [granted(one_sword(item(1), 1))])
}

fn with_reserved_sword() -> Scenario {
    with_sword().and(ANN, [reserved(reservation(9), one_sword(item(1), 1))])
}

fn with_reserved_arrows() -> Scenario {
    Scenario::given(ANN, [granted(arrows(10)), reserved(reservation(9), arrows(4))])
}

const fn not_owner(player: PlayerId, n: u128) -> Rejection {
    Rejection::NotResourceOwner { player, resource: Resource::Item(item(n)) }
}

#[test]
fn a_reserved_item_stays_with_its_owner() {
    let after = with_sword().when(reserve(item_of(ANN, item(1)))).then([(ANN, reserved(reserved_by(1), one_sword(item(1), 1)))]);
    let inventory = after.inventory(ANN);
    assert_eq!(inventory.items()[&item(1)].reserved_by, Some(reserved_by(1)));
    assert_eq!(inventory.reservations()[&reserved_by(1)].expires_at, in_a_minute());
}

#[test]
fn a_reserved_quantity_is_there_but_not_available() {
    let after = Scenario::given(ANN, [granted(arrows(10))]).when(reserve(stack(4))).then([(ANN, reserved(reserved_by(1), arrows(4)))]);
    assert_eq!(after.inventory(ANN).quantity(&arrow()), 10);
    assert_eq!(after.inventory(ANN).stack(&arrow()).available(), 6);
    after.clone().when(reserve(stack(7))).refused(Rejection::InsufficientQuantity { item_type: arrow(), available: 6, required: 7 });
    after.when(reserve(stack(6))).then([(ANN, reserved(reserved_by(2), arrows(6)))]);
}

#[test]
fn a_reserved_item_can_not_be_reserved_consumed_or_equipped() {
    let refusal = Rejection::ItemReserved { item: item(1), reservation: reservation(9) };
    with_reserved_sword().when(reserve(item_of(ANN, item(1)))).refused(refusal.clone());
    let what = item_of(ANN, item(1));
    with_reserved_sword().when(ask(Action::Consume { what, reason: Reason::default() })).refused(refusal.clone());
    with_reserved_sword().when(ask(Action::Equip { item: item(1), kind: Some(SWORD_KIND) })).refused(refusal);
}

#[test]
fn an_equipped_item_can_not_be_reserved() {
    with_sword().and(ANN, [equipped(item(1))]).when(reserve(item_of(ANN, item(1)))).refused(Rejection::ItemEquipped { item: item(1) });
}

#[test]
fn a_foreign_or_unknown_item_can_not_be_reserved() {
    with_sword().when(reserve(item_of(ANN, item(2)))).refused(not_owner(ANN, 2));
    with_sword().when(reserve(item_of(BOB, item(1)))).refused(not_owner(ANN, 1));
}

#[test]
fn a_quantity_of_an_unknown_or_a_unique_type_can_not_be_reserved() {
    with_sword().when(reserve(stack_of(sword(), None, 1))).refused(Rejection::ItemTypeNotFound { item_type: sword() });
    with_sword().when(reserve(stack_of(sword(), Some(SWORD_KIND), 1))).refused(Rejection::ItemTypeNotStackable { item_type: sword() });
    with_sword().when(reserve(stack(0))).refused(Rejection::QuantityRequired { item_type: arrow() });
}

#[test]
fn a_released_item_is_its_owners_again() {
    let after = with_reserved_sword()
        .when(release(reservation(9)))
        .then([(ANN, Event::Released { reservation: reservation(9), portion: one_sword(item(1), 1) })]);
    assert_eq!(after.inventory(ANN).items()[&item(1)].reserved_by, None);
    let after = with_reserved_arrows()
        .when(release(reservation(9)))
        .then([(ANN, Event::Released { reservation: reservation(9), portion: arrows(4) })]);
    assert_eq!(after.inventory(ANN).stack(&arrow()).available(), 10);
}

#[test]
fn a_reservation_ends_once_and_whoever_comes_later_is_told_how() {
    let ended = |ending| Rejection::ReservationEnded { reservation: reservation(9), ending };
    let released = Event::Released { reservation: reservation(9), portion: arrows(4) };
    with_reserved_arrows().and(ANN, [released]).when(release(reservation(9))).refused(ended(Ending::Released));
    let expired = Event::Expired { reservation: reservation(9), portion: arrows(4) };
    with_reserved_arrows().and(ANN, [expired]).when(release(reservation(9))).refused(ended(Ending::Expired));
}

#[test]
fn an_unknown_reservation_is_not_found_unless_its_end_comes_with_the_command() {
    with_reserved_arrows().when(release(reservation(8))).refused(Rejection::ReservationNotFound { reservation: reservation(8) });
    for ending in [Ending::Released, Ending::Expired, Ending::Fulfilled] {
        let lookup = ReservationLookup { version: 2, ending: Some(ending) };
        with_reserved_arrows()
            .when(ask(Action::Release { reservation: reservation(8), lookup }))
            .refused(Rejection::ReservationEnded { reservation: reservation(8), ending });
    }
}

#[test]
fn the_last_endings_are_remembered_and_what_may_have_been_forgotten_is_said() {
    let lives = (0..=RECENT_MAX as u128).flat_map(|n| {
        let (reservation, portion) = (reservation(n), arrows(1));
        [reserved(reservation, portion.clone()), Event::Released { reservation, portion }]
    });
    let after = Scenario::given(ANN, [granted(arrows(1))]).and(ANN, lives);
    let ended = Rejection::ReservationEnded { reservation: reservation(1), ending: Ending::Released };
    after.clone().when(release(reservation(1))).refused(ended);
    after.clone().when(release(reservation(0))).refused(Rejection::Outpaced);
    let lookup = ReservationLookup { version: 3, ending: None };
    after
        .when(ask(Action::Release { reservation: reservation(9_999), lookup }))
        .refused(Rejection::ReservationNotFound { reservation: reservation(9_999) });
}

#[test]
fn a_reservation_expires_when_it_was_seen_to_be_due_and_not_before() {
    let early = in_a_minute() - SignedDuration::from_micros(1);
    with_reserved_arrows().when(expire(reservation(9), early)).refused(Rejection::ReservationNotDue);
    let after = with_reserved_arrows()
        .when(expire(reservation(9), in_a_minute()))
        .then([(ANN, Event::Expired { reservation: reservation(9), portion: arrows(4) })]);
    assert_eq!(after.inventory(ANN).stack(&arrow()).available(), 10);
    after
        .when(expire(reservation(9), in_a_minute()))
        .refused(Rejection::ReservationEnded { reservation: reservation(9), ending: Ending::Expired });
}

#[test]
fn from_its_end_on_a_reservation_counts_as_expired_even_before_the_timer_comes() {
    let minute = SignedDuration::from_millis(MINUTE_MS);
    with_reserved_arrows()
        .after(minute)
        .when(release(reservation(9)))
        .refused(Rejection::ReservationEnded { reservation: reservation(9), ending: Ending::Expired });
}

#[test]
fn a_reservations_life_has_bounds() {
    for ttl_ms in [0, -1, RESERVATION_TTL_MIN_MS - 1, RESERVATION_TTL_MAX_MS + 1, i64::MAX] {
        let what = item_of(ANN, item(1));
        with_sword().when(ask(Action::Reserve { what, ttl_ms, reason: Reason::default() })).refused(Rejection::TtlOutOfRange);
    }
}

#[test]
fn an_inventory_takes_so_many_open_reservations() {
    let reservations = (0..OPEN_RESERVATIONS_MAX as u128).map(|n| reserved(reservation(n), arrows(1)));
    let full = Scenario::given(ANN, [granted(arrows(100_000))]).and(ANN, reservations);
    full.clone().when(reserve(stack(1))).refused(Rejection::InventoryFull { player: ANN, capacity: Capacity::OpenReservations });
    full.and(ANN, [Event::Released { reservation: reservation(5), portion: arrows(1) }])
        .when(reserve(stack(1)))
        .then([(ANN, reserved(reserved_by(1), arrows(1)))]);
}
