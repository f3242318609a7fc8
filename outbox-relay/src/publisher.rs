//! The life of one producer: pages from the reader to Kafka, until something ends it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use idempo_kafka::{Outgoing, Producer, Refusal, SendError};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::Span;
use uuid::fmt::Hyphenated;

use crate::lease::Fence;
use crate::metrics::Metrics;
use crate::position::Position;
use crate::quarantine::drain::Bounds;
use crate::quarantine::{Quarantine, Why};
use crate::readback::Found;
use crate::reader::{OutboxRow, Page, Reader};
use crate::routes::{Headers, Route, Routes, Slot, headers};
use crate::status::{State, Status};
use crate::tracker::{Departing, Failure, SentRow, Tracker};
use crate::transaction::Transactions;

/// Pages that were read and wait to be sent.
pub(crate) const PAGES_AHEAD: usize = 2;
/// The shortest wait between two looks at the outbox.
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// The longest wait between two looks at an outbox where nothing happens. A doorbell ends it.
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// A page with so many rows is followed by the next without a wait.
const BUSY_PAGE_ROWS: usize = 128;
/// Rows that are sent between two looks at the fence.
const ROWS_PER_FENCE: usize = 32;
/// The longest wait for room in the producer's queue before the fence is looked at again.
const ROOM_WAIT: Duration = Duration::from_millis(20);
/// How long rows may stay unacknowledged before the brokers are said to be away.
const STALL_MAX: Duration = Duration::from_secs(5);
/// The header that carries the W3C trace context.
const TRACEPARENT: &str = "traceparent";
/// How often the brokers' state is looked at.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);
/// How long what is under way at the end is waited for.
const DRAIN_MAX: Duration = Duration::from_secs(3);

/// Why a producer's life has ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It was asked to end; what was under way is acknowledged, or the wait for it was over.
    Drained,
    /// A row can't be sent until people have mended something.
    Blocked(String),
    /// The producer has failed; another one may do better.
    Failed(String),
    /// The database has failed.
    Database(idempo_pg::Error),
    /// The lease has run out.
    Fenced,
    /// The broker has refused rows.
    Refused,
    /// Rows that were under suspicion are behind it, and records may share requests again.
    Cleared,
    /// People have paused the outbox.
    Paused,
    /// The position that came with the lease is not the stored one any more.
    Rebased,
    /// The next row is for a topic whose rows go in transactions, and this producer has none.
    NeedsTransactions,
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused { .. } => Self::Refused,
            Failure::Lost(reason) => Self::Failed(reason),
        }
    }
}

/// Reads pages until `stop`, waiting less and less where rows come and more and more where none do; and never less than the last look took, so that
/// a machine without room gets more rows for each look instead of more looks.
pub(crate) async fn read_pages(
    mut reader: Reader,
    pages: mpsc::Sender<Page>,
    bell: Arc<Notify>,
    stop: CancellationToken,
    metrics: Metrics,
) -> Result<(), idempo_pg::Error> {
    let mut pause = PAUSE_MIN;
    while !stop.is_cancelled() {
        let began = Instant::now();
        let page = reader.next().await?;
        let looked = began.elapsed();
        let rows = page.as_ref().map_or(0, |page| page.rows.len());
        if rows > 0 {
            fail::fail_point!(crate::failpoint::RELAY_PAGE_READ);
            metrics.storage("read_page", looked);
            pause = PAUSE_MIN;
        }
        if let Some(page) = page
            && pages.send(page).await.is_err()
        {
            return Ok(());
        }
        if rows >= BUSY_PAGE_ROWS {
            continue;
        }
        tokio::select! {
            () = bell.notified() => pause = PAUSE_MIN,
            () = tokio::time::sleep(pause.max(looked)) => if rows == 0 { pause = (pause * 2).min(PAUSE_MAX) },
            () = stop.cancelled() => {}
        }
    }
    Ok(())
}

