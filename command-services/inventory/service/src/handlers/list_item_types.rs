//! ListItemTypes.

use idempo_inventory_domain::item_type::ItemTypeId;
use idempo_proto::inventory::v1::{ListItemTypesRequest, ListItemTypesResponse};
use idempo_rpc::{Violations, page};
use tonic::{Request, Response, Status};

use super::{Handlers, away};
use crate::codec::{DOMAIN, item_type_message};
use crate::queries;

const REQUEST: &str = "idempo.inventory.v1.ListItemTypesRequest";

/// Lists the item types by id.
pub(crate) async fn list_item_types(
    handlers: &Handlers,
    request: Request<ListItemTypesRequest>,
) -> Result<Response<ListItemTypesResponse>, Status> {
    let asked = request.get_ref();
    let mut violations = Violations::new();
    let limit = violations.page_size(asked.page_size);
    let after = after(&mut violations, asked);
    let (limit, after) = violations.accept(DOMAIN, (limit, after))?;
    let client = handlers.reader().await?;
    // One more than the page, to know whether there is a next one.
    let mut found = queries::item_types(&client, &after, i64::from(limit) + 1).await.map_err(|error| away(&error))?;
    let size = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = found.len() > size;
    found.truncate(size);
    let next_page_token = match found.last() {
        Some(last) if has_more => page::encode(REQUEST, asked, last.id.as_str().as_bytes()),
        _ => String::new(),
    };
    Ok(Response::new(ListItemTypesResponse { item_types: found.iter().map(item_type_message).collect(), next_page_token }))
}

/// The id after which the page begins; empty for the first page.
fn after(violations: &mut Violations, asked: &ListItemTypesRequest) -> Option<String> {
    let Some(last) = violations.page_token(REQUEST, asked, &asked.page_token)? else { return Some(String::new()) };
    let last = String::from_utf8(last).ok().filter(|last| ItemTypeId::parse(last).is_some());
    violations.check(last.is_some(), "page_token", || "must be the next_page_token of a response".to_owned());
    last
}
