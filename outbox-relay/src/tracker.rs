//! Which pages are acknowledged, and up to where without a gap.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use idempo_kafka::{Delivery, Refusal};
use tokio::sync::{Notify, watch};
use tracing::Span;

use crate::metrics::Metrics;
use crate::position::Position;
use crate::reader::DatabaseClock;
use crate::routes::Slot;
use crate::snapshot::DatabaseTime;
use crate::tails::Tails;

/// The most rows of a page, so that page and row fit in the number that goes with a record.
pub(crate) const PAGE_ROWS_MAX: usize = 1 << 16;

/// A row as the tracker remembers it until its page is acknowledged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SentRow {
    pub(crate) seq: i64,
    pub(crate) recorded_at: DatabaseTime,
    /// Where it goes.
    pub(crate) slot: Slot,
}

/// A page that is about to be sent.
#[derive(Debug)]
pub(crate) struct Departing {
    pub(crate) rows: Vec<SentRow>,
    /// The position when all rows are acknowledged.
    pub(crate) after: Position,
    /// Behind this page stands nothing that a predecessor can have sent.
    pub(crate) passes_predecessors: bool,
    pub(crate) clock: DatabaseClock,
    /// Ends with the page's acknowledgement.
    pub(crate) _span: Option<Span>,
}

/// How far everything is acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct Acked {
    pub(crate) position: Position,
    /// Where to look for what was sent beyond the position.
    pub(crate) tails: Tails,
    /// Rows acknowledged since this relay took the lease.
    pub(crate) rows: u64,
}

/// Why a producer's life has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The broker will never take the row as it is.
    Refused { seq: i64, refusal: Refusal },
    /// The client has given up.
    Lost(String),
}

/// Counts down the pages that are under way. One tracker belongs to one producer.
pub(crate) struct Tracker {
    state: Mutex<State>,
    acked: watch::Sender<Acked>,
    /// There is room in the producer's queue, or something has failed.
    pub(crate) progress: Notify,
    metrics: Metrics,
    slots: usize,
}

struct State {
    /// The number of the first page in `pages`.
    first: usize,
    pages: VecDeque<Sent>,
    /// The first page that is not committed; without transactions there is none.
    uncommitted: usize,
    failure: Option<Failure>,
    /// Rows of refused requests.
    refused: Vec<(i64, Refusal)>,
    progressed_at: Instant,
    closed: bool,
}

struct Sent {
    page: Departing,
    waiting: usize,
    /// By slot, the highest offset that was acknowledged; negative where there is none.
    highest: Vec<i64>,
}

impl Tracker {
    /// A tracker that tells `acked` how far everything is acknowledged; in transactions, how far it is committed.
    pub(crate) fn new(acked: watch::Sender<Acked>, metrics: Metrics, slots: usize, transactional: bool) -> Self {
        let state = State {
            first: 0,
            pages: VecDeque::new(),
            uncommitted: if transactional { 0 } else { usize::MAX },
            failure: None,
            refused: Vec::new(),
            progressed_at: Instant::now(),
            closed: false,
        };
        Self { state: Mutex::new(state), acked, progress: Notify::new(), metrics, slots }
    }

    /// Notes a page before its first record is sent. Gives the number of its first record; the others follow.
    pub(crate) fn begin(&self, page: Departing) -> usize {
        let mut state = self.lock();
        if state.pages.is_empty() {
            state.progressed_at = Instant::now();
        }
        let number = state.first + state.pages.len();
        let highest = if page.rows.is_empty() { Vec::new() } else { vec![-1; self.slots] };
        state.pages.push_back(Sent { waiting: page.rows.len(), page, highest });
        self.settle(&mut state);
        number * PAGE_ROWS_MAX
    }

