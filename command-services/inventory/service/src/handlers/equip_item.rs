//! EquipItem.

use idempo_inventory_domain::inventory::{Action, Command};
use idempo_proto::inventory::v1::{EquipItemRequest, EquipItemResponse};
use idempo_rpc::Violations;
use tonic::{Request, Response, Status};

use super::mutation::Shared;
use super::{Handlers, away, fields};
use crate::codec::DOMAIN;
use crate::queries;

const METHOD: &str = "idempo.inventory.v1.InventoryService/EquipItem";

/// Equips a weapon.
pub(crate) async fn equip_item(handlers: &Handlers, request: Request<EquipItemRequest>) -> Result<Response<EquipItemResponse>, Status> {
    let asked = request.get_ref();
    let mut violations = Violations::new();
    let shared = Shared { request_id: &asked.request_id, etag: "", validate_only: asked.validate_only };
    let attempt = handlers.attempt(&mut violations, METHOD, &request, &shared);
    let item = fields::item(&mut violations, "item", &asked.item);
    let checked = violations.accept(DOMAIN, (item,));
    let (attempt, ((player, item),)) = handlers.accept(attempt, checked).await?;
    let client = handlers.reader().await?;
    let kind = queries::item_type_of(&client, item).await.map_err(|error| away(&error))?.map(|found| found.kind);
    drop(client);
    handlers.submit(attempt, Command { player, action: Action::Equip { item, kind } }).await
}
