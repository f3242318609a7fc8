//! ReserveItem.

use idempo_inventory_domain::inventory::{Action, Command, RESERVATION_TTL_MAX_MS, RESERVATION_TTL_MIN_MS};
use idempo_proto::inventory::v1::reserve_item_request::What;
use idempo_proto::inventory::v1::{ReserveItemRequest, ReserveItemResponse};
use idempo_rpc::Violations;
use tonic::{Request, Response, Status};

use super::mutation::Shared;
use super::{Handlers, fields};
use crate::codec::DOMAIN;

const METHOD: &str = "idempo.inventory.v1.InventoryService/ReserveItem";

/// Reserves an item or a quantity.
pub(crate) async fn reserve_item(
    handlers: &Handlers,
    request: Request<ReserveItemRequest>,
) -> Result<Response<ReserveItemResponse>, Status> {
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
    let ttl_ms = violations.int("ttl_ms", asked.ttl_ms, RESERVATION_TTL_MIN_MS..=RESERVATION_TTL_MAX_MS);
    let reason = fields::reason(&mut violations, &asked.reason);
    let checked = violations.accept(DOMAIN, (player, what, ttl_ms, reason));
    let (attempt, (player, what, ttl_ms, reason)) = handlers.accept(attempt, checked).await?;
    let what = handlers.selection(what).await?;
    handlers.submit(attempt, Command { player, action: Action::Reserve { what, ttl_ms, reason } }).await
}
