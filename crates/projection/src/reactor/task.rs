//! The task of one partition of a reactor: records in, effects entered, effects performed, until the partition is taken away or stops.
//!
//! In memory are the pending effects up to a place (the cursor), but for those of keys that wait for people. Beyond it the log alone has them, unless all
//! are in memory (`is_complete`). While they are not, or many are, no record is read: Kafka keeps the rest.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use idempo_errors::Classified as _;
use idempo_ids::EventId;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{interval, sleep};
use tokio_util::sync::CancellationToken;

use super::log::{EffectLog, Ending, LogError, Pending, Place, Recorded, Recording};
use super::perform::{Outcome, Performed, carry_out, is_too_old};
use super::progress::ReactionProgress;
use super::queue::Queue;
use super::react::{Reacted, react};
use super::{AfterFailure, EffectId, Reactor};
use crate::batch::{Entry, Home};
use crate::halt::{Cause, Halt};
use crate::partition::{Ended, Feed, check_log, overdue};
use crate::patience::{chain, wait_for};
use crate::policy::{PARKED_KEYS_MAX, Recent};

/// The most records that are read at once.
const BATCH_RECORDS_MAX: usize = 1_024;
/// The most effects of a partition that are performed at once, each of another key.
const UNDER_WAY_MAX: usize = 64;
/// No record is read while so many effects of the partition wait in memory.
const WAITING_MAX: usize = 4_096;
/// The most effects that are asked of the log at once.
const PAGE_EFFECTS: usize = 1_024;
/// How often a task looks whether it still has the partition, whether people have settled something, and stores a position that has moved without
/// effects.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How long effects that are under way may still take once the partition is taken away.
const LAST_EFFECTS_GRACE: Duration = Duration::from_secs(2);

/// A partition of a reactor, as it was taken.
pub struct ReactionPartition<R, L> {
    /// What performs the effects.
    pub reactor: Arc<R>,
    /// Where effects and positions are kept.
    pub log: Arc<L>,
    /// What is to know how it gets on.
    pub progress: Arc<ReactionProgress>,
    /// Its topic.
    pub topic: Arc<str>,
    /// Its number, and how many there are.
    pub home: Home,
    /// The epoch it was taken under.
    pub epoch: i64,
    /// The offset of the first record whose effects are not in the log. The feed begins there, or at the record before it.
    pub next_offset: i64,
    /// The event in the record before that, where it is known and the feed begins with it.
    pub last_event: Option<EventId>,
    /// How often people have settled effects of it.
    pub settlements: i64,
}

/// Runs a partition of a reactor until it is taken away. One that stops is still held, and unread, until then.
pub async fn run<R: Reactor, L: EffectLog, F: Feed + Sync>(
    partition: ReactionPartition<R, L>,
    mut feed: F,
    cancel: CancellationToken,
) -> Ended {
    partition.progress.held(partition.home.partition, partition.next_offset);
    let mut task = Task {
        queue: Queue::default(),
        performing: JoinSet::new(),
        cursor: None,
        is_complete: false,
        position: partition.next_offset,
        read_to: partition.next_offset,
        last_read: None,
        known: partition.last_event,
        settlements: partition.settlements,
        recent: Recent::default(),
        reads: true,
        performs: true,
        partition,
        cancel,
    };
    let Err(ended) = task.serve(&mut feed).await;
    if ended == Ended::Fenced {
        let number = task.partition.home.partition;
        tracing::info!(reactor = R::NAME, partition = number, "the partition is given up: somebody else has taken it");
        task.partition.progress.fenced(number);
    } else {
        task.settle_last().await;
    }
    ended
}

struct Task<R, L> {
    partition: ReactionPartition<R, L>,
    queue: Queue,
    performing: JoinSet<Performed>,
    /// The place up to which pending effects are in memory, or are known to be of keys that wait.
    cursor: Option<Place>,
    /// Whether nothing is pending beyond the cursor.
    is_complete: bool,
    /// Where the log stands.
    position: i64,
    /// Everything before it was read. Beyond the position were no effects.
    read_to: i64,
    /// The event in the record before that, where one was read.
    last_read: Option<EventId>,
    /// The event in the record before the position, until that was read again.
    known: Option<EventId>,
    settlements: i64,
    /// The effects that failed within the last minute.
    recent: Recent,
    /// Whether the partition goes on to be read, and its effects to be performed.
    reads: bool,
    performs: bool,
    cancel: CancellationToken,
}

/// Either it goes on, or the task ends.
type Flow<T = ()> = Result<T, Ended>;

