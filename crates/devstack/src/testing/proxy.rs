//! A TCP proxy in front of a server: it can be shut, it can cut, and it can swallow an answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// How many bytes of an answer are carried at a time.
const CHUNK_BYTES: usize = 64 * 1_024;

/// Stands between a client and a server. While it is open, bytes pass; its tasks end with it, or with the test's runtime.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    server: Arc<str>,
    switch: Arc<Switch>,
    passing: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Switch {
    /// The next answer is read and dropped, and its connection closed.
    swallow: AtomicBool,
    swallowed: AtomicUsize,
}

impl Proxy {
    /// A proxy in front of `server` (`host:port`) that refuses connections until it is opened.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn shut(server: impl Into<Arc<str>>) -> Self {
        // The port stays ours by its number: it is bound again each time the proxy is opened.
        let free = TcpListener::bind("127.0.0.1:0").await.and_then(|listener| listener.local_addr()).expect("a free port");
        Self { address: free, server: server.into(), switch: Arc::default(), passing: None }
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
        self.address
    }

    /// Takes connections from now on.
    ///
    /// # Panics
    /// When another process has taken the port meanwhile.
    pub async fn open(&mut self) {
        let listener = TcpListener::bind(self.address).await.expect("the port is free");
        let (server, switch) = (Arc::clone(&self.server), Arc::clone(&self.switch));
        self.passing = Some(tokio::spawn(async move {
            let mut passing = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                while passing.try_join_next().is_some() {}
                passing.spawn(pass(client, Arc::clone(&server), Arc::clone(&switch)));
            }
        }));
    }

    /// Cuts every connection and refuses new ones.
    pub async fn cut(&mut self) {
        if let Some(passing) = self.passing.take() {
            passing.abort();
            let _cancelled = passing.await;
        }
    }

    /// From now on the next answer of the server, on whichever connection, is lost, and that connection cut: a request arrives, has its effect,
    /// and nobody hears of it.
    pub fn swallow_next_answer(&self) {
        self.switch.swallow.store(true, Ordering::SeqCst);
    }

    /// How many answers were lost so far.
    #[must_use]
    pub fn swallowed(&self) -> usize {
        self.switch.swallowed.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(passing) = self.passing.take() {
            passing.abort();
        }
    }
}

/// Carries bytes both ways until one side closes, or an answer is swallowed.
async fn pass(client: TcpStream, server: Arc<str>, switch: Arc<Switch>) {
    let Ok(server) = TcpStream::connect(&*server).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let requests = tokio::io::copy(&mut from_client, &mut to_server);
    let answers = async {
        let mut buffer = vec![0; CHUNK_BYTES];
        while let Ok(count @ 1..) = from_server.read(&mut buffer).await {
            if switch.swallow.swap(false, Ordering::SeqCst) {
                switch.swallowed.fetch_add(1, Ordering::SeqCst);
                return;
            }
            let Some(answer) = buffer.get(..count) else { return };
            if to_client.write_all(answer).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = requests => {}
        () = answers => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[tokio::test]
    async fn it_refuses_until_it_is_opened_and_after_a_cut() {
        let (server, _) = echo().await;
        let mut proxy = Proxy::shut(server).await;
        assert!(TcpStream::connect(proxy.address()).await.is_err());
        proxy.open().await;
        let mut client = TcpStream::connect(proxy.address()).await.expect("open");
        assert_eq!(ask(&mut client).await.expect("answered"), 5);
        proxy.cut().await;
        assert!(!matches!(ask(&mut client).await, Ok(1..)), "the connection was cut");
        assert!(TcpStream::connect(proxy.address()).await.is_err());
    }

    #[tokio::test]
    async fn a_swallowed_answer_is_lost_though_the_request_arrived() {
        let (server, heard) = echo().await;
        let proxy = Proxy::to(server).await;
        let mut client = TcpStream::connect(proxy.address()).await.expect("open");
        assert_eq!(ask(&mut client).await.expect("answered"), 5);
        proxy.swallow_next_answer();
        assert!(!matches!(ask(&mut client).await, Ok(1..)), "its answer is lost");
        assert_eq!((heard.load(Ordering::SeqCst), proxy.swallowed()), (10, 1));
        let mut again = TcpStream::connect(proxy.address()).await.expect("open");
        assert_eq!(ask(&mut again).await.expect("answered"), 5, "only one is lost");
    }
}
