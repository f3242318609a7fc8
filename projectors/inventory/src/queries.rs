//! Reads of the read model.

use std::collections::BTreeMap;

use idempo_ids::{EventId, ItemId, PlayerId, ReservationId, Uuid};
use idempo_pg::{Client, Error, Pool, classify};
use jiff::Timestamp;
use tokio_postgres::Row;

use crate::rows::{ItemEventKey, ItemEventRow, LoadoutRow, Rows, StackRow};
use crate::writes::{ItemRow, ItemState, StackKey};

/// What a player has of something: a unique item, or a stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holding {
    /// The unique item; `None` for a stack.
    pub(crate) item: Option<ItemId>,
    /// The type.
    pub(crate) item_type: String,
    /// Whose it is, or was last.
    pub(crate) owner: PlayerId,
    /// How many, reserved ones included: 1 for a unique item.
    pub(crate) quantity: i64,
    /// How many of them are reserved.
    pub(crate) reserved: i64,
    /// The number of its state at rest: see [`ItemState::number`]. 1 for a stack.
    pub(crate) state: i16,
    /// Whether it is equipped.
    pub(crate) equipped: bool,
    /// The hop; 0 for a stack.
    pub(crate) hop: i64,
    /// When it last changed.
    pub(crate) updated_at: Timestamp,
}

/// The last thing on a page of holdings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HoldingKey {
    /// A unique item.
    Item(ItemId),
    /// A stack.
    Stack(String),
}

/// Which holdings are wanted: all conditions that are given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HoldingFilter {
    /// Of this type.
    pub(crate) item_type: Option<String>,
    /// In the state with this number; all but destroyed ones otherwise.
    pub(crate) state: Option<i16>,
    /// Of the kind with this number: 1 unique, 2 stackable.
    pub(crate) kind: Option<i16>,
}

const LIST_ITEMS: &str = include_str!("sql/list_items.sql");
const GET_ITEM: &str = include_str!("sql/get_item.sql");
const LIST_ITEM_EVENTS: &str = include_str!("sql/list_item_events.sql");
/// What the service's reads run.
pub(crate) const READS: [&str; 3] = [LIST_ITEMS, GET_ITEM, LIST_ITEM_EVENTS];

/// A player's holdings after `after`, at most `limit`: unique items by id, then stacks by type.
///
/// # Errors
/// [`idempo_pg::Error`].
pub(crate) async fn list_items(
    client: &Client,
    player: PlayerId,
    filter: &HoldingFilter,
    after: Option<&HoldingKey>,
    limit: i64,
) -> Result<Vec<Holding>, Error> {
    let (after_item, after_stack) = match after {
        None => (None, None),
        Some(HoldingKey::Item(item)) => (Some(item.uuid()), None),
        Some(HoldingKey::Stack(item_type)) => (None, Some(item_type)),
    };
    let statement = client.prepare_cached(LIST_ITEMS).await?;
    let HoldingFilter { item_type, state, kind } = filter;
    let rows = client.query(&statement, &[&player.uuid(), &after_item, &after_stack, item_type, state, kind, &limit]).await?;
    rows.iter().map(holding).collect::<Result<_, _>>().map_err(classify)
}

/// A unique item, whoever has it.
///
/// # Errors
/// [`idempo_pg::Error`].
pub(crate) async fn get_item(client: &Client, item: ItemId) -> Result<Option<Holding>, Error> {
    let statement = client.prepare_cached(GET_ITEM).await?;
    let row = client.query_opt(&statement, &[&item.uuid()]).await?;
    row.as_ref().map(holding).transpose().map_err(classify)
}

/// An item's history after the place `after` (hop and ordinal; zeros for the beginning), at most `limit` events, oldest first.
///
/// # Errors
/// [`idempo_pg::Error`].
pub(crate) async fn list_item_events(
    client: &Client,
    item: ItemId,
    after: (i64, i64),
    limit: i64,
) -> Result<Vec<(ItemEventKey, ItemEventRow)>, Error> {
    let statement = client.prepare_cached(LIST_ITEM_EVENTS).await?;
    let rows = client.query(&statement, &[&item.uuid(), &after.0, &after.1, &limit]).await?;
    let read = |row: &Row| Ok((ItemEventKey { item, hop: row.try_get(0)?, ordinal: row.try_get(1)? }, item_event(row, 2)?));
    rows.iter().map(read).collect::<Result<_, _>>().map_err(classify)
}

