//! One client: plays with its players, repeats some of what it sends, and reads some of what it wrote.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use idempo_checker::history::{Answer, Expected, History, Purpose};
use idempo_proto::event::v1::{Asset, ItemKind};
use tokio::sync::Barrier;

use super::dice::Dice;
use super::looks;
use super::planned::{Look, Planned};
use super::recorder::{Patience, Recorder, Sending};
use super::world::World;
use super::{inventory_moves as inventory, malformed, refusals, wallet_moves as wallet};

/// How many of a thousand commands are sent a second time.
const REPEATED_PER_THOUSAND: u32 = 105;
/// How many of a thousand commands are first sent with too little patience for an answer.
const IMPATIENT_PER_THOUSAND: u32 = 10;
/// How many of a thousand applied commands are followed by a read with their position.
const LOOK_PER_THOUSAND: u32 = 60;
/// After how many commands of the same client a late repetition comes, at most.
const LATER_COMMANDS_MAX: i64 = 40;
/// How many players and moves a client tries before it makes the move that always works.
const TRIES_MAX: usize = 8;

/// What a client does next.
#[derive(Debug, Clone, Copy)]
pub(super) enum Move {
    GrantFunds,
    Burn,
    Transfer,
    Hold,
    ShortHold,
    Capture,
    Release,
    Reverse,
    GrantPiece,
    GrantStack,
    ReservePiece,
    ReserveStack,
    ShortReservation,
    ReleaseReservation,
    TransferPiece,
    TransferStack,
    TransferReserved,
    ConsumePiece,
    ConsumeStack,
    Equip,
    Unequip,
    Malformed,
    Refused,
}

/// How often each move is made.
pub(super) const MOVES: &[(Move, u32)] = &[
    (Move::GrantFunds, 60),
    (Move::Burn, 30),
    (Move::Transfer, 190),
    (Move::Hold, 70),
    (Move::ShortHold, 5),
    (Move::Capture, 40),
    (Move::Release, 30),
    (Move::Reverse, 35),
    (Move::GrantPiece, 95),
    (Move::GrantStack, 60),
    (Move::ReservePiece, 50),
    (Move::ReserveStack, 25),
    (Move::ShortReservation, 5),
    (Move::ReleaseReservation, 30),
    (Move::TransferPiece, 55),
    (Move::TransferStack, 40),
    (Move::TransferReserved, 35),
    (Move::ConsumePiece, 20),
    (Move::ConsumeStack, 30),
    (Move::Equip, 35),
    (Move::Unequip, 15),
    (Move::Malformed, 40),
    (Move::Refused, 50),
];

/// How a command is sent a second time.
#[derive(Debug, Clone, Copy)]
enum Repetition {
    SameMoment,
    Later,
    Changed,
}

/// How often each way of repeating is taken.
const REPETITIONS: &[(Repetition, u32)] = &[(Repetition::SameMoment, 40), (Repetition::Later, 35), (Repetition::Changed, 25)];

/// One client.
pub(super) struct Client {
    dice: Dice,
    world: World,
    recorder: Recorder,
    /// Repetitions that wait, with the number of the command after which they are due.
    later: VecDeque<(usize, Sending)>,
    sent: usize,
}

impl Client {
    /// A client that has sent nothing.
    pub(super) const fn new(dice: Dice, world: World, recorder: Recorder) -> Self {
        Self { dice, world, recorder, later: VecDeque::new(), sent: 0 }
    }

    /// A few characters that no other run has.
    pub(super) fn mark(&mut self) -> String {
        self.dice.key().simple().to_string()
    }

    /// Creates an item type.
    ///
    /// # Errors
    /// Where the reply can't be read.
    pub(super) async fn create_type(&mut self, slug: &str, kind: ItemKind, weapon_bonus: i32) -> anyhow::Result<()> {
        let planned = inventory::create_type(&mut self.dice, slug, kind, weapon_bonus);
        self.make(planned).await
    }

    /// Ends the client.
    pub(super) fn finish(self) -> History {
        self.recorder.history
    }

    /// Opens the wallets of its players, waits for the other clients to have done so, then sends commands up to `quota` in all or until the load is
    /// told to stop, and thinks between them for `think` on average.
    ///
    /// # Errors
    /// Where a reply can't be read.
    pub(super) async fn run(mut self, quota: usize, think: Duration, all_open: Arc<Barrier>) -> anyhow::Result<History> {
        let think_ms_max = i64::try_from(2 * think.as_millis())?;
        for player in 0..self.world.players.len() {
            let planned = wallet::open(&self.world, &mut self.dice, player);
            self.make(planned).await?;
            for asset in [Asset::Coin, Asset::Stamp] {
                let planned = wallet::first_grant(&self.world, &mut self.dice, player, asset);
                self.make(planned).await?;
            }
        }
        all_open.wait().await;
        while self.sent < quota && !self.recorder.is_stopped() {
            let planned = self.plan();
            self.make(planned).await?;
            if think_ms_max > 0 {
                tokio::time::sleep(Duration::from_millis(self.dice.between(0, think_ms_max).unsigned_abs())).await;
            }
        }
        while let Some((_, sending)) = self.later.pop_front() {
            self.recorder.settle(&sending).await;
        }
        Ok(self.finish())
    }