    /// Hears what became of a record. Called on the producer's thread.
    pub(crate) fn told(&self, number: usize, delivery: Delivery) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        let (page, row) = (number / PAGE_ROWS_MAX, number % PAGE_ROWS_MAX);
        let Some(at) = page.checked_sub(state.first) else { return };
        let Some(sent) = state.pages.get_mut(at) else { return };
        let failure = match delivery {
            Delivery::Acknowledged { offset } => {
                if let (Some(offset), Some(row)) = (offset, sent.page.rows.get(row))
                    && let Some(highest) = sent.highest.get_mut(usize::from(row.slot))
                {
                    *highest = (*highest).max(offset);
                }
                sent.waiting = sent.waiting.saturating_sub(1);
                if sent.waiting == 0 {
                    fail::fail_point!(crate::failpoint::RELAY_ACKNOWLEDGED);
                    self.settle(&mut state);
                    self.progress.notify_one();
                }
                return;
            }
            Delivery::Purged => Failure::Lost("thrown away".to_owned()),
            Delivery::Failed(code) => Failure::Lost(code.to_string()),
            Delivery::Refused(refusal) => {
                let seq = sent.page.rows.get(row).map_or(0, |row| row.seq);
                state.refused.push((seq, refusal));
                Failure::Refused { seq, refusal }
            }
        };
        // Of several only the first says why: the others follow from it.
        state.failure.get_or_insert(failure);
        self.progress.notify_one();
    }

    /// The rows of the requests that the broker has refused so far.
    pub(crate) fn refused(&self) -> Vec<(i64, Refusal)> {
        self.lock().refused.clone()
    }

    /// A row is not sent: it is in quarantine.
    pub(crate) fn quarantined(&self, number: usize) {
        self.told(number, Delivery::Acknowledged { offset: None });
    }

    /// A row need not be sent: it was found in Kafka.
    pub(crate) fn found(&self, number: usize) {
        self.told(number, Delivery::Acknowledged { offset: None });
    }

    /// Everything that was begun until now is committed, if it was in a transaction at all.
    pub(crate) fn committed(&self) {
        let mut state = self.lock();
        if state.uncommitted != usize::MAX && !state.closed {
            state.uncommitted = state.first + state.pages.len();
            self.settle(&mut state);
            self.progress.notify_one();
        }
    }

    /// Whether everything that was sent is acknowledged, committed or not.
    pub(crate) fn is_acknowledged(&self) -> bool {
        self.lock().pages.iter().all(|sent| sent.waiting == 0)
    }

    /// Why this producer's life has ended, if it has.
    pub(crate) fn failure(&self) -> Option<Failure> {
        self.lock().failure.clone()
    }

    /// The producer's life has ended. What is told of it from now on counts no more: its successor has begun at what was acknowledged until now.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
    }

    /// Whether nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.lock().pages.is_empty()
    }

    /// Since when something is under way without any page being acknowledged.
    pub(crate) fn stalled_since(&self) -> Option<Instant> {
        let state = self.lock();
        (!state.pages.is_empty()).then_some(state.progressed_at)
    }

    /// Takes finished pages off the front and tells how far that is.
    fn settle(&self, state: &mut State) {
        let now = Instant::now();
        let mut rows = 0_u64;
        let mut settled = Vec::new();
        while state.first < state.uncommitted && state.pages.front().is_some_and(|sent| sent.waiting == 0) {
            let Some(sent) = state.pages.pop_front() else { break };
            state.first += 1;
            let page = &sent.page;
            rows += u64::try_from(page.rows.len()).unwrap_or(0);
            self.metrics.acknowledged(page.rows.iter().map(|row| page.clock.since(row.recorded_at, now)));
            settled.push(sent);
        }
        if settled.is_empty() {
            return;
        }
        state.progressed_at = now;
        self.acked.send_modify(|acked| {
            acked.rows += rows;
            for sent in settled {
                acked.tails.pass(&sent.highest);
                if sent.page.passes_predecessors {
                    acked.tails.forget_predecessors();
                }
                acked.position = sent.page.after;
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use idempo_kafka::Bounds;

    use super::*;
    use crate::position::{BatchEnd, Done, Mark};

    fn after(seq: i64) -> Position {
        let done = Arc::new(Done::default());
        let batch = BatchEnd { snapshot: done.snapshot.clone(), mark: Mark { xid: 3, floor: 0 } };
        Position::within(&done, &Arc::new(batch), seq)
    }

    fn tracker() -> (Tracker, watch::Receiver<Acked>) {
        tracker_with(false)
    }

    fn tracker_with(transactional: bool) -> (Tracker, watch::Receiver<Acked>) {
        let mut tails = Tails::none(2);
        tails.begin_missing(&[Bounds { start: 0, end: 0 }; 2]);
        let (acked, heard) = watch::channel(Acked { position: after(0), tails, rows: 0 });
        (Tracker::new(acked, Metrics::new("test"), 2, transactional), heard)
    }

    fn begin(tracker: &Tracker, first_seq: i64, rows: i64) -> usize {
        let rows: Vec<_> = (0..rows).map(|row| SentRow { seq: first_seq + row, recorded_at: DatabaseTime(0), slot: 1 }).collect();
        let after = after(rows.last().map_or(first_seq, |row| row.seq));
        tracker.begin(Departing { rows, after, passes_predecessors: false, clock: DatabaseClock::for_tests(), _span: None })
    }

    fn acknowledged(offset: i64) -> Delivery {
        Delivery::Acknowledged { offset: Some(offset) }
    }

    #[test]
    fn the_position_moves_only_over_pages_that_are_wholly_acknowledged_without_a_gap() {
        let (tracker, heard) = tracker();
        let (first, second) = (begin(&tracker, 1, 2), begin(&tracker, 3, 1));
        tracker.told(second, acknowledged(2));
        tracker.told(first + 1, acknowledged(1));
        assert_eq!(heard.borrow().position.acked_seq, 0);
        tracker.told(first, acknowledged(0));
        assert_eq!((heard.borrow().position.acked_seq, heard.borrow().rows), (3, 3));
        assert!(tracker.is_idle());
    }

    #[test]
    fn a_page_without_rows_moves_the_position_once_those_before_it_are_acknowledged() {
        let (tracker, heard) = tracker();
        let first = begin(&tracker, 1, 1);
        begin(&tracker, 9, 0);
        assert_eq!(heard.borrow().position.acked_seq, 0);
        tracker.told(first, acknowledged(0));
        assert_eq!(heard.borrow().position.acked_seq, 9);
    }

    #[test]
    fn what_is_told_of_an_ended_producer_moves_nothing() {
        let (tracker, heard) = tracker();
        let first = begin(&tracker, 1, 1);
        tracker.close();
        tracker.told(first, acknowledged(0));
        assert_eq!(heard.borrow().position.acked_seq, 0);
    }

    #[test]
    fn tails_move_with_the_position_and_not_with_pages_that_wait_for_an_earlier_one() {
        let (tracker, heard) = tracker();
        let (first, second) = (begin(&tracker, 1, 1), begin(&tracker, 2, 1));
        let tail = || {
            let mut tails = heard.borrow().tails.clone();
            tails.cut(&[Bounds { start: 0, end: 100 }; 2]);
            tails.left().iter().find(|left| left.slot == 1).map(|left| left.from)
        };
        tracker.told(second, acknowledged(11));
        assert_eq!(tail(), Some(0));
        tracker.told(first, acknowledged(10));
        assert_eq!(tail(), Some(12));
        let third = begin(&tracker, 3, 1);
        tracker.found(third);
        assert_eq!((tail(), heard.borrow().position.acked_seq), (Some(12), 3), "what was found moves the position alone");
    }

    #[test]
    fn in_a_transaction_nothing_counts_before_the_commit() {
        let (tracker, heard) = tracker_with(true);
        let first = begin(&tracker, 1, 1);
        assert!(!tracker.is_acknowledged());
        tracker.told(first, acknowledged(5));
        assert!(tracker.is_acknowledged() && !tracker.is_idle());
        assert_eq!(heard.borrow().position.acked_seq, 0);
        tracker.committed();
        assert_eq!(heard.borrow().position.acked_seq, 1);
        let second = begin(&tracker, 2, 1);
        tracker.told(second, acknowledged(6));
        tracker.close();
        tracker.committed();
        assert_eq!(heard.borrow().position.acked_seq, 1, "what is committed after its end counts no more");
    }

    #[test]
    fn the_first_failure_is_kept_and_names_its_row() {
        let (tracker, heard) = tracker();
        let first = begin(&tracker, 41, 3);
        tracker.told(first + 1, Delivery::Refused(Refusal::TooLarge));
        tracker.told(first, Delivery::Purged);
        assert_eq!(tracker.failure(), Some(Failure::Refused { seq: 42, refusal: Refusal::TooLarge }));
        assert_eq!(heard.borrow().position.acked_seq, 0);
    }
}
