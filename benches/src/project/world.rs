//! A made-up history of many inventories: what a topic holds after a busy day, the same each time.
//!
//! The mix, by moves: unique items granted 14 %, stacks granted 26 %, transfers 16 % (half of them of unique items, two events each), reservations
//! made 8 % and ended 8 % (released, expired, or fulfilled by a transfer), equipped 10 % and put away 4 %, used up 14 %. A move that is not
//! possible is a grant instead. At each moment a fifth of the players are in play; who that is changes evenly, so that everybody was at the end.
//! One move in eight is of anybody, in play or not; whoever something is sent to is drawn likewise.

use bytes::Bytes;
use idempo_ids::{PlayerId, StreamId, Uuid, derive};
use idempo_proto::event::v1::event_envelope::Data;
use idempo_proto::event::v1::item_portion::What;
use idempo_proto::event::v1::{
    EventEnvelope, ItemConsumed, ItemEquipped, ItemGranted, ItemPortion, ItemReceived, ItemReserved, ItemSent, ItemUnequipped,
    ReservationExpired, ReservationReleased, UniqueItem,
};
use prost::Message as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// How many players there are.
const PLAYERS: usize = 40_000;
/// How many of them are in play at one moment.
const IN_PLAY: usize = PLAYERS / 5;
/// Types of unique items, and of stacks.
const UNIQUE_TYPES: u32 = 64;
const STACK_TYPES: u32 = 24;
/// When the first event is decided, in microseconds since 1970, and how much later each next one.
const FIRST_MICROS: i64 = 1_750_000_000_000_000;
const PACE_MICROS: i64 = 250;

/// A record of the topic.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) partition: i32,
    pub(crate) key: Uuid,
    pub(crate) value: Vec<u8>,
}

/// What is granted, sent, reserved or used up.
#[derive(Debug, Clone, Copy)]
enum Thing {
    Unique { item: Uuid, kind: u32, hop: u64 },
    Stack { kind: u32, quantity: i64 },
}

impl Thing {
    fn portion(self) -> Option<ItemPortion> {
        Some(match self {
            Self::Unique { item, kind, hop } => {
                ItemPortion { item_type: unique_type(kind), what: Some(What::Unique(UniqueItem { item_id: bytes(item), hop })) }
            }
            Self::Stack { kind, quantity } => {
                ItemPortion { item_type: format!("ore_of_kind_{kind}"), what: Some(What::Quantity(quantity)) }
            }
        })
    }

    /// The same after one more change of owner.
    const fn moved(self) -> Self {
        match self {
            Self::Unique { item, kind, hop } => Self::Unique { item, kind, hop: hop + 1 },
            Self::Stack { .. } => self,
        }
    }
}

#[derive(Debug)]
struct Player {
    id: PlayerId,
    stream: StreamId,
    partition: i32,
    version: u64,
    /// What is free: neither reserved nor equipped.
    things: Vec<Thing>,
    reserved: Vec<(Uuid, Thing)>,
    equipped: Option<Thing>,
}

struct World {
    random: ChaCha8Rng,
    players: Vec<Player>,
    records: Vec<Record>,
    /// How many records there will be.
    events: usize,
    made: u32,
}

/// The first `events` records of the history. Each stream's versions go up from 1 without a gap.
pub(crate) fn history(events: usize, partitions: i32, seed: u64) -> Vec<Record> {
    let player = |number: u32| {
        let id = derive(time_id(-i64::from(number) * 60_000_000), "player", number);
        let partition = idempo_kafka::partition_of(id.to_string().as_bytes(), partitions);
        let stream = StreamId::of("inventory", id);
        Player { id: PlayerId::new(id), stream, partition, version: 0, things: Vec::new(), reserved: Vec::new(), equipped: None }
    };
    let mut world = World {
        random: ChaCha8Rng::seed_from_u64(seed),
        players: (0..).take(PLAYERS).map(player).collect(),
        records: Vec::with_capacity(events + 1),
        events: events.max(1),
        made: 0,
    };
    while world.records.len() < events {
        world.step();
    }
    world.records.truncate(events);
    world.records
}

/// A UUIDv7 of a moment, in microseconds after the first event.
fn time_id(micros: i64) -> Uuid {
    let millis = (FIRST_MICROS + micros) / 1_000;
    let mut time = [0_u8; 16];
    for (to, from) in time.iter_mut().zip(millis.to_be_bytes().iter().skip(2)) {
        *to = *from;
    }
    Uuid::from_bytes(time)
}

fn bytes(id: Uuid) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

fn unique_type(kind: u32) -> String {
    format!("sword_of_the_kind_{kind}")
}

impl World {
    fn step(&mut self) {
        self.made += 1;
        let who = self.someone();
        match self.random.random_range(0..100_u32) {
            0..14 => self.grant_unique(who),
            14..40 => self.grant_stack(who),
            40..56 => self.transfer(who),
            56..64 => self.reserve(who),
            64..72 => self.end_reservation(who),
            72..82 => self.equip(who),
            82..86 => self.put_away(who),
            _ => self.use_up(who),
        }
    }

    /// A player, mostly one of those in play.
    fn someone(&mut self) -> usize {
        if self.random.random_range(0..8_u32) == 0 {
            return self.random.random_range(0..PLAYERS);
        }
        let first = self.records.len() * PLAYERS / self.events;
        (first + self.random.random_range(0..IN_PLAY)) % PLAYERS
    }

    fn fresh(&self, label: &str) -> Uuid {
        derive(time_id(i64::from(self.made) * PACE_MICROS), label, self.made)
    }

