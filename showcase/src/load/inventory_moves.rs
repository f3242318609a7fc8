//! What players do with their items.

use idempo_proto::event::v1::{ItemKind, Rarity};
use idempo_proto::inventory::v1::{
    ConsumeItemRequest, CreateItemTypeRequest, EquipItemRequest, GrantItemRequest, ItemType, ReleaseReservationRequest, ReserveItemRequest,
    StackQuantity, TransferItemRequest, UnequipItemRequest, consume_item_request, reserve_item_request, transfer_item_request,
};

use super::dice::Dice;
use super::planned::{Draft, Look, Planned};
use super::wallet_moves::other_player;
use super::world::{Piece, ReservedQuantity, Stack, World};

/// How long a reservation lives that is meant to be ended by a command: longer than a run, in milliseconds.
const LONG_TTL_MS: i64 = 3_600_000;
/// The most of one grant of a stackable type.
const GRANT_QUANTITY_MAX: i64 = 50;
/// How many of a thousand gifts stay among the client's own players, so that items collect a history.
const GIFT_TO_OWN_PER_THOUSAND: u32 = 700;

/// Creates an item type.
pub(super) fn create_type(dice: &mut Dice, slug: &str, kind: ItemKind, weapon_bonus: i32) -> Planned {
    create_type_draft(dice, slug, kind, weapon_bonus).applied()
}

/// The creation of an item type, whatever it should come to.
pub(super) fn create_type_draft(dice: &mut Dice, slug: &str, kind: ItemKind, weapon_bonus: i32) -> Draft<CreateItemTypeRequest> {
    let key = dice.key();
    let item_type = ItemType {
        name: format!("itemTypes/{slug}"),
        display_name: slug.replace('_', " "),
        kind: kind.into(),
        rarity: Rarity::Uncommon.into(),
        weapon_bonus,
        equippable: weapon_bonus > 0,
    };
    let request = CreateItemTypeRequest { request_id: key.to_string(), item_type: Some(item_type), validate_only: false };
    Draft::new(key, request).changed_by("item_type", |request| {
        if let Some(item_type) = &mut request.item_type {
            item_type.display_name.push('!');
        }
    })
}

/// Mints a unique item.
pub(super) fn grant_piece(world: &World, dice: &mut Dice, player: usize) -> Option<Planned> {
    let weapon = dice.chance(600);
    let shelf = world.shelf.clone();
    let item_type = dice.pick(if weapon { &shelf.weapons } else { &shelf.trinkets })?;
    let key = dice.key();
    let request = grant_request(world, key, player, item_type, 1);
    let draft = Draft::new(key, request)
        .changed_by("reason", |request| request.reason.push('!'))
        .learning(move |world, reply| {
            if let Some((_, item_id)) = reply.item.rsplit_once('/') {
                let item_id = item_id.to_owned();
                world.pieces.push(Piece { player, item_id, weapon, hop: 1, reservation: None, equipped: false });
            }
        })
        .then_look(Look::NewestItem);
    Some(draft.applied())
}

/// Mints a quantity.
pub(super) fn grant_stack(world: &World, dice: &mut Dice, player: usize) -> Option<Planned> {
    let shelf = world.shelf.clone();
    let item_type = dice.pick(&shelf.stacks)?.clone();
    let quantity = dice.between(1, GRANT_QUANTITY_MAX);
    let key = dice.key();
    let request = grant_request(world, key, player, &item_type, quantity);
    let draft = Draft::new(key, request)
        .changed_by("quantity", |request| request.quantity += 1)
        .learning(move |world, _reply| world.learn_stack(player, &item_type, quantity));
    Some(draft.applied())
}

fn grant_request(world: &World, key: idempo_ids::Uuid, player: usize, item_type: &str, quantity: i64) -> GrantItemRequest {
    GrantItemRequest {
        request_id: key.to_string(),
        player: world.player_name(player),
        item_type: format!("itemTypes/{item_type}"),
        quantity,
        reason: "found in the arena".to_owned(),
        validate_only: false,
    }
}

