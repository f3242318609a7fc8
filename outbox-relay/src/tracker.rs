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
use crate::snapshot::DatabaseTime;

/// The most rows of a page, so that page and row fit in the number that goes with a record.
pub(crate) const PAGE_ROWS_MAX: usize = 1 << 16;

/// A row as the tracker remembers it until its page is acknowledged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SentRow {
    pub(crate) seq: i64,
    pub(crate) recorded_at: DatabaseTime,
}

/// How far everything is acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct Acked {
    pub(crate) position: Position,
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
}

struct State {
    /// The number of the first page in `pages`.
    first: usize,
    pages: VecDeque<Sent>,
    failure: Option<Failure>,
    progressed_at: Instant,
    closed: bool,
}

struct Sent {
    rows: Vec<SentRow>,
    waiting: usize,
    after: Position,
    clock: DatabaseClock,
    /// Ends with the page.
    _span: Option<Span>,
}

impl Tracker {
    /// A tracker that tells `acked` how far everything is acknowledged.
    pub(crate) fn new(acked: watch::Sender<Acked>, metrics: Metrics) -> Self {
        let state = State { first: 0, pages: VecDeque::new(), failure: None, progressed_at: Instant::now(), closed: false };
        Self { state: Mutex::new(state), acked, progress: Notify::new(), metrics }
    }

    /// Notes a page before its first record is sent. Gives the number of its first record; the others follow. `span` ends with the page's
    /// acknowledgement.
    pub(crate) fn begin(&self, rows: Vec<SentRow>, after: Position, clock: DatabaseClock, span: Option<Span>) -> usize {
        let mut state = self.lock();
        if state.pages.is_empty() {
            state.progressed_at = Instant::now();
        }
        let number = state.first + state.pages.len();
        state.pages.push_back(Sent { waiting: rows.len(), rows, after, clock, _span: span });
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
            Delivery::Acknowledged => {
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
            Delivery::Refused(refusal) => Failure::Refused { seq: sent.rows.get(row).map_or(0, |row| row.seq), refusal },
        };
        // Of several only the first says why: the others follow from it.
        state.failure.get_or_insert(failure);
        self.progress.notify_one();
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
        let mut last = None;
        while state.pages.front().is_some_and(|sent| sent.waiting == 0) {
            let Some(sent) = state.pages.pop_front() else { break };
            state.first += 1;
            rows += u64::try_from(sent.rows.len()).unwrap_or(0);
            self.metrics.acknowledged(sent.rows.iter().map(|row| sent.clock.since(row.recorded_at, now)));
            last = Some(sent.after);
        }
        if let Some(position) = last {
            state.progressed_at = now;
            self.acked.send_modify(|acked| {
                acked.position = position;
                acked.rows += rows;
            });
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::position::{BatchEnd, Done, Mark};

    fn after(seq: i64) -> Position {
        let done = Arc::new(Done::default());
        let batch = BatchEnd { snapshot: done.snapshot.clone(), mark: Mark { xid: 3, floor: 0 } };
        Position::within(&done, &Arc::new(batch), seq)
    }

    fn tracker() -> (Tracker, watch::Receiver<Acked>) {
        let (acked, heard) = watch::channel(Acked { position: after(0), rows: 0 });
        (Tracker::new(acked, Metrics::new("test")), heard)
    }

    fn begin(tracker: &Tracker, first_seq: i64, rows: i64) -> usize {
        let rows: Vec<_> = (0..rows).map(|row| SentRow { seq: first_seq + row, recorded_at: DatabaseTime(0) }).collect();
        let end = after(rows.last().map_or(first_seq, |row| row.seq));
        tracker.begin(rows, end, DatabaseClock::for_tests(), None)
    }

    #[test]
    fn the_position_moves_only_over_pages_that_are_wholly_acknowledged_without_a_gap() {
        let (tracker, heard) = tracker();
        let (first, second) = (begin(&tracker, 1, 2), begin(&tracker, 3, 1));
        tracker.told(second, Delivery::Acknowledged);
        tracker.told(first + 1, Delivery::Acknowledged);
        assert_eq!(heard.borrow().position.acked_seq, 0);
        tracker.told(first, Delivery::Acknowledged);
        assert_eq!((heard.borrow().position.acked_seq, heard.borrow().rows), (3, 3));
        assert!(tracker.is_idle());
    }

    #[test]
    fn a_page_without_rows_moves_the_position_once_those_before_it_are_acknowledged() {
        let (tracker, heard) = tracker();
        let first = begin(&tracker, 1, 1);
        begin(&tracker, 9, 0);
        assert_eq!(heard.borrow().position.acked_seq, 0);
        tracker.told(first, Delivery::Acknowledged);
        assert_eq!(heard.borrow().position.acked_seq, 9);
    }

    #[test]
    fn what_is_told_of_an_ended_producer_moves_nothing() {
        let (tracker, heard) = tracker();
        let first = begin(&tracker, 1, 1);
        tracker.close();
        tracker.told(first, Delivery::Acknowledged);
        assert_eq!(heard.borrow().position.acked_seq, 0);
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
