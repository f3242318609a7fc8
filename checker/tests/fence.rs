//! The fence of the relays, wrong on purpose: who moves an outbox's cursor, and where to.

use idempo_checker::facts::CursorMove;

use crate::good::good;
use crate::world::flagged;

#[test]
fn a_move_by_a_session_without_the_lease_is_flagged() {
    let mut evidence = good();
    evidence.cursor_moves[3].by_holder = false;
    flagged(&evidence, &["fence"], "wallet_db: move 4 is by session 72, and another one holds the lease (epoch 2)");
}

#[test]
fn a_cursor_that_goes_back_to_an_earlier_snapshot_is_flagged() {
    let mut evidence = good();
    let (done, done_xmax) = (evidence.cursor_moves[0].done.clone(), evidence.cursor_moves[0].done_xmax);
    let last = &mut evidence.cursor_moves[4];
    (last.done, last.done_xmax) = (done, done_xmax);
    flagged(&evidence, &["fence"], "wallet_db: move 5, by session 72, goes back from 8:9: row 0 to 3:3: row 0");
}

#[test]
fn a_cursor_that_goes_back_within_a_batch_is_flagged() {
    let mut evidence = good();
    evidence.cursor_moves[2].acked_seq = 1;
    flagged(&evidence, &["fence"], "goes back from 3:3: row 2 to 3:3: row 1");
}

#[test]
fn cursors_of_different_outboxes_are_not_compared() {
    let mut evidence = good();
    let other = evidence.cursor_moves.iter().map(|one| CursorMove { outbox: "inventory_db".to_owned(), ..one.clone() });
    evidence.cursor_moves.extend(other.collect::<Vec<_>>());
    assert!(idempo_checker::check(&evidence, &crate::world::rules()).holds());
}
