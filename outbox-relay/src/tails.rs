//! Where in Kafka to look for what was sent beyond a position.
//!
//! # The claim
//! With each position goes, for each partition, an open stretch of its log, from a *tail* on, and the stretches that predecessors have left
//! there. **Every record of a row beyond the position is in one of them**, but for those of a zombie's last requests, if they reached the broker
//! after its successor had looked for the end of the log.
//!
//! # Why it holds
//! Rows are sent in pages, and the position moves over pages in the order of sending.
//! * **One producer.** Of one partition the broker has its records in the order of sending. A page behind the position was sent after all pages
//!   before it, so each of its records stands behind theirs. The tail is the offset behind the highest that was acknowledged for a page
//!   before the position: at or before every record behind it. An acknowledgement without an offset leaves the tail lower, which is never wrong.
//! * **The next producer.** It first asks where the log ends. What its predecessors have sent beyond the position is, by the claim, in the
//!   stretches as they are then: the open one from its tail up to that end, and those left. All it sends itself comes behind that end. So the open
//!   stretch is cut there: it is left, and a new one begins at the end. Nothing else about the predecessor's order of sending is used, and none
//!   could be: which snapshot ended its last batch is not known, and with another one rows are in another order.
//! * **When a stretch need not be kept.** A predecessor has only sent rows that one of its snapshots showed, and it had stopped to read when its
//!   successor began. So when the position has passed a batch whose last snapshot the successor took, it has passed everything that any
//!   predecessor can have sent, and what is left of them is forgotten. A backlog can be one batch; then each relay that dies in it leaves one
//!   stretch, as long as what it had under way.
//! * **The first producer ever** has no tails. It asks for the ends of all logs and stores them before it sends anything.
//!
//! Position and tails are stored by the same statement. Where that fails, the stored ones are older, and so the stretches longer.
//!
//! A zombie's late requests are why a read-back alone can't rule out duplicates. Transactions can: see [`crate::transaction`].

use idempo_kafka::{Bounds, Stretch};

use crate::routes::{Routes, Slot};

/// The most stretches of one partition that predecessors have left; with more, the oldest two become one, with what is between them.
const LEFT_PER_SLOT_MAX: usize = 8;

/// A stretch of a log that a predecessor has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) slot: Slot,
    pub(crate) from: i64,
    pub(crate) to: i64,
}

/// Where the logs of all partitions are to be read for what was sent beyond a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tails {
    /// By slot: where the open stretch begins; none where nothing was ever sent.
    open: Vec<Option<i64>>,
    /// Of one slot in rising order.
    left: Vec<Left>,
}

/// Tails as the columns of the cursor's row.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Columns {
    pub(crate) topics: Vec<i16>,
    pub(crate) partitions: Vec<i32>,
    pub(crate) offsets: Vec<i64>,
    pub(crate) ends: Vec<Option<i64>>,
}

/// A log that ends before what was acknowledged in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) slot: Slot,
    pub(crate) acknowledged: i64,
    pub(crate) end: i64,
}

impl Tails {
    /// The tails of an outbox of which nothing was ever sent.
    pub(crate) fn none(slots: usize) -> Self {
        Self { open: vec![None; slots], left: Vec::new() }
    }

    /// The tails in the cursor's row. Partitions that no row can go to any more are left out.
    pub(crate) fn of(columns: &Columns, routes: &Routes) -> Self {
        let mut tails = Self::none(routes.slots());
        let places = columns.topics.iter().zip(&columns.partitions).zip(columns.offsets.iter().zip(&columns.ends));
        for ((topic, partition), (offset, end)) in places {
            let Some(slot) = routes.slot(*topic, *partition) else { continue };
            match end {
                Some(to) => tails.left.push(Left { slot, from: *offset, to: *to }),
                None => tails.set(slot, *offset),
            }
        }
        tails
    }

    /// The columns of the cursor's row.
    pub(crate) fn columns(&self, routes: &Routes) -> Columns {
        let open = (0..).zip(&self.open).filter_map(|(slot, tail)| Some((slot, (*tail)?, None)));
        let left = self.left.iter().map(|left| (left.slot, left.from, Some(left.to)));
        let mut columns = Columns::default();
        for (slot, offset, end) in open.chain(left) {
            let Some((topic, partition)) = routes.place(slot) else { continue };
            columns.topics.push(topic);
            columns.partitions.push(partition);
            columns.offsets.push(offset);
            columns.ends.push(end);
        }
        columns
    }

    #[cfg(test)]
    pub(crate) fn left(&self) -> &[Left] {
        &self.left
    }

    /// Where the open stretch of a slot begins.
    pub(crate) fn open(&self, slot: Slot) -> Option<i64> {
        self.open.get(usize::from(slot)).copied().flatten()
    }

    /// Partitions without a tail get the ends of their logs. Tells whether there were any.
    pub(crate) fn begin_missing(&mut self, bounds: &[Bounds]) -> bool {
        let mut begun = false;
        for (tail, bounds) in self.open.iter_mut().zip(bounds).filter(|(tail, _)| tail.is_none()) {
            *tail = Some(bounds.end);
            begun = true;
        }
        begun
    }

    /// The first log that ends before what was acknowledged in it.
    pub(crate) fn lost(&self, bounds: &[Bounds]) -> Option<Lost> {
        let mut tails = (0..).zip(self.open.iter().zip(bounds));
        tails.find_map(|(slot, (tail, bounds))| {
            let acknowledged = (*tail)?;
            (acknowledged > bounds.end).then_some(Lost { slot, acknowledged, end: bounds.end })
        })
    }

