//! GetItemType.

use idempo_proto::inventory::v1::{GetItemTypeRequest, GetItemTypeResponse};
use idempo_rpc::{Violations, refusal};
use tonic::{Request, Response, Status};

use super::{Handlers, away, fields};
use crate::codec::{DOMAIN, item_type_message, item_type_name};
use crate::queries;

/// Reads an item type.
pub(crate) async fn get_item_type(
    handlers: &Handlers,
    request: Request<GetItemTypeRequest>,
) -> Result<Response<GetItemTypeResponse>, Status> {
    let asked = request.get_ref();
    let mut violations = Violations::new();
    let name = fields::item_type(&mut violations, "name", &asked.name);
    let (item_type,) = violations.accept(DOMAIN, (name,))?;
    let client = handlers.reader().await?;
    match queries::item_type(&client, &item_type).await.map_err(|error| away(&error))? {
        Some(found) => Ok(Response::new(GetItemTypeResponse { item_type: Some(item_type_message(&found)) })),
        None => Err(refusal::not_found(DOMAIN, "ITEM_TYPE_NOT_FOUND", "item type", &item_type_name(&item_type)).into_status()),
    }
}
