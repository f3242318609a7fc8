//! Whatever is asked in whatever order: who has what stays right.

use std::collections::BTreeMap;

use idempo_decider::Decider as _;
use idempo_ids::{ItemId, PlayerId, ReservationId, Uuid};
use idempo_inventory_domain::Reason;
use idempo_inventory_domain::inventory::{Action, Command, Event, Inventory, ItemSelection, ReservationLookup, Rules, TransferSelection};
use idempo_inventory_domain::item_type::{ItemKind, ItemTypeId};
use idempo_inventory_domain::portion::Portion;
use jiff::SignedDuration;
use proptest::prelude::*;

use crate::scenario::{GEM_KIND, SWORD_KIND, Scenario, arrow, gem, item_of, stack_of, sword};

const PLAYERS: u128 = 3;

/// A command, with numbers in place of ids: the n-th thing of its kind that was made so far.
#[derive(Debug, Clone)]
enum Step {
    Grant { player: u128, item_type: usize, quantity: u32 },
    Reserve { player: u128, what: What, ttl_ms: i64 },
    Release { player: u128, reservation: usize },
    Expire { player: u128, reservation: usize },
    Transfer { from: u128, to: u128, what: What },
    TransferReserved { from: u128, to: u128, reservation: usize },
    Consume { player: u128, what: What },
    Equip { player: u128, item: usize },
    Unequip { player: u128 },
    Wait { ms: i64 },
}

#[derive(Debug, Clone)]
enum What {
    Item(usize),
    Stack(u32),
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![(0_usize..8).prop_map(What::Item), (0_u32..12).prop_map(What::Stack)]
}

fn step() -> impl Strategy<Value = Step> {
    let player = || 0..PLAYERS;
    let thing = || 0_usize..8;
    prop_oneof![
        3 => (player(), 0_usize..4, 0_u32..10).prop_map(|(player, item_type, quantity)| Step::Grant { player, item_type, quantity }),
        3 => (player(), what(), 1_000_i64..5_000).prop_map(|(player, what, ttl_ms)| Step::Reserve { player, what, ttl_ms }),
        2 => (player(), thing()).prop_map(|(player, reservation)| Step::Release { player, reservation }),
        2 => (player(), thing()).prop_map(|(player, reservation)| Step::Expire { player, reservation }),
        3 => (player(), player(), what()).prop_map(|(from, to, what)| Step::Transfer { from, to, what }),
        3 => (player(), player(), thing()).prop_map(|(from, to, reservation)| Step::TransferReserved { from, to, reservation }),
        1 => (player(), what()).prop_map(|(player, what)| Step::Consume { player, what }),
        2 => (player(), thing()).prop_map(|(player, item)| Step::Equip { player, item }),
        1 => player().prop_map(|player| Step::Unequip { player }),
        1 => (0_i64..2_000).prop_map(|ms| Step::Wait { ms }),
    ]
}

/// What happened, beside what the inventories say.
#[derive(Debug, Default)]
struct History {
    scenario: Scenario,
    items: Vec<(ItemId, ItemTypeId)>,
    reservations: Vec<ReservationId>,
    log: Vec<(PlayerId, Event)>,
}

fn player(n: u128) -> PlayerId {
    PlayerId::new(Uuid::from_u128(n + 1))
}

fn kind_of(item_type: &ItemTypeId) -> Option<ItemKind> {
    [(sword(), SWORD_KIND), (gem(), GEM_KIND), (arrow(), ItemKind::Stackable)]
        .into_iter()
        .find_map(|(id, kind)| (id == *item_type).then_some(kind))
}

impl History {
    fn item(&self, n: usize) -> ItemId {
        self.items.get(n).map_or(ItemId::new(Uuid::nil()), |(item_id, _)| *item_id)
    }

    fn reservation(&self, n: usize) -> ReservationId {
        self.reservations.get(n).copied().unwrap_or(ReservationId::new(Uuid::nil()))
    }

    fn selection(&self, owner: PlayerId, what: &What) -> ItemSelection {
        match what {
            What::Item(n) => item_of(owner, self.item(*n)),
            What::Stack(quantity) => stack_of(arrow(), Some(ItemKind::Stackable), *quantity),
        }
    }