/// Reserves a free item.
pub(super) fn reserve_piece(world: &World, dice: &mut Dice) -> Option<Planned> {
    let piece = free_piece(world, dice)?;
    let item_id = piece.item_id.clone();
    let key = dice.key();
    let what = reserve_item_request::What::Item(world.item_name(&piece));
    let draft = Draft::new(key, reserve_request(world, key, piece.player, what, LONG_TTL_MS))
        .changed_by("ttl_ms", |request| request.ttl_ms += 1_000)
        .learning(move |world, reply| {
            if let Some(piece) = world.piece_at(&item_id).and_then(|at| world.pieces.get_mut(at)) {
                piece.reservation = reply.reservation.map(|reservation| reservation.name);
            }
        })
        .then_look(Look::Item(piece.item_id));
    Some(draft.applied())
}

/// Reserves a quantity, for longer than the run.
pub(super) fn reserve_stack(world: &World, dice: &mut Dice) -> Option<Planned> {
    reserve_quantity(world, dice, LONG_TTL_MS)
}

/// Reserves a quantity for so short that the reservation expires by itself.
pub(super) fn short_reservation(world: &World, dice: &mut Dice) -> Option<Planned> {
    reserve_quantity(world, dice, super::SHORT_TTL_MS)
}

fn reserve_quantity(world: &World, dice: &mut Dice, ttl_ms: i64) -> Option<Planned> {
    let (stack, quantity) = free_quantity(world, dice)?;
    let key = dice.key();
    let what = reserve_item_request::What::Stack(stack_quantity(&stack.item_type, quantity));
    let draft = Draft::new(key, reserve_request(world, key, stack.player, what, ttl_ms))
        .changed_by("reason", |request| request.reason.push('!'))
        .learning(move |world, reply| {
            world.learn_stack(stack.player, &stack.item_type, -quantity);
            if let (Some(reservation), true) = (reply.reservation, ttl_ms == LONG_TTL_MS) {
                let (player, item_type) = (stack.player, stack.item_type);
                world.reserved.push(ReservedQuantity { player, name: reservation.name, item_type, quantity });
            }
        });
    Some(draft.applied())
}

fn reserve_request(
    world: &World,
    key: idempo_ids::Uuid,
    player: usize,
    what: reserve_item_request::What,
    ttl_ms: i64,
) -> ReserveItemRequest {
    let (request_id, player, reason) = (key.to_string(), world.player_name(player), "for a listing".to_owned());
    ReserveItemRequest { request_id, player, what: Some(what), ttl_ms, reason, validate_only: false }
}

/// Ends a reservation, of an item or of a quantity.
pub(super) fn release(world: &World, dice: &mut Dice) -> Option<Planned> {
    let of_piece = dice.place_where(&world.pieces, |piece| piece.reservation.is_some());
    match of_piece.filter(|_| world.reserved.is_empty() || dice.chance(500)) {
        Some(at) => {
            let piece = world.pieces.get(at)?.clone();
            let item_id = piece.item_id.clone();
            let draft = release_draft(world, dice, piece.player, &piece.reservation?)
                .learning(move |world, _reply| {
                    if let Some(piece) = world.piece_at(&item_id).and_then(|at| world.pieces.get_mut(at)) {
                        piece.reservation = None;
                    }
                })
                .then_look(Look::Item(piece.item_id));
            Some(draft.applied())
        }
        None => {
            let at = dice.below(world.reserved.len())?;
            let reserved = world.reserved.get(at)?.clone();
            let draft = release_draft(world, dice, reserved.player, &reserved.name.clone()).learning(move |world, _reply| {
                world.reserved.retain(|one| one.name != reserved.name);
                world.learn_stack(reserved.player, &reserved.item_type, reserved.quantity);
            });
            Some(draft.applied())
        }
    }
}

fn release_draft(world: &World, dice: &mut Dice, player: usize, name: &str) -> Draft<ReleaseReservationRequest> {
    let (key, other) = (dice.key(), dice.key());
    let owner = world.player_name(player);
    let request = ReleaseReservationRequest { request_id: key.to_string(), reservation: name.to_owned(), validate_only: false };
    Draft::new(key, request).changed_by("reservation", |request| request.reservation = format!("{owner}/reservations/{other}"))
}

