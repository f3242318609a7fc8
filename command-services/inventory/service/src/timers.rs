//! What happens by itself: reservations that have reached the end of their life expire.
//!
//! The timer is durable because it is a query: whichever replica looks finds the open reservations in the order in which they expire. Several
//! replicas may find the same one; its expiry has one key, derived from the reservation, and the domain lets a reservation expire once in any
//! case.

use std::time::Duration;

use futures_util::StreamExt as _;
use idempo_clock::SharedClock;
use idempo_decider::Timestamp;
use idempo_event_store::{Handle, IdempotencyKey, KeyOrigin, Origin, Outcome, Submission};
use idempo_ids::{ReservationId, Uuid, derive};
use idempo_inventory_domain::inventory::{Action, Command, ReservationLookup};
use idempo_pg::Pool;
use jiff::SignedDuration;
use tokio_util::sync::CancellationToken;

use crate::codec::{InventoryDomain, streams};
use crate::metrics;
use crate::queries::{self, OpenReservation};

/// How many reservations are read at a time.
const BATCH_RESERVATIONS_MAX: usize = 256;
/// How many expiries are under way at a time.
const CONCURRENT_EXPIRIES_MAX: usize = 64;
/// The shortest wait between two looks.
const WAIT_MIN: Duration = Duration::from_millis(10);
/// Beyond this age of its due time a reservation's expiry key no longer carries that time: keys are remembered for some weeks only.
const KEY_AGE_MAX: SignedDuration = SignedDuration::from_hours(7 * 24);
const DAY_MS: i64 = 24 * 3_600 * 1_000;
/// The scope of the timer's keys: no client's, since those are digests.
const SCOPE: [u8; 16] = *b"inventory/expiry";

/// Lets reservations expire.
pub(crate) struct ReservationTimer {
    commands: Handle<InventoryDomain>,
    pool: Pool,
    clock: SharedClock,
    poll_interval: Duration,
}

/// What came of one look.
struct Look {
    /// How many expiries came to nothing.
    failed: usize,
    /// When the next open reservation expires, as far as the look went.
    next: Option<Timestamp>,
}

impl ReservationTimer {
    pub(crate) const fn new(commands: Handle<InventoryDomain>, pool: Pool, clock: SharedClock, poll_interval: Duration) -> Self {
        Self { commands, pool, clock, poll_interval }
    }

