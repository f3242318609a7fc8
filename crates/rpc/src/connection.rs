//! Connections: how many there are at once, how long they live, how much each is read at a time, and how they end when draining takes too long.
//!
//! HTTP/2 reads a connection for as long as there is something to read, and only then begins the calls that it has found. A client that sends as fast
//! as it can would have a thread for itself, and fill the memory with calls that nobody has looked at: reset or not, their headers are kept until then. So
//! a connection has a turn like everybody else: after [`READ_TURN_BYTES`] its calls are begun, and the other connections and calls come before it
//! goes on.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::coop;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::{Connected, TcpConnectInfo, TcpIncoming};

/// How long nothing is accepted after accepting failed, as it does where file descriptors have run out: the server would spin otherwise.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(100);

/// How much is read of a connection until its calls are begun and it is others' turn; a read may go beyond by what a buffer holds.
pub(crate) const READ_TURN_BYTES: usize = 8 * 1024;
/// The operations that tokio lets a task do in a turn of its own.
const TURN_OPERATIONS: usize = 128;

/// How long connections may live.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lifetime {
    /// Until the first byte.
    pub(crate) handshake: Duration,
    /// In all.
    pub(crate) whole: Duration,
}

/// An accepted connection. It counts against the limit while it lives. It fails as soon as its server's connections are cut, when its client
/// says nothing, and when it is too old: tonic asks old connections to end but waits for them without limit.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    end: Pin<Box<Sleep>>,
    /// When it ends at the latest; `None` once `end` is set to it.
    end_after_handshake: Option<Instant>,
    _slot: OwnedSemaphorePermit,
}

/// The connections that `incoming` brings, at most `limit` at once: then the next one waits.
pub(crate) fn accept(
    incoming: TcpIncoming,
    limit: usize,
    lifetime: Lifetime,
    cut: CancellationToken,
) -> impl Stream<Item = io::Result<Connection>> {
    let slots = Arc::new(Semaphore::new(limit));
    incoming.then(move |accepted| {
        let (slots, cut) = (slots.clone(), cut.clone());
        async move {
            match accepted {
                Ok(stream) => {
                    let slot = slots.acquire_owned().await.map_err(io::Error::other)?;
                    Ok(Connection {
                        stream,
                        cut: Box::pin(cut.cancelled_owned()),
                        end: Box::pin(tokio::time::sleep(lifetime.handshake)),
                        end_after_handshake: Some(Instant::now() + lifetime.whole),
                        _slot: slot,
                    })
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                    Err(error)
                }
            }
        }
    })
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // HTTP/2 always has a read under way, so this is where an end is noticed.
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if self.end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        spend_turn(buf.filled().len().saturating_sub(before), cx);
        if read.is_ready()
            && let Some(end) = self.end_after_handshake.take()
        {
            self.end.as_mut().reset(end);
        }
        read
    }
}

/// Counts so many bytes as their part of the task's turn. When it is used up, there is nothing to read until the task's next one.
fn spend_turn(bytes: usize, cx: &mut Context<'_>) {
    for _ in 0..bytes / (READ_TURN_BYTES / TURN_OPERATIONS) {
        let Poll::Ready(operation) = coop::poll_proceed(cx) else { return };
        operation.made_progress();
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