    fn command(&self, step: &Step) -> Option<Command> {
        let (reason, lookup) = (Reason::default(), ReservationLookup::default());
        let (n, action) = match step {
            Step::Grant { player: n, item_type, quantity } => {
                let unknown = ItemTypeId::parse("unknown").expect("a slug");
                let item_type = [sword(), gem(), arrow(), unknown][*item_type].clone();
                (n, Action::Grant { kind: kind_of(&item_type), item_type, quantity: *quantity, reason })
            }
            Step::Reserve { player: n, what, ttl_ms } => {
                (n, Action::Reserve { what: self.selection(player(*n), what), ttl_ms: *ttl_ms, reason })
            }
            Step::Release { player: n, reservation } => (n, Action::Release { reservation: self.reservation(*reservation), lookup }),
            Step::Expire { player: n, reservation } => {
                (n, Action::Expire { reservation: self.reservation(*reservation), seen_at: self.scenario.now(), lookup })
            }
            Step::Transfer { from, to, what } => {
                let what = TransferSelection::Free(self.selection(player(*from), what));
                (from, Action::Transfer { to: player(*to), what })
            }
            Step::TransferReserved { from, to, reservation } => {
                let reservation = self.reservation(*reservation);
                let what = TransferSelection::Reserved { owner: player(*from), reservation, lookup };
                (from, Action::Transfer { to: player(*to), what })
            }
            Step::Consume { player: n, what } => (n, Action::Consume { what: self.selection(player(*n), what), reason }),
            Step::Equip { player: n, item } => {
                let kind = self.items.get(*item).and_then(|(_, item_type)| kind_of(item_type));
                (n, Action::Equip { item: self.item(*item), kind })
            }
            Step::Unequip { player: n } => (n, Action::Unequip),
            Step::Wait { .. } => return None,
        };
        Some(Command { player: player(*n), action })
    }

    fn take(&mut self, step: &Step) {
        if let Step::Wait { ms } = step {
            self.scenario = std::mem::take(&mut self.scenario).after(SignedDuration::from_millis(*ms));
        }
        let Some(command) = self.command(step) else { return };
        let before = self.scenario.inventories().clone();
        match self.scenario.run(&command) {
            Ok(events) => {
                for (player, event) in events {
                    match &event {
                        Event::Granted { portion: Portion::Unique { item_type, item: item_id, .. }, .. } => {
                            self.items.push((*item_id, item_type.clone()));
                        }
                        Event::Reserved { reservation, .. } => self.reservations.push(*reservation),
                        _ => {}
                    }
                    self.log.push((player, event));
                }
            }
            Err(_) => assert_eq!(&before, self.scenario.inventories(), "a refusal changes nothing"),
        }
    }

    /// Every minted item is in exactly one inventory, or destroyed.
    fn assert_one_owner_each(&self) {
        let destroyed = |item_id| {
            let consumed = |event: &Event| matches!(event, Event::Consumed { portion, .. } if portion.item() == Some(item_id));
            self.log.iter().filter(|(_, event)| consumed(event)).count()
        };
        for (item_id, _) in &self.items {
            let owners = self.scenario.inventories().values().filter(|inventory| inventory.items().contains_key(item_id)).count();
            assert_eq!(owners + destroyed(*item_id), 1, "{item_id}");
        }
        let held: usize = self.scenario.inventories().values().map(|inventory| inventory.items().size()).sum();
        assert!(held <= self.items.len());
    }

    /// The ownership events of an item are numbered 1, 2, 3 …, and each change starts where the one before ended.
    fn assert_hops_form_a_chain(&self) {
        let mut last: BTreeMap<ItemId, (u64, Option<PlayerId>)> = BTreeMap::new();
        for (player, event) in &self.log {
            let (portion, owner) = match event {
                Event::Granted { portion, .. } => (portion, Some(*player)),
                Event::Sent { portion, to, .. } => (portion, Some(*to)),
                Event::Consumed { portion, .. } => (portion, None),
                Event::Received { portion: Portion::Unique { item: item_id, hop, .. }, .. } => {
                    assert_eq!(last.get(item_id), Some(&(*hop, Some(*player))), "both legs say the same");
                    continue;
                }
                _ => continue,
            };
            let Portion::Unique { item: item_id, hop, .. } = portion else { continue };
            match last.insert(*item_id, (*hop, owner)) {
                None => assert_eq!(*hop, 1, "{event:?}"),
                Some((before, from)) => {
                    assert_eq!(*hop, before + 1, "{event:?}");
                    assert_eq!(from, Some(*player), "{event:?}");
                }
            }
        }
    }

