//! The inventory read model as it follows from the events, independently of the projector: rows as text, to be compared with what is in the
//! tables and with what the API shows.

use std::collections::{BTreeMap, HashMap};

use idempo_proto::event::v1::event_envelope::Data;
use idempo_proto::event::v1::item_portion::What;
use idempo_proto::event::v1::{EventEnvelope, ItemKind, ItemPortion};
use idempo_proto::inventory::v1::{Item, ItemState};
use uuid::Uuid;

use crate::facts::{Rows, Tables, micros};
use crate::ids::of_bytes as id;
use crate::ledger::or_dash;

/// The numbers of an item's states at rest.
const OWNED: i16 = 1;
const RESERVED: i16 = 2;
const DESTROYED: i16 = 3;

/// The rows of the read model.
#[derive(Debug, Clone, Default)]
pub struct Model {
    items: BTreeMap<Uuid, ItemRow>,
    stacks: BTreeMap<(Uuid, String), StackRow>,
    loadouts: BTreeMap<(Uuid, Uuid), LoadoutRow>,
    equipped: HashMap<Uuid, Uuid>,
    history: BTreeMap<(Uuid, u64, u64), String>,
    last_hops: HashMap<(Uuid, Uuid), u64>,
    /// Events that can't be applied, and why.
    pub broken: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct ItemRow {
    item_type: String,
    owner: Uuid,
    state: i16,
    reservation: Option<Uuid>,
    hop: u64,
    /// 0 for a change of owner, else the version in the owner's stream.
    revision: u64,
    at_us: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct StackRow {
    quantity: i64,
    reserved: i64,
    at_us: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct LoadoutRow {
    equipped: bool,
    at_us: i64,
}

/// What an inventory event says, in the words of the tables.
struct Said<'a> {
    event: &'a EventEnvelope,
    player: Uuid,
    at_us: i64,
    number: u16,
}

/// What an inventory event is about.
pub(crate) enum Portion<'a> {
    /// A unique item: its id, its type, its hop.
    Unique(Uuid, &'a str, u64),
    /// A quantity of a type.
    Stack(&'a str, i64),
}

/// What a portion says; `None` where it says nothing that can be.
pub(crate) fn portion(portion: Option<&ItemPortion>) -> Option<Portion<'_>> {
    let portion = portion?;
    match portion.what.as_ref()? {
        What::Unique(unique) => Some(Portion::Unique(id(&unique.item_id)?, &portion.item_type, unique.hop)),
        What::Quantity(quantity) => Some(Portion::Stack(&portion.item_type, *quantity)),
    }
}

impl Model {
    /// Folds events, each given once, those of one stream in the order of their versions, streams in any order. Events of other contexts are passed
    /// over.
    #[must_use]
    pub fn fold<'a>(events: impl IntoIterator<Item = &'a EventEnvelope>) -> Self {
        let mut model = Self::default();
        for event in events {
            model.add(event);
        }
        model
    }

    /// Adds one event.
    pub fn add(&mut self, event: &EventEnvelope) {
        let Some(number) = event.data.as_ref().and_then(number) else { return };
        let (Some(player), Some(at_us)) = (id(&event.partition_key), event.decided_at.as_ref().map(micros)) else {
            self.broken.push(format!("version {} of a stream has no owner or no time", event.version));
            return;
        };
        let said = Said { event, player, at_us, number };
        if self.apply(&said).is_none() {
            self.broken.push(format!("version {} of {player}'s inventory can't be applied", event.version));
        }
    }

    fn apply(&mut self, said: &Said<'_>) -> Option<()> {
        let (player, version) = (said.player, said.event.version);
        match said.event.data.as_ref()? {
            Data::ItemGranted(e) => self.came(said, portion(e.portion.as_ref())?, None),
            Data::ItemReceived(e) => self.came(said, portion(e.portion.as_ref())?, Some(id(&e.from_player_id)?)),
            Data::ItemSent(e) => match portion(e.portion.as_ref())? {
                Portion::Unique(item, item_type, hop) => {
                    let to = id(&e.to_player_id)?;
                    self.item(item, row(said, item_type, to, OWNED, None, hop, 0));
                    self.entry(said, item, Some(hop), 0, Some(to))
                }
                Portion::Stack(item_type, quantity) => {
                    let reserved = if e.reservation_id.is_empty() { 0 } else { -quantity };
                    self.stack(said, item_type, -quantity, reserved)
                }
            },
            Data::ItemConsumed(e) => match portion(e.portion.as_ref())? {
                Portion::Unique(item, item_type, hop) => {
                    self.item(item, row(said, item_type, player, DESTROYED, None, hop, 0));
                    self.entry(said, item, Some(hop), version, None)
                }
                Portion::Stack(item_type, quantity) => self.stack(said, item_type, -quantity, 0),
            },
            Data::ItemReserved(e) => self.held(said, portion(e.portion.as_ref())?, Some(id(&e.reservation_id)?)),
            Data::ReservationReleased(e) => self.held(said, portion(e.portion.as_ref())?, None),
            Data::ReservationExpired(e) => self.held(said, portion(e.portion.as_ref())?, None),
            Data::ItemEquipped(e) => {
                let item = id(&e.item_id)?;
                if let Some(before) = self.equipped.insert(player, item) {
                    self.loadouts.insert((player, before), LoadoutRow { equipped: false, at_us: said.at_us });
                }
                self.loadouts.insert((player, item), LoadoutRow { equipped: true, at_us: said.at_us });
                self.entry(said, item, None, version, None)
            }
            Data::ItemUnequipped(e) => {
                let item = id(&e.item_id)?;
                if self.equipped.get(&player) == Some(&item) {
                    self.equipped.remove(&player);
                }
                self.loadouts.insert((player, item), LoadoutRow { equipped: false, at_us: said.at_us });
                self.entry(said, item, None, version, None)
            }
            _ => Some(()),
        }
    }

    fn came(&mut self, said: &Said<'_>, what: Portion<'_>, from: Option<Uuid>) -> Option<()> {
        match what {
            Portion::Unique(item, item_type, hop) => {
                self.item(item, row(said, item_type, said.player, OWNED, None, hop, 0));
                self.entry(said, item, Some(hop), said.event.version, from)
            }
            Portion::Stack(item_type, quantity) => self.stack(said, item_type, quantity, 0),
        }
    }

    fn held(&mut self, said: &Said<'_>, what: Portion<'_>, reservation: Option<Uuid>) -> Option<()> {
        let (state, sign) = if reservation.is_some() { (RESERVED, 1) } else { (OWNED, -1) };
        match what {
            Portion::Unique(item, item_type, hop) => {
                self.item(item, row(said, item_type, said.player, state, reservation, hop, said.event.version));
                self.entry(said, item, Some(hop), said.event.version, None)
            }
            Portion::Stack(item_type, quantity) => self.stack(said, item_type, 0, sign * quantity),
        }
    }

    /// The row of the greatest hop stands, and within a hop the one that the owner's stream says last.
    fn item(&mut self, item: Uuid, row: ItemRow) {
        let known = self.items.entry(item).or_insert_with(|| row.clone());
        if (known.hop, known.revision, known.at_us) < (row.hop, row.revision, row.at_us) {
            *known = row;
        }
    }

    fn stack(&mut self, said: &Said<'_>, item_type: &str, quantity: i64, reserved: i64) -> Option<()> {
        let row = self.stacks.entry((said.player, item_type.to_owned())).or_default();
        row.quantity = row.quantity.checked_add(quantity)?;
        row.reserved = row.reserved.checked_add(reserved)?;
        row.at_us = row.at_us.max(said.at_us);
        (row.quantity >= 0 && (0..=row.quantity).contains(&row.reserved)).then_some(())
    }

    /// An event that names no hop stands in the hop that its player's stream spoke of last.
    fn entry(&mut self, said: &Said<'_>, item: Uuid, hop: Option<u64>, ordinal: u64, counterparty: Option<Uuid>) -> Option<()> {
        let hop = match hop {
            Some(hop) => *self.last_hops.entry((said.player, item)).insert_entry(hop).get(),
            None => *self.last_hops.get(&(said.player, item))?,
        };
        let text = format!(
            "event {} type {} player {} counterparty {} at {}",
            id(&said.event.event_id)?,
            said.number,
            said.player,
            or_dash(counterparty),
            said.at_us
        );
        self.history.insert((item, hop, ordinal), text).is_none().then_some(())
    }

    /// The rows of every table, as text.
    #[must_use]
    pub fn tables(&self) -> Tables {
        let items = self.items.iter().map(|(id, row)| {
            let text = format!(
                "type {} owner {} state {} reservation {} hop {} revision {} at {}",
                row.item_type,
                row.owner,
                row.state,
                or_dash(row.reservation),
                row.hop,
                row.revision,
                row.at_us
            );
            (id.to_string(), text)
        });
        let stacks = self.stacks.iter().map(|((player, item_type), row)| {
            (format!("{player} {item_type}"), format!("quantity {} reserved {} at {}", row.quantity, row.reserved, row.at_us))
        });
        let loadouts = self
            .loadouts
            .iter()
            .map(|((player, item), row)| (format!("{player} {item}"), format!("equipped {} at {}", row.equipped, row.at_us)));
        let history = self.history.iter().map(|((item, hop, ordinal), text)| (format!("{item} {hop} {ordinal}"), text.clone()));
        Tables::from([
            ("items", items.collect()),
            ("stacks", stacks.collect()),
            ("loadouts", loadouts.collect()),
            ("item_events", history.collect()),
        ])
    }

    /// What `ListItems` has to show of all players together: unique items that are not destroyed, and stacks that are not empty.
    #[must_use]
    pub fn listed(&self) -> Rows {
        let mut listed = Rows::new();
        for (id, row) in self.items.iter().filter(|(_, row)| row.state != DESTROYED) {
            let (state, reserved) = if row.state == RESERVED { (ItemState::Reserved, 1) } else { (ItemState::Owned, 0) };
            let item = Item {
                name: format!("players/{}/items/{id}", row.owner),
                item_type: format!("itemTypes/{}", row.item_type),
                kind: ItemKind::Unique.into(),
                quantity: 1,
                reserved_quantity: reserved,
                state: state.into(),
                equipped: self.loadouts.get(&(row.owner, *id)).is_some_and(|loadout| loadout.equipped),
                hop: i64::try_from(row.hop).unwrap_or(i64::MAX),
                update_time: None,
            };
            listed.insert(item.name.clone(), item_text(&item));
        }
        for ((player, item_type), row) in self.stacks.iter().filter(|(_, row)| row.quantity > 0) {
            let item = Item {
                name: format!("players/{player}/stacks/{item_type}"),
                item_type: format!("itemTypes/{item_type}"),
                kind: ItemKind::Stackable.into(),
                quantity: row.quantity,
                reserved_quantity: row.reserved,
                state: ItemState::Owned.into(),
                equipped: false,
                hop: 0,
                update_time: None,
            };
            listed.insert(item.name.clone(), item_text(&item));
        }
        listed
    }
}

fn row(said: &Said<'_>, item_type: &str, owner: Uuid, state: i16, reservation: Option<Uuid>, hop: u64, revision: u64) -> ItemRow {
    ItemRow { item_type: item_type.to_owned(), owner, state, reservation, hop, revision, at_us: said.at_us }
}

/// Whether an event is the inventory's.
pub(crate) fn concerns(event: &EventEnvelope) -> bool {
    event.data.as_ref().and_then(number).is_some()
}

/// An event's type number: the field in which it stands in the envelope.
const fn number(data: &Data) -> Option<u16> {
    match data {
        Data::ItemTypeCreated(_) => Some(200),
        Data::ItemGranted(_) => Some(201),
        Data::ItemReserved(_) => Some(202),
        Data::ReservationReleased(_) => Some(203),
        Data::ReservationExpired(_) => Some(204),
        Data::ItemSent(_) => Some(205),
        Data::ItemReceived(_) => Some(206),
        Data::ItemConsumed(_) => Some(207),
        Data::ItemEquipped(_) => Some(208),
        Data::ItemUnequipped(_) => Some(209),
        _ => None,
    }
}

/// An item of the API as text, without the time of its last change.
#[must_use]
pub fn item_text(item: &Item) -> String {
    format!(
        "type {} kind {} quantity {} reserved {} state {} equipped {} hop {}",
        item.item_type,
        item.kind().as_str_name(),
        item.quantity,
        item.reserved_quantity,
        item.state().as_str_name(),
        item.equipped,
        item.hop
    )
}