/// Gives a free item away.
pub(super) fn transfer_piece(world: &World, dice: &mut Dice) -> Option<Planned> {
    let piece = free_piece(world, dice)?;
    let what = transfer_item_request::What::Item(world.item_name(&piece));
    transfer_of_piece(world, dice, piece, what)
}

/// Gives an item of this player to the next of the client's own players.
pub(super) fn pass_on(world: &World, dice: &mut Dice, player: usize) -> Option<Planned> {
    let piece = world.pieces.iter().find(|piece| piece.player == player && piece.is_free())?.clone();
    let to = world.player_id(player.checked_add(1)?.checked_rem(world.players.len())?);
    let item_id = piece.item_id.clone();
    let what = transfer_item_request::What::Item(world.item_name(&piece));
    let draft = transfer_draft(world, dice, player, to, what)?.learning(move |world, _reply| world.learn_piece_moved(&item_id, to));
    Some(draft.applied())
}

/// Gives away what a reservation holds: an item, or else a quantity.
pub(super) fn transfer_reserved(world: &World, dice: &mut Dice) -> Option<Planned> {
    let of_piece = dice.place_where(&world.pieces, |piece| piece.reservation.is_some());
    if let Some(at) = of_piece.filter(|_| world.reserved.is_empty() || dice.chance(600)) {
        let piece = world.pieces.get(at)?.clone();
        let what = transfer_item_request::What::Reservation(piece.reservation.clone()?);
        return transfer_of_piece(world, dice, piece, what);
    }
    let at = dice.below(world.reserved.len())?;
    let reserved = world.reserved.get(at)?.clone();
    let to = receiver(world, dice, reserved.player)?;
    let what = transfer_item_request::What::Reservation(reserved.name.clone());
    let draft = transfer_draft(world, dice, reserved.player, to, what)?.learning(move |world, _reply| {
        world.reserved.retain(|one| one.name != reserved.name);
        if let Some(player) = world.own_place(to) {
            world.learn_stack(player, &reserved.item_type, reserved.quantity);
        }
    });
    Some(draft.applied())
}

/// Gives a free quantity away.
pub(super) fn transfer_stack(world: &World, dice: &mut Dice) -> Option<Planned> {
    let (stack, quantity) = free_quantity(world, dice)?;
    let to = receiver(world, dice, stack.player)?;
    let what = transfer_item_request::What::Stack(stack_quantity(&stack.item_type, quantity));
    let draft = transfer_draft(world, dice, stack.player, to, what)?.learning(move |world, _reply| {
        world.learn_stack(stack.player, &stack.item_type, -quantity);
        if let Some(player) = world.own_place(to) {
            world.learn_stack(player, &stack.item_type, quantity);
        }
    });
    Some(draft.applied())
}

fn transfer_of_piece(world: &World, dice: &mut Dice, piece: Piece, what: transfer_item_request::What) -> Option<Planned> {
    let to = receiver(world, dice, piece.player)?;
    let item_id = piece.item_id.clone();
    let draft = transfer_draft(world, dice, piece.player, to, what)?
        .learning(move |world, _reply| world.learn_piece_moved(&item_id, to))
        .then_look(Look::Given(piece.item_id, format!("players/{to}"), piece.hop + 1));
    Some(draft.applied())
}

fn transfer_draft(
    world: &World,
    dice: &mut Dice,
    player: usize,
    to: idempo_ids::PlayerId,
    what: transfer_item_request::What,
) -> Option<Draft<TransferItemRequest>> {
    let key = dice.key();
    let another = dice.place_where(&world.everyone, |id| *id != to && *id != world.player_id(player))?;
    let another = world.everyone.get(another)?.to_string();
    let request = TransferItemRequest {
        request_id: key.to_string(),
        from_player: world.player_name(player),
        to_player: format!("players/{to}"),
        what: Some(what),
        validate_only: false,
    };
    Some(Draft::new(key, request).changed_by("to_player", |request| request.to_player = format!("players/{another}")))
}

fn receiver(world: &World, dice: &mut Dice, player: usize) -> Option<idempo_ids::PlayerId> {
    if dice.chance(GIFT_TO_OWN_PER_THOUSAND) {
        let own = world.player_id(player);
        let at = dice.place_where(&world.players, |one| one.id != own)?;
        return world.players.get(at).map(|player| player.id);
    }
    other_player(world, dice, player)
}

