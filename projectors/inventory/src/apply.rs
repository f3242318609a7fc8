//! From events to writes. Pure: ARCHITECTURE.md, "Consumers and projections".

use idempo_ids::{ItemId, PlayerId, ReservationId};
use idempo_projection::{Event, Interest, Malformed, Projector};
use idempo_proto::event::v1::event_envelope::Data;
use idempo_proto::event::v1::item_portion::What;
use idempo_proto::event::v1::{ItemPortion, ItemReceived, ItemReserved, ItemSent};

use crate::writes::{HistoryEntry, ItemRow, ItemState, StackChange, StackKey, Writes};

/// The greatest quantity that one event moves.
const QUANTITY_MAX: i64 = 1_000_000_000;
/// The longest name of an item type, in bytes.
const ITEM_TYPE_BYTES_MAX: usize = 64;

/// The inventory read model: who has what, and the history of unique items.
///
/// A unique item passes through the streams of its owners, which come in any order. Its row is the one of the greatest hop, and within a hop
/// the owner's stream decides (see [`ItemRow::order`]); all other rows follow from one stream each.
#[derive(Debug, Clone, Copy)]
pub struct InventoryProjector;

impl Projector for InventoryProjector {
    type Writes = Writes;

    const NAME: &'static str = "inventory";
    const LOGIC: &'static str = "inventory/1";

    fn interest(event_type: u16) -> Interest {
        match event_type {
            // The wallet's.
            100..=199 => Interest::PassedOver,
            200..=209 => Interest::Consumed,
            _ => Interest::Unknown,
        }
    }

    fn category(event_type: u16) -> &'static str {
        match event_type {
            200 => "item-type",
            _ => "inventory",
        }
    }

    fn apply(event: &Event, writes: &mut Writes) -> Result<(), Malformed> {
        let mut context = Context { event, player: PlayerId::new(event.partition_key), writes };
        match &event.data {
            // A kind of item is no row here, but a read can ask for the position of its creation.
            Data::ItemTypeCreated(_) => Ok(()),
            Data::ItemGranted(granted) => context.gained(granted.portion.as_ref(), None),
            Data::ItemReceived(received) => context.received(received),
            Data::ItemSent(sent) => context.sent(sent),
            Data::ItemConsumed(consumed) => context.consumed(consumed.portion.as_ref()),
            Data::ItemReserved(reserved) => context.reserved(reserved),
            Data::ReservationReleased(ended) => context.reservation_ended(ended.portion.as_ref()),
            Data::ReservationExpired(ended) => context.reservation_ended(ended.portion.as_ref()),
            Data::ItemEquipped(equipped) => {
                let item = item_id(&equipped.item_id)?;
                context.writes.equip(context.player, item, event.decided_at);
                context.loadout_entry(item)
            }
            Data::ItemUnequipped(unequipped) => {
                let item = item_id(&unequipped.item_id)?;
                context.writes.unequip(context.player, item, event.decided_at);
                context.loadout_entry(item)
            }
            Data::WalletOpened(_)
            | Data::FundsMinted(_)
            | Data::FundsBurned(_)
            | Data::FundsSent(_)
            | Data::FundsReceived(_)
            | Data::HoldPlaced(_)
            | Data::HoldCaptured(_)
            | Data::HoldReleased(_)
            | Data::HoldExpired(_)
            | Data::CaptureReceived(_) => Err(Malformed("an event of the wallet has come through")),
        }
    }
}

/// What an event is about, checked.
enum Portion<'a> {
    Unique { item: ItemId, item_type: &'a str, hop: i64 },
    Stack { item_type: &'a str, quantity: i64 },
}

/// One event on its way into the writes.
struct Context<'a> {
    event: &'a Event,
    player: PlayerId,
    writes: &'a mut Writes,
}

