//! ConsumeItem.

use idempo_inventory_domain::inventory::{Action, Command};
use idempo_proto::inventory::v1::consume_item_request::What;
use idempo_proto::inventory::v1::{ConsumeItemRequest, ConsumeItemResponse};
use idempo_rpc::Violations;
use tonic::{Request, Response, Status};

use super::mutation::Shared;
use super::{Handlers, fields};
use crate::codec::DOMAIN;

const METHOD: &str = "idempo.inventory.v1.InventoryService/ConsumeItem";

/// Destroys an item or a quantity by use.
pub(crate) async fn consume_item(
    handlers: &Handlers,
    request: Request<ConsumeItemRequest>,
) -> Result<Response<ConsumeItemResponse>, Status> {
    let asked = request.get_ref();
    let mut violations = Violations::new();
    let shared = Shared { request_id: &asked.request_id, etag: "", validate_only: asked.validate_only };
    let attempt = handlers.attempt(&mut violations, METHOD, &request, &shared);
    let player = fields::player(&mut violations, "player", &asked.player);
    let what = match &asked.what {
        Some(What::Item(item)) => fields::unique(&mut violations, item),
        Some(What::Stack(stack)) => fields::stack(&mut violations, stack),
        None => fields::required(&mut violations, "item, stack"),
    };
    let reason = fields::reason(&mut violations, &asked.reason);
    let checked = violations.accept(DOMAIN, (player, what, reason));
    let (attempt, (player, what, reason)) = handlers.accept(attempt, checked).await?;
    let what = handlers.selection(what).await?;
    handlers.submit(attempt, Command { player, action: Action::Consume { what, reason } }).await
}