/// The span of a page in which traced commands have rows, linked to each of them; none for a page without. A record's own trace context is the
/// command's and goes through unchanged.
fn span_of(routed: &[Routed<'_>]) -> Option<Span> {
    let mut traced = routed.iter().filter_map(Routed::traceparent).peekable();
    traced.peek()?;
    let span = tracing::info_span!(
        "send",
        otel.kind = "client",
        messaging.system = "kafka",
        messaging.operation.name = "send",
        "messaging.operation.type" = "send",
        messaging.batch.message_count = routed.len(),
    );
    let mut last = "";
    for traceparent in traced {
        // Rows of one command stand together.
        if traceparent != last {
            idempo_telemetry::span_link_from(&span, traceparent);
            last = traceparent;
        }
    }
    Some(span)
}

/// Sends pages.
pub(crate) struct Publisher<'a> {
    pub(crate) producer: &'a Arc<Producer>,
    pub(crate) tracker: &'a Tracker,
    pub(crate) routes: &'a Routes,
    pub(crate) fence: &'a Fence,
    pub(crate) status: &'a Status,
    pub(crate) metrics: &'a Metrics,
    pub(crate) stop: &'a CancellationToken,
    /// Where rows go in transactions.
    pub(crate) transactions: Option<&'a Transactions<'a>>,
}

/// A row with where it goes.
struct Routed<'a> {
    row: OutboxRow<'a>,
    route: &'a Route,
    /// The row's key as the record has it.
    key: [u8; Hyphenated::LENGTH],
    partition: i32,
    headers: Headers<'a>,
}

impl<'a> Routed<'a> {
    fn new(row: OutboxRow<'a>, route: &'a Route, headers: Headers<'a>) -> Self {
        let mut key = [0_u8; Hyphenated::LENGTH];
        row.key.hyphenated().encode_lower(&mut key);
        let partition = route.partition(&key);
        Self { row, route, key, partition, headers }
    }

    fn slot(&self) -> Slot {
        self.route.slot(self.partition)
    }

    fn departing(&self) -> SentRow {
        SentRow { seq: self.row.seq, recorded_at: self.row.recorded_at, slot: self.slot() }
    }

    fn record(&self) -> Outgoing<'_> {
        Outgoing { topic: &self.route.topic, partition: self.partition, key: &self.key, value: self.row.payload, headers: &self.headers }
    }

    fn traceparent(&self) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(name, _)| *name == TRACEPARENT)?;
        str::from_utf8(value).ok()
    }
}

