//! What happens by itself: work that is due at a time, done by commands.
//!
//! A timer is durable because it is a query: whichever replica looks finds what waits in the order in which it is due ([`DueWork::next`]).
//! Several replicas may find the same item, and one may find it again after a crash; its command has one key, derived from the item
//! ([`DueWork::SCOPE`]), so it has one effect in any case.
//!
//! Not here: how an item comes to wait (a row that an inline projection wrote), and what the command does (the domain's).

use std::time::Duration;

use futures_util::StreamExt as _;
use idempo_clock::SharedClock;
use idempo_decider::Timestamp;
use idempo_ids::{Uuid, derive};
use idempo_pg::{Client, Pool};
use jiff::SignedDuration;
use smallvec::SmallVec;
use tokio_util::sync::CancellationToken;

use crate::domain::{CommandOf, Domain, StreamTarget};
use crate::executor::Handle;
use crate::submission::{IdempotencyKey, KeyOrigin, Origin, Outcome, Submission};

/// How many items are read at a time.
const BATCH_ITEMS_MAX: usize = 256;
/// How many commands are under way at a time.
const CONCURRENT_COMMANDS_MAX: usize = 64;
/// The shortest wait between two looks.
const WAIT_MIN: Duration = Duration::from_millis(10);
/// Beyond this age of its due time an item's key no longer carries that time: keys are remembered for some weeks only.
const KEY_AGE_MAX: SignedDuration = SignedDuration::from_hours(7 * 24);
const DAY_MS: i64 = 24 * 3_600 * 1_000;

/// An item that waits for its time.
pub trait Due: Send + Sync {
    /// Its id, a UUIDv7.
    fn id(&self) -> Uuid;

    /// When it is due.
    fn due_at(&self) -> Timestamp;
}

/// One kind of work that is due at a time.
pub trait DueWork: Send + Sync + 'static {
    /// The domain whose commands do the work.
    type Domain: Domain;
    /// What waits.
    type Item: Due;

    /// The work in a few words, for log lines: `hold expiry`.
    const NAME: &'static str;
    /// The scope of the commands' keys: no client's, since those are digests. Never changed once in use, as [`Self::LABEL`].
    const SCOPE: [u8; 16];
    /// What the commands' keys are derived by from the items' ids.
    const LABEL: &'static str;

    /// The items that are due next, from beyond (`after`) on, in the order of their times and ids, `limit` at most.
    fn next(
        client: &Client,
        after: (Timestamp, Uuid),
        limit: i64,
    ) -> impl Future<Output = Result<Vec<Self::Item>, idempo_pg::Error>> + Send;

    /// The command that does an item's work, and the streams it names. `seen_at` is the time of the look, at or after the item's.
    fn command(item: &Self::Item, seen_at: Timestamp) -> (CommandOf<Self::Domain>, SmallVec<[StreamTarget; 2]>);

    /// Counts what happened.
    fn observe(observation: Observation);
}

/// What a timer saw or did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observation {
    /// It looked, and so many items were due.
    Looked {
        /// How many.
        due: usize,
    },
    /// An item's work was done.
    Done {
        /// How long after the item's time, seen from the look.
        late: SignedDuration,
    },
    /// An item's command came to nothing, and is tried again.
    Failed,
}

/// Does the work of one kind as it falls due.
pub struct Timer<W: DueWork> {
    commands: Handle<W::Domain>,
    pool: Pool,
    clock: SharedClock,
    poll_interval: Duration,
}

impl<W: DueWork> std::fmt::Debug for Timer<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Timer").field("work", &W::NAME).field("poll_interval", &self.poll_interval).finish_non_exhaustive()
    }
}

/// What came of one look.
struct Look {
    /// How many commands came to nothing.
    failed: usize,
    /// When the next item is due, as far as the look went.
    next: Option<Timestamp>,
}

impl<W: DueWork> Timer<W> {
    /// A timer. An item that came to wait since the last look stays unseen for `poll_interval` at most.
    #[must_use]
    pub const fn new(commands: Handle<W::Domain>, pool: Pool, clock: SharedClock, poll_interval: Duration) -> Self {
        Self { commands, pool, clock, poll_interval }
    }

