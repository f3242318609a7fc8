//! Requests to the inventory service and its read model.

use anyhow::{Context as _, Result};
use idempo_proto::event::v1::{ItemKind, Rarity};
use idempo_proto::inventory::v1 as api;
use tonic::Status;

use crate::world::World;

impl World {
    /// Creates a unique item type; its name.
    ///
    /// # Errors
    /// When the service refuses or is away.
    pub async fn item_type(&self) -> Result<String> {
        let name = format!("itemTypes/sword_{}", self.id().simple());
        let item_type = api::ItemType {
            name: name.clone(),
            display_name: "A sword".to_owned(),
            kind: ItemKind::Unique.into(),
            rarity: Rarity::Rare.into(),
            weapon_bonus: 3,
            equippable: true,
        };
        let request = api::CreateItemTypeRequest { request_id: self.request_id(), item_type: Some(item_type), validate_only: false };
        self.inventories()?.create_item_type(request).await?;
        Ok(name)
    }

    /// A player without anything: `players/{player_id}`.
    #[must_use]
    pub fn player(&self) -> String {
        format!("players/{}", self.id())
    }

    /// A request to grant one item, with a new key.
    #[must_use]
    pub fn grant_item(&self, player: &str, item_type: &str) -> api::GrantItemRequest {
        api::GrantItemRequest {
            request_id: self.request_id(),
            player: player.to_owned(),
            item_type: item_type.to_owned(),
            quantity: 1,
            ..Default::default()
        }
    }

    /// A request to transfer a unique item, with a new key.
    #[must_use]
    pub fn transfer_item(&self, from: &str, to: &str, item: &str) -> api::TransferItemRequest {
        api::TransferItemRequest {
            request_id: self.request_id(),
            from_player: from.to_owned(),
            to_player: to.to_owned(),
            what: Some(api::transfer_item_request::What::Item(item.to_owned())),
            validate_only: false,
        }
    }

    /// What a player has according to the read model, at `min_position` or later.
    ///
    /// # Errors
    /// The service's refusal, or that it is away.
    pub async fn items(&self, player: &str, min_position: &str) -> Result<api::ListItemsResponse, Status> {
        let request = api::ListItemsRequest { parent: player.to_owned(), min_position: min_position.to_owned(), ..Default::default() };
        let mut queries = self.queries().map_err(|error| Status::internal(error.to_string()))?;
        Ok(queries.list_items(request).await?.into_inner())
    }

    /// Grants one item of a type to a player; the item's name and the position.
    ///
    /// # Errors
    /// When the service refuses or is away.
    pub async fn item(&self, player: &str, item_type: &str) -> Result<(String, String)> {
        let granted = self.inventories()?.grant_item(self.grant_item(player, item_type)).await.context("granting an item")?.into_inner();
        Ok((granted.item, granted.position))
    }
}
