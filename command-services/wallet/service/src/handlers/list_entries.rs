//! ListEntries.

use idempo_proto::wallet::v1::{EntryKind, ListEntriesRequest, ListEntriesResponse};
use idempo_rpc::{Violations, page};
use tonic::{Request, Response, Status};

use super::{Handlers, away, fields, wallet_not_found};
use crate::codec::DOMAIN;
use crate::queries::{self, EntryQuery};

const REQUEST: &str = "idempo.wallet.v1.ListEntriesRequest";

/// Lists a wallet's entries, newest first.
pub(crate) async fn list_entries(
    handlers: &Handlers,
    request: Request<ListEntriesRequest>,
) -> Result<Response<ListEntriesResponse>, Status> {
    let asked = request.get_ref();
    let mut violations = Violations::new();
    let player = fields::wallet(&mut violations, "parent", &asked.parent);
    let limit = violations.page_size(asked.page_size);
    let before = before(&mut violations, asked);
    let filter = filter(&mut violations, asked);
    let position = violations.position("min_position", &asked.min_position);
    let (player, limit, before, filter, position) = violations.accept(DOMAIN, (player, limit, before, filter, position))?;
    let client = handlers.reader_at(&asked.min_position, &position).await?;
    // One more than the page, to know whether there is a next one.
    let query = EntryQuery { player, before, limit: i64::from(limit) + 1, ..filter };
    let mut entries = queries::entries(&client, &query).await.map_err(|error| away(&error))?;
    if entries.is_empty() && queries::opened_at(&client, player).await.map_err(|error| away(&error))?.is_none() {
        return Err(wallet_not_found(player));
    }
    let size = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = entries.len() > size;
    entries.truncate(size);
    let next_page_token = match entries.last() {
        Some((last, _)) if has_more => page::encode(REQUEST, asked, &last.to_be_bytes()),
        _ => String::new(),
    };
    let entries = entries.into_iter().map(|(_, entry)| entry).collect();
    Ok(Response::new(ListEntriesResponse { entries, next_page_token }))
}

/// The version before which the page begins.
fn before(violations: &mut Violations, asked: &ListEntriesRequest) -> Option<i64> {
    let Some(last) = violations.page_token(REQUEST, asked, &asked.page_token)? else { return Some(i64::MAX) };
    let version = <[u8; 8]>::try_from(last).ok().map(i64::from_be_bytes);
    violations.check(version.is_some(), "page_token", || "must be the next_page_token of a response".to_owned());
    version
}

fn filter(violations: &mut Violations, asked: &ListEntriesRequest) -> Option<EntryQuery> {
    let Some(filter) = asked.filter else { return Some(EntryQuery::default()) };
    let asset = fields::optional_asset(violations, "filter.asset", filter.asset);
    let kind = violations.optional_enumeration::<EntryKind>("filter.kind", filter.kind);
    let start = violations.optional_timestamp("filter.start_time", filter.start_time.as_ref());
    let end = violations.optional_timestamp("filter.end_time", filter.end_time.as_ref());
    let query = EntryQuery { asset: asset?, kind: kind?, start: start?, end: end?, ..EntryQuery::default() };
    let in_order = !matches!((query.start, query.end), (Some(start), Some(end)) if start >= end);
    violations.check(in_order, "filter.end_time", || "must be after filter.start_time".to_owned()).then_some(query)
}
