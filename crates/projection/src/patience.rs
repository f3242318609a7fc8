//! Waiting for a store that is away.

use std::error::Error as StdError;
use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use idempo_errors::Classified;
use tokio_util::sync::CancellationToken;

use crate::meters::Meters;
use crate::store::StoreError;

/// How long a store that is away is left alone, at first and at most.
const RETRY_DELAY_MIN: Duration = Duration::from_millis(20);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(1);

/// Makes a call of the store until it is answered, or `cancel` is cancelled: the last failure is the answer then. A store that is away costs no
/// record and no attempt, and is told of once.
pub(crate) async fn patiently<T, C: Future<Output = Result<T, StoreError>>>(
    place: (&str, i32),
    meters: &Meters,
    cancel: &CancellationToken,
    call: impl Fn() -> C,
) -> Result<T, StoreError> {
    wait_for("the read model", place, || meters.retried(), cancel, call).await
}

/// The same of anything that can be away.
pub(crate) async fn wait_for<T, E: Classified + 'static, C: Future<Output = Result<T, E>>>(
    what: &'static str,
    (topic, partition): (&str, i32),
    retried: impl Fn(),
    cancel: &CancellationToken,
    call: impl Fn() -> C,
) -> Result<T, E> {
    let away = AtomicBool::new(false);
    let delays =
        ExponentialBuilder::new().with_min_delay(RETRY_DELAY_MIN).with_max_delay(RETRY_DELAY_MAX).with_jitter().without_max_times();
    let answer = call
        .retry(delays)
        .when(|error: &E| error.class().is_transient() && !cancel.is_cancelled())
        .notify(|error, _| {
            retried();
            if !away.swap(true, Ordering::Relaxed) {
                tracing::warn!(topic, partition, error = chain(error), "{what} is away, the partition waits for it");
            }
        })
        .await;
    if away.into_inner() && answer.is_ok() {
        tracing::info!(topic, partition, "{what} is back");
    }
    answer
}

/// An error with what caused it, in one line.
pub(crate) fn chain(error: &(dyn StdError + 'static)) -> String {
    let sources = std::iter::successors(Some(error), |error: &&(dyn StdError + 'static)| (*error).source());
    sources.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
