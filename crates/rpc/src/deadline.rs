//! Deadlines: how long a caller waits, and what it hears when that time is over.
//!
//! tonic answers CANCELLED when time is over, and ignores a `grpc-timeout` that it can't read. Here the first is DEADLINE_EXCEEDED and the
//! second is refused.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{self, Either, Ready};
use http::{HeaderMap, Request, Response};
use tokio::task::yield_now;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::status::{RETRY_AFTER, refusal};

const GRPC_TIMEOUT: &str = "grpc-timeout";

/// tonic has a timer of its own on `grpc-timeout`, which answers CANCELLED. Timers have a resolution of 1 ms; ours goes first.
const BEFORE_TONIC: Duration = Duration::from_millis(2);

/// What a handler that waits for something keeps back, to still answer in time.
const TO_ANSWER: Duration = Duration::from_millis(20);

/// The deadline where a request has none, as in a handler's own test.
const WITHOUT_DEADLINE: Duration = Duration::from_secs(10);

/// When a call's caller stops waiting. The server puts it in every request's extensions.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// The deadline of a request; 10 seconds from now where it did not come through [`crate::serve`].
    #[must_use]
    pub fn of<T>(request: &tonic::Request<T>) -> Self {
        request.extensions().get().copied().unwrap_or_else(|| Self(Instant::now() + WITHOUT_DEADLINE))
    }

    /// When it is.
    #[must_use]
    pub const fn at(self) -> Instant {
        self.0
    }

    /// The time left, 0 when it is over.
    #[must_use]
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// How long a handler may wait for something and still answer in time: the time left less 20 ms.
    #[must_use]
    pub fn wait_budget(self) -> Duration {
        self.remaining().saturating_sub(TO_ANSWER)
    }
}

/// Gives every call a deadline: the shorter of the caller's and the server's. A call that its client has reset by the time that it is looked at is not begun.
#[derive(Debug, Clone)]
pub(crate) struct DeadlineLayer {
    pub(crate) longest: Duration,
    pub(crate) domain: &'static str,
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = DeadlineService<S>;

    fn layer(&self, inner: S) -> DeadlineService<S> {
        DeadlineService { limits: self.clone(), inner }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct DeadlineService<S> {
    limits: DeadlineLayer,
    inner: S,
}

impl<S> Service<Request<Body>> for DeadlineService<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future =
        Either<Ready<Result<Response<Body>, Infallible>>, Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let DeadlineLayer { longest, domain } = self.limits;
        let Ok(asked) = grpc_timeout(request.headers()) else { return Either::Left(future::ok(malformed(domain).into_http())) };
        let budget = asked.map_or(longest, |asked| longest.min(asked.saturating_sub(BEFORE_TONIC)));
        let deadline = Instant::now() + budget;
        request.extensions_mut().insert(Deadline(deadline));
        let call = tokio::time::timeout_at(deadline, self.inner.call(request));
        // hyper asks whether the call was reset each time that it waits, and not before: so it waits once, and what is not wanted any more costs nobody a
        // place, a handler or a connection of the database.
        let begun = async move {
            yield_now().await;
            call.await
        };
        Either::Right(Box::pin(async move { begun.await.unwrap_or_else(|_| Ok(exceeded(domain).into_http())) }))
    }
}

fn exceeded(domain: &str) -> Status {
    let text = "the deadline is over and the outcome unknown; send the same request with the same request_id again";
    refusal(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", domain, text).retry_after(RETRY_AFTER).into_status()
}

fn malformed(domain: &str) -> Status {
    let text = "must be 1 to 8 digits and a unit of H, M, S, m, u or n";
    refusal(Code::InvalidArgument, "INVALID_FIELD", domain, format!("{GRPC_TIMEOUT} {text}")).violation(GRPC_TIMEOUT, text).into_status()
}

/// A `grpc-timeout` that is none.
#[derive(Debug, PartialEq, Eq)]
struct Malformed;

/// The time that the caller gives the call, as <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md> writes it.
fn grpc_timeout(headers: &HeaderMap) -> Result<Option<Duration>, Malformed> {
    let mut values = headers.get_all(GRPC_TIMEOUT).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Malformed);
    }
    let (unit, digits) = value.as_bytes().split_last().ok_or(Malformed)?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Malformed);
    }
    let count = digits.iter().fold(0_u64, |count, digit| count * 10 + u64::from(digit - b'0'));
    let timeout = match unit {
        b'H' => Duration::from_secs(count * 3600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return Err(Malformed),
    };
    Ok(Some(timeout))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &'static str) -> Result<Option<Duration>, Malformed> {
        let mut headers = HeaderMap::new();
        headers.insert(GRPC_TIMEOUT, text.parse().expect("a header value"));
        grpc_timeout(&headers)
    }

    #[test]
    fn every_unit_is_understood() {
        let expected = [("2H", 7_200_000), ("3M", 180_000), ("42S", 42_000), ("13m", 13), ("99999999m", 99_999_999)];
        for (text, millis) in expected {
            assert_eq!(parsed(text), Ok(Some(Duration::from_millis(millis))), "{text}");
        }
        assert_eq!(parsed("2u"), Ok(Some(Duration::from_micros(2))));
        assert_eq!(parsed("82n"), Ok(Some(Duration::from_nanos(82))));
        assert_eq!(grpc_timeout(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn what_is_no_timeout_is_malformed() {
        for text in ["", "S", "10", "10s", "-1S", "1.5S", " 1S", "123456789S", "1 S"] {
            assert_eq!(parsed(text), Err(Malformed), "{text}");
        }
    }

    #[test]
    fn two_timeouts_are_malformed() {
        let mut headers = HeaderMap::new();
        headers.append(GRPC_TIMEOUT, "1S".parse().expect("a header value"));
        headers.append(GRPC_TIMEOUT, "2S".parse().expect("a header value"));
        assert_eq!(grpc_timeout(&headers), Err(Malformed));
    }
}
