//! The schedule: which fault begins when and lasts how long, drawn from the seed.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::chance::Chance;
use crate::faults::brokers::BrokerFault;
use crate::faults::network::{NetworkFault, Weather};
use crate::faults::poison::PoisonFault;
use crate::faults::postgres::PostgresStop;
use crate::faults::processes::{ProcessFault, What, Who};
use crate::faults::transactions::{Kind as Held, TransactionFault};
use crate::faults::{Family, Fault, Link, Resource};
use crate::stage::{DEAD_LETTERS, Instances, PROJECTORS};

/// When the first fault begins.
const FIRST_AT: Duration = Duration::from_millis(1_500);
/// The share of the run by whose end the last fault has ended, in percent.
const LAST_BY_PERCENT: u32 = 80;
/// What two faults on the same have between them at least.
const GAP: Duration = Duration::from_millis(400);
/// What a broker that was killed needs to be one of the quorum again: before that, another one's end would be the end of all, which is another fault.
const BROKER_STARTS: Duration = Duration::from_secs(10);
/// What PostgreSQL needs to read its log after a stop.
const POSTGRES_STARTS: Duration = Duration::from_secs(2);
/// How often a place is looked for.
const TRIES_MAX: u32 = 60;
/// How often what must be there is laid anew.
const LAYOUTS_MAX: u32 = 100;
/// A fault begins about this often, on average.
const EVERY: Duration = Duration::from_millis(1_500);
/// The most faults at a time.
const OVERLAP_MAX: usize = 4;
/// The shortest run that has room for all that must be in it.
pub const SHORTEST: Duration = Duration::from_secs(14);
/// From this length on, brokers that are away may be killed instead of being unreachable: they need their time to start.
const KILL_ALL_FROM: Duration = Duration::from_secs(90);
/// The longest that all brokers are away, and the share of the run that it is at most, as one of so many.
const AWAY_MAX: Duration = Duration::from_secs(30);
const AWAY_ONE_OF: u32 = 2;

/// What is to be scheduled.
#[derive(Debug, Clone, Serialize)]
pub struct Order {
    /// How long the run is.
    pub length: Duration,
    /// The families to choose from.
    pub families: Vec<Family>,
    /// How many brokers there are.
    pub brokers: u8,
    /// The command services.
    pub instances: Instances,
}

/// A fault with its time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Planned {
    /// What happens.
    pub fault: Fault,
    /// When it begins, from the first moment of the run.
    pub at: Duration,
    /// How long it lasts.
    pub lasts: Duration,
}

impl Planned {
    fn ends(&self) -> Duration {
        self.at + self.lasts
    }

    fn overlaps(&self, other: &Self, gap: Duration) -> bool {
        self.at < other.ends() + gap && other.at < self.ends() + gap
    }

    /// What it and others on the same have between them at least.
    fn gap(&self) -> Duration {
        match self.fault {
            Fault::Broker(BrokerFault::Kill(_) | BrokerFault::AllKilled) => BROKER_STARTS,
            Fault::Postgres(_) => POSTGRES_STARTS,
            _ => GAP,
        }
    }

    /// Whether two faults take the same at the same time, or too soon after each other.
    fn collides(&self, other: &Self) -> bool {
        let uses = self.fault.uses();
        self.overlaps(other, self.gap().max(other.gap())) && other.fault.uses().iter().any(|used| collide(&uses, *used))
    }
}

/// A sort of fault, before chance has had its say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    RelayKill,
    RelayFreeze,
    ServiceKill,
    ServiceFreeze,
    ProjectorKill,
    ProjectorFreeze,
    DeadLettersKill,
    DeadLettersFreeze,
    PostgresStop,
    Cut,
    Unreachable,
    Late,
    Held,
    ServiceCommit,
    OtherCommit,
    BrokerKill,
    BrokerFreeze,
    KafkaAway,
    Leading,
    Inner,
    RolledBack,
    Idle,
    StreamsLocked,
    Poison,
    JobKilled,
    ConsumerKilledInJob,
    RowsRefused,
}

