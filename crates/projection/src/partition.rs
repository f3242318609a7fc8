//! The task of one partition: records in, batches committed, until the partition is taken away or stops.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use idempo_ids::{EventId, StreamId};
use lru::LruCache;
use tokio::sync::watch;
use tokio::time::{Instant, interval, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, info_span};

use crate::batch::{Decoded, Entry, Folded, Home, Version};
use crate::event::Outline;
use crate::halt::{Cause, Halt};
use crate::parking::bury::DeadLetters;
use crate::parking::letters::Parking;
use crate::parking::{Lot, Parked};
use crate::patience::{chain, patiently};
use crate::progress::Progress;
use crate::projector::Projector;
use crate::store::{Batch, Commit, Lease, Store, StoreError, StreamEnd};

/// The most records of a batch.
pub const BATCH_RECORDS_MAX: usize = 8_192;
/// How long a batch is filled while more than another one is behind it. Without such a backlog nothing is waited for.
const FILL_MAX: Duration = Duration::from_millis(50);
/// A batch of so many records is large: of those only some are made and written at once in a process, as [`LARGE_AT_ONCE`] says. More would wait
/// for the same cores and rows, with their memory. Smaller batches never wait for large ones.
const LARGE_RECORDS_MIN: usize = 1_024;
/// How many large batches a process has under way.
pub(crate) const LARGE_AT_ONCE: usize = 4;
/// The most streams whose versions a partition's task keeps; those of others are asked of the store.
const STREAMS_KEPT_MAX: usize = 16_384;
/// The most commands a batch's span is linked to.
const LINKS_MAX: usize = 32;
/// How often a task says where its partition ends.
const HEAD_INTERVAL: Duration = Duration::from_millis(500);
/// How long a commit that is under way may still take once the partition is taken away. Beyond it the fence decides.
const LAST_COMMIT_GRACE: Duration = Duration::from_secs(2);

/// Where the records of a partition come from, from the offset of the lease on.
pub trait Feed: Send {
    /// Waits for records, and appends at most `limit` of them. `false` once the partition has been taken away.
    ///
    /// # Cancel safety
    /// Safe: no record is lost.
    fn next(&mut self, entries: &mut Vec<Entry>, limit: usize) -> impl Future<Output = bool> + Send;

    /// The offset of the next record to be written, as last heard.
    fn head(&self) -> i64;

    /// Tells lag tools that everything before this offset is done.
    fn done(&self, next_offset: i64);
}

/// Why a partition's task ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The partition was taken away, or the process stops.
    Revoked,
    /// The store says that somebody else has the partition, or has fallen back. Nothing of the last batch is in it.
    Fenced,
}

/// Runs a partition until it is taken away. One that stops is still held, and unread, until then.
pub async fn run<P, S, F>(partition: Partition<S>, mut feed: F, cancel: CancellationToken) -> Ended
where
    P: Projector,
    S: Store<Writes = P::Writes>,
    F: Feed + Sync,
{
    let mut task = Task::<S> {
        lot: Lot::of(partition.parked.clone()),
        // Nobody may have looked since somebody wished.
        has_wishes: !partition.parked.keys.is_empty(),
        deaf_until: None,
        wishes: partition.progress.wishes(),
        seen: LruCache::unbounded(),
        next_offset: partition.lease.next_offset,
        known: partition.lease.last_event,
        fence: partition.progress.held(partition.home.partition, partition.lease),
        partition,
        cancel,
    };
    let ended = task.serve::<P, F>(&mut feed).await;
    match ended {
        Ok(ended) => {
            if ended == Ended::Fenced {
                tracing::info!(
                    projection = P::NAME,
                    partition = task.partition.home.partition,
                    "the partition is given up: its lease is void"
                );
                task.partition.progress.fenced(task.partition.home.partition);
            }
            ended
        }
        Err(halt) => {
            task.halt::<P, F>(halt, &feed).await;
            Ended::Revoked
        }
    }
}

/// A partition that was taken.
pub struct Partition<S> {
    /// Where its read model lives.
    pub store: Arc<S>,
    /// What is to know how it gets on.
    pub progress: Arc<Progress>,
    /// Its topic.
    pub topic: Arc<str>,
    /// Its number, and how many there are.
    pub home: Home,
    /// The lease, under which everything is committed. The feed begins at its offset.
    pub lease: Lease,
    /// What was parked of it when it was taken.
    pub parked: Parked,
    /// Where what can't be applied goes.
    pub letters: DeadLetters,
}

