//! One effect, from the first attempt to what becomes of it.

use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use idempo_clock::SharedClock;
use idempo_errors::Classified as _;
use idempo_ids::Uuid;
use jiff::Timestamp;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, info_span};

use super::log::{Ending, Pending};
use super::progress::ReactionProgress;
use super::{EffectId, Reactor};
use crate::patience::chain;
use crate::policy::{ATTEMPT_PAUSE, ATTEMPTS_MAX};

/// How long is waited after an attempt that failed for a while, at first and at most.
const RETRY_DELAY_MIN: Duration = Duration::from_millis(50);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(10);
/// The most characters of an error that are kept.
const REASON_CHARS_MAX: usize = 1_000;

/// What became of an effect.
#[derive(Debug)]
pub(super) struct Performed {
    pub(super) id: EffectId,
    pub(super) key: Uuid,
    pub(super) outcome: Outcome,
}

#[derive(Debug)]
pub(super) enum Outcome {
    /// It was performed.
    Done,
    /// It was not, and never is.
    Ended(Ending),
    /// It may or may not have been: the partition is taken away. It stays pending.
    Left,
}

/// Performs an effect, again and again until it is known what becomes of it, or `cancel` is cancelled between two attempts.
pub(super) async fn carry_out<R: Reactor>(
    reactor: Arc<R>,
    effect: Pending,
    progress: Arc<ReactionProgress>,
    cancel: CancellationToken,
) -> Performed {
    let span = span::<R>(&effect);
    let outcome = attempts(&*reactor, &effect, &progress, &cancel).instrument(span).await;
    Performed { id: effect.id, key: effect.key, outcome }
}

async fn attempts<R: Reactor>(reactor: &R, effect: &Pending, progress: &ReactionProgress, cancel: &CancellationToken) -> Outcome {
    let decoded = match R::decode(&effect.effect) {
        Ok(decoded) => decoded,
        Err(malformed) => return failed(1, "MALFORMED_EFFECT", &malformed.to_string()),
    };
    let delays =
        ExponentialBuilder::new().with_min_delay(RETRY_DELAY_MIN).with_max_delay(RETRY_DELAY_MAX).with_jitter().without_max_times();
    let (mut backoff, mut tried, mut told) = (delays.build(), 0, false);
    loop {
        if is_too_old::<R>(progress.clock(), effect.decided_at) {
            return Outcome::Ended(Ending::Expired);
        }
        let reason = match timeout(R::TIME_MAX, reactor.perform(effect.id, &decoded)).await {
            Ok(Ok(())) => return Outcome::Done,
            Ok(Err(error)) if !error.class().is_transient() => {
                tried += 1;
                if tried >= ATTEMPTS_MAX {
                    return failed(tried, error.code(), &chain(&error));
                }
                sleep(ATTEMPT_PAUSE).await;
                continue;
            }
            Ok(Err(error)) => chain(&error),
            Err(_) => format!("no answer within {} ms", R::TIME_MAX.as_millis()),
        };
        progress.meters.retried();
        if !std::mem::replace(&mut told, true) {
            tracing::warn!(reactor = R::NAME, effect = %effect.id.uuid(), reason, "an effect can't be performed for now, it is tried again");
        }
        tokio::select! {
            () = cancel.cancelled() => return Outcome::Left,
            () = sleep(backoff.next().unwrap_or(RETRY_DELAY_MAX)) => {}
        }
    }
}

/// Whether an effect of an event that was decided then is not worth performing any more.
pub(super) fn is_too_old<R: Reactor>(clock: &SharedClock, decided_at: Timestamp) -> bool {
    let age_ms = clock.now().as_millisecond().saturating_sub(decided_at.as_millisecond());
    u128::try_from(age_ms).is_ok_and(|age_ms| age_ms > R::AGE_MAX.as_millis())
}

/// An effect that has failed for good. What a text column does not take is not kept of the reason.
fn failed(attempts: u32, code: &str, reason: &str) -> Outcome {
    let reason = reason.chars().filter(|c| *c != '\0').take(REASON_CHARS_MAX).collect();
    Outcome::Ended(Ending::Failed { attempts, code: code.to_owned(), reason })
}

/// The span of an effect: part of its command's trace, none where there is none.
fn span<R: Reactor>(effect: &Pending) -> Span {
    if effect.traceparent.is_empty() {
        return Span::none();
    }
    let span = info_span!("perform", reactor = R::NAME, effect = %effect.id.uuid());
    idempo_telemetry::span_parent_from(&span, &effect.traceparent);
    span
}
