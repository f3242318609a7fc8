//! What should not work: malformed requests, and well-formed ones that the rules refuse.

use idempo_ids::Uuid;
use idempo_proto::event::v1::Asset;
use idempo_proto::inventory::v1::{
    ConsumeItemRequest, EquipItemRequest, GrantItemRequest, ReleaseReservationRequest, ReserveItemRequest, TransferItemRequest,
    consume_item_request, reserve_item_request, transfer_item_request,
};
use idempo_proto::wallet::v1::{
    CaptureHoldRequest, GrantFundsRequest, OpenWalletRequest, PlaceHoldRequest, ReleaseHoldRequest, TransferFundsRequest,
};

use super::dice::Dice;
use super::inventory_moves::stack_quantity;
use super::planned::{Draft, Planned};
use super::wallet_moves::other_player;
use super::world::{ResolvedAs, World};

/// More than any wallet of a run has, and still a valid amount.
const OVERDRAFT: i64 = 900_000_000_000_000;
/// One more than an amount may be.
const AMOUNT_TOO_LARGE: i64 = 1_000_000_000_000_001;
/// One more than a reason may be long, in characters.
const REASON_TOO_LONG: usize = 129;
/// More than any player of a run has of a stackable type, and still a valid quantity.
const QUANTITY_OVERDRAFT: i64 = 999_999_999;
/// How many kinds of malformed requests there are.
const MALFORMED_KINDS: i64 = 14;
/// How many kinds of refusals there are.
const REFUSED_KINDS: i64 = 12;

