//! Working on jobs: members go to their consumers, and what has become of each is written down.
//!
//! A worker holds a job by a lease in the database (`ops.take_job`). Its round: mark some members as sent (`ops.next_members`), ask their consumer,
//! write its answer (`ops.settle_members`). Some rounds are under way at once, each with members of its own: those behind the last ones that were
//! sent (`ops.further_members`). What a round leaves unsettled is asked about again when none is under way. Why a job ends right, whatever dies in between, and however many processes there are:
//! * **Two workers on one job.** Every statement of a worker names the epoch of its lease and locks the job's row first; taking the job raises the epoch.
//!   One that was overtaken (frozen, cut off) writes nothing any more. It may still ask a consumer. That is harmless: the consumer decides about a
//!   dead letter in one transaction of its own, and whoever asks later hears how it ended.
//! * **Killed between the consumer's answer and its row.** The member stands as sent, because that was committed before the consumer was asked. The
//!   next worker asks about sent members first. The consumer says `gone`, and how it ended: as this job wanted, then the member is applied (or
//!   discarded), by this job or by somebody whose wish was the same; otherwise it is gone. A member that was never sent and is `gone` was not settled
//!   by this job. `pending` is the same case without a death: it stays sent and is asked about again. A replay that is asked for again after it failed
//!   again is a second try: that is counted by its consumer, whose guard ends it.
//! * **An answer that does not come** (consumer away, deadline) says nothing: the members stay as sent.
//! * **Members that changed since the plan** are looked for when the job is begun, with all who begin jobs waiting for each other. From then on no
//!   other job takes them. What somebody does at the consumer itself meanwhile is its answer here: `gone`, or failed again.
//! * **A dead letter in two jobs**: both may be planned; the second that begins is refused until the first has settled it, and then its members have
//!   changed.
//! * **Failed again while the job runs**: the dead letter stays open, and its record comes from the dead-letter topic once more, before or after the
//!   answer here. Both raise the replay count to the same number, so it has changed once.
//! * **Cancelled**: what was not sent is not; what was sent is asked about until its consumer has said what became of it.
//!
//! * **Two dead letters of one key under way at once.** A key has one dead letter at its consumer at any moment. Another one that a job has of it is
//!   gone there where it was settled; or it is refused and stays open, as `DEAD_LETTER_BEHIND_ANOTHER` where its record is parked behind the one, or as
//!   `DEAD_LETTER_COMING` where the consumer has yet to keep it. What is behind the one is drained with it, in order: a refused one whose
//!   record is applied by that ends here when its consumer is next asked where it stands ([`crate::reconcile`]).
//!
//! Ordinals follow topic, partition and offset, so that what is asked for together is drained together.

mod ask;
mod lease;

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder, Retryable as _};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use idempo_errors::Classified as _;
use idempo_pg::Pool;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::consumers::Consumers;
use crate::intake::chain;
use ask::Answers;
use lease::{Job, Leases, Members, Next};

/// The most members that a consumer is asked about at once.
const CHUNK_MEMBERS_MAX: i64 = 1_000;
/// How often consumers are asked at once: while one drains, the next wishes are noted and the last answers are written.
const ROUNDS_AT_ONCE_MAX: usize = 4;
/// With a limit of members a second, so many times a second some are sent.
const CHUNKS_PER_SECOND: i32 = 5;
/// How often it is looked whether there is a job that nobody works on.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// How long a job is left alone that does not get on, at first and at most.
const HINDERED_DELAY_MIN: Duration = Duration::from_millis(50);
const HINDERED_DELAY_MAX: Duration = Duration::from_secs(2);
/// How often it is tried to write an answer down, beside the first time.
const SETTLE_RETRIES_MAX: usize = 6;
/// A lease is renewed so many times in its length.
const RENEWALS_PER_LEASE: u32 = 4;

/// Works on jobs. Cheap to clone: each task of a process has one.
#[derive(Clone)]
pub(crate) struct Workers {
    leases: Leases,
    consumers: Arc<Consumers>,
    bell: Arc<Notify>,
}

/// Why a worker leaves a job.
enum Left {
    /// It has ended, or pauses.
    Ended,
    /// Another process has it.
    Lost,
    /// The process is to stop.
    Stopped,
}

