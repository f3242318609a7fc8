//! Who moves an outbox's cursor, and where to.

use std::collections::BTreeMap;

use crate::facts::CursorMove;
use crate::verdict::Verdict;

/// The fence of the relays: each move of a cursor is made by the session that holds the outbox's lease, and goes on from the one before. A relay
/// that has lost its lease moves nothing; one that did would have rows sent again for as long as it lives, in Kafka's order or not.
#[must_use]
pub fn only_the_holder_moves_on(moves: &[CursorMove]) -> Verdict {
    let mut verdict = Verdict::new("fence", "an outbox's cursor only moves on, by the session that holds the lease", "moves of cursors");
    let mut last: BTreeMap<&str, &CursorMove> = BTreeMap::new();
    for one in moves {
        let CursorMove { outbox, number, session, epoch, .. } = one;
        verdict.look(one.by_holder, || {
            format!("{outbox}: move {number} is by session {session}, and another one holds the lease (epoch {epoch})")
        });
        if let Some(before) = last.insert(outbox, one) {
            verdict.require(!goes_back(before, one), || {
                format!("{outbox}: move {number}, by session {session}, goes back {}", from_to(before, one))
            });
        }
    }
    verdict
}

fn goes_back(before: &CursorMove, now: &CursorMove) -> bool {
    let same_batch = (&before.done, &before.batch) == (&now.done, &now.batch);
    now.done_xmax < before.done_xmax || (same_batch && now.acked_seq < before.acked_seq)
}

fn from_to(before: &CursorMove, now: &CursorMove) -> String {
    format!("from {} row {} to {} row {}", before.done, before.acked_seq, now.done, now.acked_seq)
}
