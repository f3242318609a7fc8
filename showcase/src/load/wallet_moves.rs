//! What players do with their funds.

use idempo_ids::PlayerId;
use idempo_proto::event::v1::Asset;
use idempo_proto::wallet::v1::{
    BurnFundsRequest, CaptureHoldRequest, GrantFundsRequest, OpenWalletRequest, PlaceHoldRequest, ReleaseHoldRequest,
    ReverseTransactionRequest, TransferFundsRequest,
};

use super::dice::Dice;
use super::planned::{Draft, Look, Planned};
use super::world::{OpenHold, ResolvedAs, World};

/// How long a hold lives that is meant to be resolved by a command: longer than a run, in milliseconds.
const LONG_TTL_MS: i64 = 3_600_000;
/// The most of a first grant.
const FIRST_GRANT_MAX: i64 = 50_000;
/// The most of a later grant. Only these are reversed: what they gave is still there.
const LATER_GRANT_MAX: i64 = 500;
/// The most of a transfer or hold.
const SMALL_AMOUNT_MAX: i64 = 50;
/// How many of all players get a much larger share of the transfers.
const POPULAR_PLAYERS: usize = 8;
/// How many of a thousand transfers go to one of the popular players.
const POPULAR_PER_THOUSAND: u32 = 150;

/// Opens the player's wallet.
pub(super) fn open(world: &World, dice: &mut Dice, player: usize) -> Planned {
    let key = dice.key();
    let request = OpenWalletRequest { request_id: key.to_string(), player_id: world.player_id(player).to_string(), validate_only: false };
    let other = dice.key();
    Draft::new(key, request)
        .changed_by("player_id", |request| request.player_id = other.to_string())
        .learning(move |world, reply| world.learn_wallet(player, reply.wallet.as_ref()))
        .then_look(Look::Wallet(player))
        .applied()
}

/// Mints enough to play with.
pub(super) fn first_grant(world: &World, dice: &mut Dice, player: usize, asset: Asset) -> Planned {
    let amount = dice.between(FIRST_GRANT_MAX / 2, FIRST_GRANT_MAX);
    grant(world, dice, player, asset, amount)
}

/// Mints some more.
pub(super) fn later_grant(world: &World, dice: &mut Dice, player: usize) -> Planned {
    let (asset, amount) = (any_asset(dice), dice.between(1, LATER_GRANT_MAX));
    grant(world, dice, player, asset, amount)
}

fn grant(world: &World, dice: &mut Dice, player: usize, asset: Asset, amount: i64) -> Planned {
    let key = dice.key();
    let request = GrantFundsRequest {
        request_id: key.to_string(),
        wallet: world.wallet_name(player),
        asset: asset.into(),
        amount,
        reason: reason(dice, "quest reward"),
        ..GrantFundsRequest::default()
    };
    Draft::new(key, request)
        .changed_by("amount", |request| request.amount += 1)
        .learning(move |world, reply| {
            world.learn_wallet(player, reply.wallet.as_ref());
            if amount <= LATER_GRANT_MAX {
                world.learn_posted(player, reply.transaction_id, asset, amount);
            }
        })
        .then_look(Look::Wallet(player))
        .applied()
}

/// Destroys a little.
pub(super) fn burn(world: &World, dice: &mut Dice, player: usize) -> Option<Planned> {
    let (asset, amount) = affordable(world, dice, player)?;
    let key = dice.key();
    let request = BurnFundsRequest {
        request_id: key.to_string(),
        wallet: world.wallet_name(player),
        asset: asset.into(),
        amount,
        reason: reason(dice, "repair"),
        ..BurnFundsRequest::default()
    };
    let draft = Draft::new(key, request)
        .changed_by("reason", |request| request.reason.push('!'))
        .learning(move |world, reply| {
            world.learn_wallet(player, reply.wallet.as_ref());
            world.learn_posted(player, reply.transaction_id, asset, -amount);
        })
        .then_look(Look::Wallet(player));
    Some(draft.applied())
}

/// Pays another player, quite often one of the popular ones.
pub(super) fn transfer(world: &World, dice: &mut Dice, player: usize) -> Option<Planned> {
    let (asset, amount) = affordable(world, dice, player)?;
    let to = other_player(world, dice, player)?;
    let key = dice.key();
    let request = TransferFundsRequest {
        request_id: key.to_string(),
        from_wallet: world.wallet_name(player),
        to_wallet: format!("wallets/{to}"),
        asset: asset.into(),
        amount,
        reason: reason(dice, "payment"),
        ..TransferFundsRequest::default()
    };
    let draft = Draft::new(key, request)
        .changed_by("amount", |request| request.amount += 1)
        .learning(move |world, reply| {
            world.learn_wallet(player, reply.from_wallet.as_ref());
            world.learn_posted(player, reply.transaction_id, asset, -amount);
        })
        .then_look(Look::Wallet(player));
    Some(draft.applied())
}

/// Puts a little on hold, for longer than the run.
pub(super) fn hold(world: &World, dice: &mut Dice, player: usize) -> Option<Planned> {
    place_hold(world, dice, player, LONG_TTL_MS)
}

/// Puts a little on hold for so short that it expires by itself.
pub(super) fn short_hold(world: &World, dice: &mut Dice, player: usize) -> Option<Planned> {
    place_hold(world, dice, player, super::SHORT_TTL_MS)
}