    /// Looks until `cancel` is cancelled. A failure is logged when it begins and when it is over.
    pub async fn run(self, cancel: CancellationToken) {
        let mut failing = false;
        while let Some(look) = cancel.run_until_cancelled(self.look()).await {
            let failed = match &look {
                Ok(look) => look.failed > 0,
                Err(_) => true,
            };
            if failed && !failing {
                let error = look.as_ref().err().map(|error| error as &dyn std::error::Error);
                tracing::warn!(
                    work = W::NAME,
                    error,
                    failed = look.as_ref().map_or(0, |look| look.failed),
                    "due work can't be done for now"
                );
            } else if failing && !failed {
                tracing::info!(work = W::NAME, "due work is done again");
            }
            failing = failed;
            let wait = self.wait(look.ok().filter(|_| !failed).and_then(|look| look.next));
            if cancel.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return;
            }
        }
    }

    /// How long until the next look: until the next item is due, but never longer than one that came meanwhile may stay unseen.
    fn wait(&self, next: Option<Timestamp>) -> Duration {
        let until_next = next.map(|next| next.duration_since(self.clock.now()));
        until_next.map_or(self.poll_interval, |wait| Duration::try_from(wait).unwrap_or(WAIT_MIN).clamp(WAIT_MIN, self.poll_interval))
    }

    /// Does all that is due now, batch by batch. An item whose command fails keeps none of those behind it waiting.
    async fn look(&self) -> Result<Look, idempo_pg::Error> {
        let seen_at = self.clock.now();
        let mut after = (Timestamp::UNIX_EPOCH, Uuid::nil());
        let (mut failed, mut due_count) = (0, 0);
        let next = loop {
            let mut items = self.items_after(after).await?;
            let due = items.partition_point(|item| item.due_at() <= seen_at);
            let next = items.get(due).map(Due::due_at);
            let is_last = items.len() < BATCH_ITEMS_MAX;
            items.truncate(due);
            due_count += items.len();
            let Some(last) = items.last().map(|item| (item.due_at(), item.id())) else { break next };
            let done = futures_util::stream::iter(items.into_iter().map(|item| self.act(item, seen_at)));
            failed += done.buffer_unordered(CONCURRENT_COMMANDS_MAX).filter(|done| std::future::ready(!done)).count().await;
            if next.is_some() || is_last {
                break next;
            }
            after = last;
        };
        W::observe(Observation::Looked { due: due_count });
        Ok(Look { failed, next })
    }

    async fn items_after(&self, after: (Timestamp, Uuid)) -> Result<Vec<W::Item>, idempo_pg::Error> {
        let client = self.pool.get().await?;
        W::next(&client, after, i64::try_from(BATCH_ITEMS_MAX).unwrap_or(i64::MAX)).await
    }

    /// Does one item's work; says whether it is settled now.
    async fn act(&self, item: W::Item, seen_at: Timestamp) -> bool {
        let (command, streams) = W::command(&item, seen_at);
        let submission = Submission {
            streams,
            command,
            key: IdempotencyKey {
                scope: W::SCOPE,
                key: key(item.id(), item.due_at(), seen_at, W::LABEL),
                fingerprint: bytes::Bytes::new(),
            },
            expected_version: None,
            validate_only: false,
            key_origin: KeyOrigin::Derived,
            origin: Origin { causation_id: Some(item.id()), ..Origin::default() },
        };
        match self.commands.execute(submission).await {
            Ok(Outcome::Replied { replayed, .. }) => {
                if !replayed {
                    W::observe(Observation::Done { late: seen_at.duration_since(item.due_at()) });
                }
                true
            }
            // It was settled otherwise since the look.
            Ok(Outcome::Refused { .. }) => true,
            Ok(Outcome::KeyReused { .. } | Outcome::KeyOutOfWindow) | Err(_) => {
                W::observe(Observation::Failed);
                false
            }
        }
    }
}

/// The key of an item's command. Its time is that at which the item was due, not that of the item, which may be a month earlier; for one that
/// nobody has looked at for long, the day on which it is seen.
fn key(id: Uuid, due_at: Timestamp, seen_at: Timestamp, label: &str) -> Uuid {
    let age = seen_at.duration_since(due_at);
    let seen_ms = seen_at.as_millisecond();
    let time_ms = if age <= KEY_AGE_MAX { due_at.as_millisecond() } else { seen_ms.saturating_sub(seen_ms.rem_euclid(DAY_MS)) };
    derive(at_time(id, time_ms), label, 0)
}

/// The id with another time in its first 48 bits.
fn at_time(id: Uuid, time_ms: i64) -> Uuid {
    const TIME_BITS: u32 = 48;
    const REST_BITS: u32 = 80;
    let time = u128::from(time_ms.unsigned_abs()) & ((1 << TIME_BITS) - 1);
    Uuid::from_u128((time << REST_BITS) | (id.as_u128() & ((1 << REST_BITS) - 1)))
}

#[cfg(test)]
mod tests {
    use idempo_ids::v7_millis;

    use super::*;

    const DUE_MS: i64 = 1_790_000_000_000;

    fn key_seen_at(ms: i64) -> Uuid {
        let at = |ms| Timestamp::from_millisecond(ms).expect("in range");
        key(Uuid::from_u128(7), at(DUE_MS), at(ms), "expire")
    }

    #[test]
    fn an_item_has_one_key_that_carries_the_time_it_was_due() {
        assert_eq!(key_seen_at(DUE_MS), key_seen_at(DUE_MS + 60_000));
        assert_eq!(v7_millis(key_seen_at(DUE_MS)), Some(DUE_MS.unsigned_abs()));
    }

    #[test]
    fn an_item_that_is_long_overdue_gets_a_key_that_is_still_taken() {
        let month = 60 * DAY_MS;
        let key_ms = v7_millis(key_seen_at(DUE_MS + month)).expect("a UUIDv7");
        assert!((DUE_MS + month - i64::try_from(key_ms).expect("small")) < DAY_MS);
    }
}