/// Every sort: its family, whether each run has it, and how many a run has at most.
const SORTS: [(Sort, Family, bool, usize); 27] = [
    (Sort::RelayKill, Family::Kill, true, 4),
    (Sort::RelayFreeze, Family::Freeze, true, 2),
    (Sort::ServiceKill, Family::Kill, true, 6),
    (Sort::ProjectorKill, Family::Kill, true, 4),
    (Sort::ServiceCommit, Family::Swallow, true, 8),
    (Sort::JobKilled, Family::Poison, true, 2),
    (Sort::Poison, Family::Poison, true, 4),
    (Sort::ServiceFreeze, Family::Freeze, false, 3),
    (Sort::ProjectorFreeze, Family::Freeze, false, 2),
    (Sort::DeadLettersKill, Family::Kill, false, 3),
    (Sort::DeadLettersFreeze, Family::Freeze, false, 2),
    (Sort::PostgresStop, Family::Postgres, false, 3),
    (Sort::Cut, Family::Cut, false, 6),
    (Sort::Unreachable, Family::Cut, false, 4),
    (Sort::Late, Family::Delay, false, 4),
    (Sort::Held, Family::Delay, false, 3),
    (Sort::OtherCommit, Family::Swallow, false, 4),
    (Sort::BrokerKill, Family::Broker, false, 2),
    (Sort::BrokerFreeze, Family::Broker, false, 2),
    (Sort::KafkaAway, Family::KafkaAway, false, 1),
    (Sort::Leading, Family::Transactions, false, 2),
    (Sort::Inner, Family::Transactions, false, 2),
    (Sort::RolledBack, Family::Transactions, false, 2),
    (Sort::Idle, Family::Transactions, false, 2),
    (Sort::StreamsLocked, Family::Transactions, false, 4),
    (Sort::ConsumerKilledInJob, Family::Poison, false, 1),
    (Sort::RowsRefused, Family::Poison, false, 2),
];

/// Draws a schedule, in the order of time.
///
/// # Errors
/// When the run is too short for what every run must have.
pub fn draw(order: &Order, chance: &mut Chance) -> Result<Vec<Planned>> {
    ensure!(order.length >= SHORTEST, "a run of less than {} s has no room for what must be in it", SHORTEST.as_secs());
    let chosen = SORTS.into_iter().filter(|(_, family, ..)| order.families.contains(family));
    let chosen: Vec<_> = chosen.filter(|(_, family, ..)| order.brokers > 1 || *family != Family::Broker).collect();
    ensure!(!chosen.is_empty(), "nothing is to happen");
    let mut drawing = Drawing { order, chance, planned: Vec::new() };

    let musts: Vec<Sort> = chosen.iter().filter(|(_, _, must, _)| *must).map(|(sort, ..)| *sort).collect();
    // Where one of them finds no place because of how the others lie, all are laid anew.
    let placed = (0..LAYOUTS_MAX).any(|_| {
        drawing.planned.clear();
        musts.iter().all(|sort| drawing.place(*sort))
    });
    ensure!(placed, "there is no room for all of {musts:?} in {:?}", order.length);
    let mut others: Vec<Sort> = chosen.iter().filter(|(_, _, must, _)| !must).map(|(sort, ..)| *sort).collect();
    drawing.chance.shuffle(&mut others);
    // What takes long finds a place only while there is much room.
    others.sort_by_key(|sort| *sort != Sort::KafkaAway);
    let wanted = usize::try_from(order.length.as_millis() / EVERY.as_millis().max(1))?;
    for sort in others {
        if drawing.planned.len() < wanted {
            drawing.place(sort);
        }
    }
    let mut counts: Vec<(Sort, usize)> = chosen.iter().map(|(sort, _, _, most)| (*sort, most.saturating_sub(1))).collect();
    for _ in 0..wanted {
        let left: Vec<Sort> = counts.iter().filter(|(_, left)| *left > 0).map(|(sort, _)| *sort).collect();
        let Some(sort) = drawing.chance.pick(&left).filter(|_| drawing.planned.len() < wanted) else { break };
        drawing.place(sort);
        counts.iter_mut().filter(|(other, _)| *other == sort).for_each(|(_, left)| *left -= 1);
    }
    drawing.planned.sort_by_key(|planned| planned.at);
    Ok(drawing.planned)
}

