//! GrantItem.

use idempo_inventory_domain::inventory::{Action, Command};
use idempo_proto::inventory::v1::{GrantItemRequest, GrantItemResponse};
use idempo_rpc::Violations;
use tonic::{Request, Response, Status};

use super::mutation::Shared;
use super::{Handlers, fields};
use crate::codec::DOMAIN;

const METHOD: &str = "idempo.inventory.v1.InventoryService/GrantItem";

/// Mints a unique item or a quantity into an inventory.
pub(crate) async fn grant_item(handlers: &Handlers, request: Request<GrantItemRequest>) -> Result<Response<GrantItemResponse>, Status> {
    let asked = request.get_ref();
    let mut violations = Violations::new();
    let shared = Shared { request_id: &asked.request_id, etag: "", validate_only: asked.validate_only };
    let attempt = handlers.attempt(&mut violations, METHOD, &request, &shared);
    let player = fields::player(&mut violations, "player", &asked.player);
    let item_type = fields::item_type(&mut violations, "item_type", &asked.item_type);
    // Whether 0 is enough depends on the type.
    let quantity = fields::quantity(&mut violations, "quantity", asked.quantity, 0);
    let reason = fields::reason(&mut violations, &asked.reason);
    let checked = violations.accept(DOMAIN, (player, item_type, quantity, reason));
    let (attempt, (player, item_type, quantity, reason)) = handlers.accept(attempt, checked).await?;
    let kind = handlers.kind(&item_type).await?;
    handlers.submit(attempt, Command { player, action: Action::Grant { item_type, kind, quantity, reason } }).await
}
