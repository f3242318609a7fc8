//! I9: an item has exactly one owner, or one reservation of that owner's; its ownership is one chain; what was minted and not destroyed is
//! there. At every event, in the order of the store.
//!
//! Why the order of `seq` is enough: an event that depends on an item in another stream was decided when that stream's event was committed, so its
//! number is higher. The two legs of a transfer are of one statement, the giver's first.

use std::collections::HashMap;

use idempo_proto::event::v1::event_envelope::Data;
use uuid::Uuid;

use crate::facts::{Store, StoredEvent};
use crate::ids::of_bytes;
use crate::inventory::{Portion, portion};
use crate::verdict::Verdict;

/// Where a unique item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Its owner can use and give it.
    Owned(Uuid),
    /// Its owner has it, and a reservation holds it.
    Reserved(Uuid, Uuid),
    /// It was sent: from, to, by which transfer.
    UnderWay(Uuid, Uuid, Uuid),
    /// It is no more.
    Destroyed,
}

struct Item {
    hop: u64,
    place: Place,
}

/// What a player has of a stackable type.
#[derive(Default)]
struct Stack {
    quantity: i128,
    reserved: i128,
}

#[derive(Default)]
struct World {
    items: HashMap<Uuid, Item>,
    stacks: HashMap<(Uuid, String), Stack>,
    /// Open reservations of quantities: whose, of what, how many.
    held: HashMap<Uuid, (Uuid, String, i64)>,
    /// What was sent of stacks and not received yet, by transfer: to whom, of what, how many.
    sent: HashMap<Uuid, (Uuid, String, i64)>,
    minted: u64,
    destroyed: u64,
    live: u64,
}

/// I9 on the stores.
#[must_use]
pub fn one_owner(stores: &[Store]) -> Verdict {
    let mut verdict =
        Verdict::new("I9", "an item has one owner or one reservation, at every event; minted − destroyed = live", "item events");
    for store in stores {
        let mut world = World::default();
        for event in &store.events {
            let Some(applied) = world.apply(event) else { continue };
            let fault = applied.err();
            verdict.look(fault.is_none(), || {
                let (player, fault) = (event.partition_key(), fault.unwrap_or_default());
                format!("{}: version {} of {player}'s inventory: {fault}", store.name, event.version)
            });
            verdict.require(world.minted.checked_sub(world.destroyed) == Some(world.live), || {
                format!("{}: {} items minted, {} destroyed, {} live", store.name, world.minted, world.destroyed, world.live)
            });
        }
        let under_way = world.items.values().filter(|item| matches!(item.place, Place::UnderWay(..))).count() + world.sent.len();
        verdict.require(under_way == 0, || format!("{}: {under_way} transfers were sent and never received", store.name));
    }
    verdict
}

/// What an event is missing that it can't be without.
const INCOMPLETE: &str = "an id or a portion is missing";

impl World {
    /// Applies an event; `None` where it is not about items, an error where it can't have happened.
    fn apply(&mut self, event: &StoredEvent) -> Option<Result<(), String>> {
        let own = event.partition_key();
        let done = match event.data()? {
            Data::ItemGranted(e) => portion(e.portion.as_ref()).ok_or(INCOMPLETE.to_owned()).and_then(|what| self.granted(own, &what)),
            Data::ItemReserved(e) => match (of_bytes(&e.reservation_id), portion(e.portion.as_ref())) {
                (Some(reservation), Some(what)) => self.reserved(own, reservation, &what),
                _ => Err(INCOMPLETE.to_owned()),
            },
            Data::ReservationReleased(e) => self.ended(own, of_bytes(&e.reservation_id), portion(e.portion.as_ref())),
            Data::ReservationExpired(e) => self.ended(own, of_bytes(&e.reservation_id), portion(e.portion.as_ref())),
            Data::ItemSent(e) => match (of_bytes(&e.transfer_id), of_bytes(&e.to_player_id), portion(e.portion.as_ref())) {
                (Some(transfer), Some(to), Some(what)) => self.sent(own, to, transfer, of_bytes(&e.reservation_id), &what),
                _ => Err(INCOMPLETE.to_owned()),
            },
            Data::ItemReceived(e) => match (of_bytes(&e.transfer_id), of_bytes(&e.from_player_id), portion(e.portion.as_ref())) {
                (Some(transfer), Some(from), Some(what)) => self.received(own, from, transfer, &what),
                _ => Err(INCOMPLETE.to_owned()),
            },
            Data::ItemConsumed(e) => portion(e.portion.as_ref()).ok_or(INCOMPLETE.to_owned()).and_then(|what| self.consumed(own, &what)),
            Data::ItemEquipped(e) => self.owned(own, of_bytes(&e.item_id)),
            _ => return None,
        };
        Some(done)
    }

    fn granted(&mut self, own: Uuid, what: &Portion<'_>) -> Result<(), String> {
        match *what {
            Portion::Unique(item, _, hop) => {
                self.minted += 1;
                if let Some(known) = self.items.get(&item) {
                    return Err(format!("item {item} is minted a second time, it is at hop {}", known.hop));
                }
                self.live += 1;
                self.items.insert(item, Item { hop, place: Place::Owned(own) });
                if hop == 1 { Ok(()) } else { Err(format!("item {item} begins at hop {hop}")) }
            }
            Portion::Stack(item_type, quantity) => self.add(own, item_type, i128::from(quantity), 0),
        }
    }

