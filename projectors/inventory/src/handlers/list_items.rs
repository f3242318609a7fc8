//! ListItems.

use idempo_ids::{ItemId, PlayerId};
use idempo_proto::event::v1::ItemKind;
use idempo_proto::inventory::v1::{ItemState, ListItemsRequest, ListItemsResponse};
use idempo_rpc::{Deadline, Violations, name, page};
use tonic::{Request, Response, Status};

use super::{Basis, DOMAIN, Handlers, away, cut, item_message};
use crate::queries::{self, Holding, HoldingFilter, HoldingKey};

const REQUEST: &str = "idempo.inventory.v1.ListItemsRequest";
/// The first byte of a page token's key: what the last thing on the page was.
const ITEM: u8 = 1;
const STACK: u8 = 2;

/// Lists what a player has. A player without anything, or of whom nothing is known, has an empty list.
pub(crate) async fn list_items(handlers: &Handlers, request: Request<ListItemsRequest>) -> Result<Response<ListItemsResponse>, Status> {
    let deadline = Deadline::of(&request);
    let asked = request.get_ref();
    let mut violations = Violations::new();
    let player = violations.name("parent", "players/{player}", &asked.parent).map(|[player]| PlayerId::new(player));
    let limit = violations.page_size(asked.page_size);
    let after = after(&mut violations, asked);
    let filter = filter(&mut violations, asked);
    let position = violations.position("min_position", &asked.min_position);
    let (player, limit, after, filter, position) = violations.accept(DOMAIN, (player, limit, after, filter, position))?;
    let reader = handlers.reader_at(Basis::Player(player), &asked.min_position, &position, deadline).await?;
    // One more than the page, to know whether there is a next one.
    let mut holdings =
        queries::list_items(&reader.client, player, &filter, after.as_ref(), i64::from(limit) + 1).await.map_err(|error| away(&error))?;
    let has_more = cut(&mut holdings, limit);
    let next_page_token = match holdings.last() {
        Some(last) if has_more => page::encode(REQUEST, asked, &key_of(last)),
        _ => String::new(),
    };
    let items = holdings.into_iter().map(item_message).collect();
    Ok(Response::new(ListItemsResponse { items, next_page_token, freshness: reader.freshness() }))
}

fn key_of(last: &Holding) -> Vec<u8> {
    match &last.item {
        Some(item) => [&[ITEM], item.bytes().as_slice()].concat(),
        None => [&[STACK], last.item_type.as_bytes()].concat(),
    }
}

/// What the page begins after.
fn after(violations: &mut Violations, asked: &ListItemsRequest) -> Option<Option<HoldingKey>> {
    let Some(key) = violations.page_token(REQUEST, asked, &asked.page_token)? else { return Some(None) };
    let after = match key.split_first() {
        Some((&ITEM, id)) => ItemId::from_slice(id).ok().map(HoldingKey::Item),
        Some((&STACK, slug)) => str::from_utf8(slug).ok().filter(|slug| name::is_slug(slug)).map(|slug| HoldingKey::Stack(slug.to_owned())),
        _ => None,
    };
    violations.check(after.is_some(), "page_token", || "must be the next_page_token of a response".to_owned());
    after.map(Some)
}

fn filter(violations: &mut Violations, asked: &ListItemsRequest) -> Option<HoldingFilter> {
    let Some(filter) = &asked.filter else { return Some(HoldingFilter::default()) };
    let item_type = if filter.item_type.is_empty() {
        Some(None)
    } else {
        violations.slug_name("filter.item_type", "itemTypes/{item_type}", &filter.item_type).map(Some)
    };
    let state = violations.optional_enumeration::<ItemState>("filter.state", filter.state);
    let kind = violations.optional_enumeration::<ItemKind>("filter.kind", filter.kind);
    // The numbers at rest are those of the API.
    let number = |number: i32| i16::try_from(number).ok();
    Some(HoldingFilter {
        item_type: item_type?,
        state: state?.and_then(|state| number(state.into())),
        kind: kind?.and_then(|kind| number(kind.into())),
    })
}