pub(crate) struct Task<S> {
    pub(crate) partition: Partition<S>,
    /// Everything before it is in the store, or parked there.
    pub(crate) next_offset: i64,
    /// What is parked of it.
    pub(crate) lot: Lot,
    /// Whether somebody may want dead letters drained, as far as this task has heard.
    pub(crate) has_wishes: bool,
    /// Until when this is not heard: they could not be.
    pub(crate) deaf_until: Option<Instant>,
    /// The partitions of which somebody does, again and again as long as it is so.
    wishes: watch::Receiver<Vec<i32>>,
    /// The event in the record before the offset of the lease, until that was read again.
    known: Option<EventId>,
    /// The last version of streams, as it is in the store.
    pub(crate) seen: LruCache<StreamId, Version>,
    /// Cancelled when somebody else is seen to have the partition, or the store to have fallen back.
    fence: CancellationToken,
    /// Cancelled when the partition is taken away.
    pub(crate) cancel: CancellationToken,
}

/// What became of some records.
pub(crate) enum Step {
    Done,
    Ended(Ended),
    /// Those before one are in the store, and that one can't be.
    Stopped(Halt),
    /// The store refuses the rows that follow from these records.
    Refused(String),
}

impl<S: Store> Task<S> {
    async fn serve<P: Projector<Writes = S::Writes>, F: Feed + Sync>(&mut self, feed: &mut F) -> Result<Ended, Halt> {
        let mut entries = Vec::new();
        let mut heads = interval(HEAD_INTERVAL);
        loop {
            entries.clear();
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Ok(Ended::Revoked),
                () = self.fence.cancelled() => return Ok(Ended::Fenced),
                _ = heads.tick() => { self.partition.progress.head(self.partition.home.partition, feed.head()); continue }
                Ok(()) = self.wishes.changed() => self.hear(),
                more = feed.next(&mut entries, BATCH_RECORDS_MAX) => if !more { return Ok(Ended::Revoked) },
                () = std::future::ready(()), if self.has_wishes => {}
            }
            if !fill(&mut entries, feed).await {
                return Ok(Ended::Revoked);
            }
            if let Some(ended) = self.read::<P, F>(&entries, feed).await? {
                return Ok(ended);
            }
            // Between two batches, so that neither waits for all of the other.
            if self.has_wishes
                && let Some(ended) = self.drain::<P, F>(feed).await
            {
                return Ok(ended);
            }
        }
    }

    /// Brings what was read into the store.
    async fn read<P: Projector<Writes = S::Writes>, F: Feed + Sync>(&mut self, entries: &[Entry], feed: &F) -> Result<Option<Ended>, Halt> {
        if entries.is_empty() {
            return Ok(None);
        }
        check_log(&mut self.known, self.next_offset, entries)?;
        fail::fail_point!(crate::failpoint::PROJECT_FETCHED);
        self.partition.progress.head(self.partition.home.partition, feed.head());
        if let Some(ended) = self.take::<P, F>(entries, feed).await? {
            return Ok(Some(ended));
        }
        fail::fail_point!(crate::failpoint::PROJECT_BEFORE_HINT);
        feed.done(self.next_offset);
        Ok(None)
    }

    /// Hears whether somebody wants dead letters of this partition drained.
    fn hear(&mut self) {
        let number = self.partition.home.partition;
        let is_wished = self.wishes.borrow_and_update().contains(&number);
        self.has_wishes |= is_wished && self.deaf_until.is_none_or(|until| until <= Instant::now());
    }

    /// Drains some of what is wished, for as long as the partition is held.
    async fn drain<P: Projector<Writes = S::Writes>, F: Feed + Sync>(&mut self, feed: &F) -> Option<Ended> {
        let progress = Arc::clone(&self.partition.progress);
        let (number, cancel) = (self.partition.home.partition, self.cancel.clone());
        tokio::select! {
            ended = self.drain_part::<P>() => ended,
            () = overdue(&cancel) => Some(Ended::Revoked),
            () = tell_head(&progress, number, feed) => Some(Ended::Revoked),
        }
    }

    /// Says loudly why the partition stops, also to those who ask the store, and holds it until it is taken away, if only by its own process, which is
    /// wanted to try it again. Dead letters are drained meanwhile: to have fewer of them may be what it waits for.
    async fn halt<P: Projector<Writes = S::Writes>, F: Feed + Sync>(&mut self, halt: Halt, feed: &F) {
        let Partition { home, topic, progress, store, lease, .. } = &self.partition;
        let (number, offset, reason, code) = (home.partition, halt.offset, halt.cause.to_string(), halt.cause.code());
        tracing::error!(projection = P::NAME, %topic, partition = number, offset, code, reason, "the partition has stopped");
        progress.halted(topic, number, halt);
        let noted = async {
            match self.patiently(|| store.note_stop(number, lease.epoch, code, &reason)).await {
                Ok(()) => progress.stop_told(number, lease.epoch),
                Err(error) => {
                    tracing::debug!(%topic, partition = number, error = chain(&error), "why the partition has stopped could not be kept");
                }
            }
        };
        tokio::select! {
            () = noted => {}
            () = tell_head(progress, number, feed) => {}
        }
        let mut heads = interval(HEAD_INTERVAL);
        loop {
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return,
                _ = heads.tick() => self.partition.progress.head(number, feed.head()),
                Ok(()) = self.wishes.changed() => self.hear(),
                () = std::future::ready(()), if self.has_wishes => {
                    if self.drain::<P, F>(feed).await.is_some() {
                        return self.cancel.cancelled().await;
                    }
                }
            }
        }
    }

    /// Brings a run of records into the store: in one batch, or, where the store refuses that, in smaller ones down to the record it refuses. What
    /// can't be applied is parked.
    async fn take<P: Projector<Writes = S::Writes>, F: Feed + Sync>(&mut self, entries: &[Entry], feed: &F) -> Result<Option<Ended>, Halt> {
        let progress = Arc::clone(&self.partition.progress);
        let (number, cancel) = (self.partition.home.partition, self.cancel.clone());
        let mut rest = entries;
        let mut size = rest.len();
        while let Some(entries) = rest.get(..size.min(rest.len())).filter(|entries| !entries.is_empty()) {
            let step = tokio::select! {
                step = self.step::<P>(entries) => step?,
                () = overdue(&cancel) => Step::Ended(Ended::Revoked),
                () = tell_head(&progress, number, feed) => Step::Ended(Ended::Revoked),
            };
            match step {
                Step::Done => {
                    rest = rest.get(rest.partition_point(|entry| entry.offset < self.next_offset)..).unwrap_or_default();
                    size = size.saturating_mul(2);
                }
                Step::Refused(_) => size = entries.len() / 2,
                Step::Ended(ended) => return Ok(Some(ended)),
                Step::Stopped(halt) => return Err(halt),
            }
        }
        Ok(None)
    }

    /// Commits some records, and what can't be applied among them as a dead letter. Refused are several only.
    async fn step<P: Projector<Writes = S::Writes>>(&mut self, entries: &[Entry]) -> Result<Step, Halt> {
        let (offset, cause) = match (self.batch::<P>(entries).await, entries) {
            (Step::Stopped(Halt { offset, cause }), _) => (offset, cause),
            (Step::Refused(reason), [entry]) => (entry.offset, Cause::Refused(reason)),
            (step, _) => return Ok(step),
        };
        match entries.iter().find(|entry| entry.offset == offset) {
            Some(entry) => self.bury::<P>(entry, cause).await,
            None => Err(Halt { offset, cause }),
        }
    }

    pub(crate) async fn batch<P: Projector<Writes = S::Writes>>(&mut self, entries: &[Entry]) -> Step {
        let started = Instant::now();
        let progress = Arc::clone(&self.partition.progress);
        // A closed semaphore would only mean that nobody counts.
        let _turn = if entries.len() < LARGE_RECORDS_MIN { None } else { progress.turns.acquire().await.ok() };
        let decoded = Decoded::of::<P>(entries, self.next_offset, self.partition.home, &self.lot);
        let span = span::<P>(&self.partition, &decoded);
        match self.commit::<P>(decoded, started).instrument(span).await {
            Ok((Commit::Fenced, _)) => Step::Ended(Ended::Fenced),
            Ok((Commit::Committed, Some(halt))) => Step::Stopped(halt),
            Ok((Commit::Committed, None)) => Step::Done,
            Err(error) if error.is_transient() => Step::Ended(Ended::Revoked),
            Err(error) => Step::Refused(chain(&error)),
        }
    }

    /// Commits what can be of some records; with it comes what stops the partition after that.
    async fn commit<P: Projector<Writes = S::Writes>>(
        &mut self,
        decoded: Decoded,
        started: Instant,
    ) -> Result<(Commit, Option<Halt>), StoreError> {
        self.look_up(decoded.streams().collect()).await?;
        let Folded { writes, versions, to, last_event, newest_at, counts, followers, halt } =
            decoded.fold::<P>(&|stream| self.last_version(stream));
        if !followers.is_empty() && self.lot.is_full(0, followers.len()) {
            return Ok((Commit::Committed, Some(Halt { offset: self.next_offset, cause: Cause::ParkingFull })));
        }
        let Some(to) = to else { return Ok((Commit::Committed, halt)) };
        let Partition { home: Home { partition, .. }, lease: Lease { epoch, .. }, .. } = self.partition;
        let end = |(stream, Version { number: version, event_id })| StreamEnd { stream, version, event_id };
        let mut versions: Vec<StreamEnd> = versions.into_iter().map(end).collect();
        // Neighbours in the index are written together.
        versions.sort_unstable_by_key(|end| end.stream);
        let (from, parked) = (self.next_offset, followers.len());
        let parking = Parking { letter: None, followers };
        let batch = Arc::new(Batch { partition, epoch, from, to, newest_at, last_event, versions, writes, parking });
        if self.patiently(|| self.partition.store.commit(&batch)).await? == Commit::Fenced {
            return Ok((Commit::Fenced, None));
        }
        for StreamEnd { stream, version, event_id } in &batch.versions {
            self.seen.put(*stream, Version { number: *version, event_id: *event_id });
        }
        self.next_offset = to;
        self.lot.follow(parked);
        self.partition.progress.waiters.committed(batch.versions.iter().map(|end| (end.stream, end.version)));
        self.partition.progress.committed(partition, to, newest_at, &counts, started.elapsed());
        Ok((Commit::Committed, halt))
    }

    /// Makes the versions of the streams known that are not: while the lease holds, nobody else moves them.
    pub(crate) async fn look_up(&mut self, streams: Vec<StreamId>) -> Result<(), StoreError> {
        let seen = &mut self.seen;
        let unknown: BTreeSet<StreamId> = streams.into_iter().filter(|stream| seen.get(stream).is_none()).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let unknown: Vec<StreamId> = unknown.into_iter().collect();
        let found = self.patiently(|| self.partition.store.versions(&unknown)).await?;
        for stream in unknown {
            self.seen.put(stream, Version::default());
        }
        for StreamEnd { stream, version, event_id } in found {
            self.seen.put(stream, Version { number: version, event_id });
        }
        while self.seen.len() > STREAMS_KEPT_MAX.max(BATCH_RECORDS_MAX) {
            self.seen.pop_lru();
        }
        Ok(())
    }

    pub(crate) async fn patiently<T, C: Future<Output = Result<T, StoreError>>>(&self, call: impl Fn() -> C) -> Result<T, StoreError> {
        let Partition { home, topic, progress, .. } = &self.partition;
        patiently((topic, home.partition), &progress.meters, &self.cancel, call).await
    }
}