    /// Takes something free away from a player.
    fn take(&mut self, who: usize, fits: impl Fn(&Thing) -> bool) -> Option<Thing> {
        let things = &mut self.players.get_mut(who)?.things;
        let start = self.random.random_range(0..things.len().max(1));
        let at = (start..things.len()).chain(0..start.min(things.len())).find(|at| things.get(*at).is_some_and(&fits))?;
        Some(things.swap_remove(at))
    }

    fn give(&mut self, who: usize, thing: Thing) {
        if let Some(player) = self.players.get_mut(who) {
            player.things.push(thing);
        }
    }

    fn grant_unique(&mut self, who: usize) {
        let thing = Thing::Unique { item: self.fresh("item"), kind: self.random.random_range(0..UNIQUE_TYPES), hop: 1 };
        self.grant(who, thing);
    }

    fn grant_stack(&mut self, who: usize) {
        let thing = Thing::Stack { kind: self.random.random_range(0..STACK_TYPES), quantity: self.random.random_range(1..500) };
        self.grant(who, thing);
    }

    fn grant(&mut self, who: usize, thing: Thing) {
        self.give(who, thing);
        self.say(who, Data::ItemGranted(ItemGranted { portion: thing.portion(), reason: "a quest was completed".to_owned() }));
    }

    fn transfer(&mut self, from: usize) {
        let unique = self.random.random_range(0..2_u32) == 0;
        match self.take(from, |thing| matches!(thing, Thing::Unique { .. }) == unique) {
            Some(thing) => self.send(from, thing, Bytes::new()),
            None => self.grant_unique(from),
        }
    }

    fn send(&mut self, from: usize, thing: Thing, reservation_id: Bytes) {
        let to = self.someone();
        let to = if to == from { (to + 1) % PLAYERS } else { to };
        let (thing, transfer_id) = (thing.moved(), bytes(self.fresh("transfer")));
        let (portion, from_player_id, to_player_id) = (thing.portion(), self.id_of(from), self.id_of(to));
        self.say(
            from,
            Data::ItemSent(ItemSent { transfer_id: transfer_id.clone(), portion: portion.clone(), to_player_id, reservation_id }),
        );
        self.say(to, Data::ItemReceived(ItemReceived { transfer_id, portion, from_player_id }));
        self.give(to, thing);
    }

    fn reserve(&mut self, who: usize) {
        let Some(thing) = self.take(who, |_| true) else { return self.grant_stack(who) };
        let reservation = self.fresh("reservation");
        if let Some(player) = self.players.get_mut(who) {
            player.reserved.push((reservation, thing));
        }
        let reason = "offered on the market".to_owned();
        let reserved = ItemReserved { reservation_id: bytes(reservation), portion: thing.portion(), reason, ..ItemReserved::default() };
        self.say(who, Data::ItemReserved(reserved));
    }

    fn end_reservation(&mut self, who: usize) {
        let Some((reservation, thing)) = self.players.get_mut(who).and_then(|player| player.reserved.pop()) else {
            return self.grant_stack(who);
        };
        let (reservation_id, portion) = (bytes(reservation), thing.portion());
        let ended = match self.random.random_range(0..3_u32) {
            0 => Data::ReservationReleased(ReservationReleased { reservation_id, portion }),
            1 => Data::ReservationExpired(ReservationExpired { reservation_id, portion }),
            _ => return self.send(who, thing, reservation_id),
        };
        self.give(who, thing);
        self.say(who, ended);
    }

    fn equip(&mut self, who: usize) {
        let Some(thing) = self.take(who, |thing| matches!(thing, Thing::Unique { .. })) else { return self.grant_unique(who) };
        let Thing::Unique { item, kind, .. } = thing else { return };
        if let Some(player) = self.players.get_mut(who) {
            player.things.extend(player.equipped.replace(thing));
        }
        self.say(who, Data::ItemEquipped(ItemEquipped { item_id: bytes(item), item_type: unique_type(kind) }));
    }

    fn put_away(&mut self, who: usize) {
        let equipped = self.players.get_mut(who).and_then(|player| player.equipped.take());
        let Some(thing @ Thing::Unique { item, .. }) = equipped else { return self.grant_stack(who) };
        self.give(who, thing);
        self.say(who, Data::ItemUnequipped(ItemUnequipped { item_id: bytes(item) }));
    }

    fn use_up(&mut self, who: usize) {
        let Some(thing) = self.take(who, |_| true) else { return self.grant_stack(who) };
        let portion = thing.moved().portion();
        self.say(who, Data::ItemConsumed(ItemConsumed { portion, reason: "used in crafting".to_owned() }));
    }

    fn id_of(&self, who: usize) -> Bytes {
        self.players.get(who).map_or_else(Bytes::new, |player| bytes(player.id.uuid()))
    }

    fn say(&mut self, who: usize, data: Data) {
        let command = self.fresh("command");
        let Some(player) = self.players.get_mut(who) else { return };
        player.version += 1;
        let micros = FIRST_MICROS + i64::from(self.made) * PACE_MICROS;
        let nanos = i32::try_from(micros % 1_000_000 * 1_000).unwrap_or(0);
        let envelope = EventEnvelope {
            event_id: bytes(derive(command, "event", u32::try_from(self.records.len()).unwrap_or(u32::MAX))),
            stream_id: bytes(player.stream.uuid()),
            version: player.version,
            partition_key: bytes(player.id.uuid()),
            decided_at: Some(prost_types::Timestamp { seconds: micros / 1_000_000, nanos }),
            command_id: bytes(command),
            correlation_id: bytes(command),
            data: Some(data),
            ..EventEnvelope::default()
        };
        self.records.push(Record { partition: player.partition, key: player.id.uuid(), value: envelope.encode_to_vec() });
    }
}
