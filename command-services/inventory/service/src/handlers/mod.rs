//! One function for each RPC: checks the request field by field, makes a command or a query of it, and answers.
//!
//! How refusals bind their keys. What item types and the inventory's state decide (owners, quantities, reservations) is refused by the domain; what the
//! request alone decides (a quantity below zero or too large, sender equal to receiver, a malformed name) is refused here with INVALID_ARGUMENT. Both
//! are stored under the request's key, as long as the key itself is one: the same key gets the same answer, and with another payload ALREADY_EXISTS.

mod consume_item;
mod create_item_type;
mod equip_item;
mod fields;
mod get_item_type;
mod grant_item;
mod list_item_types;
mod mutation;
mod release_reservation;
mod reserve_item;
mod transfer_item;
mod unequip_item;

pub(crate) use consume_item::consume_item;
pub(crate) use create_item_type::create_item_type;
pub(crate) use equip_item::equip_item;
pub(crate) use get_item_type::get_item_type;
pub(crate) use grant_item::grant_item;
pub(crate) use list_item_types::list_item_types;
pub(crate) use release_reservation::release_reservation;
pub(crate) use reserve_item::reserve_item;
pub(crate) use transfer_item::transfer_item;
pub(crate) use unequip_item::unequip_item;

use idempo_clock::SharedClock;
use idempo_event_store::Handle;
use idempo_ids::{PlayerId, ReservationId};
use idempo_inventory_domain::inventory::{ItemSelection, ReservationLookup, StackSelection};
use idempo_inventory_domain::item_type::{ItemKind, ItemTypeId};
use idempo_pg::{Client, Pool};
use idempo_rpc::status;
use tonic::Status;

use crate::codec::{DOMAIN, InventoryDomain, ItemTypeDomain};
use crate::kinds::Kinds;
use crate::queries;

/// What the handlers work with.
#[derive(Clone)]
pub(crate) struct Handlers {
    item_types: Handle<ItemTypeDomain>,
    inventories: Handle<InventoryDomain>,
    pool: Pool,
    kinds: Kinds,
    clock: SharedClock,
}

impl Handlers {
    pub(crate) fn new(item_types: Handle<ItemTypeDomain>, inventories: Handle<InventoryDomain>, pool: Pool, clock: SharedClock) -> Self {
        let kinds = Kinds::new(pool.clone());
        Self { item_types, inventories, pool, kinds, clock }
    }

    /// A connection to read with.
    async fn reader(&self) -> Result<Client, Status> {
        self.pool.get().await.map_err(|error| away(&error))
    }

    /// The kind of an item type; `None` where there is no such type.
    async fn kind(&self, item_type: &ItemTypeId) -> Result<Option<ItemKind>, Status> {
        self.kinds.of(item_type).await.map_err(|error| away(&error))
    }

    /// What a request selects, with what a command needs to know of it.
    async fn selection(&self, named: fields::Item) -> Result<ItemSelection, Status> {
        Ok(match named {
            fields::Item::Unique { owner, item } => ItemSelection::Item { owner, item },
            fields::Item::Stack { item_type, quantity } => {
                let kind = self.kind(&item_type).await?;
                ItemSelection::Stack(StackSelection { item_type, kind, quantity })
            }
        })
    }

    /// How a reservation ended, as far as the tables know.
    async fn reservation_lookup(&self, player: PlayerId, reservation: ReservationId) -> Result<ReservationLookup, Status> {
        let client = self.reader().await?;
        queries::reservation_lookup(&client, player, reservation).await.map_err(|error| away(&error))
    }
}

/// The answer where the database did not.
fn away(error: &idempo_pg::Error) -> Status {
    status::of_error(error, DOMAIN)
}
