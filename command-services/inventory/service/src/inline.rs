//! The inventory's tables as they are kept in the transaction of the events: gathered here by columns, written by `inventory.append` and
//! `inventory.append_item_types`.

use idempo_decider::Timestamp;
use idempo_event_store::{InlineProjection, Parameter, table_rows};
use idempo_ids::Uuid;

/// The inline projection of inventories: the types of unique items, and reservations.
#[derive(Debug)]
pub struct Stock;

impl InlineProjection for Stock {
    type Rows = StockRows;

    fn statement() -> &'static str {
        include_str!("sql/append.sql")
    }

    fn begin(rows: &mut StockRows, command: i32) {
        rows.command = command;
    }

    fn parameters(rows: StockRows) -> Vec<Parameter> {
        let StockRows { command: _, minted, made, ended } = rows;
        [minted.columns(), made.columns(), ended.columns()].into_iter().flatten().collect()
    }
}

/// The inline projection of item types: each as it was created.
#[derive(Debug)]
pub struct Catalogue;

impl InlineProjection for Catalogue {
    type Rows = CatalogueRows;

    fn statement() -> &'static str {
        include_str!("sql/append_item_types.sql")
    }

    fn begin(rows: &mut CatalogueRows, command: i32) {
        rows.command = command;
    }

    fn parameters(rows: CatalogueRows) -> Vec<Parameter> {
        rows.created.columns()
    }
}

table_rows! {
    /// Rows of `inventory.unique_items`.
    MintedItems of
    /// A minted unique item.
    MintedItemRow {
        item: Uuid,
        item_type: String,
    }
}

table_rows! {
    /// Rows of `inventory.reservations`.
    MadeReservations of
    /// A reservation that was made.
    MadeReservationRow {
        reservation: Uuid,
        player: Uuid,
        expires_at: Timestamp,
    }
}

table_rows! {
    /// Changes of rows of `inventory.reservations`.
    EndedReservations of
    /// How a reservation ended.
    EndedReservationRow {
        reservation: Uuid,
        state: i16,
        ended_at: Timestamp,
    }
}

table_rows! {
    /// Rows of `inventory.item_types`.
    CreatedItemTypes of
    /// A created item type.
    CreatedItemTypeRow {
        item_type: String,
        display_name: String,
        kind: i16,
        rarity: i16,
        weapon_bonus: i16,
        equippable: bool,
    }
}

/// The rows of one batch of commands on inventories.
#[derive(Debug, Default)]
pub struct StockRows {
    command: i32,
    minted: MintedItems,
    made: MadeReservations,
    ended: EndedReservations,
}

impl StockRows {
    pub(crate) fn minted_item(&mut self, row: MintedItemRow) {
        self.minted.push(self.command, row);
    }

    pub(crate) fn made_reservation(&mut self, row: MadeReservationRow) {
        self.made.push(self.command, row);
    }

    pub(crate) fn ended_reservation(&mut self, row: EndedReservationRow) {
        self.ended.push(self.command, row);
    }
}

/// The rows of one batch of commands on item types.
#[derive(Debug, Default)]
pub struct CatalogueRows {
    command: i32,
    created: CreatedItemTypes,
}

impl CatalogueRows {
    pub(crate) fn created_item_type(&mut self, row: CreatedItemTypeRow) {
        self.created.push(self.command, row);
    }
}
