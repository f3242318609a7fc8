//! Two players, Ann and Bob, and what happened to them.

use std::collections::BTreeMap;

use idempo_decider::{Context, Decider as _, States, Timestamp};
use idempo_ids::{CommandId, ItemId, PlayerId, ReservationId, TransferId, Uuid};
use idempo_inventory_domain::Reason;
use idempo_inventory_domain::inventory::{Action, Command, Event, Inventory, ItemSelection, Rejection, Rules, StackSelection};
use idempo_inventory_domain::item_type::{ItemKind, ItemTypeId, Weapon};
use idempo_inventory_domain::portion::Portion;
use jiff::SignedDuration;

pub(crate) const ANN: PlayerId = PlayerId::new(Uuid::from_u128(0xa));
pub(crate) const BOB: PlayerId = PlayerId::new(Uuid::from_u128(0xb));
pub(crate) const SWORD_KIND: ItemKind = ItemKind::Unique { weapon: Some(Weapon { bonus: 7 }) };
pub(crate) const GEM_KIND: ItemKind = ItemKind::Unique { weapon: None };
pub(crate) const MINUTE_MS: i64 = 60_000;

pub(crate) fn sword() -> ItemTypeId {
    ItemTypeId::parse("sword").expect("a slug")
}

pub(crate) fn gem() -> ItemTypeId {
    ItemTypeId::parse("gem").expect("a slug")
}

pub(crate) fn arrow() -> ItemTypeId {
    ItemTypeId::parse("arrow").expect("a slug")
}

pub(crate) const fn item(n: u128) -> ItemId {
    ItemId::new(Uuid::from_u128(n))
}

pub(crate) const fn reservation(n: u128) -> ReservationId {
    ReservationId::new(Uuid::from_u128(n))
}

pub(crate) fn start() -> Timestamp {
    Timestamp::from_second(1_800_000_000).expect("a time")
}

/// The `n`-th command of a scenario. Its id is `n`.
pub(crate) fn context(n: u128, now: Timestamp) -> Context {
    Context { now, command_id: CommandId::new(Uuid::from_u128(n)) }
}

/// The item that command `n` mints.
pub(crate) fn minted_by(n: u128) -> ItemId {
    ItemId::new(context(n, start()).derive("item", 0))
}

/// The reservation that command `n` makes.
pub(crate) fn reserved_by(n: u128) -> ReservationId {
    ReservationId::new(context(n, start()).derive("reservation", 0))
}

/// The transfer that command `n` makes.
pub(crate) fn transferred_by(n: u128) -> TransferId {
    TransferId::new(context(n, start()).derive("transfer", 0))
}

/// What Ann asks.
pub(crate) const fn ask(action: Action) -> Command {
    Command { player: ANN, action }
}

pub(crate) fn why(text: &str) -> Reason {
    Reason::new(text).expect("short")
}

pub(crate) fn one_sword(item: ItemId, hop: u64) -> Portion {
    Portion::Unique { item_type: sword(), item, hop }
}

pub(crate) fn arrows(quantity: u32) -> Portion {
    Portion::Stack { item_type: arrow(), quantity }
}

pub(crate) fn granted(portion: Portion) -> Event {
    Event::Granted { portion, reason: Reason::default() }
}

pub(crate) fn equipped(item: ItemId) -> Event {
    Event::Equipped { item, item_type: sword() }
}

pub(crate) fn reserved(reservation: ReservationId, portion: Portion) -> Event {
    Event::Reserved { reservation, portion, expires_at: in_a_minute(), reason: Reason::default() }
}

pub(crate) fn in_a_minute() -> Timestamp {
    start() + SignedDuration::from_millis(MINUTE_MS)
}

pub(crate) const fn item_of(owner: PlayerId, item: ItemId) -> ItemSelection {
    ItemSelection::Item { owner, item }
}

pub(crate) fn stack(quantity: u32) -> ItemSelection {
    stack_of(arrow(), Some(ItemKind::Stackable), quantity)
}

pub(crate) const fn stack_of(item_type: ItemTypeId, kind: Option<ItemKind>, quantity: u32) -> ItemSelection {
    ItemSelection::Stack(StackSelection { item_type, kind, quantity })
}

/// What the players have, and the time. Commands are numbered from 1.
#[derive(Debug, Default, Clone)]
pub(crate) struct Scenario {
    inventories: BTreeMap<PlayerId, Inventory>,
    elapsed: SignedDuration,
    commands: u128,
}

impl Scenario {
    pub(crate) fn given(player: PlayerId, events: impl IntoIterator<Item = Event>) -> Self {
        Self::default().and(player, events)
    }

    pub(crate) fn and(mut self, player: PlayerId, events: impl IntoIterator<Item = Event>) -> Self {
        let inventory = self.inventories.entry(player).or_default();
        events.into_iter().for_each(|event| Rules::evolve(inventory, &event));
        self
    }

    pub(crate) fn after(mut self, elapsed: SignedDuration) -> Self {
        self.elapsed += elapsed;
        self
    }

    pub(crate) fn now(&self) -> Timestamp {
        start() + self.elapsed
    }

    pub(crate) fn inventory(&self, player: PlayerId) -> Inventory {
        self.inventories.get(&player).cloned().unwrap_or_default()
    }

    pub(crate) fn inventories(&self) -> &BTreeMap<PlayerId, Inventory> {
        &self.inventories
    }

    /// Decides a command, and applies what follows.
    pub(crate) fn run(&mut self, command: &Command) -> Result<Vec<(PlayerId, Event)>, Rejection> {
        self.commands += 1;
        let players: Vec<PlayerId> = [command.player].into_iter().chain(command.peer()).collect();
        let states: Vec<Inventory> = players.iter().map(|player| self.inventory(*player)).collect();
        let states: Vec<&Inventory> = states.iter().collect();
        let decision = Rules::decide(States::new(&states), command, &context(self.commands, self.now()))?;
        let events: Vec<_> = decision.events.into_iter().map(|(stream, event)| (players[stream], event)).collect();
        for (player, event) in &events {
            Rules::evolve(self.inventories.entry(*player).or_default(), event);
        }
        Ok(events)
    }

    pub(crate) fn when(mut self, command: Command) -> Outcome {
        let result = self.run(&command);
        Outcome { scenario: self, result }
    }
}

/// What a command led to.
#[derive(Debug)]
pub(crate) struct Outcome {
    scenario: Scenario,
    result: Result<Vec<(PlayerId, Event)>, Rejection>,
}

impl Outcome {
    #[track_caller]
    pub(crate) fn then(self, events: impl IntoIterator<Item = (PlayerId, Event)>) -> Scenario {
        assert_eq!(self.result, Ok(events.into_iter().collect()));
        self.scenario
    }

    #[track_caller]
    pub(crate) fn refused(self, rejection: Rejection) -> Scenario {
        assert_eq!(self.result, Err(rejection));
        self.scenario
    }
}
