//! Draining what people want drained.
//!
//! The queues of many keys are folded and committed together. A queue that holds a record which can't be applied is drained up to it. Where the store
//! refuses what they write, they are committed in halves until the queue is found, and in it the record.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::letters::{Drain, Drainage, Drained, Failure, Letter, Next, Wished, streams_of};
use crate::batch::{Added, Entry, Queue, Version};
use crate::halt::Cause;
use crate::partition::{Ended, Task};
use crate::patience::chain;
use crate::projector::Projector;
use crate::store::{Store, StoreError, StreamEnd};

/// How long wishes are not heeded after a drain that was refused for no record's sake.
const DEAF_AFTER_FAILURE: Duration = Duration::from_secs(10);

/// A dead letter with its queue, and how far it is drained.
struct Run {
    wished: Wished,
    /// What is applied: the dead letter unless it is discarded or done, and what is behind it.
    entries: Vec<Entry>,
    queue: Queue,
    /// Whether the topic has the record that fails.
    is_told: bool,
}

/// What became of a part of the queues.
enum Committed {
    Done,
    /// The store refuses it.
    Refused(String),
    /// Somebody else drained one of them.
    Stale,
    Ended(Ended),
}

impl Run {
    /// What is to be applied of a dead letter with its queue.
    fn entries_of(wished: &Wished) -> Vec<Entry> {
        let head = if wished.is_begun || wished.is_discard { None } else { Some(wished.head.clone()) };
        head.into_iter().chain(wished.followers.iter().cloned()).collect()
    }

    const fn new(wished: Wished, entries: Vec<Entry>, queue: Queue) -> Self {
        Self { wished, entries, queue, is_told: false }
    }

    /// How many records are applied that were parked behind the dead letter.
    fn followers_done(&self) -> usize {
        self.queue.good().saturating_sub(self.entries.len().saturating_sub(self.wished.followers.len()))
    }

    /// The record that fails.
    fn failing(&self) -> Option<(&Entry, &Cause)> {
        self.entries.get(self.queue.good()).zip(self.queue.cause())
    }

    /// What becomes of it. `letter` is the record that fails, as a dead letter.
    fn drained(&self, letter: Option<Letter>) -> Drained {
        let Wished { offset, revision, has_more, .. } = self.wished;
        let next = match letter {
            Some(letter) if letter.entry.offset == offset => Next::Failed(letter.failure),
            Some(letter) => Next::Blocked(Box::new(letter)),
            None if has_more || self.queue.good() < self.entries.len() => Next::More,
            None => Next::Free,
        };
        let through =
            self.followers_done().checked_sub(1).and_then(|last| self.wished.followers.get(last)).map_or(offset, |last| last.offset);
        Drained { offset, revision, through, applied: u64::try_from(self.queue.good()).unwrap_or(u64::MAX), next }
    }
}

impl<S: Store> Task<S> {
    /// Drains some of what is wished. `None` where the partition goes on.
    pub(crate) async fn drain_part<P: Projector<Writes = S::Writes>>(&mut self) -> Option<Ended> {
        let number = self.partition.home.partition;
        let part = async {
            let wished = self.patiently(|| self.partition.store.wished(number)).await?;
            if wished.is_empty() {
                return Ok(Vec::new());
            }
            let entries: Vec<Vec<Entry>> = wished.iter().map(Run::entries_of).collect();
            let streams = entries.iter().flat_map(|entries| Queue::streams::<P>(entries, self.partition.home)).collect();
            self.look_up(streams).await?;
            let queue = |entries: &[Entry]| Queue::of::<P>(entries, self.partition.home, &|stream| self.last_version(stream));
            let runs = wished.into_iter().zip(entries).map(|(wished, entries)| {
                let queue = queue(&entries);
                Run::new(wished, entries, queue)
            });
            Ok::<Vec<Run>, StoreError>(runs.collect())
        };
        match part.await {
            Ok(mut runs) => {
                self.has_wishes = !runs.is_empty();
                self.drain_runs::<P>(&mut runs).await
            }
            Err(error) if error.is_transient() => Some(Ended::Revoked),
            Err(error) => self.give_up_draining(&chain(&error)),
        }
    }

    /// What can't be drained waits: nothing of it has changed.
    fn give_up_draining(&mut self, reason: &str) -> Option<Ended> {
        (self.has_wishes, self.deaf_until) = (false, Some(Instant::now() + DEAF_AFTER_FAILURE));
        tracing::error!(topic = %self.partition.topic, partition = self.partition.home.partition, reason, "dead letters can't be drained");
        None
    }