/// A request that is malformed in one field.
pub(super) fn malformed(world: &World, dice: &mut Dice, player: usize) -> Option<Planned> {
    match dice.between(0, MALFORMED_KINDS - 1) {
        kind @ 0..=7 => malformed_wallet(world, dice, player, kind),
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
        2 => Draft::new(key, GrantFundsRequest { amount: 0, ..grant }).invalid("amount"),
        3 => Draft::new(key, GrantFundsRequest { amount: AMOUNT_TOO_LARGE, ..grant }).invalid("amount"),
        4 => Draft::new(key, GrantFundsRequest { asset: Asset::Unspecified.into(), ..grant }).invalid("asset"),
        5 => Draft::new(key, GrantFundsRequest { wallet: "wallets/nobody".to_owned(), ..grant }).invalid("wallet"),
        6 => Draft::new(key, GrantFundsRequest { reason: "x".repeat(REASON_TOO_LONG), ..grant }).invalid("reason"),
        _ => {
            let to_wallet = format!("wallets/{}", other_player(world, dice, player)?);
            let (from_wallet, asset) = (world.wallet_name(player), Asset::Coin.into());
            let request =
                TransferFundsRequest { request_id: key.to_string(), from_wallet, to_wallet, asset, amount: -7, ..Default::default() };
            Draft::new(key, request).invalid("amount")
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
        8 => {
            let what = Some(reserve_item_request::What::Stack(stack_quantity(stack, 1)));
            let request = ReserveItemRequest { request_id, player: owner, what, ttl_ms: 999, ..ReserveItemRequest::default() };
            Draft::new(key, request).invalid("ttl_ms")
        }
        9 => Draft::new(key, ConsumeItemRequest { request_id, player: owner, ..ConsumeItemRequest::default() }).invalid("what"),
        10 => {
            let what = Some(consume_item_request::What::Stack(stack_quantity(stack, 0)));
            Draft::new(key, ConsumeItemRequest { request_id, player: owner, what, ..ConsumeItemRequest::default() })
                .invalid("stack.quantity")
        }
        11 => {
            Draft::new(key, EquipItemRequest { request_id, item: "items/sword".to_owned(), ..EquipItemRequest::default() }).invalid("item")
        }
        12 => {
            let to_player = format!("players/{}", other_player(world, dice, player)?);
            let what = Some(transfer_item_request::What::Reservation(String::new()));
            let request = TransferItemRequest { request_id, from_player: owner, to_player, what, validate_only: false };
            Draft::new(key, request).invalid("reservation")
        }
        _ => {
            let item_type = "itemTypes/Not A Slug".to_owned();
            let request = GrantItemRequest { request_id, player: owner, item_type, quantity: 1, ..GrantItemRequest::default() };
            Draft::new(key, request).invalid("item_type")
        }
    };
    Some(planned)
}

/// A well-formed request that the rules refuse; `None` where what it needs is not there yet.
pub(super) fn refused(world: &World, dice: &mut Dice, player: usize) -> Option<Planned> {
    match dice.between(0, REFUSED_KINDS - 1) {
        kind @ 0..=5 => refused_wallet(world, dice, player, kind),
        kind => refused_inventory(world, dice, player, kind),
    }
}

fn refused_wallet(world: &World, dice: &mut Dice, player: usize, kind: i64) -> Option<Planned> {
    let key = dice.key();
    let (request_id, asset, wallet) = (key.to_string(), Asset::Coin.into(), world.wallet_name(player));
    let planned = match kind {
        0 => {
            let to_wallet = format!("wallets/{}", other_player(world, dice, player)?);
            let request =
                TransferFundsRequest { request_id, from_wallet: wallet, to_wallet, asset, amount: OVERDRAFT, ..Default::default() };
            Draft::new(key, request).changed_by("amount", |request| request.amount -= 1).refused("INSUFFICIENT_FUNDS")
        }
        1 => {
            let request = PlaceHoldRequest { request_id, wallet, asset, amount: OVERDRAFT, ttl_ms: 60_000, ..Default::default() };
            Draft::new(key, request).changed_by("ttl_ms", |request| request.ttl_ms += 1).refused("INSUFFICIENT_FUNDS")
        }
        2 => {
            let wallet = format!("wallets/{}", dice.key());
            let request = GrantFundsRequest { request_id, wallet, asset, amount: 5, ..GrantFundsRequest::default() };
            Draft::new(key, request).changed_by("amount", |request| request.amount += 1).refused("WALLET_NOT_FOUND")
        }
        3 => {
            let request = OpenWalletRequest { request_id, player_id: world.player_id(player).to_string(), validate_only: false };
            let other = dice.key();
            Draft::new(key, request).changed_by("player_id", |request| request.player_id = other.to_string()).refused("WALLET_EXISTS")
        }
        _ => return resolved_hold(world, dice, key, kind),
    };
    Some(planned)
}

fn resolved_hold(world: &World, dice: &mut Dice, key: Uuid, kind: i64) -> Option<Planned> {
    let (hold, how) = dice.pick(&world.resolved_holds)?.clone();
    let reason = match how {
        ResolvedAs::Captured => "HOLD_ALREADY_CAPTURED",
        ResolvedAs::Released => "HOLD_ALREADY_RELEASED",
    };
    let request_id = key.to_string();
    let planned = if kind == 4 {
        let request = CaptureHoldRequest { request_id, hold, to: "systemAccounts/fees".to_owned(), ..CaptureHoldRequest::default() };
        Draft::new(key, request).changed_by("amount", |request| request.amount += 1).refused(reason)
    } else {
        let request = ReleaseHoldRequest { request_id, hold, ..ReleaseHoldRequest::default() };
        let other = dice.key();
        Draft::new(key, request)
            .changed_by("hold", |request| {
                let wallet = request.hold.rsplit_once('/').map(|(wallet, _)| wallet.to_owned()).unwrap_or_default();
                request.hold = format!("{wallet}/{other}");
            })
            .refused(reason)
    };
    Some(planned)
}

fn refused_inventory(world: &World, dice: &mut Dice, player: usize, kind: i64) -> Option<Planned> {
    let key = dice.key();
    let owner = world.player_name(player);
    let planned = match kind {
        6 => {
            consume(key, owner.clone(), consume_item_request::What::Item(format!("{owner}/items/{}", dice.key()))).refused("ITEM_NOT_FOUND")
        }
        7 => {
            let name = dice.pick(&world.gone)?.clone();
            let was_owner = name.split_once("/items/").map(|(owner, _)| owner.to_owned())?;
            consume(key, was_owner, consume_item_request::What::Item(name)).refused("ITEM_NOT_FOUND")
        }
        8 => {
            let at = dice.place_where(&world.pieces, |piece| piece.reservation.is_some())?;
            let piece = world.pieces.get(at)?;
            let what = consume_item_request::What::Item(world.item_name(piece));
            consume(key, world.player_name(piece.player), what).refused("ITEM_RESERVED")
        }
        9 => {
            let shelf = world.shelf.clone();
            let what = consume_item_request::What::Stack(stack_quantity(dice.pick(&shelf.stacks)?, QUANTITY_OVERDRAFT));
            consume(key, owner, what).refused("INSUFFICIENT_QUANTITY")
        }
        10 => {
            let item_type = format!("itemTypes/unheard_of_{}", dice.between(1, 999_999));
            let request = GrantItemRequest { request_id: key.to_string(), player: owner, item_type, quantity: 1, ..Default::default() };
            Draft::new(key, request).changed_by("reason", |request| request.reason.push('!')).refused("ITEM_TYPE_NOT_FOUND")
        }
        _ => {
            let reservation = format!("{owner}/reservations/{}", dice.key());
            let other = format!("{owner}/reservations/{}", dice.key());
            let request = ReleaseReservationRequest { request_id: key.to_string(), reservation, validate_only: false };
            Draft::new(key, request).changed_by("reservation", |request| request.reservation = other).refused("RESERVATION_NOT_FOUND")
        }
    };
    Some(planned)
}

fn consume(key: Uuid, player: String, what: consume_item_request::What) -> Draft<ConsumeItemRequest> {
    let request = ConsumeItemRequest { request_id: key.to_string(), player, what: Some(what), ..ConsumeItemRequest::default() };
    Draft::new(key, request).changed_by("reason", |request| request.reason.push('!'))
}