    /// A producer has ended and another is to begin, when logs have these bounds: open stretches end here.
    pub(crate) fn cut(&mut self, bounds: &[Bounds]) {
        for (slot, (tail, bounds)) in (0..).zip(self.open.iter_mut().zip(bounds)) {
            let Some(from) = *tail else { continue };
            *tail = Some(bounds.end);
            if from < bounds.end {
                push(&mut self.left, Left { slot, from, to: bounds.end });
            }
        }
    }

    /// The stretches that are left, clipped to where logs begin: what is before that is gone by its age.
    pub(crate) fn stretches(&self, bounds: &[Bounds], routes: &Routes) -> Vec<(Slot, Stretch)> {
        let clipped = self.left.iter().filter_map(|left| {
            let from = left.from.max(bounds.get(usize::from(left.slot))?.start);
            let partition = routes.partition(left.slot)?.clone();
            (from < left.to).then_some((left.slot, Stretch { partition, from, to: left.to }))
        });
        clipped.collect()
    }

    /// The position moves over a page; `highest` is, by slot, the highest offset that was acknowledged for it, negative where there is none.
    pub(crate) fn pass(&mut self, highest: &[i64]) {
        for (tail, highest) in self.open.iter_mut().zip(highest).filter(|(_, highest)| **highest >= 0) {
            *tail = Some(tail.unwrap_or(0).max(highest + 1));
        }
    }

    /// The position has passed everything that a predecessor can have sent.
    pub(crate) fn forget_predecessors(&mut self) {
        self.left.clear();
    }

    fn set(&mut self, slot: Slot, offset: i64) {
        if let Some(tail) = self.open.get_mut(usize::from(slot)) {
            *tail = Some(offset);
        }
    }
}

/// Adds the last stretch of a slot.
fn push(left: &mut Vec<Left>, last: Left) {
    if left.iter().filter(|left| left.slot == last.slot).count() >= LEFT_PER_SLOT_MAX {
        let oldest = left.iter().position(|left| left.slot == last.slot);
        let removed = oldest.map(|at| left.remove(at));
        if let (Some(removed), Some(next)) = (removed, left.iter_mut().find(|left| left.slot == last.slot)) {
            next.from = removed.from;
        }
    }
    left.push(last);
}

#[cfg(test)]
mod tests {
    use idempo_kafka::Copies;

    use super::*;

    fn ends(ends: &[i64]) -> Vec<Bounds> {
        ends.iter().map(|end| Bounds { start: 0, end: *end }).collect()
    }

    #[test]
    fn tails_survive_the_cursors_row() {
        let routes = Routes::new(Copies::Local, "", &[]);
        let mut tails = Tails::none(routes.slots());
        tails.begin_missing(&ends(&vec![10; routes.slots()]));
        let slot = routes.slot(3, 5).expect("a slot");
        let mut highest = vec![-1; routes.slots()];
        highest[usize::from(slot)] = 41;
        tails.pass(&highest);
        tails.cut(&ends(&vec![50; routes.slots()]));
        assert_eq!(Tails::of(&tails.columns(&routes), &routes), tails);
        assert!(tails.left.contains(&Left { slot, from: 42, to: 50 }));
        assert_eq!(Tails::of(&Columns::default(), &routes), Tails::none(routes.slots()));
    }

    #[test]
    fn an_acknowledgement_without_an_offset_leaves_the_tail_where_it_is() {
        let mut tails = Tails::none(2);
        assert!(tails.begin_missing(&ends(&[7, 9])));
        assert!(!tails.begin_missing(&ends(&[70, 90])), "what is known stays");
        tails.pass(&[-1, 9]);
        assert_eq!(tails.open, [Some(7), Some(10)]);
        tails.pass(&[-1, 8]);
        assert_eq!(tails.open, [Some(7), Some(10)], "a tail never goes back");
    }

    #[test]
    fn each_producer_leaves_the_stretch_in_which_it_sent_until_the_position_has_passed_it() {
        let mut tails = Tails::none(1);
        tails.begin_missing(&ends(&[0]));
        tails.cut(&ends(&[100]));
        tails.pass(&[149]);
        tails.cut(&ends(&[180]));
        assert_eq!(tails.left, [Left { slot: 0, from: 0, to: 100 }, Left { slot: 0, from: 150, to: 180 }]);
        assert_eq!(tails.open, [Some(180)]);
        tails.cut(&ends(&[180]));
        assert_eq!(tails.left.len(), 2, "nothing was sent, nothing is left");
        tails.forget_predecessors();
        assert_eq!((tails.left.len(), &tails.open[..]), (0, &[Some(180)][..]));
    }

    #[test]
    fn stretches_beyond_the_limit_are_joined_and_none_is_lost() {
        let mut tails = Tails::none(2);
        tails.begin_missing(&ends(&[0, 0]));
        for round in 1..=20 {
            tails.cut(&ends(&[round * 10, round]));
            tails.pass(&[round * 10 + 4, -1]);
        }
        let of = |slot| tails.left.iter().filter(move |left| left.slot == slot).map(|left| (left.from, left.to)).collect::<Vec<_>>();
        assert_eq!(of(0).len(), LEFT_PER_SLOT_MAX);
        assert_eq!((of(0)[0].0, of(0)[1]), (0, (135, 140)));
        assert!(of(0).windows(2).all(|pair| pair[0].1 < pair[1].0));
        assert_eq!(of(1).len(), LEFT_PER_SLOT_MAX);
    }

    #[test]
    fn a_log_that_ends_before_what_was_acknowledged_is_lost() {
        let mut tails = Tails::none(2);
        tails.begin_missing(&ends(&[5, 8]));
        assert_eq!(tails.lost(&ends(&[5, 8])), None);
        assert_eq!(tails.lost(&ends(&[5, 7])), Some(Lost { slot: 1, acknowledged: 8, end: 7 }));
    }
}