struct Drawing<'a> {
    order: &'a Order,
    chance: &'a mut Chance,
    planned: Vec<Planned>,
}

impl Drawing<'_> {
    /// Finds a fault of this sort a place; `false` where there is none.
    fn place(&mut self, sort: Sort) -> bool {
        let last = self.order.length * LAST_BY_PERCENT / 100;
        for _ in 0..TRIES_MAX {
            let fault = self.fault(sort);
            let lasts = self.lasts(sort);
            let Some(latest) = last.checked_sub(lasts).filter(|latest| *latest >= FIRST_AT) else { continue };
            let at = Duration::from_millis(self.chance.between(millis(FIRST_AT), millis(latest)));
            let candidate = Planned { fault, at, lasts };
            if self.fits(&candidate) {
                self.planned.push(candidate);
                return true;
            }
        }
        false
    }

    fn fits(&self, candidate: &Planned) -> bool {
        let concurrent = self.planned.iter().filter(|other| other.overlaps(candidate, Duration::ZERO)).count();
        concurrent < OVERLAP_MAX && !self.planned.iter().any(|other| other.collides(candidate))
    }

    /// How long a fault of this sort lasts.
    fn lasts(&mut self, sort: Sort) -> Duration {
        let scale = if self.order.length < Duration::from_secs(30) { 1 } else { 2 };
        match sort {
            Sort::RelayKill | Sort::ProjectorKill | Sort::DeadLettersKill => self.chance.millis(500, 2_000 * scale),
            Sort::ServiceKill => self.chance.millis(100, 1_000 * scale),
            // The lease holds for three seconds.
            Sort::RelayFreeze => self.chance.millis(3_600, 4_000 + 1_000 * scale),
            Sort::ServiceFreeze => self.chance.millis(300, 1_500 * scale),
            // A session at the broker holds for six seconds.
            Sort::ProjectorFreeze | Sort::DeadLettersFreeze => self.chance.millis(500, 1_000 + 4_000 * scale),
            Sort::PostgresStop => self.chance.millis(100, 1_000 * scale),
            Sort::Cut => self.chance.millis(200, 1_500),
            Sort::Unreachable => self.chance.millis(300, 2_000 * scale),
            Sort::Late => self.chance.millis(1_000, 3_000 * scale),
            Sort::Held => self.chance.millis(500, 2_000 * scale),
            Sort::ServiceCommit => self.chance.millis(1_000, 2_000),
            Sort::OtherCommit => self.chance.millis(1_000, 2_500),
            Sort::BrokerKill => self.chance.millis(1_000, 4_000 * scale),
            Sort::BrokerFreeze => self.chance.millis(1_000, 3_000 * scale),
            Sort::KafkaAway => {
                let longest = (self.order.length / AWAY_ONE_OF).min(AWAY_MAX);
                self.chance.millis(millis(longest) / 2, millis(longest))
            }
            Sort::Leading | Sort::Inner | Sort::RolledBack | Sort::Idle => self.chance.millis(1_500, 4_000 * scale),
            Sort::StreamsLocked => self.chance.millis(500, 2_500),
            Sort::Poison => self.chance.millis(200, 600),
            Sort::JobKilled | Sort::ConsumerKilledInJob => self.chance.millis(300, 1_000 * scale),
            Sort::RowsRefused => self.chance.millis(800, 2_500),
        }
    }

    fn fault(&mut self, sort: Sort) -> Fault {
        let database = self.pick(["wallet_db", "inventory_db"]);
        let service = self.chance.pick(self.order.instances.services()).unwrap_or("wallet");
        let projector = self.pick(PROJECTORS);
        let link = self.link();
        let process = |who, what| Fault::Process(ProcessFault { who, what });
        let network = |link, weather| Fault::Network(NetworkFault { link, weather });
        let held = |kind| Fault::Transaction(TransactionFault { database, kind });
        match sort {
            Sort::RelayKill => process(Who::RelayOf(database), What::Kill),
            Sort::RelayFreeze => process(Who::RelayOf(database), What::Freeze),
            Sort::ServiceKill => process(Who::Service(service), What::Kill),
            Sort::ServiceFreeze => process(Who::Service(service), What::Freeze),
            Sort::ProjectorKill => process(Who::Projector(projector), What::Kill),
            Sort::ProjectorFreeze => process(Who::Projector(projector), What::Freeze),
            Sort::DeadLettersKill => process(Who::DeadLetters, What::Kill),
            Sort::DeadLettersFreeze => process(Who::DeadLetters, What::Freeze),
            Sort::PostgresStop => Fault::Postgres(PostgresStop),
            Sort::Cut => network(link, Weather::Cut { per_thousand: self.pick([300, 600, 1_000]) }),
            Sort::Unreachable => network(link, Weather::Away),
            Sort::Late => {
                let least_ms = self.chance.between(0, 40);
                network(link, Weather::Late { least_ms, most_ms: least_ms + self.chance.between(5, 60) })
            }
            Sort::Held => network(link, self.pick([Weather::RequestsHeld, Weather::AnswersHeld])),
            Sort::ServiceCommit => network(Link::Postgres(service), Weather::CommitUnanswered),
            Sort::OtherCommit => {
                network(Link::Postgres(self.pick([projector, "relay-1", "relay-2", DEAD_LETTERS])), Weather::CommitUnanswered)
            }
            Sort::BrokerKill => Fault::Broker(BrokerFault::Kill(self.pick([1, 2, 3]))),
            Sort::BrokerFreeze => {
                let mut numbers = vec![1, 2, 3];
                self.chance.shuffle(&mut numbers);
                numbers.truncate(self.pick([1, 2]));
                Fault::Broker(BrokerFault::Freeze(numbers))
            }
            Sort::KafkaAway if self.order.length >= KILL_ALL_FROM && self.chance.happens(500) => Fault::Broker(BrokerFault::AllKilled),
            Sort::KafkaAway => Fault::Broker(BrokerFault::AllUnreachable),
            Sort::Leading => held(Held::Leading),
            Sort::Inner => held(Held::Inner),
            Sort::RolledBack => held(Held::RolledBack),
            Sort::Idle => held(Held::Idle),
            Sort::StreamsLocked => {
                let (by, count) = (self.chance.id(), i64::try_from(self.chance.between(1, 8)).unwrap_or(1));
                held(Held::StreamsLocked { by, count })
            }
            Sort::Poison => Fault::Poison(PoisonFault::Records { by: self.chance.id() }),
            Sort::RowsRefused => Fault::Poison(PoisonFault::RowsRefused { by: self.chance.id() }),
            Sort::JobKilled => Fault::Poison(PoisonFault::JobInterrupted { by: self.chance.id(), process: DEAD_LETTERS }),
            Sort::ConsumerKilledInJob => Fault::Poison(PoisonFault::JobInterrupted { by: self.chance.id(), process: projector }),
        }
    }

    fn link(&mut self) -> Link {
        let processes: Vec<Link> = self.order.instances.processes().iter().copied().map(Link::Postgres).collect();
        let brokers: Vec<Link> = (1..=self.order.brokers).map(Link::Broker).collect();
        let from = if self.chance.happens(250) { brokers.as_slice() } else { processes.as_slice() };
        self.chance.pick(from).unwrap_or(Link::Broker(1))
    }

    fn pick<T: Copy, const N: usize>(&mut self, from: [T; N]) -> T {
        const { assert!(N > 0, "one of none") };
        self.chance.pick(&from).unwrap_or(from[0])
    }
}

