//! A [`crate::Proxy`] as tests use it: what can't be done fails the test.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::proxy::Swallow;

/// Chance has no part in what tests do with it.
const SEED: u64 = 0;

/// Stands between a client and a server. While it is open, bytes pass; its tasks end with it, or with the test's runtime.
#[derive(Debug)]
pub struct Proxy(crate::Proxy);

impl Proxy {
    /// A proxy in front of `server` (`host:port`) that refuses connections until it is opened.
    ///
    /// # Panics
    /// When there is no free port.
    #[expect(clippy::unused_async, reason = "callers await every call of a proxy")]
    pub async fn shut(server: impl Into<Arc<str>>) -> Self {
        Self(crate::Proxy::new(server, SEED).expect("a free port"))
    }

    /// A proxy in front of `server` (`host:port`) that is open.
    ///
    /// # Panics
    /// As [`Proxy::shut`] and [`Proxy::open`].
    pub async fn to(server: impl Into<Arc<str>>) -> Self {
        let mut proxy = Self::shut(server).await;
        proxy.open().await;
        proxy
    }

    /// Where clients connect to.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// Takes connections from now on.
    ///
    /// # Panics
    /// When another process has taken the port meanwhile.
    pub async fn open(&mut self) {
        self.0.open().await.expect("the port is free");
    }

    /// Cuts every connection and refuses new ones.
    pub async fn cut(&mut self) {
        self.0.shut().await;
    }

    /// From now on the next answer of the server, on whichever connection, is lost, and that connection cut: a request arrives, has its effect,
    /// and nobody hears of it.
    pub fn swallow_next_answer(&self) {
        self.0.swallow(Swallow::NextAnswer);
    }

    /// How many answers were lost so far.
    #[must_use]
    pub fn swallowed(&self) -> usize {
        self.0.swallowed()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::{Duration, Instant};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::proxy::{Delay, Held};

    /// A server that answers each line with itself, and counts the bytes that reached it.
    async fn echo() -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let heard = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    let mut buffer = [0; 16];
                    while let Ok(n @ 1..) = client.read(&mut buffer).await {
                        count.fetch_add(n, Ordering::SeqCst);
                        if client.write_all(buffer.get(..n).expect("read")).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        (address, heard)
    }

    async fn ask(client: &mut TcpStream) -> std::io::Result<usize> {
        client.write_all(b"hello").await?;
        client.read(&mut [0; 16]).await
    }

    async fn connected(proxy: &Proxy) -> TcpStream {
        TcpStream::connect(proxy.address()).await.expect("open")
    }

    #[tokio::test]
    async fn it_refuses_until_it_is_opened_and_after_a_cut() {
        let (server, _) = echo().await;
        let mut proxy = Proxy::shut(server).await;
        assert!(TcpStream::connect(proxy.address()).await.is_err());
        proxy.open().await;
        let mut client = connected(&proxy).await;
        assert_eq!(ask(&mut client).await.expect("answered"), 5);
        proxy.cut().await;
        assert!(!matches!(ask(&mut client).await, Ok(1..)), "the connection was cut");
        assert!(TcpStream::connect(proxy.address()).await.is_err());
    }

    #[tokio::test]
    async fn a_swallowed_answer_is_lost_though_the_request_arrived() {
        let (server, heard) = echo().await;
        let proxy = Proxy::to(server).await;
        let mut client = connected(&proxy).await;
        assert_eq!(ask(&mut client).await.expect("answered"), 5);
        proxy.swallow_next_answer();
        assert!(!matches!(ask(&mut client).await, Ok(1..)), "its answer is lost");
        assert_eq!((heard.load(Ordering::SeqCst), proxy.swallowed()), (10, 1));
        let mut again = connected(&proxy).await;
        assert_eq!(ask(&mut again).await.expect("answered"), 5, "only one is lost");
    }

    #[tokio::test]
    async fn cut_connections_are_gone_and_others_may_come_at_once() {
        let (server, _) = echo().await;
        let proxy = Proxy::to(server).await;
        let (mut first, mut second) = (connected(&proxy).await, connected(&proxy).await);
        assert_eq!((ask(&mut first).await.expect("answered"), ask(&mut second).await.expect("answered")), (5, 5));
        assert_eq!((proxy.0.cut(0), proxy.0.connections()), (0, 2));
        assert_eq!(proxy.0.cut(1_000), 2);
        assert!(!matches!(ask(&mut first).await, Ok(1..)));
        assert_eq!(ask(&mut connected(&proxy).await).await.expect("answered"), 5);
    }

    #[tokio::test]
    async fn bytes_are_delayed_both_ways_and_held_back_until_they_are_let_go() {
        let (server, heard) = echo().await;
        let proxy = Proxy::to(server).await;
        let mut client = connected(&proxy).await;
        let delay = Delay { least: Duration::from_millis(20), most: Duration::from_millis(30) };
        proxy.0.delay(Some(delay));
        let began = Instant::now();
        assert_eq!(ask(&mut client).await.expect("answered"), 5);
        assert!(began.elapsed() >= 2 * delay.least, "{:?}", began.elapsed());
        proxy.0.delay(None);

        proxy.0.hold(Held::Answers);
        let waiting = tokio::time::timeout(Duration::from_millis(50), ask(&mut client)).await;
        assert!(waiting.is_err(), "the answer is held");
        assert_eq!(heard.load(Ordering::SeqCst), 10, "the request went through");
        proxy.0.hold(Held::Nothing);
        assert_eq!(client.read(&mut [0; 16]).await.expect("answered"), 5);
    }
}
