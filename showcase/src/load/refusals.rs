//! Well-formed requests that the rules refuse, each with the reason that the answer has to give.

use idempo_ids::Uuid;
use idempo_proto::event::v1::{Asset, ItemKind};
use idempo_proto::inventory::v1::{
    ConsumeItemRequest, EquipItemRequest, GrantItemRequest, ReleaseReservationRequest, consume_item_request,
};
use idempo_proto::wallet::v1::{
    CaptureHoldRequest, GrantFundsRequest, OpenWalletRequest, PlaceHoldRequest, ReleaseHoldRequest, ReverseTransactionRequest,
    TransferFundsRequest,
};

use super::dice::Dice;
use super::inventory_moves::{create_type_draft, stack_quantity};
use super::planned::{Draft, Planned};
use super::wallet_moves::other_player;
use super::world::{Piece, ResolvedAs, World};

/// More than any wallet of a run has, and still a valid amount.
const OVERDRAFT: i64 = 900_000_000_000_000;
/// More than any player of a run has of a stackable type, and still a valid quantity.
const QUANTITY_OVERDRAFT: i64 = 999_999_999;

/// What is refused.
#[derive(Debug, Clone, Copy)]
enum Kind {
    TransferOverdraft,
    HoldOverdraft,
    UnknownWallet,
    WalletOpen,
    StaleEtag,
    ReversedTwice,
    CaptureResolved,
    ReleaseResolved,
    UnknownItem,
    FormerItem,
    ReservedItem,
    EquippedItem,
    NoWeapon,
    TooMany,
    UnknownType,
    TypeExists,
    UnknownReservation,
}

/// All, equally often.
const KINDS: &[Kind] = &[
    Kind::TransferOverdraft,
    Kind::HoldOverdraft,
    Kind::UnknownWallet,
    Kind::WalletOpen,
    Kind::StaleEtag,
    Kind::ReversedTwice,
    Kind::CaptureResolved,
    Kind::ReleaseResolved,
    Kind::UnknownItem,
    Kind::FormerItem,
    Kind::ReservedItem,
    Kind::EquippedItem,
    Kind::NoWeapon,
    Kind::TooMany,
    Kind::UnknownType,
    Kind::TypeExists,
    Kind::UnknownReservation,
];

/// A well-formed request that the rules refuse; `None` where what it needs is not there yet.
pub(super) fn plan(world: &World, dice: &mut Dice, player: usize) -> Option<Planned> {
    let kind = *dice.pick(KINDS)?;
    match kind {
        Kind::TransferOverdraft | Kind::HoldOverdraft | Kind::UnknownWallet | Kind::WalletOpen | Kind::StaleEtag => {
            refused_wallet(world, dice, player, kind)
        }
        Kind::ReversedTwice | Kind::CaptureResolved | Kind::ReleaseResolved => refused_twice(world, dice, kind),
        Kind::UnknownItem | Kind::FormerItem | Kind::ReservedItem | Kind::EquippedItem | Kind::NoWeapon => {
            refused_item(world, dice, player, kind)
        }
        Kind::TooMany | Kind::UnknownType | Kind::TypeExists | Kind::UnknownReservation => refused_inventory(world, dice, player, kind),
    }
}

fn refused_wallet(world: &World, dice: &mut Dice, player: usize, kind: Kind) -> Option<Planned> {
    let key = dice.key();
    let (request_id, asset, wallet) = (key.to_string(), Asset::Coin.into(), world.wallet_name(player));
    let planned = match kind {
        Kind::TransferOverdraft => {
            let to_wallet = format!("wallets/{}", other_player(world, dice, player)?);
            let request =
                TransferFundsRequest { request_id, from_wallet: wallet, to_wallet, asset, amount: OVERDRAFT, ..Default::default() };
            Draft::new(key, request).changed_by("amount", |request| request.amount -= 1).refused("INSUFFICIENT_FUNDS")
        }
        Kind::HoldOverdraft => {
            let request = PlaceHoldRequest { request_id, wallet, asset, amount: OVERDRAFT, ttl_ms: 60_000, ..Default::default() };
            Draft::new(key, request).changed_by("ttl_ms", |request| request.ttl_ms += 1).refused("INSUFFICIENT_FUNDS")
        }
        Kind::WalletOpen => {
            let request = OpenWalletRequest { request_id, player_id: world.player_id(player).to_string(), validate_only: false };
            let other = dice.key();
            Draft::new(key, request).changed_by("player_id", |request| request.player_id = other.to_string()).refused("WALLET_ALREADY_OPEN")
        }
        _ => {
            // A wallet is at version 3 or later once it has its first grants.
            let (wallet, etag, reason) = match kind {
                Kind::StaleEtag => (wallet, "2", "ETAG_MISMATCH"),
                _ => (format!("wallets/{}", dice.key()), "", "WALLET_NOT_FOUND"),
            };
            let request = GrantFundsRequest { request_id, wallet, asset, amount: 5, etag: etag.to_owned(), ..GrantFundsRequest::default() };
            Draft::new(key, request).changed_by("amount", |request| request.amount += 1).refused(reason)
        }
    };
    Some(planned)
}

