//! How far an outbox is relayed, and why nothing is lost and order holds.
//!
//! # What PostgreSQL and the writers give
//! * **P1.** A snapshot shows a transaction exactly if it had ended: its xid is below `xmax` and not in `xip`. `xmax` is the last ended xid plus
//!   one; a running transaction may have an xid at or above it.
//! * **P2.** A transaction is shown by new snapshots only after its commit is on disk (`synchronous_commit` on), and before its locks are
//!   released.
//! * **P3.** `outbox.seq` has `CACHE 1`: who draws later draws a higher number.
//! * **P4.** A writer has its xid before it draws its first number. `es.append` locks rows first; where both columns come from their
//!   defaults, the xid's stands before the number's.
//! * **P5.** A writer draws its numbers for a stream while it holds that stream's row lock, and holds it until the transaction has ended.
//!
//! # The batch of two snapshots
//! The batch of S1 and S2 is the rows of transactions that S2 shows and S1 does not, in order of `seq`. The rows are committed (or gone, if
//! their transaction was rolled back) when S2 is taken, and are kept until they are acknowledged, so the batch is the same whenever and however
//! often it is read. Batches (S1, S2), (S2, S3), … have every row in exactly one of them. A transaction that runs for hours keeps nothing
//! back but its own rows: they are in the batch of the first snapshot that shows it.
//!
//! # Where a batch begins in the order of `seq`
//! Reading by `seq` needs a number below every row of the batch. A [`Mark`] is a pair read in this order: the last number drawn, then the next
//! xid. By P4, and because numbers only grow (P3), **a transaction with an xid at or above a mark's draws numbers above the mark's floor**.
//! This holds whenever the mark was read, before or after any snapshot. (The floor alone, together with a snapshot's `xmax` in place
//! of the next xid, would lose rows: by P1 a transaction at or above `xmax` may have drawn its numbers long ago.) So for a transaction that
//! S1 does not show, the floor of the highest mark that is not above its xid is below all its rows. [`Done`] keeps that floor for each
//! transaction in S1's `xip`, and the marks that any xid at or above `xmax` can need. The batch begins above the least floor of what
//! it can contain: that of `xmax`, and those of the `xip` that S2 shows. Under load that is some milliseconds of rows to skip again; a transaction
//! held open adds nothing until it ends.
//!
//! # Order
//! Let two rows of one stream be written by transactions T1 and then T2. T2 drew its number under the stream's lock (P5), which T1 had released,
//! so T1 had ended (P2) and drawn before: T1's number is lower (P3), and every snapshot that shows T2 shows T1. So T1's row is in an
//! earlier batch, or before T2's in the same one. Rows of one transaction are in order of their numbers. Streams that share a Kafka key but no
//! lock have no order between them; each has its own.
//!
//! Per partition, what the broker has from one producer is a gapless beginning of what that producer sent (see `idempo-kafka`). The
//! [`Position`] only moves over pages of which every record is acknowledged, so everything at or before it is in Kafka.
//!
//! # What may be sent twice, and what can interleave
//! A new producer, or a new relay after a take-over, begins at the last stored position: what was sent behind it is sent again, byte for byte the
//! same. A relay that has lost its lease may still have requests under way, and they can reach the broker between its successor's. Both sequences
//! are in stream order without gaps, and both begin at or before a point up to which everything is in Kafka; however they interleave, the *first*
//! occurrence of each record is in stream order, and later ones are duplicates that consumers drop by the stream's version. The cursor can't be
//! moved by a relay that lost its lease: each write is a compare-and-set on the epoch of the cursor's own row, and the take-over raises that epoch
//! in the statement that takes the lease.
//!
//! After a crash of the database the server may give out again xids and numbers that it had given to transactions that never committed.
//! What is stored in the cursor is safe: its own commit came after the mark and the snapshots, so their xids and numbers are below what
//! recovery restores. What is only in memory is not, so a lost connection ends the reader, and the next one begins at the stored position.