/// The first record that is read is the last one of which the effects are in (`known`), unless retention has passed it. Where it is another one,
/// nothing is known of the records before it, and those after it may be others too.
pub(crate) fn check_log(known: &mut Option<EventId>, next_offset: i64, entries: &[Entry]) -> Result<(), Halt> {
    let (Some(expected), Some(first)) = (*known, entries.first()) else { return Ok(()) };
    *known = None;
    if first.offset >= next_offset {
        return Ok(());
    }
    let found = first.value.as_ref().and_then(|value| Outline::read(value).ok()).map(|outline| outline.event_id);
    if found == Some(expected) { Ok(()) } else { Err(Halt { offset: next_offset, cause: Cause::LogReplaced { known: expected } }) }
}

/// Adds records to some that came, while the backlog behind them is larger than a batch: what is written once for many events is written less
/// often then. `false` once the partition has been taken away.
async fn fill(entries: &mut Vec<Entry>, feed: &mut impl Feed) -> bool {
    let deadline = Instant::now() + FILL_MAX;
    let full = i64::try_from(BATCH_RECORDS_MAX).unwrap_or(i64::MAX);
    while let Some(last) = entries.last().filter(|_| entries.len() < BATCH_RECORDS_MAX) {
        if feed.head().saturating_sub(last.offset) <= full {
            break;
        }
        match timeout_at(deadline, feed.next(entries, BATCH_RECORDS_MAX - entries.len())).await {
            Ok(true) => {}
            Ok(false) => return false,
            Err(_) => break,
        }
    }
    true
}