impl Workers {
    pub(crate) fn new(pool: Pool, consumers: Arc<Consumers>, instance: String, lease_ms: u32, bell: Arc<Notify>) -> Self {
        Self { leases: Leases { pool, instance, lease_ms: i64::from(lease_ms) }, consumers, bell }
    }

    /// Works on one job after another until `cancel` is cancelled.
    ///
    /// # Cancel safety
    /// Dropping it leaves a job to whoever takes it when its lease has ended.
    pub(crate) async fn run(&self, cancel: CancellationToken) {
        while !cancel.is_cancelled() {
            match self.leases.take().await {
                Ok(Some(job)) => {
                    fail::fail_point!(crate::failpoint::DLQ_JOB_TAKEN);
                    tracing::info!(job = job.id, job.epoch, job.action, "a job was taken");
                    self.work_on(&job, &cancel).await;
                }
                Ok(None) => {
                    // The bell is of this process alone; others look.
                    let rung = timeout(LOOK_INTERVAL, self.bell.notified());
                    let _ = cancel.run_until_cancelled(rung).await;
                }
                Err(error) => {
                    tracing::debug!(error = chain(&error), "the database does not say whether there is a job");
                    let _ = cancel.run_until_cancelled(sleep(LOOK_INTERVAL)).await;
                }
            }
        }
    }

    async fn work_on(&self, job: &Job, cancel: &CancellationToken) {
        match self.leases.kept(job, RENEWALS_PER_LEASE, self.rounds(job, cancel)).await {
            Some(Left::Ended) => tracing::info!(job = job.id, "a job has ended, or pauses"),
            Some(Left::Stopped) => self.leases.give_up(job).await,
            Some(Left::Lost) | None => tracing::info!(job = job.id, job.epoch, "another process has the job"),
        }
    }

    /// One round after another, some at once, until there is nothing to do any more.
    async fn rounds(&self, job: &Job, cancel: &CancellationToken) -> Left {
        let delays = ExponentialBuilder::new()
            .with_min_delay(HINDERED_DELAY_MIN)
            .with_max_delay(HINDERED_DELAY_MAX)
            .with_jitter()
            .without_max_times();
        let mut backoff = delays.build();
        let mut pace = Pace::new(job.rate);
        // Left in the middle, members stand as sent, and are asked about again.
        let mut asked = FuturesUnordered::new();
        let mut beyond = Beyond::Start;
        loop {
            if asked.is_empty() {
                if let Beyond::Stop(Stop::Hindered) = beyond {
                    pause(&mut backoff, cancel).await;
                }
                beyond = Beyond::Start;
            }
            tokio::select! {
                biased;
                () = cancel.cancelled() => return Left::Stopped,
                Some(round) = asked.next() => match round {
                    Ok(Round::Lost) => return Left::Lost,
                    Ok(Round::Settled) => backoff = delays.build(),
                    Ok(Round::Partly) => (backoff, beyond) = (delays.build(), Beyond::Stop(Stop::Unsettled)),
                    Ok(Round::Hindered) => beyond = Beyond::Stop(Stop::Hindered),
                    Err(error) => beyond = waits_for_database(job, &error),
                },
                () = sleep_until(pace.ready_at), if asked.len() < ROUNDS_AT_ONCE_MAX && beyond.goes_on() => {
                    match self.leases.next(job, pace.chunk, beyond.ordinal()).await {
                        Ok(Next::Members(members)) => {
                            pace.took(members.fresh());
                            beyond = members.ordinals.last().map_or(Beyond::Stop(Stop::Unsettled), |last| Beyond::Ordinal(*last));
                            asked.push(self.round(job, members));
                        }
                        Ok(Next::Nothing) => beyond = Beyond::Stop(Stop::Unsettled),
                        Ok(Next::Lost) => return Left::Lost,
                        Ok(Next::Ended) => {
                            fail::fail_point!(crate::failpoint::DLQ_JOB_ENDED);
                            return Left::Ended;
                        }
                        Err(error) => beyond = waits_for_database(job, &error),
                    }
                }
            }
        }
    }