    async fn drain_runs<P: Projector<Writes = S::Writes>>(&mut self, runs: &mut [Run]) -> Option<Ended> {
        let mut parts = vec![(0, runs.len())];
        while let Some((from, to)) = parts.pop() {
            let part = runs.get_mut(from..to).filter(|part| !part.is_empty())?;
            match self.commit_runs::<P>(part).await {
                Committed::Done => {}
                Committed::Ended(ended) => return Some(ended),
                Committed::Stale => {
                    self.reread().await;
                    return None;
                }
                Committed::Refused(reason) => match part {
                    [run] if run.queue.good() > 1 => {
                        // The rest stays wished, and comes with the next part.
                        run.queue.limit(run.queue.good() / 2, None);
                        parts.push((from, to));
                    }
                    [run] if run.queue.good() == 1 => {
                        run.is_told = false;
                        run.queue.limit(0, Some(Cause::Refused(reason)));
                        parts.push((from, to));
                    }
                    [_] => return self.give_up_draining(&reason),
                    _ => {
                        let middle = from + (to - from) / 2;
                        parts.extend([(middle, to), (from, middle)]);
                    }
                },
            }
        }
        None
    }

    /// Drains some queues in one transaction, each as far as it can be, when the topic has what fails.
    async fn commit_runs<P: Projector<Writes = S::Writes>>(&mut self, runs: &mut [Run]) -> Committed {
        let started = Instant::now();
        let letters: Vec<Option<Letter>> = runs.iter().map(|run| self.failing::<P>(run)).collect();
        let untold: Vec<Letter> =
            runs.iter().zip(&letters).filter(|(run, _)| !run.is_told).filter_map(|(_, letter)| letter.clone()).collect();
        if !self.write_letters(&untold).await {
            return Committed::Ended(Ended::Revoked);
        }
        runs.iter_mut().for_each(|run| run.is_told = true);
        let queues = runs.iter().map(|run| &run.queue);
        let Added { writes, versions, .. } = match Queue::fold_together::<P>(queues, &|stream| self.last_version(stream)) {
            Ok(added) => added,
            // By itself each of them could be: what one writes depends on another one. Then they are drained one after the other.
            Err(cause) if runs.len() > 1 => return Committed::Refused(cause.to_string()),
            Err(_) => Added::default(),
        };
        let end = |(stream, Version { number: version, event_id })| StreamEnd { stream, version, event_id };
        let mut versions: Vec<StreamEnd> = versions.into_iter().map(end).collect();
        versions.sort_unstable_by_key(|end| end.stream);
        let drained: Vec<Drained> = runs.iter().zip(letters).map(|(run, letter)| run.drained(letter)).collect();
        let (partition, epoch) = (self.partition.home.partition, self.partition.lease.epoch);
        let drain = Drain { partition, epoch, versions, writes, letters: drained };
        match self.patiently(|| self.partition.store.drain(&drain)).await {
            Ok(Drainage::Done) => {}
            Ok(Drainage::Stale) => return Committed::Stale,
            Ok(Drainage::Fenced) => return Committed::Ended(Ended::Fenced),
            Err(error) if error.is_transient() => return Committed::Ended(Ended::Revoked),
            Err(error) => return Committed::Refused(chain(&error)),
        }
        self.drained(runs, &drain, started);
        Committed::Done
    }

    /// What fails in a queue, as a dead letter.
    fn failing<P: Projector>(&self, run: &Run) -> Option<Letter> {
        let (entry, cause) = run.failing()?;
        let mut failure = Failure::of(cause, 1, self.partition.progress.now())?;
        let Wished { offset, attempts, replay_count, first_failed_at, .. } = run.wished;
        if entry.offset == offset {
            failure.attempts = attempts.saturating_add(1);
            failure.replay_count = replay_count.saturating_add(1);
            failure.first_failed_at = first_failed_at;
        }
        let group = Arc::clone(&self.partition.letters.group);
        Some(Letter { group, entry: entry.clone(), failure, streams: streams_of::<P>(entry.key.as_ref()) })
    }

    /// Remembers what was drained, and tells those who wait for it.
    fn drained(&mut self, runs: &[Run], drain: &Drain<S::Writes>, started: Instant) {
        for StreamEnd { stream, version, event_id } in &drain.versions {
            self.seen.put(*stream, Version { number: *version, event_id: *event_id });
        }
        let (mut letters, mut records) = (0, 0);
        for (run, drained) in runs.iter().zip(&drain.letters) {
            let promoted = usize::from(matches!(drained.next, Next::Blocked(_)));
            self.lot.left(run.followers_done() + promoted);
            records += run.queue.good();
            letters += usize::from(matches!(drained.next, Next::Free | Next::Blocked(_)));
            if let (Next::Free, Some(key)) = (&drained.next, &run.wished.head.key) {
                self.lot.free(key);
            }
        }
        let progress = &self.partition.progress;
        progress.waiters.committed(drain.versions.iter().map(|end| (end.stream, end.version)));
        progress.meters.drained(letters, records);
        tracing::info!(
            topic = %self.partition.topic,
            partition = drain.partition,
            letters,
            records,
            took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "dead letters were drained"
        );
    }

    /// Forgets what is parked and applied, and asks for it anew.
    async fn reread(&mut self) {
        self.seen.clear();
        let number = self.partition.home.partition;
        if let Ok(parked) = self.patiently(|| self.partition.store.parked(number)).await {
            self.lot.reread(parked);
        }
    }
}
