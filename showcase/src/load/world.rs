//! What one client knows of its own players from the answers it got.
//!
//! Only this client spends for its players, so what it knows is what can be spent at least: others only add to it.

use std::sync::Arc;

use idempo_ids::{PlayerId, Uuid};
use idempo_proto::event::v1::Asset;
use idempo_proto::wallet::v1 as wallet;

/// The item types of a run.
#[derive(Debug, Clone, Default)]
pub(super) struct Shelf {
    /// Unique types that can be equipped.
    pub(super) weapons: Vec<String>,
    /// Unique types that can't.
    pub(super) trinkets: Vec<String>,
    /// Stackable types.
    pub(super) stacks: Vec<String>,
}

/// A hold that is still open.
#[derive(Debug, Clone)]
pub(super) struct OpenHold {
    /// The holder's place among the client's players.
    pub(super) player: usize,
    /// `wallets/{player_id}/holds/{hold_id}`.
    pub(super) name: String,
    /// How much is held.
    pub(super) amount: i64,
}

/// A transaction that was not reversed yet.
#[derive(Debug, Clone)]
pub(super) struct Posted {
    /// The player whose command it was.
    pub(super) player: usize,
    /// Its id.
    pub(super) transaction_id: String,
    /// The asset.
    pub(super) asset: Asset,
    /// What it added to the player's wallet; negative where it took.
    pub(super) change: i64,
}

/// A unique item.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    /// The owner's place among the client's players.
    pub(super) player: usize,
    /// The item's id, a UUID.
    pub(super) item_id: String,
    /// Whether it can be equipped.
    pub(super) weapon: bool,
    /// Its hop.
    pub(super) hop: u64,
    /// The reservation it is under: its full name.
    pub(super) reservation: Option<String>,
    /// Whether it is the equipped weapon.
    pub(super) equipped: bool,
}

impl Piece {
    /// Whether its owner can give or use it.
    #[must_use]
    pub(super) const fn is_free(&self) -> bool {
        self.reservation.is_none() && !self.equipped
    }
}

/// A quantity that is reserved.
#[derive(Debug, Clone)]
pub(super) struct ReservedQuantity {
    /// The owner's place among the client's players.
    pub(super) player: usize,
    /// The reservation's full name.
    pub(super) name: String,
    /// The item type's id.
    pub(super) item_type: String,
    /// How many.
    pub(super) quantity: i64,
}

/// What a player has of a stackable type and has not reserved, at least.
#[derive(Debug, Clone)]
pub(super) struct Stack {
    /// The owner's place among the client's players.
    pub(super) player: usize,
    /// The item type's id.
    pub(super) item_type: String,
    /// How many are free.
    pub(super) free: i64,
}

/// One of the client's players.
#[derive(Debug, Clone)]
pub(super) struct Player {
    /// Who.
    pub(super) id: PlayerId,
    /// What the player can spend at least, in COIN and STAMP.
    pub(super) available: [i64; 2],
}

/// What a client knows.
#[derive(Debug, Clone, Default)]
pub(super) struct World {
    /// The client's own players.
    pub(super) players: Vec<Player>,
    /// All players of the run.
    pub(super) everyone: Arc<[PlayerId]>,
    /// The item types.
    pub(super) shelf: Arc<Shelf>,
    /// Open holds.
    pub(super) holds: Vec<OpenHold>,
    /// Names of holds that are resolved, with whether they were captured.
    pub(super) resolved_holds: Vec<(String, ResolvedAs)>,
    /// Transactions that can still be reversed.
    pub(super) transactions: Vec<Posted>,
    /// Ids of transactions that were reversed.
    pub(super) reversed: Vec<String>,
    /// Unique items.
    pub(super) pieces: Vec<Piece>,
    /// Stacks.
    pub(super) stacks: Vec<Stack>,
    /// Reserved quantities.
    pub(super) reserved: Vec<ReservedQuantity>,
    /// Items that left a player for good: the full name under the old owner.
    pub(super) gone: Vec<String>,
}

/// How a hold ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResolvedAs {
    /// Captured.
    Captured,
    /// Released.
    Released,
}

/// An asset's place in [`Player::available`].
#[must_use]
pub(super) const fn slot(asset: Asset) -> usize {
    match asset {
        Asset::Stamp => 1,
        Asset::Coin | Asset::Unspecified => 0,
    }
}

impl World {
    /// The id of the player at this place, as text; the nil id where there is none.
    #[must_use]
    pub(super) fn player_id(&self, player: usize) -> PlayerId {
        self.players.get(player).map_or(PlayerId::new(Uuid::nil()), |player| player.id)
    }

    /// `wallets/{player_id}`.
    #[must_use]
    pub(super) fn wallet_name(&self, player: usize) -> String {
        format!("wallets/{}", self.player_id(player))
    }

    /// `players/{player_id}`.
    #[must_use]
    pub(super) fn player_name(&self, player: usize) -> String {
        format!("players/{}", self.player_id(player))
    }

    /// `players/{player_id}/items/{item_id}`.
    #[must_use]
    pub(super) fn item_name(&self, piece: &Piece) -> String {
        format!("players/{}/items/{}", self.player_id(piece.player), piece.item_id)
    }

