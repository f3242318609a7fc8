//! Given events, when a command, then events or a refusal.

use idempo_decider::{Context, Decider as _, States, Timestamp};
use idempo_ids::{CommandId, HoldId, PlayerId, TransactionId, Uuid};
use idempo_wallet_domain::{Action, Amount, Asset, Command, Event, HoldLookup, Reason, Rejection, Rules, SystemAccount, Wallet};

pub(crate) const START_MS: i64 = 1_790_000_000_000;

pub(crate) fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(START_MS + ms).unwrap()
}

pub(crate) fn amount(value: i64) -> Amount {
    Amount::new(value).unwrap()
}

pub(crate) fn player(number: u128) -> PlayerId {
    PlayerId::new(Uuid::from_u128(number))
}

pub(crate) const ALICE: u128 = 1;
pub(crate) const BOB: u128 = 2;

pub(crate) fn context(command: u128, ms: i64) -> Context {
    Context { now: at(ms), command_id: CommandId::new(Uuid::from_u128((0x0190 << 112) | command)) }
}

pub(crate) fn transaction_of(command: u128) -> TransactionId {
    TransactionId::new(context(command, 0).derive("transaction", 0))
}

pub(crate) fn hold_of(command: u128) -> HoldId {
    HoldId::new(context(command, 0).derive("hold", 0))
}

/// Two wallets, Alice's and Bob's, and what happened to them.
#[derive(Default, Clone)]
pub(crate) struct Scenario {
    pub(crate) alice: Wallet,
    pub(crate) bob: Wallet,
    pub(crate) now_ms: i64,
    commands: u128,
}

pub(crate) type Decided = Result<Vec<Event>, Rejection>;

impl Scenario {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn both_open() -> Self {
        Self::new().given(ALICE, [opened(ALICE)]).given(BOB, [opened(BOB)])
    }

    /// Both open, and Alice has coins.
    pub(crate) fn with_coins(coins: i64) -> Self {
        Self::both_open().given(ALICE, [minted(900, Asset::Coin, coins)])
    }

    pub(crate) fn given(mut self, whose: u128, events: impl IntoIterator<Item = Event>) -> Self {
        for event in events {
            Rules::evolve(if whose == ALICE { &mut self.alice } else { &mut self.bob }, &event);
        }
        self
    }

    pub(crate) fn at(mut self, ms: i64) -> Self {
        self.now_ms = ms;
        self
    }

    /// Decides on Alice's wallet, or the one the command names, and applies what follows.
    pub(crate) fn when(&mut self, command: &Command) -> Decided {
        self.commands += 1;
        self.when_as(self.commands, command)
    }

    pub(crate) fn when_as(&mut self, id: u128, command: &Command) -> Decided {
        let (own, peer) = if command.wallet == player(BOB) { (&self.bob, &self.alice) } else { (&self.alice, &self.bob) };
        let both = [own, peer];
        let named = if command.peer().is_some() { &both[..] } else { &both[..1] };
        let decision = Rules::decide(States::new(named), command, &context(id, self.now_ms))?;
        for (stream, event) in &decision.events {
            let is_bob = (command.wallet == player(BOB)) == (*stream == 0);
            Rules::evolve(if is_bob { &mut self.bob } else { &mut self.alice }, event);
        }
        Ok(decision.events.into_iter().map(|(_, event)| event).collect())
    }

    /// A wallet's coins: posted and held.
    pub(crate) fn coins(&self, whose: u128) -> (i64, i64) {
        let balance = if whose == ALICE { &self.alice } else { &self.bob }.balance(Asset::Coin);
        (balance.posted(), balance.held())
    }
}

pub(crate) fn opened(whose: u128) -> Event {
    Event::Opened { player: player(whose), at: at(0) }
}

pub(crate) fn minted(command: u128, asset: Asset, value: i64) -> Event {
    Event::Minted {
        transaction: transaction_of(command),
        asset,
        amount: amount(value),
        from: SystemAccount::Mint,
        reason: Reason::default(),
        reverses: None,
    }
}

pub(crate) fn hold_placed(command: u128, value: i64, ttl_ms: i64) -> Event {
    Event::HoldPlaced {
        hold: hold_of(command),
        asset: Asset::Coin,
        amount: amount(value),
        placed_at: at(0),
        expires_at: at(ttl_ms),
        reason: Reason::default(),
    }
}

pub(crate) fn command(whose: u128, action: Action) -> Command {
    Command { wallet: player(whose), action }
}

pub(crate) fn grant(whose: u128, value: i64) -> Command {
    command(whose, Action::Grant { asset: Asset::Coin, amount: amount(value), reason: Reason::default() })
}

pub(crate) fn burn(whose: u128, value: i64) -> Command {
    command(whose, Action::Burn { asset: Asset::Coin, amount: amount(value), reason: Reason::default() })
}

pub(crate) fn transfer(from: u128, to: u128, value: i64) -> Command {
    command(from, Action::Transfer { to: player(to), asset: Asset::Coin, amount: amount(value), reason: Reason::default() })
}

pub(crate) fn place_hold(whose: u128, value: i64, ttl_ms: i64) -> Command {
    command(whose, Action::PlaceHold { asset: Asset::Coin, amount: amount(value), ttl_ms, reason: Reason::default() })
}

pub(crate) fn release(whose: u128, hold: HoldId) -> Command {
    command(whose, Action::ReleaseHold { hold, lookup: HoldLookup::default() })
}

pub(crate) fn refused(rejection: Rejection) -> Decided {
    Err(rejection)
}
