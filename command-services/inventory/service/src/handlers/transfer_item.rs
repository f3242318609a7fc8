//! TransferItem.

use idempo_ids::{PlayerId, ReservationId};
use idempo_inventory_domain::inventory::{Action, Command, TransferSelection};
use idempo_proto::inventory::v1::transfer_item_request::What;
use idempo_proto::inventory::v1::{TransferItemRequest, TransferItemResponse};
use idempo_rpc::Violations;
use tonic::{Request, Response, Status};

use super::mutation::Shared;
use super::{Handlers, fields};
use crate::codec::DOMAIN;

const METHOD: &str = "idempo.inventory.v1.InventoryService/TransferItem";

/// What is to be transferred, as the request names it.
enum Named {
    Free(fields::Item),
    Reserved(PlayerId, ReservationId),
}

/// Moves an item, a quantity, or what a reservation holds, to another player.
pub(crate) async fn transfer_item(
    handlers: &Handlers,
    request: Request<TransferItemRequest>,
) -> Result<Response<TransferItemResponse>, Status> {
    let asked = request.get_ref();
    let mut violations = Violations::new();
    let shared = Shared { request_id: &asked.request_id, etag: "", validate_only: asked.validate_only };
    let attempt = handlers.attempt(&mut violations, METHOD, &request, &shared);
    let player = fields::player(&mut violations, "from_player", &asked.from_player);
    let to = fields::other_player(&mut violations, "to_player", &asked.to_player, player);
    let what = match &asked.what {
        Some(What::Item(item)) => fields::unique(&mut violations, item).map(Named::Free),
        Some(What::Stack(stack)) => fields::stack(&mut violations, stack).map(Named::Free),
        Some(What::Reservation(name)) => {
            fields::reservation(&mut violations, "reservation", name).map(|(owner, reservation)| Named::Reserved(owner, reservation))
        }
        None => fields::required(&mut violations, "item, stack, reservation"),
    };
    let checked = violations.accept(DOMAIN, (player, to, what));
    let (attempt, (player, to, what)) = handlers.accept(attempt, checked).await?;
    let what = match what {
        Named::Free(item) => TransferSelection::Free(handlers.selection(item).await?),
        Named::Reserved(owner, reservation) => {
            let lookup = handlers.reservation_lookup(player, reservation).await?;
            TransferSelection::Reserved { owner, reservation, lookup }
        }
    };
    handlers.submit(attempt, Command { player, action: Action::Transfer { to, what } }).await
}
