//! GetHold.

use idempo_proto::wallet::v1::{GetHoldRequest, GetHoldResponse};
use idempo_rpc::{Violations, refusal};
use tonic::{Request, Response, Status};

use super::{Handlers, away, fields};
use crate::codec::{DOMAIN, hold_name};
use crate::queries;

/// Reads a hold.
pub(crate) async fn get_hold(handlers: &Handlers, request: Request<GetHoldRequest>) -> Result<Response<GetHoldResponse>, Status> {
    let asked = request.get_ref();
    let mut violations = Violations::new();
    let name = fields::hold(&mut violations, "name", &asked.name);
    let position = violations.position("min_position", &asked.min_position);
    let ((player, hold), position) = violations.accept(DOMAIN, (name, position))?;
    let client = handlers.reader_at(&asked.min_position, &position).await?;
    match queries::hold(&client, player, hold).await.map_err(|error| away(&error))? {
        Some(found) => Ok(Response::new(GetHoldResponse { hold: Some(found) })),
        None => Err(refusal::not_found(DOMAIN, "HOLD_NOT_FOUND", "hold", &hold_name(player, hold)).into_status()),
    }
}