impl<R: Reactor, L: EffectLog> Task<R, L> {
    async fn serve<F: Feed + Sync>(&mut self, feed: &mut F) -> Flow<std::convert::Infallible> {
        let mut entries = Vec::new();
        let mut looks = interval(LOOK_INTERVAL);
        self.reload().await?;
        loop {
            self.refill().await?;
            self.begin_some();
            let may_read = self.reads && self.is_complete && self.queue.len() < WAITING_MAX;
            entries.clear();
            tokio::select! {
                biased;
                () = self.cancel.cancelled() => return Err(Ended::Revoked),
                _ = looks.tick() => self.look(feed).await?,
                Some(performed) = self.performing.join_next() => self.settle(performed).await?,
                more = feed.next(&mut entries, BATCH_RECORDS_MAX), if may_read => {
                    if !more {
                        return Err(Ended::Revoked);
                    }
                    self.read(&entries, feed).await?;
                }
            }
        }
    }

    /// Enters the effects of what was read.
    async fn read<F: Feed + Sync>(&mut self, entries: &[Entry], feed: &F) -> Flow {
        if let Err(halt) = check_log(&mut self.known, self.read_to, entries) {
            self.halt(halt);
            return Ok(());
        }
        let mut rest = entries;
        while !rest.is_empty() && self.reads {
            let Reacted { effects, to, last_event, halt } = react::<R>(rest, self.read_to, self.partition.home);
            rest = rest.get(rest.partition_point(|entry| entry.offset < to.unwrap_or(i64::MAX))..).unwrap_or_default();
            if let Some(to) = to {
                (self.read_to, self.last_read) = (to, last_event);
            }
            if !effects.is_empty() {
                self.record(effects).await?;
            }
            if let Some(halt) = halt {
                self.halt(halt);
            }
        }
        self.stands(feed);
        Ok(())
    }

    /// Enters effects, and moves the position to where was read.
    async fn record(&mut self, effects: Vec<Pending>) -> Flow {
        let ReactionPartition { log, progress, home, epoch, .. } = &self.partition;
        let too_old = effects.iter().filter(|effect| is_too_old::<R>(progress.clock(), effect.decided_at));
        let expired: BTreeSet<EffectId> = too_old.map(|effect| effect.id).collect();
        let (partition, epoch, from, to, last_event) = (home.partition, *epoch, self.position, self.read_to, self.last_read);
        let recording = Recording { partition, epoch, from, to, last_event, effects, expired };
        let Recorded::Entered(entered) = self.ask(|| log.record(&recording)).await? else { return Err(Ended::Fenced) };
        fail::fail_point!(crate::failpoint::REACT_RECORDED);
        self.position = to;
        let expired = recording.expired.intersection(&entered).count();
        let again = recording.effects.len().saturating_sub(entered.len());
        progress.meters.recorded(entered.len().saturating_sub(expired), expired, again);
        let Recording { effects, expired, .. } = recording;
        for effect in effects.into_iter().filter(|effect| entered.contains(&effect.id) && !expired.contains(&effect.id)) {
            self.is_complete &= self.queue.len() < WAITING_MAX;
            if self.is_complete {
                self.cursor = Some(effect.place);
                self.queue.push(effect);
            }
        }
        Ok(())
    }

    /// Brings pending effects into memory, as long as there is room.
    async fn refill(&mut self) -> Flow {
        while self.performs && !self.is_complete && self.queue.len() <= WAITING_MAX / 2 {
            let (log, number, cursor) = (&self.partition.log, self.partition.home.partition, self.cursor);
            let page = self.ask(|| log.unfinished(number, cursor, PAGE_EFFECTS)).await?;
            self.is_complete = page.len() < PAGE_EFFECTS;
            for effect in page {
                self.cursor = Some(effect.place);
                self.queue.push(effect);
            }
        }
        Ok(())
    }

    fn begin_some(&mut self) {
        while self.performs && self.performing.len() < UNDER_WAY_MAX {
            let Some(effect) = self.queue.begin() else { break };
            let (reactor, progress) = (Arc::clone(&self.partition.reactor), Arc::clone(&self.partition.progress));
            self.performing.spawn(carry_out(reactor, effect, progress, self.cancel.clone()));
        }
    }

    /// Keeps what became of effects: of this one, and of all that are ready by now.
    async fn settle(&mut self, performed: Result<Performed, JoinError>) -> Flow {
        let mut all = vec![performed];
        all.extend(std::iter::from_fn(|| self.performing.try_join_next()));
        let mut done = Vec::new();
        for performed in all {
            let Performed { id, key, outcome } = match performed {
                Ok(performed) => performed,
                // The task goes down with it, and the process says so.
                Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
                Err(_) => continue,
            };
            match outcome {
                Outcome::Done => done.push((id, key)),
                Outcome::Ended(ending) => self.end(id, key, ending).await?,
                Outcome::Left => {}
            }
        }
        if done.is_empty() {
            return Ok(());
        }
        fail::fail_point!(crate::failpoint::REACT_PERFORMED);
        let (log, ids) = (&self.partition.log, done.iter().map(|(id, _)| *id).collect::<Vec<_>>());
        self.ask(|| log.done(&ids)).await?;
        fail::fail_point!(crate::failpoint::REACT_DONE);
        self.partition.progress.meters.performed(done.len());
        for (id, key) in done {
            self.queue.finished(id, key);
        }
        Ok(())
    }