/// What was done once and can't be done again.
fn refused_twice(world: &World, dice: &mut Dice, kind: Kind) -> Option<Planned> {
    let key = dice.key();
    let request_id = key.to_string();
    if matches!(kind, Kind::ReversedTwice) {
        let transaction_id = dice.pick(&world.reversed)?.clone();
        let request = ReverseTransactionRequest { request_id, transaction_id, ..ReverseTransactionRequest::default() };
        let draft = Draft::new(key, request).changed_by("reason", |request| request.reason.push('!'));
        return Some(draft.refused("TRANSACTION_ALREADY_REVERSED"));
    }
    let (hold, how) = dice.pick(&world.resolved_holds)?.clone();
    let reason = match how {
        ResolvedAs::Captured => "HOLD_ALREADY_CAPTURED",
        ResolvedAs::Released => "HOLD_ALREADY_RELEASED",
    };
    let planned = if matches!(kind, Kind::CaptureResolved) {
        let request = CaptureHoldRequest { request_id, hold, to: "systemAccounts/fees".to_owned(), ..CaptureHoldRequest::default() };
        Draft::new(key, request).changed_by("amount", |request| request.amount += 1).refused(reason)
    } else {
        let request = ReleaseHoldRequest { request_id, hold, ..ReleaseHoldRequest::default() };
        let other = dice.key();
        let draft = Draft::new(key, request).changed_by("hold", |request| {
            let wallet = request.hold.rsplit_once('/').map(|(wallet, _)| wallet.to_owned()).unwrap_or_default();
            request.hold = format!("{wallet}/{other}");
        });
        draft.refused(reason)
    };
    Some(planned)
}

fn refused_item(world: &World, dice: &mut Dice, player: usize, kind: Kind) -> Option<Planned> {
    let key = dice.key();
    let mut piece_where = |fits: fn(&Piece) -> bool| {
        let at = dice.place_where(&world.pieces, fits)?;
        world.pieces.get(at)
    };
    let planned = match kind {
        Kind::ReservedItem => {
            let piece = piece_where(|piece| piece.reservation.is_some())?;
            consume_piece(world, key, piece).refused("ITEM_RESERVED")
        }
        Kind::EquippedItem => {
            let piece = piece_where(|piece| piece.equipped)?;
            consume_piece(world, key, piece).refused("ITEM_EQUIPPED")
        }
        Kind::NoWeapon => {
            let piece = piece_where(|piece| !piece.weapon && piece.is_free())?;
            let (item, other) = (world.item_name(piece), format!("{}/items/{}", world.player_name(piece.player), dice.key()));
            let request = EquipItemRequest { request_id: key.to_string(), item, validate_only: false };
            Draft::new(key, request).changed_by("item", |request| request.item = other).refused("ITEM_NOT_EQUIPPABLE")
        }
        Kind::FormerItem => {
            let name = dice.pick(&world.gone)?.clone();
            let owner = name.split_once("/items/").map(|(owner, _)| owner.to_owned())?;
            consume(key, owner, consume_item_request::What::Item(name)).refused("NOT_RESOURCE_OWNER")
        }
        _ => {
            let owner = world.player_name(player);
            let name = format!("{owner}/items/{}", dice.key());
            consume(key, owner, consume_item_request::What::Item(name)).refused("NOT_RESOURCE_OWNER")
        }
    };
    Some(planned)
}

fn refused_inventory(world: &World, dice: &mut Dice, player: usize, kind: Kind) -> Option<Planned> {
    let key = dice.key();
    let owner = world.player_name(player);
    let shelf = world.shelf.clone();
    let planned = match kind {
        Kind::TooMany => {
            let what = consume_item_request::What::Stack(stack_quantity(dice.pick(&shelf.stacks)?, QUANTITY_OVERDRAFT));
            consume(key, owner, what).refused("INSUFFICIENT_QUANTITY")
        }
        Kind::UnknownType => {
            let item_type = format!("itemTypes/unheard_of_{}", dice.between(1, 999_999));
            let request = GrantItemRequest { request_id: key.to_string(), player: owner, item_type, quantity: 1, ..Default::default() };
            Draft::new(key, request).changed_by("reason", |request| request.reason.push('!')).refused("ITEM_TYPE_NOT_FOUND")
        }
        Kind::TypeExists => create_type_draft(dice, shelf.trinkets.first()?, ItemKind::Unique, 0).refused("ITEM_TYPE_ALREADY_EXISTS"),
        _ => {
            let reservation = format!("{owner}/reservations/{}", dice.key());
            let other = format!("{owner}/reservations/{}", dice.key());
            let request = ReleaseReservationRequest { request_id: key.to_string(), reservation, validate_only: false };
            Draft::new(key, request).changed_by("reservation", |request| request.reservation = other).refused("RESERVATION_NOT_FOUND")
        }
    };
    Some(planned)
}

fn consume_piece(world: &World, key: Uuid, piece: &Piece) -> Draft<ConsumeItemRequest> {
    consume(key, world.player_name(piece.player), consume_item_request::What::Item(world.item_name(piece)))
}

fn consume(key: Uuid, player: String, what: consume_item_request::What) -> Draft<ConsumeItemRequest> {
    let request = ConsumeItemRequest { request_id: key.to_string(), player, what: Some(what), ..ConsumeItemRequest::default() };
    Draft::new(key, request).changed_by("reason", |request| request.reason.push('!'))
}
