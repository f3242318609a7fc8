//! The external checker: says of a run whether the platform kept its promises, from what clients were told and what is left behind.
//!
//! Place in the flow: outside of it. It shares the protos with the platform and nothing else: ids, partitions, positions, ledger and read model
//! are worked out here a second time, so that a mistake of the platform is not repeated by who looks for it.
//!
//! What it looks at: the client [`history`], a [`dump`] of every topic, and the [`databases`] by an auditor's read-only SQL. What it checks
//! ([`check`]), by the names of the catalogue of invariants:
//!
//! * **I1** money: every command's postings sum to zero, in every account nothing is below zero at any version, lines carry their balance.
//! * **I2** a command takes effect once; all answers to one key are equal, and equal to the stored one; repetitions are marked as such.
//! * **I3** what was refused has no effect; what is unknown is settled one way, with all of its legs or none.
//! * **I4** what was acknowledged is in the stores, at the versions of its position.
//! * **I5, I6** Kafka has the stores' events and no others, in order per stream, duplicates byte for byte.
//! * **I7** the read model and the wallet's tables are the fold of the events, row by row.
//! * **I8** versions are gapless and in real-time order; what was delivered stays.
//! * **I9** an item has one owner or one reservation, and one chain of owners.
//! * **I12** reads include their position and never go back in time.
//! * **I13** everything comes to rest, with no session idle in a transaction.
//!
//! Where the dead letters are looked at that people settle ([`checks::dead_letters`]): each record that was put in by hand ([`poison`]) has one, it is
//! settled once and in the audit, none is left, and nobody has waited but who asked for a key that was parked.
//!
//! And, where who ran it has kept the moves of the outboxes' cursors, that nobody but the holder of a lease has moved one, and none back
//! ([`checks::fence`]). And that the run was worth checking: one that met no trouble proves nothing ([`checks::vacuity`]).
//!
//! What it can't see: an effect outside of stores and topics (an email sent twice); a write that was made and taken back between two looks;
//! an answer that no client wrote down; whether a refusal was *right* where the client did not know what to expect; times of different
//! machines, which are not compared. Sagas (I10) and notifications (I11) have no checks here.

pub mod checks;
pub mod databases;
pub mod dump;
pub mod error;
pub mod evidence;
pub mod facts;
pub mod history;
pub mod ids;
pub mod inventory;
pub mod kafka;
pub mod ledger;
pub mod live;
pub mod method;
pub mod partition;
pub mod poison;
pub mod position;
pub mod report;
pub mod verdict;

pub use error::Error;
pub use evidence::{Evidence, Sources};
pub use report::Report;
pub use verdict::Verdict;

use checks::vacuity::{Seen, Trouble, not_vacuous};
use checks::{answers, dead_letters, effects, fence, items, money, order, reads, replies, rest, rows, streams, topic};

/// What a run was, as far as it decides what is right.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// What it was meant to meet: without it the run is vacuous.
    pub must_meet: Vec<Trouble>,
    /// Whether clients gave up on commands, so that some may stay unknown to them.
    pub clients_gave_up: bool,
    /// Whether stores lost answers, so that a service may have found its own work done: then a first answer may be marked as a repetition.
    pub stores_lost_answers: bool,
    /// How many poison messages were put in: so many dead letters are due, where no more is known of dead letters.
    pub poison_injected: u64,
    /// Whether rows of the read model were refused for a while.
    pub rows: dead_letters::Rows,
}

/// Checks everything that there is evidence for.
#[must_use]
pub fn check(evidence: &Evidence, rules: &Rules) -> Report {
    let Evidence { history, stores, .. } = evidence;
    let (topics, poison) = poison::apart(&evidence.topics, &evidence.poison);
    let parked = evidence.ops.as_ref().map(dead_letters::streams_that_had_some).unwrap_or_default();
    let mut verdicts = Vec::new();
    if !rules.must_meet.is_empty() {
        verdicts.push(not_vacuous(&Seen::of(evidence), &rules.must_meet));
    }
    verdicts.push(answers::as_expected(history));
    verdicts.extend(money_and_commands(evidence, rules));
    verdicts.push(topic::same_events(stores, &topics));
    verdicts.push(topic::in_order(&topics));
    verdicts.extend(read_model(evidence, &topics));
    verdicts.push(streams::gapless(stores));
    verdicts.push(order::real_time(history));
    if !evidence.earlier_topics.is_empty() {
        verdicts.push(topic::never_more(stores, &evidence.earlier_topics));
        verdicts.push(topic::kept(&evidence.earlier_topics, &evidence.topics));
    }
    if !evidence.earlier_stores.is_empty() {
        verdicts.push(streams::kept(&evidence.earlier_stores, stores));
    }
    if !evidence.cursor_moves.is_empty() {
        verdicts.push(fence::only_the_holder_moves_on(&evidence.cursor_moves));
    }
    verdicts.push(items::one_owner(stores));
    verdicts.push(reads::include_their_position(history, stores, &parked));
    verdicts.extend(rest::all(evidence, rules.poison_injected));
    if let Some(dead) = &evidence.ops {
        verdicts.extend(dead_letters::all(evidence, dead, (&topics, &poison), rules.rows));
    }
    Report { verdicts }
}

fn money_and_commands(evidence: &Evidence, rules: &Rules) -> Vec<Verdict> {
    let Evidence { history, stores, .. } = evidence;
    let mut shown = replies::Shown::of(history);
    let ledger = ledger::fold_seeing(stores.iter().flat_map(|store| &store.events), |event, balances| shown.see(event, balances));
    let commands = effects::by_command(stores);
    let mut verdicts = vec![money::events_balance(&ledger), shown.verdict()];
    verdicts.extend(evidence.wallet_sums.as_ref().map(|sums| money::tables_balance(sums, &ledger)));
    verdicts.push(answers::equal_for_equal_keys(history));
    verdicts.push(answers::as_stored(history, stores));
    verdicts.push(answers::marked_as_replayed(history, stores, !rules.stores_lost_answers));
    verdicts.push(effects::at_most_once(&commands));
    if !rules.clients_gave_up {
        verdicts.push(answers::settled(history));
    }
    verdicts.push(effects::none_where_refused(history, &commands));
    verdicts.push(effects::as_the_keys_say(history, stores, &commands));
    verdicts.push(effects::both_legs(&commands));
    verdicts.push(effects::all_where_acknowledged(history, &commands));
    if !evidence.wallet_tables.is_empty() {
        verdicts.push(rows::same_rows("the wallet's tables = fold of the events", &ledger.tables, &evidence.wallet_tables));
    }
    verdicts
}

fn read_model(evidence: &Evidence, topics: &[facts::Topic]) -> Vec<Verdict> {
    let Some(view) = &evidence.view else { return Vec::new() };
    let from_stores = rows::fold_stores(&evidence.stores);
    let (from_kafka, versions) = rows::fold_topics(topics, view);
    let mut by_stores = rows::same_rows("the read model's rows = fold of the stores' events", &from_stores.tables(), &view.tables);
    for broken in &from_stores.broken {
        by_stores.require(false, || broken.clone());
    }
    let claim = "the read model's rows = fold of Kafka's events below its checkpoints";
    vec![by_stores, rows::same_rows(claim, &from_kafka.tables(), &view.tables), rows::same_versions(&versions, view)]
}