    /// Keeps how an effect ended that was not performed. Where too many fail, it is not given up: the partition stops.
    async fn end(&mut self, id: EffectId, key: idempo_ids::Uuid, ending: Ending) -> Flow {
        let has_failed = matches!(ending, Ending::Failed { .. });
        if has_failed && (self.recent.is_flood() || self.queue.blocked() >= PARKED_KEYS_MAX) {
            if std::mem::replace(&mut self.performs, false) {
                self.halt(Halt { offset: self.read_to, cause: Cause::EffectFlood });
            }
            return Ok(());
        }
        let ReactionPartition { log, home, epoch, .. } = &self.partition;
        if !self.ask(|| log.end(home.partition, *epoch, id, &ending)).await? {
            return Err(Ended::Fenced);
        }
        let meters = &self.partition.progress.meters;
        match ending {
            Ending::Expired => meters.expired(),
            Ending::Failed { attempts, code, reason } => {
                tracing::error!(reactor = R::NAME, effect = %id.uuid(), %key, attempts, code, reason, "an effect has failed for good");
                meters.failed(&code);
                self.recent.push();
            }
        }
        if has_failed && R::AFTER_FAILURE == AfterFailure::Wait {
            self.queue.block(id, key);
        } else {
            self.queue.finished(id, key);
        }
        Ok(())
    }

    /// Looks whether the partition is still this task's, and what people have settled.
    async fn look<F: Feed + Sync>(&mut self, feed: &F) -> Flow {
        if self.read_to != self.position {
            self.record(Vec::new()).await?;
        }
        self.stands(feed);
        let (log, number) = (&self.partition.log, self.partition.home.partition);
        let look = self.ask(|| log.look(number)).await?;
        let Some(look) = look.filter(|look| look.epoch == self.partition.epoch && look.next_offset == Some(self.position)) else {
            return Err(Ended::Fenced);
        };
        if look.settlements != self.settlements {
            self.settlements = look.settlements;
            self.reload().await?;
        }
        Ok(())
    }

    /// Has the keys told that wait for people, and whatever is pending and not in memory.
    async fn reload(&mut self) -> Flow {
        if R::AFTER_FAILURE == AfterFailure::Wait {
            let (log, number) = (&self.partition.log, self.partition.home.partition);
            let failed = self.ask(|| log.failed_keys(number)).await?;
            self.queue.set_blocked(failed);
        }
        (self.cursor, self.is_complete) = (None, false);
        Ok(())
    }

    fn stands<F: Feed + Sync>(&self, feed: &F) {
        self.partition.progress.stands(self.partition.home.partition, self.position, feed.head());
        feed.done(self.position);
    }

    /// Says loudly why the partition is not read any more. What is pending of it is performed.
    fn halt(&mut self, halt: Halt) {
        self.reads = false;
        halted::<R>(&self.partition.progress, &self.partition.topic, self.partition.home.partition, halt);
    }

    /// Effects under way when the partition is taken away have a moment to end, so that nobody performs them again.
    async fn settle_last(&mut self) {
        let grace = sleep(LAST_EFFECTS_GRACE);
        tokio::pin!(grace);
        loop {
            tokio::select! {
                biased;
                () = &mut grace => return,
                performed = self.performing.join_next() => match performed {
                    Some(performed) => if self.settle(performed).await.is_err() { return },
                    None => return,
                },
            }
        }
    }

    /// Asks the log until it answers, or the partition is taken away. Where it refuses, the partition stops.
    async fn ask<T, C: Future<Output = Result<T, LogError>>>(&self, call: impl Fn() -> C) -> Flow<T> {
        let ReactionPartition { progress, topic, home, .. } = &self.partition;
        let answer = tokio::select! {
            answer = wait_for("the effect log", (topic, home.partition), || progress.meters.log_retried(), &self.cancel, call) => answer,
            () = overdue(&self.cancel) => return Err(Ended::Revoked),
        };
        match answer {
            Ok(answer) => Ok(answer),
            Err(error) => {
                if !error.class().is_transient() {
                    let halt = Halt { offset: self.position, cause: Cause::LogRefused(chain(&error)) };
                    halted::<R>(progress, topic, home.partition, halt);
                    self.cancel.cancelled().await;
                }
                Err(Ended::Revoked)
            }
        }
    }
}

/// Says loudly why a partition stops.
pub(super) fn halted<R: Reactor>(progress: &ReactionProgress, topic: &str, number: i32, halt: Halt) {
    let (offset, code, reason) = (halt.offset, halt.cause.code(), halt.cause.to_string());
    tracing::error!(reactor = R::NAME, topic, partition = number, offset, code, reason, "the partition has stopped");
    progress.halted(number, halt);
}