use std::sync::Arc;

use crate::snapshot::{FIRST_XID, Snapshot};

/// The most marks that are kept. With fewer marks floors are lower, which costs reading and is never wrong.
const MARKS_MAX: usize = 64;

/// Every transaction with an xid at or above `xid` draws numbers above `floor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) xid: u64,
    pub(crate) floor: i64,
}

/// A snapshot of which everything is in Kafka, and what is known about the rows that it does not show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) snapshot: Snapshot,
    /// For each xid of the snapshot's `xip`, in its order: a number below all its rows.
    pub(crate) xip_floors: Vec<i64>,
    /// In rising order of both fields. The first is not above `xmax`; there is always one.
    pub(crate) marks: Vec<Mark>,
}

impl Default for Done {
    /// Nothing is in Kafka yet.
    fn default() -> Self {
        let snapshot = Snapshot { xmin: FIRST_XID, xmax: FIRST_XID, xip: Vec::new() };
        Self { snapshot, xip_floors: Vec::new(), marks: vec![Mark { xid: FIRST_XID, floor: 0 }] }
    }
}

impl Done {
    /// A number below all rows of every transaction from `xmax` on.
    pub(crate) fn later_floor(&self) -> i64 {
        self.marks.first().map_or(0, |mark| mark.floor)
    }

    /// A number below all rows that `next` shows and this snapshot does not.
    pub(crate) fn floor_of_batch(&self, next: &Snapshot) -> i64 {
        let ended = self.snapshot.xip.iter().zip(&self.xip_floors).filter(|(xid, _)| next.shows(**xid)).map(|(_, floor)| *floor);
        ended.fold(self.later_floor(), i64::min)
    }

    /// The state when everything that `next` shows is in Kafka too. `mark` was read at any time.
    pub(crate) fn followed_by(&self, next: &Snapshot, mark: Mark) -> Self {
        let mut marks = self.marks.clone();
        add_mark(&mut marks, mark);
        let xip_floors = next.xip.iter().map(|xid| self.floor_of(*xid, &marks)).collect();
        // No xid below xmax is looked up among the marks again: it has ended, or its floor is in xip_floors.
        let first_needed = marks.iter().rposition(|mark| mark.xid <= next.xmax).unwrap_or(0);
        marks.drain(..first_needed);
        Self { snapshot: next.clone(), xip_floors, marks }
    }

    fn floor_of(&self, xid: u64, marks: &[Mark]) -> i64 {
        match self.snapshot.xip.binary_search(&xid) {
            Ok(at) => self.xip_floors.get(at).copied().unwrap_or(0),
            Err(_) => marks.iter().rev().find(|mark| mark.xid <= xid).map_or(0, |mark| mark.floor),
        }
    }
}

/// Adds a mark, unless it says less than the last one.
fn add_mark(marks: &mut Vec<Mark>, mark: Mark) {
    match marks.last_mut() {
        Some(last) if last.xid > mark.xid || last.floor > mark.floor => return,
        Some(last) if last.xid == mark.xid => {
            *last = mark;
            return;
        }
        _ => marks.push(mark),
    }
    if marks.len() > MARKS_MAX {
        // Every second one goes; the first stays, because it is what every xid can fall back on.
        let mut number = 0_usize;
        marks.retain(|_| {
            number += 1;
            number % 2 == 1
        });
    }
}

/// The snapshot at the end of a batch, with the mark that was read beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BatchEnd {
    pub(crate) snapshot: Snapshot,
    pub(crate) mark: Mark,
}

/// How far an outbox is relayed: everything that `done` shows, and of the batch that follows, if one is begun, the rows up to `acked_seq`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) done: Arc<Done>,
    pub(crate) batch: Option<Arc<BatchEnd>>,
    /// 0 where no row of the batch is acknowledged.
    pub(crate) acked_seq: i64,
}