    /// All that was granted and not consumed is in the stacks.
    fn assert_quantities_are_conserved(&self) {
        let sum = |wanted: fn(&Event) -> Option<&Portion>| -> u32 {
            let stacked = |portion: &&Portion| portion.item().is_none();
            self.log.iter().filter_map(|(_, event)| wanted(event)).filter(stacked).map(Portion::quantity).sum()
        };
        let granted = sum(|event| if let Event::Granted { portion, .. } = event { Some(portion) } else { None });
        let consumed = sum(|event| if let Event::Consumed { portion, .. } = event { Some(portion) } else { None });
        let there: u32 = self.scenario.inventories().values().map(|inventory| inventory.quantity(&arrow())).sum();
        assert_eq!(there, granted - consumed);
    }

    /// What an inventory says is reserved is what its open reservations hold; what is equipped is there and free.
    fn assert_reservations_agree(inventory: &Inventory) {
        for (item_id, item) in inventory.items() {
            let holds = |portion: &Portion| portion.item() == Some(*item_id);
            let by: Vec<_> = inventory.reservations().iter().filter(|(_, open)| holds(&open.portion)).map(|(id, _)| *id).collect();
            assert_eq!(by, Vec::from_iter(item.reserved_by));
        }
        for (item_type, stack) in inventory.stacks() {
            let holds = |portion: &&Portion| portion.item().is_none() && portion.item_type() == item_type;
            let reserved: u32 = inventory.reservations().values().map(|open| &open.portion).filter(holds).map(Portion::quantity).sum();
            assert_eq!(stack.reserved, reserved);
            assert!(stack.reserved <= stack.quantity && stack.quantity > 0);
        }
        for open in inventory.reservations().values() {
            match open.portion.item() {
                Some(item_id) => assert!(inventory.items().contains_key(&item_id)),
                None => assert!(inventory.stacks().contains_key(open.portion.item_type())),
            }
        }
        for item_type in [sword(), gem()] {
            let count = inventory.items().values().filter(|item| item.item_type == item_type).count();
            assert_eq!(inventory.quantity(&item_type) as usize, count);
        }
        if let Some(item_id) = inventory.equipped() {
            assert_eq!(inventory.items()[&item_id].reserved_by, None);
        }
    }

    /// A reservation has one end.
    fn assert_reservations_end_once(&self) {
        for reservation_id in &self.reservations {
            let ends = |event: &Event| match event {
                Event::Released { reservation: id, .. } | Event::Expired { reservation: id, .. } => id == reservation_id,
                Event::Sent { reservation: id, .. } => *id == Some(*reservation_id),
                _ => false,
            };
            let ended = self.log.iter().filter(|(_, event)| ends(event)).count();
            let is_open = |inventory: &Inventory| inventory.reservations().contains_key(reservation_id);
            let open = self.scenario.inventories().values().filter(|inventory| is_open(inventory)).count();
            assert_eq!(ended + open, 1, "{reservation_id}");
        }
    }
}

proptest! {
    #[test]
    fn whatever_is_asked_every_item_has_one_owner_and_nothing_is_lost(steps in proptest::collection::vec(step(), 1..80)) {
        let mut history = History::default();
        for step in &steps {
            history.take(step);
        }
        history.assert_one_owner_each();
        history.assert_hops_form_a_chain();
        history.assert_quantities_are_conserved();
        history.assert_reservations_end_once();
        history.scenario.inventories().values().for_each(History::assert_reservations_agree);
    }

    #[test]
    fn replaying_the_events_gives_the_same_inventories(steps in proptest::collection::vec(step(), 1..80)) {
        let mut history = History::default();
        for step in &steps {
            history.take(step);
        }
        let mut replayed: BTreeMap<PlayerId, Inventory> = BTreeMap::new();
        for (player, event) in &history.log {
            Rules::evolve(replayed.entry(*player).or_default(), event);
        }
        prop_assert_eq!(&replayed, history.scenario.inventories());
    }
}

#[test]
fn random_steps_reach_every_event() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..64 {
        let steps = proptest::collection::vec(step(), 80).new_tree(&mut runner).expect("a value").current();
        let mut history = History::default();
        steps.iter().for_each(|step| history.take(step));
        let name = |event: &Event| format!("{event:?}").split([' ', '{']).next().map(str::to_owned);
        seen.extend(history.log.iter().filter_map(|(_, event)| name(event)));
    }
    assert_eq!(seen.len(), 9, "{seen:?}");
}
