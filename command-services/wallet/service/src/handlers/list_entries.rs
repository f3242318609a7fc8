//! ListEntries.

use idempo_proto::wallet::v1::{EntryKind, ListEntriesRequest, ListEntriesResponse};
use idempo_rpc::Violations;
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
    let page = violations.numbered_page(REQUEST, asked, asked.page_size, &asked.page_token);
    let filter = filter(&mut violations, asked);
    let position = violations.position("min_position", &asked.min_position);
    let (player, page, filter, position) = violations.accept(DOMAIN, (player, page, filter, position))?;
    let client = handlers.reader_at(&asked.min_position, &position).await?;
    let query = EntryQuery { player, before: page.last_or(i64::MAX), limit: page.wanted(), ..filter };
    let found = queries::entries(&client, &query).await.map_err(|error| away(&error))?;
    if found.is_empty() && queries::opened_at(&client, player).await.map_err(|error| away(&error))?.is_none() {
        return Err(wallet_not_found(player));
    }
    let (entries, next_page_token) = page.cut(REQUEST, asked, found);
    Ok(Response::new(ListEntriesResponse { entries, next_page_token }))
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