/// Whether one of these stands in the way of the other: networks to a broker are Kafka's.
fn collide(uses: &[Resource], other: Resource) -> bool {
    let whole = |resource: Resource| if matches!(resource, Resource::Link(Link::Broker(_))) { Resource::Kafka } else { resource };
    uses.iter().any(|used| whole(*used) == whole(other))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(length_s: u64, brokers: u8) -> Order {
        Order { length: Duration::from_secs(length_s), families: Family::ALL.to_vec(), brokers, instances: Instances::One }
    }

    fn drawn(order: &Order, seed: u64) -> Vec<Planned> {
        draw(order, &mut Chance::of(seed)).expect("a schedule")
    }

    #[test]
    fn the_same_seed_gives_the_same_schedule() {
        assert_eq!(drawn(&order(60, 3), 4), drawn(&order(60, 3), 4));
        assert_ne!(drawn(&order(60, 3), 4), drawn(&order(60, 3), 5));
    }

    #[test]
    fn every_schedule_has_what_it_must_have_and_ends_in_time() {
        for (length_s, brokers) in [(15, 1), (20, 1), (60, 3), (300, 3)] {
            for seed in 0..200 {
                let order = order(length_s, brokers);
                let planned = drawn(&order, seed);
                let has = |fits: &dyn Fn(&Fault) -> bool| assert!(planned.iter().any(|planned| fits(&planned.fault)), "seed {seed}");
                has(&|fault| fault.is_process(What::Kill, |who| matches!(who, Who::RelayOf(_))));
                has(&|fault| fault.is_process(What::Freeze, |who| matches!(who, Who::RelayOf(_))));
                has(&|fault| fault.is_process(What::Kill, |who| matches!(who, Who::Service(_))));
                has(&|fault| fault.is_process(What::Kill, |who| matches!(who, Who::Projector(_))));
                has(&|fault| fault.family() == Family::Swallow);
                has(&|fault| matches!(fault, Fault::Poison(PoisonFault::Records { .. })));
                has(&|fault| matches!(fault, Fault::Poison(PoisonFault::JobInterrupted { process: DEAD_LETTERS, .. })));
                assert!(planned.iter().all(|planned| planned.ends() <= order.length * LAST_BY_PERCENT / 100), "seed {seed}");
            }
        }
    }

    #[test]
    fn no_two_faults_take_the_same_at_the_same_time() {
        for seed in 0..50 {
            let planned = drawn(&order(60, 3), seed);
            for (index, one) in planned.iter().enumerate() {
                for other in planned.iter().skip(index + 1) {
                    let shares = other.fault.uses().iter().any(|used| collide(&one.fault.uses(), *used));
                    assert!(!shares || !one.overlaps(other, GAP), "seed {seed}: {one:?} {other:?}");
                }
            }
        }
    }

    #[test]
    fn second_instances_are_befallen_where_there_are_any() {
        let hits = |instances, name| {
            let order = Order { instances, ..order(30, 1) };
            let planned = (0..20).flat_map(|seed| drawn(&order, seed)).collect::<Vec<_>>();
            planned.iter().any(|planned| planned.fault.uses().contains(&Resource::Process(name)))
        };
        for name in ["wallet", "inventory", "wallet-2", "inventory-2"] {
            assert!(hits(Instances::Two, name), "{name}");
        }
        assert!(!hits(Instances::One, "wallet-2") && !hits(Instances::One, "inventory-2"));
    }

    #[test]
    fn only_what_is_asked_for_happens() {
        let order = Order { families: vec![Family::Postgres, Family::Transactions], ..order(30, 1) };
        let planned = drawn(&order, 9);
        assert!(!planned.is_empty() && planned.iter().all(|planned| order.families.contains(&planned.fault.family())), "{planned:?}");
        assert!(draw(&Order { families: vec![Family::Broker], ..order.clone() }, &mut Chance::of(1)).is_err(), "one broker is no three");
    }

    #[test]
    fn a_minute_has_faults_of_almost_every_family() {
        for seed in 0..50 {
            let planned = drawn(&order(60, 3), seed);
            let there = Family::ALL.iter().filter(|family| planned.iter().any(|planned| planned.fault.family() == **family)).count();
            assert!(there >= Family::ALL.len() - 2 && planned.len() >= 20, "seed {seed}: {there} families, {} faults", planned.len());
        }
    }
}
