//! Malformed requests: each violates the bounds of one field, which the answer has to name.

use idempo_proto::event::v1::Asset;
use idempo_proto::inventory::v1::{
    ConsumeItemRequest, EquipItemRequest, GrantItemRequest, ReserveItemRequest, TransferItemRequest, consume_item_request,
    reserve_item_request, transfer_item_request,
};
use idempo_proto::wallet::v1::{GrantFundsRequest, TransferFundsRequest};

use super::dice::Dice;
use super::inventory_moves::stack_quantity;
use super::planned::{Draft, Planned};
use super::wallet_moves::other_player;
use super::world::World;

/// One more than an amount may be.
const AMOUNT_TOO_LARGE: i64 = 1_000_000_000_000_001;
/// One more than a reason may be long, in characters.
const REASON_TOO_LONG: usize = 129;
/// How many kinds of malformed requests there are.
const MALFORMED_KINDS: i64 = 16;

/// A request that is malformed in one field.
pub(super) fn plan(world: &World, dice: &mut Dice, player: usize) -> Option<Planned> {
    match dice.between(0, MALFORMED_KINDS - 1) {
        kind @ 0..=8 => malformed_wallet(world, dice, player, kind),
        kind => malformed_inventory(world, dice, player, kind),
    }
}

fn malformed_wallet(world: &World, dice: &mut Dice, player: usize, kind: i64) -> Option<Planned> {
    let key = dice.key();
    let grant = GrantFundsRequest {
        request_id: key.to_string(),
        wallet: world.wallet_name(player),
        asset: Asset::Coin.into(),
        amount: 5,
        reason: "malformed".to_owned(),
        ..GrantFundsRequest::default()
    };
    let planned = match kind {
        0 => Draft::new(key, GrantFundsRequest { request_id: String::new(), ..grant }).without_key(),
        1 => {
            let v4 = uuid::Builder::from_random_bytes(*key.as_bytes()).into_uuid();
            Draft::new(v4, GrantFundsRequest { request_id: v4.to_string(), ..grant }).invalid("request_id")
        }
        2 => {
            let malformed = Draft::new(key, GrantFundsRequest { amount: 0, ..grant });
            malformed.changed_by("amount", |request| request.amount = 5).invalid("amount")
        }
        3 => {
            let malformed = Draft::new(key, GrantFundsRequest { amount: AMOUNT_TOO_LARGE, ..grant });
            malformed.changed_by("amount", |request| request.amount -= 1).invalid("amount")
        }
        4 => {
            let malformed = Draft::new(key, GrantFundsRequest { asset: Asset::Unspecified.into(), ..grant });
            malformed.changed_by("asset", |request| request.asset = Asset::Coin.into()).invalid("asset")
        }
        5 => {
            let wallet = grant.wallet.clone();
            let malformed = Draft::new(key, GrantFundsRequest { wallet: "wallets/nobody".to_owned(), ..grant });
            malformed.changed_by("wallet", |request| request.wallet = wallet).invalid("wallet")
        }
        6 => {
            let malformed = Draft::new(key, GrantFundsRequest { reason: "x".repeat(REASON_TOO_LONG), ..grant });
            malformed.changed_by("reason", |request| request.reason.clear()).invalid("reason")
        }
        _ => {
            let from_wallet = world.wallet_name(player);
            let (to_wallet, amount, field) = match kind {
                7 => (format!("wallets/{}", other_player(world, dice, player)?), -7, "amount"),
                _ => (from_wallet.clone(), 7, "to_wallet"),
            };
            let (request_id, asset) = (key.to_string(), Asset::Coin.into());
            let request = TransferFundsRequest { request_id, from_wallet, to_wallet, asset, amount, ..TransferFundsRequest::default() };
            let mended = format!("wallets/{}", other_player(world, dice, player)?);
            let malformed = Draft::new(key, request);
            match field {
                "amount" => malformed.changed_by("amount", |request| request.amount = 7).invalid(field),
                _ => malformed.changed_by("to_wallet", |request| request.to_wallet = mended).invalid(field),
            }
        }
    };
    Some(planned)
}

fn malformed_inventory(world: &World, dice: &mut Dice, player: usize, kind: i64) -> Option<Planned> {
    let key = dice.key();
    let request_id = key.to_string();
    let shelf = world.shelf.clone();
    let stack = shelf.stacks.first()?;
    let owner = world.player_name(player);
    let planned = match kind {
        9 => {
            let what = Some(reserve_item_request::What::Stack(stack_quantity(stack, 1)));
            let request = ReserveItemRequest { request_id, player: owner, what, ttl_ms: 999, ..ReserveItemRequest::default() };
            Draft::new(key, request).changed_by("ttl_ms", |request| request.ttl_ms = 1_000).invalid("ttl_ms")
        }
        10 => {
            let what = consume_item_request::What::Stack(stack_quantity(stack, 1));
            let malformed = Draft::new(key, ConsumeItemRequest { request_id, player: owner, ..ConsumeItemRequest::default() });
            malformed.changed_by("stack", |request| request.what = Some(what)).invalid("what")
        }
        11 => {
            let what = Some(consume_item_request::What::Stack(stack_quantity(stack, 0)));
            Draft::new(key, ConsumeItemRequest { request_id, player: owner, what, ..ConsumeItemRequest::default() })
                .invalid("stack.quantity")
        }
        12 => {
            Draft::new(key, EquipItemRequest { request_id, item: "items/sword".to_owned(), ..EquipItemRequest::default() }).invalid("item")
        }
        13 => {
            let to_player = format!("players/{}", other_player(world, dice, player)?);
            let what = Some(transfer_item_request::What::Reservation(String::new()));
            let request = TransferItemRequest { request_id, from_player: owner, to_player, what, validate_only: false };
            Draft::new(key, request).invalid("reservation")
        }
        14 => {
            let what = Some(transfer_item_request::What::Stack(stack_quantity(stack, 1)));
            let request = TransferItemRequest { request_id, from_player: owner.clone(), to_player: owner, what, validate_only: false };
            Draft::new(key, request).invalid("to_player")
        }
        _ => {
            let item_type = "itemTypes/Not A Slug".to_owned();
            let request = GrantItemRequest { request_id, player: owner, item_type, quantity: 1, ..GrantItemRequest::default() };
            Draft::new(key, request).invalid("item_type")
        }
    };
    Some(planned)
}