fn place_hold(world: &World, dice: &mut Dice, player: usize, ttl_ms: i64) -> Option<Planned> {
    let (asset, amount) = affordable(world, dice, player)?;
    let key = dice.key();
    let request = PlaceHoldRequest {
        request_id: key.to_string(),
        wallet: world.wallet_name(player),
        asset: asset.into(),
        amount,
        ttl_ms,
        reason: reason(dice, "bid"),
        ..PlaceHoldRequest::default()
    };
    let draft = Draft::new(key, request)
        .changed_by("ttl_ms", |request| request.ttl_ms += 1_000)
        .learning(move |world, reply| {
            world.learn_wallet(player, reply.wallet.as_ref());
            if ttl_ms == LONG_TTL_MS {
                world.holds.extend(reply.hold.map(|hold| OpenHold { player, name: hold.name, amount: hold.amount }));
            }
        })
        .then_look(Look::Wallet(player));
    Some(draft.applied())
}

/// Captures an open hold, wholly or in part, for another player or a system account.
pub(super) fn capture(world: &World, dice: &mut Dice) -> Option<Planned> {
    let at = dice.below(world.holds.len())?;
    let hold = world.holds.get(at)?.clone();
    let to = match dice.between(0, 3) {
        0 => "systemAccounts/fees".to_owned(),
        1 => "systemAccounts/burn".to_owned(),
        _ => format!("wallets/{}", other_player(world, dice, hold.player)?),
    };
    let amount = if dice.chance(500) { 0 } else { dice.between(1, hold.amount) };
    let key = dice.key();
    let request = CaptureHoldRequest { request_id: key.to_string(), hold: hold.name.clone(), amount, to, ..CaptureHoldRequest::default() };
    let changed_to = if request.to == "systemAccounts/fees" { "systemAccounts/burn" } else { "systemAccounts/fees" };
    let draft = Draft::new(key, request)
        .changed_by("to", |request| request.to = changed_to.to_owned())
        .learning(move |world, reply| {
            world.learn_wallet(hold.player, reply.wallet.as_ref());
            resolve(world, &hold.name, ResolvedAs::Captured);
        })
        .then_look(Look::Wallet(hold.player));
    Some(draft.applied())
}

/// Releases an open hold.
pub(super) fn release(world: &World, dice: &mut Dice) -> Option<Planned> {
    let at = dice.below(world.holds.len())?;
    let hold = world.holds.get(at)?.clone();
    let key = dice.key();
    let request = ReleaseHoldRequest { request_id: key.to_string(), hold: hold.name.clone(), ..ReleaseHoldRequest::default() };
    let other = dice.key();
    let holder = world.wallet_name(hold.player);
    let draft = Draft::new(key, request)
        .changed_by("hold", |request| request.hold = format!("{holder}/holds/{other}"))
        .learning(move |world, reply| {
            world.learn_wallet(hold.player, reply.wallet.as_ref());
            resolve(world, &hold.name, ResolvedAs::Released);
        })
        .then_look(Look::Wallet(hold.player));
    Some(draft.applied())
}

fn resolve(world: &mut World, name: &str, how: ResolvedAs) {
    world.holds.retain(|hold| hold.name != name);
    world.resolved_holds.push((name.to_owned(), how));
}

/// Reverses one of the client's own transactions.
pub(super) fn reverse(world: &World, dice: &mut Dice) -> Option<Planned> {
    let at = dice.below(world.transactions.len())?;
    let posted = world.transactions.get(at)?.clone();
    let key = dice.key();
    let request = ReverseTransactionRequest {
        request_id: key.to_string(),
        transaction_id: posted.transaction_id.clone(),
        reason: reason(dice, "mistake"),
        ..ReverseTransactionRequest::default()
    };
    let draft = Draft::new(key, request)
        .changed_by("reason", |request| request.reason.push('!'))
        .learning(move |world, _reply| world.learn_reversed(posted.transaction_id))
        .then_look(Look::Wallet(posted.player));
    Some(draft.applied())
}

/// Another player than this one, quite often one of the popular ones.
pub(super) fn other_player(world: &World, dice: &mut Dice, player: usize) -> Option<PlayerId> {
    let own = world.player_id(player);
    let popular = world.everyone.get(..POPULAR_PLAYERS.min(world.everyone.len())).unwrap_or_default();
    let from = if dice.chance(POPULAR_PER_THOUSAND) { popular } else { &world.everyone };
    let at = dice.place_where(from, |id| *id != own)?;
    from.get(at).copied()
}

fn affordable(world: &World, dice: &mut Dice, player: usize) -> Option<(Asset, i64)> {
    let asset = any_asset(dice);
    let amount = dice.between(1, SMALL_AMOUNT_MAX);
    // Twice the amount, so that a transaction reversed by a neighbour in the meantime can't make it a refusal.
    (world.available(player, asset) >= 2 * amount).then_some((asset, amount))
}

fn any_asset(dice: &mut Dice) -> Asset {
    if dice.chance(200) { Asset::Stamp } else { Asset::Coin }
}

fn reason(dice: &mut Dice, what: &str) -> String {
    format!("{what} {}", dice.between(1, 9_999))
}