/// The places of a page's rows in the order in which they are sent: partition by partition, so that records for one partition come together and share
/// requests. Of one partition, they stay in their order; between partitions there is none to keep. Rows for several topics stay as they are: a row that
/// is refused holds back later ones of its key for other topics too.
fn sending_order(routed: &[Routed<'_>]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..routed.len()).collect();
    let topic = |at: &usize| routed.get(*at).map(|routed| routed.row.topic);
    if places.iter().all(|at| topic(at) == topic(&0)) {
        places.sort_by_key(|at| routed.get(*at).map(|routed| routed.partition));
    }
    places
}

impl Publisher<'_> {
    /// Sends pages until there are no more, but for rows that were `found` in Kafka or are kept in quarantine, and waits for what is under way then.
    pub(crate) async fn publish(&self, pages: &mut mpsc::Receiver<Page>, mut found: Found, quarantine: &mut Quarantine) -> Ended {
        loop {
            let is_due = tokio::select! {
                page = pages.recv() => match page {
                    None => return self.drain().await,
                    Some(page) => {
                        if let Err(ended) = self.send_page(&page, &mut found, quarantine).await {
                            return ended;
                        }
                        self.transactions.is_some_and(Transactions::paged)
                    }
                },
                () = self.tracker.progress.notified() => false,
                () = self.transaction_is_due() => true,
                () = quarantine.wanted() => {
                    if let Err(ended) = self.release(quarantine).await {
                        return ended;
                    }
                    false
                }
            };
            if let Some(ended) = self.failure() {
                return ended;
            }
            if quarantine.is_past_suspects() {
                match self.settle().await {
                    Some(ended) => return ended,
                    None if self.tracker.is_idle() => return Ended::Cleared,
                    None => {}
                }
            }
            if let Some(transactions) = self.transactions
                && is_due
                && let Err(ended) = transactions.commit(None).await
            {
                return ended;
            }
        }
    }

    /// Sends what people have released from quarantine, when nothing else is under way.
    async fn release(&self, quarantine: &mut Quarantine) -> Result<(), Ended> {
        if let Some(ended) = self.settle().await {
            return Err(ended);
        }
        if !self.tracker.is_idle() {
            quarantine.put_off();
            return Ok(());
        }
        quarantine.drain(&Bounds { routes: self.routes, fence: self.fence, stop: self.stop }).await
    }

    async fn transaction_is_due(&self) {
        match self.transactions {
            Some(transactions) => transactions.due().await,
            None => std::future::pending().await,
        }
    }

    /// Looks after the brokers' state for as long as it is polled.
    pub(crate) async fn watch(&self) {
        loop {
            tokio::time::sleep(WATCH_INTERVAL).await;
            let stalled = self.tracker.stalled_since().is_some_and(|since| since.elapsed() > STALL_MAX);
            if !self.producer.brokers_down() && !stalled {
                self.status.set(State::Relaying);
                continue;
            }
            self.status.set(State::BrokerAway);
            let producer = Arc::clone(self.producer);
            // Where nothing is under way, nothing else would notice that they are back.
            let probed = tokio::task::spawn_blocking(move || producer.probe_blocking()).await;
            tracing::debug!(alive = probed.unwrap_or(false), "the brokers were asked for a sign of life");
        }
    }

    async fn send_page(&self, page: &Page, found: &mut Found, quarantine: &mut Quarantine) -> Result<(), Ended> {
        let mut routed = self.route(page, quarantine)?;
        // Committed before the position can pass any row of the page.
        let blocked = match quarantine.commit().await {
            Ok(()) => None,
            Err(Ended::Blocked(reason)) => Some(reason),
            Err(ended) => return Err(ended),
        };
        if blocked.is_some() {
            let first = quarantine.first_without_room();
            routed.retain(|routed| routed.row.seq < first);
        }
        if self.transactions.is_none() && routed.iter().any(|routed| routed.route.exactly_once) {
            return Err(self.settle().await.unwrap_or(Ended::NeedsTransactions));
        }
        let rows: Vec<SentRow> = routed.iter().map(Routed::departing).collect();
        let (after, passes_predecessors) = match (&blocked, rows.last()) {
            (None, _) => (page.after.clone(), page.passes_predecessors),
            // What stands before the row that there is no room for is sent and counts; the row is met again at the head of the next page.
            (Some(_), Some(last)) => (Position::within(&page.done, &page.batch, last.seq), false),
            (Some(reason), None) => return Err(self.settle().await.unwrap_or(Ended::Blocked(reason.clone()))),
        };
        let first = self.tracker.begin(Departing { rows, after, passes_predecessors, clock: page.clock, _span: span_of(&routed) });
        let (mut skipped, mut has_refused) = (0, false);
        for (sent, at) in sending_order(&routed).into_iter().enumerate() {
            let Some(routed) = routed.get(at) else { continue };
            if sent % ROWS_PER_FENCE == 0 && !self.fence.holds() {
                return Err(Ended::Fenced);
            }
            if found.take(routed.slot(), &routed.key, routed.row.payload) {
                self.tracker.found(first + at);
                skipped += 1;
                continue;
            }
            // A row that was refused a moment ago holds back later ones of its key.
            if has_refused && quarantine.keeps(&routed.row) {
                self.keep(quarantine).await?;
                self.tracker.quarantined(first + at);
                continue;
            }
            if let Some(refusal) = self.send(&routed.record(), first + at).await? {
                has_refused = true;
                quarantine.refuse(&routed.row, Why::Refused(refusal));
                self.keep(quarantine).await?;
                self.tracker.quarantined(first + at);
            }
            quarantine.passed(routed.row.seq);
        }
        self.metrics.skipped(skipped);
        if passes_predecessors {
            *found = Found::default();
        }
        if !routed.is_empty() {
            fail::fail_point!(crate::failpoint::RELAY_HANDED_OVER);
        }
        match blocked {
            None => Ok(()),
            Some(reason) => Err(self.settle().await.unwrap_or(Ended::Blocked(reason))),
        }
    }

    /// Finds where each row goes. What can't go anywhere, or not yet, is for the quarantine.
    fn route<'p>(&'p self, page: &'p Page, quarantine: &mut Quarantine) -> Result<Vec<Routed<'p>>, Ended> {
        let mut routed = Vec::with_capacity(page.rows.len());
        for row in &page.rows {
            let row = OutboxRow::of(row).map_err(|error| Ended::Database(error.into()))?;
            if quarantine.keeps(&row) {
                quarantine.passed(row.seq);
                continue;
            }
            let Some(route) = self.routes.get(row.topic) else {
                quarantine.refuse(&row, Why::TopicNumberUnknown);
                continue;
            };
            let Some(headers) = headers(row.headers) else {
                quarantine.refuse(&row, Why::HeadersUnreadable);
                continue;
            };
            routed.push(Routed::new(row, route, headers));
        }
        Ok(routed)
    }

    /// Puts rows that are to be kept from Kafka into quarantine.
    async fn keep(&self, quarantine: &mut Quarantine) -> Result<(), Ended> {
        match quarantine.commit().await {
            // What was handed over before is waited for, so that it is not sent again and again.
            Err(Ended::Blocked(reason)) => Err(self.settle().await.unwrap_or(Ended::Blocked(reason))),
            kept => kept,
        }
    }

    /// Hands one record over, waiting for room. Gives the refusal where the broker would never take it.
    async fn send(&self, record: &Outgoing<'_>, number: usize) -> Result<Option<Refusal>, Ended> {
        if let Some(transactions) = self.transactions {
            transactions.count()?;
        }
        loop {
            match self.producer.send(record, number) {
                Ok(()) => return Ok(None),
                Err(SendError::Full) => {}
                Err(SendError::Refused(refusal)) => return Ok(Some(refusal)),
                Err(SendError::Fatal(error)) => return Err(self.failure().unwrap_or_else(|| Ended::Failed(error.to_string()))),
            }
            // Full is common in a backlog; whoever waits longest is told first.
            let _ = tokio::time::timeout(ROOM_WAIT, self.tracker.progress.notified()).await;
            if let Some(ended) = self.failure() {
                return Err(ended);
            }
            if !self.fence.holds() {
                return Err(Ended::Fenced);
            }
            if self.stop.is_cancelled() {
                return Err(self.drain().await);
            }
        }
    }

    async fn drain(&self) -> Ended {
        self.settle().await.unwrap_or(Ended::Drained)
    }

    /// Waits until nothing is under way, for a bounded time. Gives what went wrong meanwhile.
    async fn settle(&self) -> Option<Ended> {
        let deadline = tokio::time::Instant::now() + DRAIN_MAX;
        if let Some(transactions) = self.transactions
            && let Err(ended) = transactions.commit(Some(deadline)).await
        {
            return Some(ended);
        }
        while !self.tracker.is_idle() && tokio::time::Instant::now() < deadline {
            let _ = tokio::time::timeout(ROOM_WAIT, self.tracker.progress.notified()).await;
            if let Some(ended) = self.failure() {
                return Some(ended);
            }
            if !self.fence.holds() {
                return Some(Ended::Fenced);
            }
        }
        None
    }

    fn failure(&self) -> Option<Ended> {
        self.tracker.failure().map(Ended::from)
    }
}
