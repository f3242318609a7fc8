//! I13, wrong on purpose: what does not come to rest.

use idempo_checker::Rules;
use idempo_checker::facts::{IdleTransaction, Topic};

use crate::good::good;
use crate::world::{flagged, flagged_under, rules};

#[test]
fn an_undrained_backlog_is_flagged() {
    let mut evidence = good();
    evidence.outboxes[1].backlog_rows = 3;
    flagged(&evidence, &["I13"], "inventory_db: 3 rows are not in Kafka");
}

#[test]
fn an_outbox_that_nobody_relays_is_flagged() {
    let mut evidence = good();
    evidence.outboxes[0].held = false;
    flagged(&evidence, &["I13"], "no relay holds the outbox");
}

#[test]
fn a_read_model_that_lags_behind_is_flagged() {
    let mut evidence = good();
    let read_to = evidence.topics[0].records[0].partition;
    // Below the wallet's records nothing of the model changes: only the lag is wrong.
    let view = evidence.view.as_mut().expect("a view");
    let checkpoint = view.checkpoints.iter_mut().find(|checkpoint| checkpoint.partition == read_to).expect("its checkpoint");
    checkpoint.next_offset -= 1;
    let report = idempo_checker::check(&evidence, &rules());
    assert!(report.broken().any(|verdict| verdict.id == "I13" && verdict.flaws[0].contains("1 records from")), "{report}");
}

#[test]
fn a_session_that_is_idle_in_a_transaction_is_flagged() {
    let mut evidence = good();
    let (database, user, application) = ("wallet_db".to_owned(), "idempo_wallet".to_owned(), "wallet".to_owned());
    evidence.idle.push(IdleTransaction { database, user, application, idle_ms: 70_000 });
    flagged(&evidence, &["I13"], "idempo_wallet (wallet) is idle in transaction for 70000 ms");
}

#[test]
fn dead_letters_that_nobody_injected_and_poison_that_is_not_there_are_flagged() {
    let mut dead = good();
    let record = dead.topics[0].records[0].clone();
    dead.dead_letters.push(Topic { name: "economy-events.dlq".to_owned(), partitions: 3, records: vec![record] });
    flagged(&dead, &["I13"], "1 dead letters, and 0 were injected");
    assert!(idempo_checker::check(&dead, &Rules { poison_injected: 1, ..rules() }).holds());
    dead.dead_letters[0].records.clear();
    flagged_under(&dead, &Rules { poison_injected: 2, ..rules() }, &["I13"], "0 dead letters, and 2 were injected");
}

#[test]
fn a_run_without_progress_after_the_last_fault_is_flagged() {
    let mut evidence = good();
    let last_us = evidence.history.attempts.iter().map(|attempt| attempt.invoked_us).max();
    evidence.last_fault_us = last_us.map(|last_us| last_us + 1);
    flagged(&evidence, &["I13"], "was applied");
}
