use idempo_inventory_domain::inventory::{Action, Command, Event, ItemSelection, Rejection, Resource};
use idempo_inventory_domain::item_type::ItemKind;
use idempo_inventory_domain::portion::Portion;

use crate::scenario::{
    ANN, BOB, GEM_KIND, SWORD_KIND, Scenario, arrow, arrows, ask, equipped, gem, granted, item, item_of, one_sword, reservation, reserved,
    stack, stack_of, sword, why,
};

fn consume(what: ItemSelection) -> Command {
    ask(Action::Consume { what, reason: why("eaten") })
}

fn equip(n: u128, kind: Option<ItemKind>) -> Command {
    ask(Action::Equip { item: item(n), kind })
}

fn with_swords() -> Scenario {
    Scenario::given(ANN, [granted(one_sword(item(1), 1)), granted(one_sword(item(2), 6))])
}

#[test]
fn a_consumed_item_is_gone_and_takes_its_last_hop() {
    let after = with_swords()
        .when(consume(item_of(ANN, item(2))))
        .then([(ANN, Event::Consumed { portion: one_sword(item(2), 7), reason: why("eaten") })]);
    assert_eq!(after.inventory(ANN).quantity(&sword()), 1);
    after.when(consume(item_of(ANN, item(2)))).refused(Rejection::NotResourceOwner { player: ANN, resource: Resource::Item(item(2)) });
}

#[test]
fn a_consumed_quantity_is_taken_from_what_is_not_reserved() {
    let given = Scenario::given(ANN, [granted(arrows(10)), reserved(reservation(9), arrows(4))]);
    let after = given.when(consume(stack(6))).then([(ANN, Event::Consumed { portion: arrows(6), reason: why("eaten") })]);
    assert_eq!(after.inventory(ANN).quantity(&arrow()), 4);
    after.when(consume(stack(1))).refused(Rejection::InsufficientQuantity { item_type: arrow(), available: 0, required: 1 });
}

#[test]
fn what_is_foreign_equipped_or_not_stackable_can_not_be_consumed() {
    with_swords()
        .when(consume(item_of(BOB, item(1))))
        .refused(Rejection::NotResourceOwner { player: ANN, resource: Resource::Item(item(1)) });
    with_swords().and(ANN, [equipped(item(1))]).when(consume(item_of(ANN, item(1)))).refused(Rejection::ItemEquipped { item: item(1) });
    with_swords().when(consume(stack_of(sword(), Some(SWORD_KIND), 1))).refused(Rejection::ItemTypeNotStackable { item_type: sword() });
}

#[test]
fn an_equipped_weapon_takes_the_place_of_the_one_before() {
    let after = with_swords()
        .when(equip(1, Some(SWORD_KIND)))
        .then([(ANN, equipped(item(1)))])
        .when(equip(2, Some(SWORD_KIND)))
        .then([(ANN, equipped(item(2)))]);
    assert_eq!(after.inventory(ANN).equipped(), Some(item(2)));
    after.when(equip(2, Some(SWORD_KIND))).refused(Rejection::ItemEquipped { item: item(2) });
}

#[test]
fn only_a_weapon_can_be_equipped() {
    let portion = Portion::Unique { item_type: gem(), item: item(3), hop: 1 };
    Scenario::given(ANN, [granted(portion)])
        .when(equip(3, Some(GEM_KIND)))
        .refused(Rejection::ItemNotEquippable { item: item(3), item_type: gem() });
}

#[test]
fn what_is_not_the_players_can_not_be_equipped() {
    let not_owner = |n| Rejection::NotResourceOwner { player: ANN, resource: Resource::Item(item(n)) };
    with_swords().when(equip(5, None)).refused(not_owner(5));
    with_swords().when(equip(5, Some(SWORD_KIND))).refused(not_owner(5));
    // It reached the inventory after the service had looked.
    with_swords().when(equip(1, None)).refused(not_owner(1));
}

#[test]
fn an_unequipped_weapon_can_be_given_again() {
    let after = with_swords().and(ANN, [equipped(item(1))]).when(ask(Action::Unequip)).then([(ANN, Event::Unequipped { item: item(1) })]);
    assert_eq!(after.inventory(ANN).equipped(), None);
    after.clone().when(ask(Action::Unequip)).refused(Rejection::NothingEquipped);
    after.when(consume(item_of(ANN, item(1)))).then([(ANN, Event::Consumed { portion: one_sword(item(1), 2), reason: why("eaten") })]);
}
