//! Dedicated connections: for a lease, for LISTEN, for migrations.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::future::poll_fn;
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{AsyncMessage, Client, NoTls, Socket};

use crate::classify::{classify, classify_connect};
use crate::{Config, Error};

/// The half of a dedicated connection that talks to the server: nothing moves unless it is polled.
///
/// Spawn it as a task (it is a future that ends with the connection), or call [`Connection::message`] in a loop for notifications. Dropping it
/// closes the connection; the server rolls back what is not committed.
pub struct Connection(tokio_postgres::Connection<Socket, NoTlsStream>);

impl Connection {
    /// The next notification or notice, or `None` when the client half is gone and the connection closed.
    ///
    /// # Errors
    /// [`Error::Unknown`] when the connection is lost.
    ///
    /// # Cancel safety
    /// Safe: a message is lost only if it has been returned.
    pub async fn message(&mut self) -> Result<Option<AsyncMessage>, Error> {
        poll_fn(|context| self.0.poll_message(context)).await.transpose().map_err(classify)
    }
}

impl Future for Connection {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map_err(classify)
    }
}

/// Opens a connection of its own, outside any pool.
///
/// The session has the same bounds and settings as a pooled one. `max_connections` and `acquire_timeout_ms` do not apply.
///
/// # Errors
/// [`Error::Config`], [`Error::Refused`], or [`Error::Unavailable`].
pub async fn connect(config: &Config) -> Result<(Client, Connection), Error> {
    let driver = config.driver()?;
    // The driver's own limit is for each address and ends with the TCP connect; this one is for the handshake too.
    match tokio::time::timeout(config.connect_timeout(), driver.connect(NoTls)).await {
        Ok(Ok((client, connection))) => Ok((client, Connection(connection))),
        Ok(Err(error)) => Err(classify_connect(error)),
        Err(_) => Err(Error::Unavailable(None)),
    }
}
