//! Players whose keys meet poison: few, and every move of theirs is known, so that it is known what waits behind the poison.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use idempo_checker::history::{Answer, History, Purpose};
use idempo_clock::SharedClock;
use idempo_ids::PlayerId;
use idempo_proto::event::v1::{Asset, ItemKind};

use super::dice::Dice;
use super::planned::Planned;
use super::recorder::{Patience, Recorder, Sending};
use super::world::{Player, Shelf, World};
use super::{Progress, inventory_moves as inventory, wallet_moves as wallet};
use crate::wire::Wire;

/// The stream of chance of the first group; those of clients are below.
const FIRST_STREAM: u64 = 1 << 32;

/// What such a player does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Opens a wallet, and gets funds.
    Open,
    /// Gets a unique item.
    GetPiece,
    /// Gets a quantity of what everybody has.
    GetStack,
    /// Gets a quantity of the type that nobody else has.
    GetRarity,
    /// Gives its unique item to the next player of the group.
    PassOn,
}

/// A group of such players, and who plays them: one after the other.
pub struct Afflicted {
    dice: Dice,
    world: World,
    recorder: Recorder,
    /// What only this group gets.
    rarity: Arc<Shelf>,
}

impl Afflicted {
    /// A group of so many players, with item types of its own. `number` tells its caller from those of others.
    ///
    /// # Errors
    /// Where the caller's name can't stand in metadata, or an item type could not be made.
    pub async fn gather(number: u16, players: usize, seed: u64, wire: &Wire, clock: &SharedClock, began: Instant) -> Result<Self> {
        let mut dice = Dice::new(seed, FIRST_STREAM + u64::from(number), clock.clone());
        let mark = dice.key().simple().to_string();
        let slugs = |sort: &str| vec![format!("{sort}_{mark}")];
        let shelf = Arc::new(Shelf { weapons: slugs("axe"), trinkets: slugs("charm"), stacks: slugs("bolt") });
        let rarity = Arc::new(Shelf { stacks: slugs("moonstone"), ..Shelf::default() });
        let own: Vec<Player> = (0..players).map(|_| Player { id: PlayerId::new(dice.key()), available: [0, 0] }).collect();
        let everyone: Arc<[PlayerId]> = own.iter().map(|player| player.id).collect();
        let world = World { players: own, everyone, shelf, ..World::default() };
        let recorder = Recorder::new(number, wire.line(number)?, began, Arc::new(Progress::default()));
        let mut group = Self { dice, world, recorder, rarity };
        group.stock().await?;
        Ok(group)
    }

    /// Who they are.
    #[must_use]
    pub fn players(&self) -> &[PlayerId] {
        &self.world.everyone
    }

    /// The id of the item type that only this group gets.
    #[must_use]
    pub fn rarity(&self) -> &str {
        self.rarity.stacks.first().map_or("", String::as_str)
    }

    /// The whole history of the group.
    #[must_use]
    pub fn finish(self) -> History {
        self.recorder.history
    }

    /// Has every player do this, and gives each one's last position.
    ///
    /// # Errors
    /// Where a command is not applied: all that they do is allowed.
    pub async fn all(&mut self, step: Step) -> Result<Vec<String>> {
        let mut positions = Vec::with_capacity(self.world.players.len());
        for player in 0..self.world.players.len() {
            positions.push(self.one(step, player).await?);
        }
        Ok(positions)
    }

    async fn one(&mut self, step: Step, player: usize) -> Result<String> {
        let planned = match step {
            Step::Open => {
                let opened = wallet::open(&self.world, &mut self.dice, player);
                self.make(opened).await?;
                Some(wallet::first_grant(&self.world, &mut self.dice, player, Asset::Coin))
            }
            Step::GetPiece => inventory::grant_piece(&self.world, &mut self.dice, player),
            Step::GetStack => inventory::grant_stack(&self.world, &mut self.dice, player),
            Step::GetRarity => {
                let common = std::mem::replace(&mut self.world.shelf, self.rarity.clone());
                let planned = inventory::grant_stack(&self.world, &mut self.dice, player);
                self.world.shelf = common;
                planned
            }
            Step::PassOn => inventory::pass_on(&self.world, &mut self.dice, player),
        };
        self.make(planned.with_context(|| format!("{step:?} can't be done by player {player}"))?).await
    }

    async fn stock(&mut self) -> Result<()> {
        let (shelf, rarity) = (self.world.shelf.clone(), self.rarity.clone());
        let unique = shelf
            .weapons
            .iter()
            .map(|slug| (slug, ItemKind::Unique, 1))
            .chain(shelf.trinkets.iter().map(|slug| (slug, ItemKind::Unique, 0)));
        let counted = shelf.stacks.iter().chain(&rarity.stacks).map(|slug| (slug, ItemKind::Stackable, 0));
        for (slug, kind, weapon_bonus) in unique.chain(counted) {
            let planned = inventory::create_type(&mut self.dice, slug, kind, weapon_bonus);
            self.make(planned).await?;
        }
        Ok(())
    }

    /// Sends a command until it is applied, and learns from its answer.
    async fn make(&mut self, planned: Planned) -> Result<String> {
        let Planned { method, key, request, expected, learn, .. } = planned;
        let sending = Sending { method, key, request, expected, purpose: Purpose::First, patience: Patience::Enough };
        match self.recorder.settle(&sending).await {
            Answer::Replied { reply, .. } => {
                if let Some(learn) = learn {
                    learn(&mut self.world, &reply)?;
                }
                Ok(method.position_in(&reply)?)
            }
            answer => bail!("{} was not applied: {answer:?}", method.name()),
        }
    }
}