    fn reserved(&mut self, own: Uuid, reservation: Uuid, what: &Portion<'_>) -> Result<(), String> {
        match *what {
            Portion::Unique(item, _, hop) => {
                let known = self.item(item)?;
                let was = std::mem::replace(&mut known.place, Place::Reserved(own, reservation));
                chained(item, known.hop, hop)?;
                expect(item, was, Place::Owned(own))
            }
            Portion::Stack(item_type, quantity) => {
                if self.held.insert(reservation, (own, item_type.to_owned(), quantity)).is_some() {
                    return Err(format!("reservation {reservation} is made a second time"));
                }
                self.add(own, item_type, 0, i128::from(quantity))
            }
        }
    }

    fn ended(&mut self, own: Uuid, reservation: Option<Uuid>, what: Option<Portion<'_>>) -> Result<(), String> {
        let (Some(reservation), Some(what)) = (reservation, what) else { return Err(INCOMPLETE.to_owned()) };
        match what {
            Portion::Unique(item, _, hop) => {
                let known = self.item(item)?;
                let was = std::mem::replace(&mut known.place, Place::Owned(own));
                chained(item, known.hop, hop)?;
                expect(item, was, Place::Reserved(own, reservation))
            }
            Portion::Stack(item_type, quantity) => {
                self.take_held(own, reservation, item_type, quantity)?;
                self.add(own, item_type, 0, -i128::from(quantity))
            }
        }
    }

    fn sent(&mut self, own: Uuid, to: Uuid, transfer: Uuid, reservation: Option<Uuid>, what: &Portion<'_>) -> Result<(), String> {
        match *what {
            Portion::Unique(item, _, hop) => {
                let known = self.item(item)?;
                let before = std::mem::replace(&mut known.hop, hop);
                let was = std::mem::replace(&mut known.place, Place::UnderWay(own, to, transfer));
                chained(item, before + 1, hop)?;
                expect(item, was, reservation.map_or(Place::Owned(own), |reservation| Place::Reserved(own, reservation)))
            }
            Portion::Stack(item_type, quantity) => {
                self.sent.insert(transfer, (to, item_type.to_owned(), quantity));
                let mut reserved = 0;
                if let Some(reservation) = reservation {
                    self.take_held(own, reservation, item_type, quantity)?;
                    reserved = -i128::from(quantity);
                }
                self.add(own, item_type, -i128::from(quantity), reserved)
            }
        }
    }

    fn received(&mut self, own: Uuid, from: Uuid, transfer: Uuid, what: &Portion<'_>) -> Result<(), String> {
        match *what {
            Portion::Unique(item, _, hop) => {
                let known = self.item(item)?;
                let was = std::mem::replace(&mut known.place, Place::Owned(own));
                chained(item, known.hop, hop)?;
                expect(item, was, Place::UnderWay(from, own, transfer))
            }
            Portion::Stack(item_type, quantity) => {
                let sent = self.sent.remove(&transfer);
                if sent.is_none_or(|(to, sent_type, sent)| (to, sent_type.as_str(), sent) != (own, item_type, quantity)) {
                    return Err(format!("{quantity} of {item_type} were received by transfer {transfer}, which did not send them"));
                }
                self.add(own, item_type, i128::from(quantity), 0)
            }
        }
    }

    fn consumed(&mut self, own: Uuid, what: &Portion<'_>) -> Result<(), String> {
        match *what {
            Portion::Unique(item, _, hop) => {
                self.destroyed += 1;
                self.live = self.live.saturating_sub(1);
                let known = self.item(item)?;
                let before = std::mem::replace(&mut known.hop, hop);
                let was = std::mem::replace(&mut known.place, Place::Destroyed);
                chained(item, before + 1, hop)?;
                expect(item, was, Place::Owned(own))
            }
            Portion::Stack(item_type, quantity) => self.add(own, item_type, -i128::from(quantity), 0),
        }
    }

    fn owned(&mut self, own: Uuid, item: Option<Uuid>) -> Result<(), String> {
        let item = item.ok_or(INCOMPLETE)?;
        let place = self.item(item)?.place;
        expect(item, place, Place::Owned(own))
    }

    fn item(&mut self, item: Uuid) -> Result<&mut Item, String> {
        self.items.get_mut(&item).ok_or_else(|| format!("item {item} was never minted"))
    }

    fn take_held(&mut self, own: Uuid, reservation: Uuid, item_type: &str, quantity: i64) -> Result<(), String> {
        match self.held.remove(&reservation) {
            Some((owner, held_type, held)) if (owner, held_type.as_str(), held) == (own, item_type, quantity) => Ok(()),
            held => Err(format!("reservation {reservation} should hold {quantity} of {item_type} and holds {held:?}")),
        }
    }

    fn add(&mut self, own: Uuid, item_type: &str, quantity: i128, reserved: i128) -> Result<(), String> {
        let stack = self.stacks.entry((own, item_type.to_owned())).or_default();
        stack.quantity += quantity;
        stack.reserved += reserved;
        if stack.reserved < 0 || stack.quantity < stack.reserved {
            return Err(format!("{} of {item_type} are there, {} of them reserved", stack.quantity, stack.reserved));
        }
        Ok(())
    }
}

fn chained(item: Uuid, due: u64, hop: u64) -> Result<(), String> {
    if due == hop { Ok(()) } else { Err(format!("item {item} is at hop {hop}, it should be at {due}")) }
}

fn expect(item: Uuid, was: Place, due: Place) -> Result<(), String> {
    if was == due { Ok(()) } else { Err(format!("item {item} should be {due:?} and is {was:?}")) }
}
