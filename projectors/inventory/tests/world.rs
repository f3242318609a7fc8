//! A small world of players and items, played by the rules of the inventory domain, and what is true in it at the end.

use std::collections::BTreeMap;

use idempo_ids::{ItemId, PlayerId, StreamId, Uuid, derive};
use idempo_projection::Event;
use idempo_proto::event::v1::event_envelope::Data;
use idempo_proto::event::v1::item_portion::What;
use idempo_proto::event::v1::{
    EventEnvelope, ItemConsumed, ItemEquipped, ItemGranted, ItemPortion, ItemReceived, ItemReserved, ItemSent, ItemTypeCreated,
    ItemUnequipped, ReservationExpired, ReservationReleased, UniqueItem,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use prost::Message as _;
use prost::bytes::Bytes;

pub(crate) const PLAYERS: usize = 4;

/// A move: what kind, and which of the things it can be made with.
pub(crate) type Move = (u8, usize, usize, u8);

fn moves_of(count: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Vec<Move>> {
    proptest::collection::vec((0..12_u8, 0..64_usize, 0..PLAYERS, 1..9_u8), count)
}

pub(crate) fn moves() -> impl Strategy<Value = Vec<Move>> {
    moves_of(1..120)
}

/// A world of some size that is the same each time.
pub(crate) fn sample(number: usize) -> World {
    let mut runner = TestRunner::deterministic();
    let strategy = moves_of(200);
    let mut moves = strategy.new_tree(&mut runner).expect("moves").current();
    for _ in 0..number {
        moves = strategy.new_tree(&mut runner).expect("moves").current();
    }
    World::play(&moves)
}

/// A world of some thousand events that is the same each time.
pub(crate) fn large_sample() -> World {
    let moves = moves_of(4_000).new_tree(&mut TestRunner::deterministic()).expect("moves").current();
    World::play(&moves)
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unique {
    pub(crate) id: ItemId,
    pub(crate) owner: usize,
    pub(crate) hop: u64,
    pub(crate) reserved_by: Option<Uuid>,
    pub(crate) destroyed: bool,
}

#[derive(Debug, Default)]
pub(crate) struct World {
    /// In the order in which they were decided; both legs of a transfer side by side.
    pub(crate) envelopes: Vec<EventEnvelope>,
    pub(crate) items: Vec<Unique>,
    pub(crate) equipped: BTreeMap<usize, usize>,
    /// Quantity and reserved quantity.
    pub(crate) stacks: BTreeMap<usize, (i64, i64)>,
    reservations: Vec<(Uuid, usize, i64)>,
    versions: BTreeMap<Uuid, u64>,
    made: u32,
}

pub(crate) fn player(number: usize) -> PlayerId {
    PlayerId::new(Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0000 + number as u128))
}

pub(crate) fn stream(number: usize) -> StreamId {
    StreamId::of("inventory", player(number).uuid())
}

fn bytes(id: Uuid) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

fn some_of(quantity: i64) -> Option<ItemPortion> {
    Some(ItemPortion { item_type: "arrow".to_owned(), what: Some(What::Quantity(quantity)) })
}

impl Unique {
    fn portion(&self) -> Option<ItemPortion> {
        let unique = UniqueItem { item_id: bytes(self.id.uuid()), hop: self.hop };
        Some(ItemPortion { item_type: "sword".to_owned(), what: Some(What::Unique(unique)) })
    }
}

impl World {
    pub(crate) fn play(moves: &[Move]) -> Self {
        let mut world = Self::default();
        world.record(
            Uuid::from_u128(99),
            StreamId::of("item-type", Uuid::from_u128(99)),
            Data::ItemTypeCreated(ItemTypeCreated::default()),
        );
        for (kind, which, who, how_many) in moves {
            world.made += 1;
            world.make(*kind, *which, *who, i64::from(*how_many));
        }
        world
    }

    /// A world in which player 0 has given an item each to so many others.
    pub(crate) fn of_gifts(others: usize) -> Self {
        let mut world = Self::default();
        for other in 1..=others {
            world.made += 1;
            world.grant(0);
            world.transfer(other - 1, other, None);
        }
        world
    }

    /// A world in which player 0 was granted an arrow so many times.
    pub(crate) fn of_arrows(times: usize) -> Self {
        let mut world = Self::default();
        (0..times).for_each(|_| world.stack_grows(0, 1));
        world
    }

    /// Every event, decoded.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.envelopes.iter().map(|envelope| Event::decode(&envelope.encode_to_vec().into()).expect("an event")).collect()
    }

    /// The last version of every stream.
    pub(crate) fn position(&self) -> Vec<(StreamId, u64)> {
        (0..PLAYERS).filter_map(|number| Some((stream(number), *self.versions.get(&stream(number).uuid())?))).collect()
    }

    fn fresh(&self, label: &str) -> Uuid {
        derive(Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0000), label, self.made)
    }

    fn say(&mut self, who: usize, data: Data) {
        self.record(player(who).uuid(), stream(who), data);
    }

    fn record(&mut self, owner: Uuid, stream: StreamId, data: Data) {
        let version = self.versions.entry(stream.uuid()).or_insert(0);
        *version += 1;
        self.envelopes.push(EventEnvelope {
            event_id: bytes(derive(stream.uuid(), "event", u32::try_from(*version).expect("small"))),
            stream_id: bytes(stream.uuid()),
            version: *version,
            partition_key: bytes(owner),
            // The clocks of two instances of the service differ: time does not always go up.
            decided_at: Some(prost_types::Timestamp { seconds: 1_750_000_000 + i64::from(self.made ^ 1), nanos: 0 }),
            command_id: bytes(owner),
            correlation_id: bytes(owner),
            data: Some(data),
            ..EventEnvelope::default()
        });
    }

    /// Makes a move, if it is possible.
    fn make(&mut self, kind: u8, which: usize, who: usize, how_many: i64) {
        match kind {
            0 | 1 => self.grant(who),
            2 => self.stack_grows(who, how_many),
            3 => self.stack_moves(who, (who + 1 + which % (PLAYERS - 1)) % PLAYERS, how_many),
            4 => self.stack_is_reserved(who, how_many),
            5 => self.stack_reservation_ends(which, who),
            6 => self.stack_is_used(who, how_many),
            _ => self.with_item(kind, which, who),
        }
    }

    fn grant(&mut self, who: usize) {
        let item = Unique { id: ItemId::new(self.fresh("item")), owner: who, hop: 1, reserved_by: None, destroyed: false };
        self.say(who, Data::ItemGranted(ItemGranted { portion: item.portion(), reason: String::new() }));
        self.items.push(item);
    }

    fn with_item(&mut self, kind: u8, which: usize, who: usize) {
        let live: Vec<usize> = (0..self.items.len()).filter(|at| !self.items[*at].destroyed).collect();
        let Some(at) = live.get(which % live.len().max(1)).copied() else { return };
        let owner = self.items[at].owner;
        let is_equipped = self.equipped.get(&owner) == Some(&at);
        match (kind, self.items[at].reserved_by, is_equipped) {
            (7 | 8, reservation, false) if who != owner => self.transfer(at, who, reservation),
            (9, None, false) => self.reserve(at),
            (9, Some(reservation), _) => self.release(at, reservation),
            (10, None, true) => {
                self.equipped.remove(&owner);
                self.say(owner, Data::ItemUnequipped(ItemUnequipped { item_id: bytes(self.items[at].id.uuid()) }));
            }
            (10, None, false) => {
                self.equipped.insert(owner, at);
                let item_id = bytes(self.items[at].id.uuid());
                self.say(owner, Data::ItemEquipped(ItemEquipped { item_id, item_type: "sword".to_owned() }));
            }
            (11, None, false) if which.is_multiple_of(3) => {
                self.items[at].hop += 1;
                self.items[at].destroyed = true;
                self.say(owner, Data::ItemConsumed(ItemConsumed { portion: self.items[at].portion(), reason: String::new() }));
            }
            _ => {}
        }
    }

    fn transfer(&mut self, at: usize, to: usize, reservation: Option<Uuid>) {
        let (from, transfer_id) = (self.items[at].owner, bytes(self.fresh("transfer")));
        self.items[at] = Unique { owner: to, hop: self.items[at].hop + 1, reserved_by: None, ..self.items[at].clone() };
        let portion = self.items[at].portion();
        let (to_player_id, from_player_id) = (bytes(player(to).uuid()), bytes(player(from).uuid()));
        let reservation_id = reservation.map(bytes).unwrap_or_default();
        let sent = ItemSent { transfer_id: transfer_id.clone(), portion: portion.clone(), to_player_id, reservation_id };
        self.say(from, Data::ItemSent(sent));
        self.say(to, Data::ItemReceived(ItemReceived { transfer_id, portion, from_player_id }));
    }

    fn reserve(&mut self, at: usize) {
        let reservation = self.fresh("reservation");
        self.items[at].reserved_by = Some(reservation);
        let portion = self.items[at].portion();
        let reserved = ItemReserved { reservation_id: bytes(reservation), portion, ..ItemReserved::default() };
        self.say(self.items[at].owner, Data::ItemReserved(reserved));
    }

    fn release(&mut self, at: usize, reservation: Uuid) {
        self.items[at].reserved_by = None;
        let (reservation_id, portion) = (bytes(reservation), self.items[at].portion());
        let ended = match self.made % 2 {
            0 => Data::ReservationReleased(ReservationReleased { reservation_id, portion }),
            _ => Data::ReservationExpired(ReservationExpired { reservation_id, portion }),
        };
        self.say(self.items[at].owner, ended);
    }

    fn free(&self, who: usize) -> i64 {
        self.stacks.get(&who).map_or(0, |(quantity, reserved)| quantity - reserved)
    }

    fn stack_grows(&mut self, who: usize, how_many: i64) {
        self.stacks.entry(who).or_default().0 += how_many;
        self.say(who, Data::ItemGranted(ItemGranted { portion: some_of(how_many), reason: String::new() }));
    }

    fn stack_moves(&mut self, from: usize, to: usize, how_many: i64) {
        if self.free(from) < how_many {
            return;
        }
        self.stack_leaves(from, to, how_many, None);
    }

    fn stack_leaves(&mut self, from: usize, to: usize, how_many: i64, reservation: Option<Uuid>) {
        self.stacks.entry(from).or_default().0 -= how_many;
        self.stacks.entry(to).or_default().0 += how_many;
        let transfer_id = bytes(self.fresh("transfer"));
        let (to_player_id, from_player_id) = (bytes(player(to).uuid()), bytes(player(from).uuid()));
        let reservation_id = reservation.map(bytes).unwrap_or_default();
        let sent = ItemSent { transfer_id: transfer_id.clone(), portion: some_of(how_many), to_player_id, reservation_id };
        self.say(from, Data::ItemSent(sent));
        self.say(to, Data::ItemReceived(ItemReceived { transfer_id, portion: some_of(how_many), from_player_id }));
    }

    fn stack_is_reserved(&mut self, who: usize, how_many: i64) {
        if self.free(who) < how_many {
            return;
        }
        let reservation = self.fresh("reservation");
        self.stacks.entry(who).or_default().1 += how_many;
        self.reservations.push((reservation, who, how_many));
        let reserved = ItemReserved { reservation_id: bytes(reservation), portion: some_of(how_many), ..ItemReserved::default() };
        self.say(who, Data::ItemReserved(reserved));
    }

    fn stack_reservation_ends(&mut self, which: usize, to: usize) {
        if self.reservations.is_empty() {
            return;
        }
        let (reservation, who, how_many) = self.reservations.swap_remove(which % self.reservations.len());
        self.stacks.entry(who).or_default().1 -= how_many;
        let (reservation_id, portion) = (bytes(reservation), some_of(how_many));
        match which % 3 {
            0 => self.say(who, Data::ReservationReleased(ReservationReleased { reservation_id, portion })),
            1 => self.say(who, Data::ReservationExpired(ReservationExpired { reservation_id, portion })),
            _ if to != who => self.stack_leaves(who, to, how_many, Some(reservation)),
            _ => self.say(who, Data::ReservationReleased(ReservationReleased { reservation_id, portion })),
        }
    }

    fn stack_is_used(&mut self, who: usize, how_many: i64) {
        if self.free(who) < how_many {
            return;
        }
        self.stacks.entry(who).or_default().0 -= how_many;
        self.say(who, Data::ItemConsumed(ItemConsumed { portion: some_of(how_many), reason: String::new() }));
    }
}

/// The first event of a player: some arrows.
pub(crate) fn granted(number: usize) -> EventEnvelope {
    let (owner, stream) = (player(number).uuid(), stream(number));
    EventEnvelope {
        event_id: bytes(derive(owner, "event", 1)),
        stream_id: bytes(stream.uuid()),
        version: 1,
        partition_key: bytes(owner),
        decided_at: Some(prost_types::Timestamp { seconds: 1_750_000_000, nanos: 0 }),
        command_id: bytes(owner),
        correlation_id: bytes(owner),
        data: Some(Data::ItemGranted(ItemGranted { portion: some_of(3), reason: String::new() })),
        ..EventEnvelope::default()
    }
}
