//! What holds after any sequence of commands.

use std::collections::BTreeMap;

use idempo_decider::{Decider as _, States};
use idempo_ids::{HoldId, PlayerId, TransactionId};
use idempo_wallet_domain::{
    Action, Amount, Asset, Command, Event, HoldLookup, Original, Party, Reason, Reversal, ReversalLookup, Rules, Shortfall, SystemAccount,
    Wallet,
};
use proptest::prelude::*;

use crate::scenario::{amount, at, context, player};

const PLAYERS: u128 = 3;

/// A command before it is known which holds and transactions there are: those are picked by number.
#[derive(Debug, Clone)]
enum Step {
    Open(u128),
    Grant(u128, Asset, i64),
    Burn(u128, Asset, i64),
    Transfer(u128, u128, Asset, i64),
    PlaceHold(u128, Asset, i64, i64),
    Capture(usize, Option<i64>, u128),
    Release(usize),
    Expire(usize),
    Reverse(usize, bool),
    Wait(i64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = 0..PLAYERS;
    let asset = prop_oneof![Just(Asset::Coin), Just(Asset::Stamp)];
    let value = prop_oneof![8 => 1..200_i64, 1 => (Amount::MAX - 5)..=Amount::MAX];
    let step = prop_oneof![
        2 => who.clone().prop_map(Step::Open),
        4 => (who.clone(), asset.clone(), value.clone()).prop_map(|(who, asset, value)| Step::Grant(who, asset, value)),
        2 => (who.clone(), asset.clone(), value.clone()).prop_map(|(who, asset, value)| Step::Burn(who, asset, value)),
        4 => (who.clone(), who.clone(), asset.clone(), value.clone()).prop_map(|(a, b, asset, value)| Step::Transfer(a, b, asset, value)),
        4 => (who.clone(), asset, value.clone(), 1_000..9_000_i64).prop_map(|(who, asset, value, ttl)| Step::PlaceHold(who, asset, value, ttl)),
        3 => (any::<usize>(), proptest::option::of(1..200_i64), 0..PLAYERS + 2).prop_map(|(hold, value, to)| Step::Capture(hold, value, to)),
        2 => any::<usize>().prop_map(Step::Release),
        2 => any::<usize>().prop_map(Step::Expire),
        3 => (any::<usize>(), any::<bool>()).prop_map(|(transaction, partial)| Step::Reverse(transaction, partial)),
        1 => (1..4_000_i64).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 1..120)
}

#[derive(Default)]
struct World {
    wallets: BTreeMap<PlayerId, Wallet>,
    histories: BTreeMap<PlayerId, Vec<Event>>,
    system: BTreeMap<(SystemAccount, Asset), i128>,
    holds: Vec<(PlayerId, HoldId)>,
    resolved: BTreeMap<HoldId, usize>,
    transactions: Vec<(TransactionId, Original)>,
    reversed: BTreeMap<TransactionId, usize>,
    postings: BTreeMap<(TransactionId, Asset), i128>,
    now_ms: i64,
}

impl World {
    fn command(&self, step: &Step) -> Option<Command> {
        let own = |who: u128, action| Some(Command { wallet: player(who), action });
        let reason = Reason::default();
        match *step {
            Step::Open(who) => own(who, Action::Open),
            Step::Grant(who, asset, value) => own(who, Action::Grant { asset, amount: amount(value), reason }),
            Step::Burn(who, asset, value) => own(who, Action::Burn { asset, amount: amount(value), reason }),
            Step::Transfer(who, to, asset, value) => own(who, Action::Transfer { to: player(to), asset, amount: amount(value), reason }),
            Step::PlaceHold(who, asset, value, ttl_ms) => own(who, Action::PlaceHold { asset, amount: amount(value), ttl_ms, reason }),
            Step::Capture(number, value, to) => {
                let (wallet, hold) = *self.holds.get(number % self.holds.len().max(1))?;
                let to = match to {
                    PLAYERS => Party::System(SystemAccount::Fees),
                    who if who > PLAYERS => Party::System(SystemAccount::Burn),
                    who => Party::Player(player(who)),
                };
                Some(Command { wallet, action: Action::CaptureHold { hold, amount: value.map(amount), to, lookup: HoldLookup::default() } })
            }
            Step::Release(number) => {
                let (wallet, hold) = *self.holds.get(number % self.holds.len().max(1))?;
                Some(Command { wallet, action: Action::ReleaseHold { hold, lookup: HoldLookup::default() } })
            }
            Step::Expire(number) => {
                let (wallet, hold) = *self.holds.get(number % self.holds.len().max(1))?;
                let seen_at = at(self.now_ms);
                Some(Command { wallet, action: Action::ExpireHold { hold, seen_at, lookup: HoldLookup::default() } })
            }
            Step::Reverse(number, partial) => {
                let (transaction, original) = *self.transactions.get(number % self.transactions.len().max(1))?;
                let lookup = ReversalLookup { version: 0, original: Some(original), reversed: false };
                let shortfall = if partial { Shortfall::Partial } else { Shortfall::Refuse };
                Some(Command::reverse(Reversal { transaction, lookup, shortfall, reason }))
            }
            Step::Wait(_) => None,
        }
    }

    fn run(&mut self, number: usize, step: &Step) {
        if let Step::Wait(ms) = step {
            self.now_ms += ms;
        }
        let Some(command) = self.command(step) else { return };
        let own = self.wallets.entry(command.wallet).or_default().clone();
        let peer = command.peer().map(|peer| self.wallets.entry(peer).or_default().clone());
        let states: Vec<&Wallet> = [Some(&own), peer.as_ref()].into_iter().flatten().collect();
        let Ok(decision) = Rules::decide(States::new(&states), &command, &context(number as u128, self.now_ms)) else { return };
        for (stream, event) in decision.events {
            let whose = if stream == 0 { command.wallet } else { command.peer().unwrap() };
            self.happened(whose, &event);
        }
    }