/// Ends when a partition was taken away and its last commit has had its time.
pub(crate) async fn overdue(cancel: &CancellationToken) {
    cancel.cancelled().await;
    sleep(LAST_COMMIT_GRACE).await;
}

/// Says again and again where the partition ends, also while the task is busy with something else. Never ends.
async fn tell_head(progress: &Progress, number: i32, feed: &impl Feed) {
    let mut heads = interval(HEAD_INTERVAL);
    loop {
        heads.tick().await;
        progress.head(number, feed.head());
    }
}

/// A batch's span: part of the command's trace where there is one command, linked to the commands where there are more, none without.
fn span<P: Projector>(partition: &Partition<impl Store>, decoded: &Decoded) -> Span {
    let mut traced = decoded.traceparents().take(LINKS_MAX);
    let Some(first) = traced.next() else { return Span::none() };
    let span = info_span!(
        "process",
        otel.kind = "consumer",
        messaging.system = "kafka",
        messaging.operation.name = "process",
        messaging.operation.r#type = "process",
        messaging.destination.name = %partition.topic,
        messaging.destination.partition.id = %partition.home.partition,
        messaging.consumer.group.name = P::NAME,
    );
    let mut rest = traced.peekable();
    if rest.peek().is_none() {
        idempo_telemetry::span_parent_from(&span, first);
    } else {
        for traceparent in std::iter::once(first).chain(rest) {
            idempo_telemetry::span_link_from(&span, traceparent);
        }
    }
    span
}
