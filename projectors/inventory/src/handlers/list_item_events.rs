//! ListItemEvents.

use idempo_ids::ItemId;
use idempo_proto::inventory::v1::{ItemEvent, ListItemEventsRequest, ListItemEventsResponse};
use idempo_rpc::{Deadline, Violations, page, timestamp};
use tonic::{Request, Response, Status};

use super::{Basis, DOMAIN, Handlers, away, cut, item_not_found};
use crate::queries;
use crate::rows::{ItemEventKey, ItemEventRow};

const REQUEST: &str = "idempo.inventory.v1.ListItemEventsRequest";
/// Before the first event: hops begin at 1.
const BEGINNING: (i64, i64) = (0, 0);

/// Lists what happened to a unique item, oldest first.
pub(crate) async fn list_item_events(
    handlers: &Handlers,
    request: Request<ListItemEventsRequest>,
) -> Result<Response<ListItemEventsResponse>, Status> {
    let deadline = Deadline::of(&request);
    let asked = request.get_ref();
    let mut violations = Violations::new();
    let item = violations.name("parent", "items/{item}", &asked.parent).map(|[item]| ItemId::new(item));
    let limit = violations.page_size(asked.page_size);
    let after = after(&mut violations, asked);
    let position = violations.position("min_position", &asked.min_position);
    let (item, limit, after, position) = violations.accept(DOMAIN, (item, limit, after, position))?;
    let reader = handlers.reader_at(Basis::All, &asked.min_position, &position, deadline).await?;
    // One more than the page, to know whether there is a next one.
    let mut events = queries::list_item_events(&reader.client, item, after, i64::from(limit) + 1).await.map_err(|error| away(&error))?;
    if events.is_empty() && after == BEGINNING {
        return Err(item_not_found(item));
    }
    let has_more = cut(&mut events, limit);
    let next_page_token = match events.last() {
        Some((last, _)) if has_more => page::encode(REQUEST, asked, &[last.hop.to_be_bytes(), last.ordinal.to_be_bytes()].concat()),
        _ => String::new(),
    };
    let events = events.into_iter().map(event_message).collect();
    Ok(Response::new(ListItemEventsResponse { events, next_page_token, freshness: reader.freshness() }))
}

/// The place that the page begins after.
fn after(violations: &mut Violations, asked: &ListItemEventsRequest) -> Option<(i64, i64)> {
    let Some(key) = violations.page_token(REQUEST, asked, &asked.page_token)? else { return Some(BEGINNING) };
    let after = key.split_first_chunk::<8>().and_then(|(hop, ordinal)| {
        let ordinal = <[u8; 8]>::try_from(ordinal).ok()?;
        Some((i64::from_be_bytes(*hop), i64::from_be_bytes(ordinal)))
    });
    violations.check(after.is_some(), "page_token", || "must be the next_page_token of a response".to_owned());
    after
}

fn event_message((key, row): (ItemEventKey, ItemEventRow)) -> ItemEvent {
    ItemEvent {
        event_id: row.event_id.to_string(),
        event_type: type_name(row.event_type).to_owned(),
        player: format!("players/{}", row.player),
        counterparty: row.counterparty.map(|player| format!("players/{player}")).unwrap_or_default(),
        hop: key.hop,
        create_time: Some(timestamp::to_proto(row.decided_at)),
    }
}

/// The name of an event type: its message in `idempo.event.v1`.
const fn type_name(event_type: i16) -> &'static str {
    match event_type {
        201 => "ItemGranted",
        202 => "ItemReserved",
        203 => "ReservationReleased",
        204 => "ReservationExpired",
        205 => "ItemSent",
        206 => "ItemReceived",
        207 => "ItemConsumed",
        208 => "ItemEquipped",
        209 => "ItemUnequipped",
        _ => "",
    }
}