    /// Asks about some members, and writes down what has become of them.
    async fn round(&self, job: &Job, members: Members) -> Result<Round, idempo_pg::Error> {
        fail::fail_point!(crate::failpoint::DLQ_BEFORE_ASK);
        let answers = ask::ask(self.consumers.of(&members.consumer_group), job, &members).await;
        fail::fail_point!(crate::failpoint::DLQ_ANSWERED);
        // An answer is kept for as long as that makes sense: asked for again, what failed again would be tried again.
        let retries = ExponentialBuilder::new().with_min_delay(HINDERED_DELAY_MIN).with_max_times(SETTLE_RETRIES_MAX);
        let settle = || self.leases.settle(job, &answers);
        if !settle.retry(retries).when(|error: &idempo_pg::Error| error.class().is_transient()).await? {
            return Ok(Round::Lost);
        }
        fail::fail_point!(crate::failpoint::DLQ_SETTLED);
        answers.count();
        Ok(match (answers.is_empty(), answers.hindrance.is_empty()) {
            (_, true) => Round::Settled,
            (false, false) => Round::Partly,
            (true, false) => Round::Hindered,
        })
    }
}

fn waits_for_database(job: &Job, error: &idempo_pg::Error) -> Beyond {
    tracing::warn!(job = job.id, error = chain(error), "a job waits for the database");
    Beyond::Stop(Stop::Hindered)
}

/// Which members come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beyond {
    /// Those that stand as sent, then the first ones that do not: nothing is under way.
    Start,
    /// Those behind this one, the last that was sent.
    Ordinal(i64),
    /// None until nothing is under way any more.
    Stop(Stop),
}

/// Why nothing more is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// There may be nothing more; or something is to be asked about again.
    Unsettled,
    /// What the job needs is away.
    Hindered,
}

impl Beyond {
    const fn goes_on(self) -> bool {
        matches!(self, Self::Start | Self::Ordinal(_))
    }

    const fn ordinal(self) -> Option<i64> {
        if let Self::Ordinal(ordinal) = self { Some(ordinal) } else { None }
    }
}

/// What came of a round.
enum Round {
    /// All of it.
    Settled,
    /// Some of it.
    Partly,
    Hindered,
    Lost,
}

async fn pause(backoff: &mut impl Iterator<Item = Duration>, cancel: &CancellationToken) {
    let _ = cancel.run_until_cancelled(sleep(backoff.next().unwrap_or(HINDERED_DELAY_MAX))).await;
}

impl Answers {
    /// Tells the metrics.
    fn count(&self) {
        for state in ask::STATES {
            let members = self.states.iter().filter(|settled| **settled == state).count();
            if members > 0 {
                crate::metrics::settled(state, u64::try_from(members).unwrap_or(u64::MAX));
            }
        }
    }
}

/// How fast members may be sent.
struct Pace {
    /// Members a second; 0 for no limit.
    rate: i32,
    chunk: i64,
    ready_at: Instant,
}

impl Pace {
    fn new(rate: i32) -> Self {
        let chunk = if rate == 0 { CHUNK_MEMBERS_MAX } else { i64::from((rate / CHUNKS_PER_SECOND).max(1)).min(CHUNK_MEMBERS_MAX) };
        Self { rate, chunk, ready_at: Instant::now() }
    }

    /// Members were sent: so long nothing is. Time that passes unused is not made up for.
    fn took(&mut self, members: u32) {
        if self.rate > 0 {
            let rate = f64::from(self.rate);
            self.ready_at = self.ready_at.max(Instant::now()) + Duration::from_secs_f64(f64::from(members) / rate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pace_lets_no_more_than_its_rate_through_and_makes_up_for_nothing() {
        let mut pace = Pace::new(50);
        assert_eq!(pace.chunk, 10);
        let began = Instant::now();
        for _ in 0..5 {
            sleep_until(pace.ready_at).await;
            pace.took(10);
        }
        assert_eq!((pace.ready_at - began).as_millis(), 1_000);
        sleep(Duration::from_secs(60)).await;
        pace.took(10);
        assert_eq!((pace.ready_at - Instant::now()).as_millis(), 200);
        assert_eq!((Pace::new(0).chunk, Pace::new(1).chunk, Pace::new(1_000_000).chunk), (1_000, 1, 1_000));
    }
}
