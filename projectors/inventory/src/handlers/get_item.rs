//! GetItem.

use idempo_ids::{ItemId, PlayerId};
use idempo_proto::inventory::v1::{GetItemRequest, GetItemResponse};
use idempo_rpc::{Deadline, Violations};
use tonic::{Request, Response, Status};

use super::{Basis, DOMAIN, Handlers, away, item_message, item_not_found};
use crate::queries;

/// Reads one unique item, whoever has it, or only if a player has it.
pub(crate) async fn get_item(handlers: &Handlers, request: Request<GetItemRequest>) -> Result<Response<GetItemResponse>, Status> {
    let deadline = Deadline::of(&request);
    let asked = request.get_ref();
    let mut violations = Violations::new();
    let named = named(&mut violations, &asked.name);
    let position = violations.position("min_position", &asked.min_position);
    let ((item, owner), position) = violations.accept(DOMAIN, (named, position))?;
    let reader = handlers.reader_at(Basis::All, &asked.min_position, &position, deadline).await?;
    let holding = queries::get_item(&reader.client, item).await.map_err(|error| away(&error))?;
    // Of somebody else's item under this name nothing is said, not even that it is there.
    let holding = holding.filter(|holding| owner.is_none_or(|owner| owner == holding.owner)).ok_or_else(|| item_not_found(item))?;
    Ok(Response::new(GetItemResponse { item: Some(item_message(holding)), freshness: reader.freshness() }))
}

/// The item that a name means, and the player who must have it.
fn named(violations: &mut Violations, name: &str) -> Option<(ItemId, Option<PlayerId>)> {
    if name.starts_with("players/") {
        let [player, item] = violations.name("name", "players/{player}/items/{item}", name)?;
        return Some((ItemId::new(item), Some(PlayerId::new(player))));
    }
    let [item] = violations.name("name", "items/{item}", name)?;
    Some((ItemId::new(item), None))
}