impl Context<'_> {
    fn gained(&mut self, portion: Option<&ItemPortion>, from: Option<PlayerId>) -> Result<(), Malformed> {
        match checked(portion)? {
            Portion::Unique { item, item_type, hop } => {
                self.owned_by(self.player, item, item_type, hop, ItemState::Owned);
                self.history(item, hop, self.version()?, from)
            }
            Portion::Stack { item_type, quantity } => self.stack(item_type, quantity, 0),
        }
    }

    fn received(&mut self, received: &ItemReceived) -> Result<(), Malformed> {
        let from = player_id(&received.from_player_id)?;
        self.gained(received.portion.as_ref(), Some(from))
    }

    fn sent(&mut self, sent: &ItemSent) -> Result<(), Malformed> {
        let to = player_id(&sent.to_player_id)?;
        let was_reserved = !sent.reservation_id.is_empty();
        match checked(sent.portion.as_ref())? {
            Portion::Unique { item, item_type, hop } => {
                self.owned_by(to, item, item_type, hop, ItemState::Owned);
                self.history(item, hop, 0, Some(to))
            }
            Portion::Stack { item_type, quantity } => self.stack(item_type, -quantity, if was_reserved { -quantity } else { 0 }),
        }
    }

    fn consumed(&mut self, portion: Option<&ItemPortion>) -> Result<(), Malformed> {
        match checked(portion)? {
            Portion::Unique { item, item_type, hop } => {
                self.owned_by(self.player, item, item_type, hop, ItemState::Destroyed);
                self.history(item, hop, self.version()?, None)
            }
            Portion::Stack { item_type, quantity } => self.stack(item_type, -quantity, 0),
        }
    }

    fn reserved(&mut self, reserved: &ItemReserved) -> Result<(), Malformed> {
        let reservation = ReservationId::from_slice(&reserved.reservation_id).map_err(|_| Malformed("reservation_id is not 16 bytes"))?;
        match checked(reserved.portion.as_ref())? {
            Portion::Unique { item, item_type, hop } => self.within_hop(item, item_type, hop, ItemState::Reserved(reservation)),
            Portion::Stack { item_type, quantity } => self.stack(item_type, 0, quantity),
        }
    }

    fn reservation_ended(&mut self, portion: Option<&ItemPortion>) -> Result<(), Malformed> {
        match checked(portion)? {
            Portion::Unique { item, item_type, hop } => self.within_hop(item, item_type, hop, ItemState::Owned),
            Portion::Stack { item_type, quantity } => self.stack(item_type, 0, -quantity),
        }
    }

    /// A change of owner: said by the streams of both, in the same words.
    fn owned_by(&mut self, owner: PlayerId, item: ItemId, item_type: &str, hop: i64, state: ItemState) {
        let item_type = item_type.to_owned();
        self.writes.item(item, ItemRow { item_type, owner, state, hop, revision: 0, updated_at: self.event.decided_at });
    }

    /// A change while the owner stays the same: said by the owner's stream alone.
    fn within_hop(&mut self, item: ItemId, item_type: &str, hop: i64, state: ItemState) -> Result<(), Malformed> {
        let revision = self.version()?;
        let (item_type, owner, updated_at) = (item_type.to_owned(), self.player, self.event.decided_at);
        self.writes.item(item, ItemRow { item_type, owner, state, hop, revision, updated_at });
        self.history(item, hop, revision, None)
    }

    fn stack(&mut self, item_type: &str, quantity: i64, reserved: i64) -> Result<(), Malformed> {
        let key = StackKey { player: self.player, item_type: item_type.to_owned() };
        let change = StackChange { quantity, reserved, updated_at: self.event.decided_at };
        self.writes.stack(key, change).ok_or(Malformed("a stack leaves the range of integers"))
    }

    fn history(&mut self, item: ItemId, hop: i64, ordinal: i64, counterparty: Option<PlayerId>) -> Result<(), Malformed> {
        self.writes.hops.insert((self.player, item), hop);
        self.entry(item, Some(hop), ordinal, counterparty)
    }

    fn loadout_entry(&mut self, item: ItemId) -> Result<(), Malformed> {
        let hop = self.writes.hops.get(&(self.player, item)).copied();
        self.entry(item, hop, self.version()?, None)
    }

    fn entry(&mut self, item: ItemId, hop: Option<i64>, ordinal: i64, counterparty: Option<PlayerId>) -> Result<(), Malformed> {
        let event_type = i16::try_from(self.event.event_type).map_err(|_| Malformed("the event's type is out of bounds"))?;
        let Event { event_id, decided_at, .. } = *self.event;
        self.writes.history.push(HistoryEntry { item, hop, ordinal, event_id, event_type, player: self.player, counterparty, decided_at });
        Ok(())
    }

    fn version(&self) -> Result<i64, Malformed> {
        i64::try_from(self.event.version).map_err(|_| Malformed("the version is out of bounds"))
    }
}

fn checked(portion: Option<&ItemPortion>) -> Result<Portion<'_>, Malformed> {
    let portion = portion.ok_or(Malformed("portion is missing"))?;
    let item_type = portion.item_type.as_str();
    if item_type.is_empty() || item_type.len() > ITEM_TYPE_BYTES_MAX || item_type.contains('\0') {
        return Err(Malformed("portion.item_type is empty, too long or holds a NUL"));
    }
    match portion.what.as_ref().ok_or(Malformed("portion.what is missing"))? {
        What::Unique(unique) => {
            let hop = i64::try_from(unique.hop).ok().filter(|hop| *hop > 0).ok_or(Malformed("unique.hop is out of bounds"))?;
            Ok(Portion::Unique { item: item_id(&unique.item_id)?, item_type, hop })
        }
        What::Quantity(quantity) if (1..=QUANTITY_MAX).contains(quantity) => Ok(Portion::Stack { item_type, quantity: *quantity }),
        What::Quantity(_) => Err(Malformed("portion.quantity is out of bounds")),
    }
}

fn item_id(bytes: &[u8]) -> Result<ItemId, Malformed> {
    ItemId::from_slice(bytes).map_err(|_| Malformed("item_id is not 16 bytes"))
}

fn player_id(bytes: &[u8]) -> Result<PlayerId, Malformed> {
    PlayerId::from_slice(bytes).map_err(|_| Malformed("a player's id is not 16 bytes"))
}