    /// What a player can spend of an asset, at least.
    #[must_use]
    pub(super) fn available(&self, player: usize, asset: Asset) -> i64 {
        self.players.get(player).and_then(|player| player.available.get(slot(asset))).copied().unwrap_or_default()
    }

    /// Takes over the balances of an answer.
    pub(super) fn learn_wallet(&mut self, player: usize, wallet: Option<&wallet::Wallet>) {
        let Some(player) = self.players.get_mut(player) else { return };
        for balance in wallet.iter().flat_map(|wallet| &wallet.balances) {
            if let Some(available) = player.available.get_mut(slot(balance.asset())) {
                *available = balance.available;
            }
        }
    }

    /// Remembers what the player's own transaction did, so that it can be reversed.
    pub(super) fn learn_posted(&mut self, player: usize, transaction_id: String, asset: Asset, change: i64) {
        self.transactions.push(Posted { player, transaction_id, asset, change });
    }

    /// Takes back what a transaction did.
    pub(super) fn learn_reversed(&mut self, transaction_id: String) {
        let Some(at) = self.transactions.iter().position(|posted| posted.transaction_id == transaction_id) else { return };
        let posted = self.transactions.swap_remove(at);
        let available = self.players.get_mut(posted.player).and_then(|player| player.available.get_mut(slot(posted.asset)));
        if let Some(available) = available {
            *available -= posted.change;
        }
        self.reversed.push(transaction_id);
    }

    /// Adds to, or with a negative number takes from, what a player has free of a stackable type.
    pub(super) fn learn_stack(&mut self, player: usize, item_type: &str, change: i64) {
        match self.stacks.iter_mut().find(|stack| stack.player == player && stack.item_type == item_type) {
            Some(stack) => stack.free += change,
            None => self.stacks.push(Stack { player, item_type: item_type.to_owned(), free: change }),
        }
    }

    /// The place of a piece.
    #[must_use]
    pub(super) fn piece_at(&self, item_id: &str) -> Option<usize> {
        self.pieces.iter().position(|piece| piece.item_id == item_id)
    }

    /// The place among the client's own players of whoever has this id.
    #[must_use]
    pub(super) fn own_place(&self, id: PlayerId) -> Option<usize> {
        self.players.iter().position(|player| player.id == id)
    }

    /// Moves a piece to its new owner, out of what this client knows where that is another client's player.
    pub(super) fn learn_piece_moved(&mut self, item_id: &str, to: PlayerId) {
        let Some(at) = self.piece_at(item_id) else { return };
        let old_name = self.pieces.get(at).map(|piece| self.item_name(piece));
        self.gone.extend(old_name);
        match self.own_place(to) {
            Some(player) => {
                // It may have been there before: what is gone now is there again.
                let name = format!("players/{to}/items/{item_id}");
                self.gone.retain(|gone| *gone != name);
                if let Some(piece) = self.pieces.get_mut(at) {
                    piece.player = player;
                    piece.hop += 1;
                    piece.reservation = None;
                }
            }
            None => drop(self.pieces.swap_remove(at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world() -> World {
        let id = |last: u8| PlayerId::new(Uuid::from_bytes([last; 16]));
        World {
            players: vec![Player { id: id(1), available: [0, 0] }, Player { id: id(2), available: [0, 0] }],
            everyone: vec![id(1), id(2), id(3)].into(),
            pieces: vec![Piece {
                player: 0,
                item_id: "sword".to_owned(),
                weapon: true,
                hop: 1,
                reservation: Some("r".to_owned()),
                equipped: false,
            }],
            ..World::default()
        }
    }

    #[test]
    fn a_piece_given_to_an_own_player_is_kept_one_hop_on_and_unreserved() {
        let mut world = world();
        let to = world.player_id(1);
        world.learn_piece_moved("sword", to);
        let piece = world.pieces.first().expect("kept");
        assert_eq!((piece.player, piece.hop, piece.reservation.clone()), (1, 2, None));
        assert_eq!(world.gone, vec![format!("players/{}/items/sword", world.player_id(0))]);
    }

    #[test]
    fn a_piece_given_to_a_stranger_is_out_of_sight() {
        let mut world = world();
        let stranger = *world.everyone.last().expect("three players");
        world.learn_piece_moved("sword", stranger);
        assert!(world.pieces.is_empty());
        assert_eq!(world.gone.len(), 1);
    }

    #[test]
    fn a_piece_that_comes_back_is_not_gone_any_more() {
        let mut world = world();
        let (first, second) = (world.player_id(0), world.player_id(1));
        world.learn_piece_moved("sword", second);
        world.learn_piece_moved("sword", first);
        assert_eq!(world.gone, vec![format!("players/{second}/items/sword")]);
    }

    #[test]
    fn stacks_are_counted_per_player_and_type() {
        let mut world = world();
        world.learn_stack(0, "arrow", 10);
        world.learn_stack(1, "arrow", 5);
        world.learn_stack(0, "arrow", -3);
        assert_eq!(world.stacks.iter().map(|stack| stack.free).collect::<Vec<_>>(), vec![7, 5]);
    }
}