    fn happened(&mut self, whose: PlayerId, event: &Event) {
        Rules::evolve(self.wallets.get_mut(&whose).unwrap(), event);
        self.histories.entry(whose).or_default().push(event.clone());
        if let (Some(transaction), Some((asset, posted, _))) = (event.transaction(), event.movement()) {
            *self.postings.entry((transaction, asset)).or_default() += i128::from(posted);
        }
        let me = Party::Player(whose);
        match event {
            Event::Minted { transaction, asset, amount, from, reverses, .. } => {
                self.posted(*transaction, *asset, *amount, Party::System(*from), me, *reverses);
            }
            Event::Burned { transaction, asset, amount, to, reverses, .. } => {
                self.posted(*transaction, *asset, *amount, me, Party::System(*to), *reverses);
            }
            Event::Sent { transaction, asset, amount, to, reverses, .. } => {
                self.posted(*transaction, *asset, *amount, me, Party::Player(*to), *reverses);
            }
            Event::HoldPlaced { hold, .. } => self.holds.push((whose, *hold)),
            Event::HoldCaptured { hold, transaction, asset, captured, to, .. } => {
                *self.resolved.entry(*hold).or_default() += 1;
                self.posted(*transaction, *asset, *captured, me, *to, None);
            }
            Event::HoldReleased { hold, .. } | Event::HoldExpired { hold, .. } => *self.resolved.entry(*hold).or_default() += 1,
            Event::Opened { .. } | Event::Received { .. } | Event::CaptureReceived { .. } => {}
        }
    }

    fn posted(&mut self, id: TransactionId, asset: Asset, amount: Amount, from: Party, to: Party, reverses: Option<TransactionId>) {
        for (party, sign) in [(from, -1), (to, 1)] {
            if let Party::System(account) = party {
                *self.system.entry((account, asset)).or_default() += sign * i128::from(amount.get());
                *self.postings.entry((id, asset)).or_default() += sign * i128::from(amount.get());
            }
        }
        if let Some(reversed) = reverses {
            *self.reversed.entry(reversed).or_default() += 1;
        }
        self.transactions.push((id, Original { asset, amount, from, to, is_reversal: reverses.is_some() }));
    }

    fn check(&self) -> Result<(), TestCaseError> {
        for asset in Asset::ALL {
            let of_players: i128 = self.wallets.values().map(|wallet| i128::from(wallet.balance(asset).posted())).sum();
            let of_system: i128 = self.system.iter().filter(|((_, of), _)| *of == asset).map(|(_, sum)| *sum).sum();
            prop_assert_eq!(of_players + of_system, 0, "all accounts of {:?} sum to zero", asset);
            for wallet in self.wallets.values() {
                let balance = wallet.balance(asset);
                prop_assert!(balance.posted() >= 0 && balance.held() >= 0 && balance.held() <= balance.posted());
                prop_assert_eq!(balance.available(), balance.posted() - balance.held());
            }
        }
        for ((transaction, _), sum) in &self.postings {
            prop_assert_eq!(*sum, 0, "transaction {} has two equal sides", transaction);
        }
        for (whose, hold) in &self.holds {
            let open = usize::from(self.wallets[whose].hold(*hold).is_some());
            prop_assert_eq!(self.resolved.get(hold).copied().unwrap_or(0) + open, 1, "a hold is open or resolved once");
        }
        prop_assert!(self.reversed.values().all(|times| *times == 1), "a transaction is reversed once");
        for (whose, wallet) in &self.wallets {
            let held: i64 = Asset::ALL.into_iter().map(|asset| wallet.balance(asset).held()).sum();
            let open = self.holds.iter().filter(|(of, _)| of == whose).filter_map(|(_, hold)| wallet.hold(*hold));
            prop_assert_eq!(held, open.map(|hold| hold.amount.get()).sum::<i64>(), "held is the sum of the open holds");
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn money_is_neither_made_nor_lost_whatever_is_asked(steps in steps()) {
        let mut world = World::default();
        for (number, step) in steps.iter().enumerate() {
            world.run(number + 1, step);
            world.check()?;
        }
    }

    #[test]
    fn a_state_is_the_fold_of_its_events(steps in steps()) {
        let mut world = World::default();
        for (number, step) in steps.iter().enumerate() {
            world.run(number + 1, step);
        }
        for (whose, history) in &world.histories {
            let mut folded = Wallet::default();
            for event in history {
                Rules::evolve(&mut folded, event);
            }
            prop_assert_eq!(&folded, &world.wallets[whose]);
            prop_assert_eq!(folded.version(), history.len() as u64);
        }
    }

    #[test]
    fn a_command_decided_twice_decides_the_same(steps in steps()) {
        let mut world = World::default();
        for (number, step) in steps.iter().enumerate() {
            if let Some(command) = world.command(step) {
                let own = world.wallets.get(&command.wallet).cloned().unwrap_or_default();
                let peer = command.peer().map(|peer| world.wallets.get(&peer).cloned().unwrap_or_default());
                let states: Vec<&Wallet> = [Some(&own), peer.as_ref()].into_iter().flatten().collect();
                let context = context(number as u128 + 1, world.now_ms);
                let decide = || Rules::decide(States::new(&states), &command, &context).map(|decision| decision.events);
                prop_assert_eq!(decide(), decide());
            }
            world.run(number + 1, step);
        }
    }
}
