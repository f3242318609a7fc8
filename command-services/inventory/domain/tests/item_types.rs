use idempo_decider::{Decider as _, Decision, States};
use idempo_inventory_domain::item_type::{Command, Event, ItemType, Rarity, Rejection, Rules};

use crate::scenario::{SWORD_KIND, context, start, sword};

fn iron_sword() -> ItemType {
    ItemType { id: sword(), display_name: "Iron Sword".into(), kind: SWORD_KIND, rarity: Rarity::Common }
}

#[test]
fn an_item_type_is_created_as_asked() {
    let decision = Rules::decide(States::new(&[&None]), &Command::Create(iron_sword()), &context(1, start()));
    assert_eq!(decision, Ok(Decision::one(Event::Created(iron_sword()))));
}

#[test]
fn an_item_type_is_created_once_and_never_changes() {
    let mut state = None;
    Rules::evolve(&mut state, &Event::Created(iron_sword()));
    let changed = ItemType { rarity: Rarity::Rare, ..iron_sword() };
    for again in [iron_sword(), changed] {
        let decision = Rules::decide(States::new(&[&state]), &Command::Create(again), &context(2, start()));
        assert_eq!(decision, Err(Rejection::AlreadyExists));
    }
}