    fn plan(&mut self) -> Planned {
        for _ in 0..TRIES_MAX {
            let Some(player) = self.dice.below(self.world.players.len()) else { break };
            let Some(next) = self.dice.weighted(MOVES) else { break };
            if let Some(planned) = plan_move(&self.world, &mut self.dice, player, next) {
                return planned;
            }
        }
        wallet::later_grant(&self.world, &mut self.dice, 0)
    }

    /// Sends a command, learns from its answer, repeats it or reads what it changed where chance has it so.
    async fn make(&mut self, planned: Planned) -> anyhow::Result<()> {
        let Planned { method, key, request, expected, change, learn, look } = planned;
        let repetition = if self.dice.chance(REPEATED_PER_THOUSAND) { self.dice.weighted(REPETITIONS) } else { None };
        let impatient = self.dice.chance(IMPATIENT_PER_THOUSAND);
        let looking = self.dice.chance(LOOK_PER_THOUSAND) || self.recorder.looks_always();
        let patience = if impatient { Patience::None } else { Patience::Enough };
        let sending = Sending { method, key, request, expected, purpose: Purpose::First, patience };
        self.sent += 1;

        let answer = match repetition {
            Some(Repetition::SameMoment) => self.recorder.settle_twins(&sending).await,
            _ => self.recorder.settle(&sending).await,
        };
        if let (Answer::Replied { reply, .. }, Some(learn)) = (&answer, learn) {
            learn(&mut self.world, reply)?;
        }
        match (repetition, change) {
            (Some(Repetition::Later), _) => self.repeat_later(&sending),
            (Some(Repetition::Changed), Some((request, field))) => {
                let (expected, purpose) = (Expected::Mismatch(field.into()), Purpose::Changed);
                self.recorder.settle(&Sending { request, expected, purpose, patience: Patience::Enough, ..sending.clone() }).await;
            }
            (Some(Repetition::Changed), None) => self.repeat_later(&sending),
            _ => {}
        }
        self.send_due().await;
        self.look_at(look.filter(|_| looking), method, &answer).await?;
        Ok(())
    }

    fn repeat_later(&mut self, sending: &Sending) {
        let due = self.sent.saturating_add(usize::try_from(self.dice.between(1, LATER_COMMANDS_MAX)).unwrap_or(1));
        self.later.push_back((due, Sending { purpose: Purpose::Again, patience: Patience::Enough, ..sending.clone() }));
    }

    /// Sends the repetitions that are due.
    async fn send_due(&mut self) {
        while let Some((due, sending)) = self.later.pop_front() {
            if due > self.sent {
                self.later.push_front((due, sending));
                return;
            }
            self.recorder.settle(&sending).await;
        }
    }

    async fn look_at(&mut self, look: Option<Look>, method: idempo_checker::method::Method, answer: &Answer) -> anyhow::Result<()> {
        if let (Some(look), Answer::Replied { reply, .. }) = (look, answer) {
            let position = method.position_in(reply)?;
            looks::look(&mut self.recorder, &self.world, look, &position).await;
        }
        Ok(())
    }
}

pub(super) fn plan_move(world: &World, dice: &mut Dice, player: usize, next: Move) -> Option<Planned> {
    match next {
        Move::GrantFunds => Some(wallet::later_grant(world, dice, player)),
        Move::Burn => wallet::burn(world, dice, player),
        Move::Transfer => wallet::transfer(world, dice, player),
        Move::Hold => wallet::hold(world, dice, player),
        Move::ShortHold => wallet::short_hold(world, dice, player),
        Move::Capture => wallet::capture(world, dice),
        Move::Release => wallet::release(world, dice),
        Move::Reverse => wallet::reverse(world, dice),
        Move::GrantPiece => inventory::grant_piece(world, dice, player),
        Move::GrantStack => inventory::grant_stack(world, dice, player),
        Move::ReservePiece => inventory::reserve_piece(world, dice),
        Move::ReserveStack => inventory::reserve_stack(world, dice),
        Move::ShortReservation => inventory::short_reservation(world, dice),
        Move::ReleaseReservation => inventory::release(world, dice),
        Move::TransferPiece => inventory::transfer_piece(world, dice),
        Move::TransferStack => inventory::transfer_stack(world, dice),
        Move::TransferReserved => inventory::transfer_reserved(world, dice),
        Move::ConsumePiece => inventory::consume_piece(world, dice),
        Move::ConsumeStack => inventory::consume_stack(world, dice),
        Move::Equip => inventory::equip(world, dice),
        Move::Unequip => inventory::unequip(world, dice),
        Move::Malformed => malformed::plan(world, dice, player),
        Move::Refused => refusals::plan(world, dice, player),
    }
}