/// Destroys a free item by use.
pub(super) fn consume_piece(world: &World, dice: &mut Dice) -> Option<Planned> {
    let piece = free_piece(world, dice)?;
    let item_id = piece.item_id.clone();
    let name = world.item_name(&piece);
    let draft = consume_draft(world, dice, piece.player, consume_item_request::What::Item(name.clone())).learning(move |world, _reply| {
        if let Some(at) = world.piece_at(&item_id) {
            drop(world.pieces.swap_remove(at));
            world.gone.push(name);
        }
    });
    Some(draft.applied())
}

/// Destroys a free quantity by use.
pub(super) fn consume_stack(world: &World, dice: &mut Dice) -> Option<Planned> {
    let (stack, quantity) = free_quantity(world, dice)?;
    let what = consume_item_request::What::Stack(stack_quantity(&stack.item_type, quantity));
    let draft = consume_draft(world, dice, stack.player, what)
        .learning(move |world, _reply| world.learn_stack(stack.player, &stack.item_type, -quantity));
    Some(draft.applied())
}

fn consume_draft(world: &World, dice: &mut Dice, player: usize, what: consume_item_request::What) -> Draft<ConsumeItemRequest> {
    let key = dice.key();
    let (request_id, player, reason) = (key.to_string(), world.player_name(player), "used up".to_owned());
    let request = ConsumeItemRequest { request_id, player, what: Some(what), reason, validate_only: false };
    Draft::new(key, request).changed_by("reason", |request| request.reason.push('!'))
}

/// Equips a free weapon.
pub(super) fn equip(world: &World, dice: &mut Dice) -> Option<Planned> {
    let at = dice.place_where(&world.pieces, |piece| piece.weapon && piece.is_free())?;
    let piece = world.pieces.get(at)?.clone();
    let item_id = piece.item_id.clone();
    let (key, other) = (dice.key(), dice.key());
    let owner = world.player_name(piece.player);
    let request = EquipItemRequest { request_id: key.to_string(), item: world.item_name(&piece), validate_only: false };
    let draft = Draft::new(key, request)
        .changed_by("item", |request| request.item = format!("{owner}/items/{other}"))
        .learning(move |world, _reply| {
            for one in world.pieces.iter_mut().filter(|one| one.player == piece.player) {
                one.equipped = one.item_id == item_id;
            }
        })
        .then_look(Look::Item(piece.item_id));
    Some(draft.applied())
}

/// Puts the equipped weapon away.
pub(super) fn unequip(world: &World, dice: &mut Dice) -> Option<Planned> {
    let at = dice.place_where(&world.pieces, |piece| piece.equipped)?;
    let piece = world.pieces.get(at)?.clone();
    let item_id = piece.item_id.clone();
    let (key, other) = (dice.key(), dice.key());
    let request = UnequipItemRequest { request_id: key.to_string(), player: world.player_name(piece.player), validate_only: false };
    let draft = Draft::new(key, request)
        .changed_by("player", |request| request.player = format!("players/{other}"))
        .learning(move |world, _reply| {
            if let Some(piece) = world.piece_at(&item_id).and_then(|at| world.pieces.get_mut(at)) {
                piece.equipped = false;
            }
        })
        .then_look(Look::Item(piece.item_id));
    Some(draft.applied())
}

fn free_piece(world: &World, dice: &mut Dice) -> Option<Piece> {
    let at = dice.place_where(&world.pieces, Piece::is_free)?;
    world.pieces.get(at).cloned()
}

fn free_quantity(world: &World, dice: &mut Dice) -> Option<(Stack, i64)> {
    let at = dice.place_where(&world.stacks, |stack| stack.free > 0)?;
    let stack = world.stacks.get(at)?.clone();
    let quantity = dice.between(1, stack.free.min(10));
    Some((stack, quantity))
}

/// A quantity of a stackable type, as requests name it.
#[must_use]
pub(super) fn stack_quantity(item_type: &str, quantity: i64) -> StackQuantity {
    StackQuantity { item_type: format!("itemTypes/{item_type}"), quantity }
}
