//! The only code that knows both the rules of items and their protobuf messages.

mod events;
mod item_type;
mod names;
mod project;
mod refusals;
mod replies;

use bytes::Bytes;
use idempo_event_store::{Applied, Category, DecodeError, Domain, StreamTarget};
use idempo_inventory_domain::inventory::{Command, Event, Rejection, Rules};
use idempo_inventory_domain::item_type as types;
use idempo_inventory_domain::item_type::ItemTypeId;
use idempo_proto::event::v1::event_envelope::Data;
use smallvec::SmallVec;

use crate::inline::{Catalogue, CatalogueRows, Stock, StockRows};

pub(crate) use item_type::{from_row as item_type_from_row, kind_of, message as item_type_message, rarity_of};
pub(crate) use names::{ITEM, ITEM_TYPE, PLAYER, RESERVATION, item_type_name};
pub(crate) use project::ending_from_number;

/// The service's name in errors.
pub(crate) const DOMAIN: &str = "inventory.idempo";

/// The inventories' streams. An inventory belongs to its player, whose id is its stream's partition key.
pub(crate) const INVENTORIES: Category = Category { number: 10, name: "inventory" };

/// The item types' streams. What a type's stream belongs to is derived from its id.
pub(crate) const ITEM_TYPES: Category = Category { number: 11, name: "item-type" };

/// The number of `economy-events` in `schemas/topics.yaml`.
const TOPIC: i16 = 3;

/// The streams that a command names, in the order in which its decision sees them.
pub(crate) fn streams(command: &Command) -> SmallVec<[StreamTarget; 2]> {
    [Some(command.player), command.peer()].into_iter().flatten().map(|player| INVENTORIES.stream(player.uuid())).collect()
}

/// The stream of an item type.
pub(crate) fn item_type_stream(item_type: &ItemTypeId) -> StreamTarget {
    ITEM_TYPES.stream(item_type.owner())
}

/// Binds the rules of inventories to their stored form.
#[derive(Debug)]
pub struct InventoryDomain;

impl Domain for InventoryDomain {
    type Decider = Rules;
    type Inline = Stock;

    fn category(&self) -> Category {
        INVENTORIES
    }

    fn error_domain(&self) -> &'static str {
        DOMAIN
    }

    fn topic(&self) -> i16 {
        TOPIC
    }

    fn encode(&self, event: &Event) -> Data {
        events::encode(event)
    }

    fn decode(&self, data: Data) -> Result<Event, DecodeError> {
        events::decode(data)
    }

    fn event_type(&self, data: &Data) -> i16 {
        events::event_type(data)
    }

    fn reply(&self, applied: &Applied<'_, Self>) -> Bytes {
        replies::reply(applied)
    }

    fn refusal(&self, command: &Command, rejection: &Rejection) -> Bytes {
        refusals::refusal(command, rejection).encode()
    }

    fn project(&self, applied: &Applied<'_, Self>, rows: &mut StockRows) {
        project::project(applied, rows);
    }
}

/// Binds the rules of item types to their stored form.
#[derive(Debug)]
pub struct ItemTypeDomain;

impl Domain for ItemTypeDomain {
    type Decider = types::Rules;
    type Inline = Catalogue;

    fn category(&self) -> Category {
        ITEM_TYPES
    }

    fn error_domain(&self) -> &'static str {
        DOMAIN
    }

    fn topic(&self) -> i16 {
        TOPIC
    }

    fn encode(&self, event: &types::Event) -> Data {
        item_type::encode(event)
    }

    fn decode(&self, data: Data) -> Result<types::Event, DecodeError> {
        item_type::decode(data)
    }

    fn event_type(&self, data: &Data) -> i16 {
        events::event_type(data)
    }

    fn reply(&self, applied: &Applied<'_, Self>) -> Bytes {
        item_type::reply(applied)
    }

    fn refusal(&self, command: &types::Command, rejection: &types::Rejection) -> Bytes {
        refusals::item_type_refusal(command, rejection).encode()
    }

    fn project(&self, applied: &Applied<'_, Self>, rows: &mut CatalogueRows) {
        item_type::project(applied, rows);
    }
}