    /// Looks until `cancel` is cancelled. A failure is logged when it begins and when it is over.
    pub(crate) async fn run(self, cancel: CancellationToken) {
        let mut failing = false;
        while let Some(look) = cancel.run_until_cancelled(self.look()).await {
            let failed = match &look {
                Ok(look) => look.failed > 0,
                Err(_) => true,
            };
            if failed && !failing {
                let error = look.as_ref().err().map(|error| error as &dyn std::error::Error);
                tracing::warn!(error, failed = look.as_ref().map_or(0, |look| look.failed), "due reservations can't expire for now");
            } else if failing && !failed {
                tracing::info!("due reservations expire again");
            }
            failing = failed;
            let wait = self.wait(look.ok().filter(|_| !failed).and_then(|look| look.next));
            if cancel.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
                return;
            }
        }
    }

    /// How long until the next look: until the next reservation is due, but never longer than one that was made meanwhile may stay unseen.
    fn wait(&self, next: Option<Timestamp>) -> Duration {
        let until_next = next.map(|next| next.duration_since(self.clock.now()));
        until_next.map_or(self.poll_interval, |wait| Duration::try_from(wait).unwrap_or(WAIT_MIN).clamp(WAIT_MIN, self.poll_interval))
    }

    /// Lets every reservation expire that is due now, batch by batch. A reservation whose expiry fails keeps none of those behind it waiting.
    async fn look(&self) -> Result<Look, idempo_pg::Error> {
        let seen_at = self.clock.now();
        let mut after = (Timestamp::UNIX_EPOCH, ReservationId::new(Uuid::nil()));
        let (mut failed, mut due_count) = (0, 0);
        let next = loop {
            let mut open = self.open_after(after).await?;
            let due = open.partition_point(|reservation| reservation.expires_at <= seen_at);
            let next = open.get(due).map(|reservation| reservation.expires_at);
            let is_last = open.len() < BATCH_RESERVATIONS_MAX;
            open.truncate(due);
            due_count += open.len();
            let Some(last) = open.last().map(|reservation| (reservation.expires_at, reservation.reservation)) else { break next };
            let expired = futures_util::stream::iter(open.into_iter().map(|reservation| self.expire(reservation, seen_at)));
            failed += expired.buffer_unordered(CONCURRENT_EXPIRIES_MAX).filter(|done| std::future::ready(!done)).count().await;
            if next.is_some() || is_last {
                break next;
            }
            after = last;
        };
        metrics::reservations_due(due_count);
        Ok(Look { failed, next })
    }

    async fn open_after(&self, after: (Timestamp, ReservationId)) -> Result<Vec<OpenReservation>, idempo_pg::Error> {
        let client = self.pool.get().await?;
        queries::open_reservations(&client, after, i64::try_from(BATCH_RESERVATIONS_MAX).unwrap_or(i64::MAX)).await
    }

    /// Lets one reservation expire; says whether it is settled now.
    async fn expire(&self, reservation: OpenReservation, seen_at: Timestamp) -> bool {
        // What is not open in the state has ended, however long ago: any refusal settles it, so nothing needs to be looked up.
        let lookup = ReservationLookup::default();
        let command =
            Command { player: reservation.player, action: Action::Expire { reservation: reservation.reservation, seen_at, lookup } };
        let submission = Submission {
            streams: streams(&command),
            command,
            key: IdempotencyKey { scope: SCOPE, key: expiry_key(&reservation, seen_at), fingerprint: bytes::Bytes::new() },
            expected_version: None,
            validate_only: false,
            key_origin: KeyOrigin::Derived,
            origin: Origin { causation_id: Some(reservation.reservation.uuid()), ..Origin::default() },
        };
        match self.commands.execute(submission).await {
            Ok(Outcome::Replied { replayed, .. }) => {
                if !replayed {
                    metrics::reservation_expired(seen_at.duration_since(reservation.expires_at));
                }
                true
            }
            // It ended otherwise since the look.
            Ok(Outcome::Refused { .. }) => true,
            Ok(Outcome::KeyReused { .. } | Outcome::KeyOutOfWindow) | Err(_) => {
                metrics::reservation_expiry_failed();
                false
            }
        }
    }
}

/// The key of a reservation's expiry. Its time is that at which the reservation was due, not that of the reservation, which may be a month
/// earlier; for one that nobody has looked at for long, the day on which it is seen.
fn expiry_key(reservation: &OpenReservation, seen_at: Timestamp) -> Uuid {
    let age = seen_at.duration_since(reservation.expires_at);
    let seen_ms = seen_at.as_millisecond();
    let time_ms =
        if age <= KEY_AGE_MAX { reservation.expires_at.as_millisecond() } else { seen_ms.saturating_sub(seen_ms.rem_euclid(DAY_MS)) };
    derive(at_time(reservation.reservation.uuid(), time_ms), "expire", 0)
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
    use idempo_ids::{PlayerId, v7_millis};

    use super::*;

    fn due_at(ms: i64) -> OpenReservation {
        OpenReservation {
            reservation: ReservationId::new(Uuid::from_u128(7)),
            player: PlayerId::new(Uuid::nil()),
            expires_at: Timestamp::from_millisecond(ms).expect("in range"),
        }
    }

    #[test]
    fn an_expiry_has_one_key_that_carries_the_time_it_was_due() {
        let due = 1_790_000_000_000;
        let at = |ms| expiry_key(&due_at(due), Timestamp::from_millisecond(ms).expect("in range"));
        assert_eq!(at(due), at(due + 60_000));
        assert_eq!(v7_millis(at(due)), Some(due.unsigned_abs()));
    }

    #[test]
    fn a_reservation_that_is_long_overdue_gets_a_key_that_is_still_taken() {
        let (due, month) = (1_790_000_000_000, 60 * DAY_MS);
        let seen = Timestamp::from_millisecond(due + month).expect("in range");
        let key_ms = v7_millis(expiry_key(&due_at(due), seen)).expect("a UUIDv7");
        assert!((due + month - i64::try_from(key_ms).expect("small")) < DAY_MS);
    }
}
