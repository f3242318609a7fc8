use idempo_inventory_domain::inventory::{Action, Capacity, Command, Event, Rejection, STACKS_MAX, UNIQUE_ITEMS_MAX};
use idempo_inventory_domain::item_type::{ItemKind, ItemTypeId};
use idempo_inventory_domain::portion::{Portion, QUANTITY_MAX};

use crate::scenario::{ANN, SWORD_KIND, Scenario, arrow, arrows, ask, granted, item, minted_by, one_sword, stack, sword, why};

fn grant(item_type: ItemTypeId, kind: Option<ItemKind>, quantity: u32) -> Command {
    ask(Action::Grant { item_type, kind, quantity, reason: why("found") })
}

fn found(portion: Portion) -> Event {
    Event::Granted { portion, reason: why("found") }
}

#[test]
fn a_unique_grant_mints_one_item_at_its_first_hop() {
    for quantity in [0, 1] {
        let after = Scenario::default().when(grant(sword(), Some(SWORD_KIND), quantity)).then([(ANN, found(one_sword(minted_by(1), 1)))]);
        assert_eq!(after.inventory(ANN).quantity(&sword()), 1);
    }
}

#[test]
fn each_unique_grant_mints_another_item() {
    let after = Scenario::default()
        .when(grant(sword(), Some(SWORD_KIND), 1))
        .then([(ANN, found(one_sword(minted_by(1), 1)))])
        .when(grant(sword(), Some(SWORD_KIND), 1))
        .then([(ANN, found(one_sword(minted_by(2), 1)))]);
    assert_eq!(after.inventory(ANN).quantity(&sword()), 2);
}

#[test]
fn a_stackable_grant_adds_its_quantity() {
    let after =
        Scenario::given(ANN, [granted(arrows(5))]).when(grant(arrow(), Some(ItemKind::Stackable), 3)).then([(ANN, found(arrows(3)))]);
    assert_eq!(after.inventory(ANN).quantity(&arrow()), 8);
}

#[test]
fn an_unknown_type_can_not_be_granted() {
    Scenario::default().when(grant(arrow(), None, 1)).refused(Rejection::ItemTypeNotFound { item_type: arrow() });
}

#[test]
fn a_unique_grant_of_several_is_refused() {
    Scenario::default().when(grant(sword(), Some(SWORD_KIND), 2)).refused(Rejection::QuantityNotOne { item_type: sword(), quantity: 2 });
}

#[test]
fn a_stackable_grant_of_nothing_is_refused() {
    Scenario::default().when(grant(arrow(), Some(ItemKind::Stackable), 0)).refused(Rejection::QuantityRequired { item_type: arrow() });
}

#[test]
fn a_stack_never_grows_beyond_its_limit() {
    let full = Scenario::given(ANN, [granted(arrows(QUANTITY_MAX - 1))])
        .when(grant(arrow(), Some(ItemKind::Stackable), 1))
        .then([(ANN, found(arrows(1)))]);
    full.clone().when(grant(arrow(), Some(ItemKind::Stackable), 1)).refused(Rejection::QuantityLimit {
        player: ANN,
        item_type: arrow(),
        quantity: QUANTITY_MAX,
        added: 1,
    });
    full.when(grant(arrow(), Some(ItemKind::Stackable), u32::MAX)).refused(Rejection::QuantityLimit {
        player: ANN,
        item_type: arrow(),
        quantity: QUANTITY_MAX,
        added: u32::MAX,
    });
}

#[test]
fn an_inventory_takes_so_many_unique_items() {
    let items = (0..UNIQUE_ITEMS_MAX as u128).map(|n| granted(one_sword(item(n), 1)));
    Scenario::given(ANN, items)
        .when(grant(sword(), Some(SWORD_KIND), 1))
        .refused(Rejection::InventoryFull { player: ANN, capacity: Capacity::UniqueItems });
}

#[test]
fn an_inventory_takes_so_many_stacks_but_a_stack_that_is_there_grows_on() {
    let other = |n: usize| ItemTypeId::parse(&format!("other_{n}")).expect("a slug");
    let stacks = (1..STACKS_MAX).map(|n| granted(Portion::Stack { item_type: other(n), quantity: 1 }));
    let full = Scenario::given(ANN, stacks).and(ANN, [granted(arrows(1))]);
    full.clone()
        .when(grant(other(0), Some(ItemKind::Stackable), 1))
        .refused(Rejection::InventoryFull { player: ANN, capacity: Capacity::Stacks });
    full.clone().when(grant(arrow(), Some(ItemKind::Stackable), 1)).then([(ANN, found(arrows(1)))]);
    full.when(ask(Action::Consume { what: stack(1), reason: why("found") }))
        .then([(ANN, Event::Consumed { portion: arrows(1), reason: why("found") })])
        .when(grant(other(0), Some(ItemKind::Stackable), 1))
        .then([(ANN, found(Portion::Stack { item_type: other(0), quantity: 1 }))]);
}
