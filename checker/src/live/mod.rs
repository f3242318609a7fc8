//! The audit of a platform that runs, while clients play on.
//!
//! No moment is common to databases and brokers, and nobody stops for an audit. What makes the checks right all the same is the order of the looks:
//! whatever a look rests on is there for good by then, so that every later look shows it.
//!
//! 1. How far outboxes say that they are in Kafka, and which rows they keep in quarantine; both as of one moment, so that a row that the cursor has
//!    passed is in Kafka or in quarantine.
//! 2. The read model with its checkpoints. What is below them was in Kafka.
//! 3. The topics. They have what cursors and checkpoints stand for, and more.
//! 4. The stores with their tables, each as of one moment. They have what the topics have, and more: an event is committed before it is relayed.
//!
//! So what is in a topic has to be in a store; what a cursor stands for has to be in a topic; the read model's rows have to be the fold of the records
//! below its checkpoints, and of the stores' events up to its stream versions. Retention removes the beginning of a log: what can only be said of a whole
//! log is not said of such a one.
//!
//! What the read model has parked is below its checkpoints and not in its rows: it says so in the same look (2). What is no event and was discarded by
//! people is left out of the topics; nothing else is.
//!
//! That everything comes to rest (I13) is asked of what was there when the audit began.

mod flow;
mod look;

pub use look::{Cursor, Look, Patience};

use std::collections::HashSet;

use crate::checks::{effects, items, money, rest, rows, streams};
use crate::error::Error;
use crate::evidence::Sources;
use crate::facts::{Place, Store};
use crate::history::History;
use crate::ledger;
use crate::report::Report;

/// Looks at everything and checks it. `discarded` are the places of dead letters that people have discarded: what is there and is no event of a store
/// is no flaw.
///
/// # Errors
/// When something can't be read. A stored event that can't be decoded is [`Error::Format`].
pub async fn audit(sources: &Sources, patience: Patience, discarded: &HashSet<Place>) -> Result<Report, Error> {
    let look = Look::take(sources, patience, discarded).await?;
    Ok(check(&look))
}

/// Checks what was looked at.
#[must_use]
pub fn check(look: &Look) -> Report {
    let stores = &look.stores;
    let commands = effects::by_command(stores);
    let ledger = ledger::fold(stores.iter().flat_map(|store| &store.events));
    let mut verdicts = vec![
        money::events_balance(&ledger),
        money::tables_balance(&look.wallet_sums, &ledger),
        effects::at_most_once(&commands),
        effects::as_the_keys_say(&History::default(), stores, &commands),
        effects::both_legs(&commands),
        flow::nothing_else(look),
        flow::acknowledged_is_there(look),
        flow::in_order(look),
        rows::same_rows("the wallet's tables = fold of the events", &ledger.tables, &look.wallet_tables),
    ];
    let seen_by_view: Vec<Store> = stores.iter().map(|store| flow::up_to(store, &look.view.versions)).collect();
    let model = rows::fold_stores(&seen_by_view);
    let mut by_stores = rows::same_rows("the read model = fold of the stores' events that it has", &model.tables(), &look.view.tables);
    for broken in &model.broken {
        by_stores.require(false, || broken.clone());
    }
    verdicts.push(by_stores);
    if look.is_whole() {
        let (model, versions) = rows::fold_topics(&look.topics, &look.view);
        let claim = "the read model = fold of Kafka's events below its checkpoints";
        verdicts.push(rows::same_rows(claim, &model.tables(), &look.view.tables));
        verdicts.push(rows::same_versions(&versions, &look.view));
    }
    verdicts.extend([
        streams::gapless(stores),
        items::one_owner(stores),
        flow::moves(look),
        rest::no_idle_transaction(look.databases, &look.idle),
    ]);
    Report { verdicts }
}
