//! A TCP proxy in front of PostgreSQL that can swallow answers: the statement arrives and commits, and nobody hears of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// The proxy. Its tasks end with the test's runtime.
pub(crate) struct Wire {
    address: SocketAddr,
    switch: Arc<Switch>,
}

#[derive(Default)]
struct Switch {
    /// From the next request on, answers are read and dropped, and then the connection is closed.
    swallow: AtomicBool,
    swallowed: AtomicUsize,
}

impl Wire {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let switch = Arc::new(Switch::default());
        let shared = Arc::clone(&switch);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(server).await.unwrap();
                tokio::spawn(carry(client, server, Arc::clone(&shared)));
            }
        });
        Self { address, switch }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn swallow_next_answer(&self) {
        self.switch.swallow.store(true, Ordering::SeqCst);
    }

    pub(crate) fn swallowed(&self) -> usize {
        self.switch.swallowed.load(Ordering::SeqCst)
    }
}

async fn carry(client: TcpStream, server: TcpStream, switch: Arc<Switch>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let upstream = tokio::spawn(async move {
        let _ended = tokio::io::copy(&mut from_client, &mut to_server).await;
    });
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(n @ 1..) = from_server.read(&mut buffer).await {
        if switch.swallow.swap(false, Ordering::SeqCst) {
            // The answer to a statement outside a transaction block comes after its commit.
            switch.swallowed.fetch_add(1, Ordering::SeqCst);
            break;
        }
        if to_client.write_all(&buffer[..n]).await.is_err() {
            break;
        }
    }
    upstream.abort();
}
