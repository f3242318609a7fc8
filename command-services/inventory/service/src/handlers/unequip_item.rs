//! UnequipItem.

use idempo_inventory_domain::inventory::{Action, Command};
use idempo_proto::inventory::v1::{UnequipItemRequest, UnequipItemResponse};
use idempo_rpc::Violations;
use tonic::{Request, Response, Status};

use super::mutation::Shared;
use super::{Handlers, fields};
use crate::codec::DOMAIN;

const METHOD: &str = "idempo.inventory.v1.InventoryService/UnequipItem";

/// Puts the equipped weapon away.
pub(crate) async fn unequip_item(
    handlers: &Handlers,
    request: Request<UnequipItemRequest>,
) -> Result<Response<UnequipItemResponse>, Status> {
    let asked = request.get_ref();
    let mut violations = Violations::new();
    let shared = Shared { request_id: &asked.request_id, etag: "", validate_only: asked.validate_only };
    let attempt = handlers.attempt(&mut violations, METHOD, &request, &shared);
    let player = fields::player(&mut violations, "player", &asked.player);
    let checked = violations.accept(DOMAIN, (player,));
    let (attempt, (player,)) = handlers.accept(attempt, checked).await?;
    handlers.submit(attempt, Command { player, action: Action::Unequip }).await
}