/// Every row of the read model, as of one moment: to compare with [`crate::fold`]. The pool's search path names the generation. It holds all rows in
/// memory, so it is for checks of what is small.
///
/// # Errors
/// [`idempo_pg::Error`].
pub async fn read_rows(pool: &Pool) -> Result<Rows, Error> {
    let mut client = pool.get().await?;
    let transaction =
        client.build_transaction().isolation_level(tokio_postgres::IsolationLevel::RepeatableRead).read_only(true).start().await?;
    let items = transaction.query(include_str!("sql/all_items.sql"), &[]).await?;
    let stacks = transaction.query(include_str!("sql/all_stacks.sql"), &[]).await?;
    let loadouts = transaction.query(include_str!("sql/all_loadouts.sql"), &[]).await?;
    let events = transaction.query(include_str!("sql/all_item_events.sql"), &[]).await?;
    transaction.commit().await?;
    let read = || {
        Ok(Rows {
            items: items.iter().map(item_row).collect::<Result<_, _>>()?,
            stacks: stacks.iter().map(stack_row).collect::<Result<_, _>>()?,
            loadouts: loadouts.iter().map(loadout_row).collect::<Result<_, _>>()?,
            item_events: events.iter().map(item_event_row).collect::<Result<BTreeMap<_, _>, _>>()?,
        })
    };
    read().map_err(classify)
}

fn holding(row: &Row) -> Result<Holding, tokio_postgres::Error> {
    Ok(Holding {
        item: row.try_get::<_, Option<Uuid>>(0)?.map(ItemId::new),
        item_type: row.try_get(1)?,
        owner: PlayerId::new(row.try_get(2)?),
        quantity: row.try_get(3)?,
        reserved: row.try_get(4)?,
        state: row.try_get(5)?,
        equipped: row.try_get(6)?,
        hop: row.try_get(7)?,
        updated_at: row.try_get(8)?,
    })
}

fn item_row(row: &Row) -> Result<(ItemId, ItemRow), tokio_postgres::Error> {
    let reservation: Option<Uuid> = row.try_get(4)?;
    let state = match (row.try_get::<_, i16>(3)?, reservation) {
        (_, Some(reservation)) => ItemState::Reserved(ReservationId::new(reservation)),
        (3, None) => ItemState::Destroyed,
        (_, None) => ItemState::Owned,
    };
    let item = ItemRow {
        item_type: row.try_get(1)?,
        owner: PlayerId::new(row.try_get(2)?),
        state,
        hop: row.try_get(5)?,
        revision: row.try_get(6)?,
        updated_at: row.try_get(7)?,
    };
    Ok((ItemId::new(row.try_get(0)?), item))
}

fn stack_row(row: &Row) -> Result<(StackKey, StackRow), tokio_postgres::Error> {
    let key = StackKey { player: PlayerId::new(row.try_get(0)?), item_type: row.try_get(1)? };
    Ok((key, StackRow { quantity: row.try_get(2)?, reserved: row.try_get(3)?, updated_at: row.try_get(4)? }))
}

fn loadout_row(row: &Row) -> Result<((PlayerId, ItemId), LoadoutRow), tokio_postgres::Error> {
    let key = (PlayerId::new(row.try_get(0)?), ItemId::new(row.try_get(1)?));
    Ok((key, LoadoutRow { equipped: row.try_get(2)?, changed_at: row.try_get(3)? }))
}

fn item_event_row(row: &Row) -> Result<(ItemEventKey, ItemEventRow), tokio_postgres::Error> {
    let key = ItemEventKey { item: ItemId::new(row.try_get(0)?), hop: row.try_get(1)?, ordinal: row.try_get(2)? };
    Ok((key, item_event(row, 3)?))
}

/// The columns of an event from column `first` on.
fn item_event(row: &Row, first: usize) -> Result<ItemEventRow, tokio_postgres::Error> {
    Ok(ItemEventRow {
        event_id: EventId::new(row.try_get(first)?),
        event_type: row.try_get(first + 1)?,
        player: PlayerId::new(row.try_get(first + 2)?),
        counterparty: row.try_get::<_, Option<Uuid>>(first + 3)?.map(PlayerId::new),
        decided_at: row.try_get(first + 4)?,
    })
}