impl Position {
    /// The position behind a page that ends at `seq` and has more of its batch behind it.
    pub(crate) fn within(done: &Arc<Done>, batch: &Arc<BatchEnd>, seq: i64) -> Self {
        Self { done: Arc::clone(done), batch: Some(Arc::clone(batch)), acked_seq: seq }
    }

    /// The position behind a whole batch.
    pub(crate) fn behind(done: Arc<Done>) -> Self {
        Self { done, batch: None, acked_seq: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(xmin: u64, xmax: u64, xip: &[u64]) -> Snapshot {
        Snapshot { xmin, xmax, xip: xip.to_vec() }
    }

    #[test]
    fn a_transaction_above_xmax_that_drew_before_the_mark_is_still_above_the_batch_floor() {
        // Xid 100 runs and has drawn 7. The last ended xid is 99, so xmax is 100; the mark says: from 101 on, above 7.
        let first = Done::default().followed_by(&snapshot(100, 100, &[]), Mark { xid: 101, floor: 7 });
        // It ends. Its row 7 must not be skipped.
        assert!(first.floor_of_batch(&snapshot(101, 101, &[])) < 7);
        // Everyone who came later is above 7.
        let second = first.followed_by(&snapshot(101, 101, &[]), Mark { xid: 101, floor: 9 });
        assert_eq!(second.later_floor(), 9);
    }

    #[test]
    fn a_transaction_held_open_costs_nothing_until_it_ends() {
        let mut done = Done::default().followed_by(&snapshot(50, 60, &[50]), Mark { xid: 60, floor: 10 });
        for step in 1..=100_u32 {
            let xid = 60 + u64::from(step);
            done = done.followed_by(&snapshot(50, xid, &[50]), Mark { xid, floor: 10 + i64::from(step) });
            assert_eq!(done.floor_of_batch(&snapshot(50, xid + 1, &[50])), 10 + i64::from(step));
        }
        assert_eq!(done.floor_of_batch(&snapshot(161, 161, &[])), 0, "it began before the first mark");
        assert_eq!(done.marks.len(), 1);
    }

    #[test]
    fn floors_follow_within_the_time_of_one_transaction_when_polls_are_quicker_than_transactions() {
        // Ten transactions run at any time; a poll sees one end and one begin.
        let mut done = Done::default();
        for step in 0..1_000_u32 {
            let next = 1_000 + u64::from(step);
            let running: Vec<u64> = (next - 10..next - 1).collect();
            let mark = Mark { xid: next, floor: i64::from(step) };
            done = done.followed_by(&snapshot(next - 10, next - 1, &running), mark);
        }
        assert!(done.later_floor() >= 985, "{}", done.later_floor());
        assert!(done.xip_floors.iter().all(|floor| *floor >= 985), "{:?}", done.xip_floors);
    }

    #[test]
    fn too_many_marks_are_thinned_and_no_floor_rises() {
        let mut marks = vec![Mark { xid: 3, floor: 0 }];
        for step in 1..10_000_u32 {
            add_mark(&mut marks, Mark { xid: 3 + u64::from(step), floor: i64::from(step) });
            assert!(marks.len() <= MARKS_MAX);
            assert!(marks.iter().all(|mark| mark.floor == i64::try_from(mark.xid).expect("small") - 3));
        }
        assert_eq!(marks[0], Mark { xid: 3, floor: 0 });
    }

    #[test]
    fn a_mark_that_says_less_than_the_last_is_dropped() {
        let mut marks = vec![Mark { xid: 10, floor: 5 }];
        add_mark(&mut marks, Mark { xid: 9, floor: 6 });
        add_mark(&mut marks, Mark { xid: 11, floor: 4 });
        assert_eq!(marks, [Mark { xid: 10, floor: 5 }]);
        add_mark(&mut marks, Mark { xid: 10, floor: 8 });
        assert_eq!(marks, [Mark { xid: 10, floor: 8 }]);
    }
}
