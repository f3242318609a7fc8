//! A TCP proxy in front of a server, for making networks fail on purpose: it can be shut, cut connections, delay bytes, hold them back, and
//! lose an answer. What it leaves to chance comes from a seed.

mod pass;
mod wire;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::ports::Ports;

/// Stands between clients and a server. While it is open, bytes pass; its tasks end with it, or with the runtime.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    line: Arc<Line>,
    accepting: Option<JoinHandle<()>>,
}

/// How long each chunk of bytes waits, both ways: by chance between the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delay {
    /// The shortest wait.
    pub least: Duration,
    /// The longest wait.
    pub most: Duration,
}

/// Which bytes are held back, as on a network that has lost its way: connections stay, and nobody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Held {
    /// None.
    #[default]
    Nothing,
    /// Those to the server.
    Requests,
    /// Those to the client.
    Answers,
    /// All.
    Everything,
}

/// An answer that is lost: its request arrives and has its effect, and nobody hears of it. The connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swallow {
    /// The next bytes from the server, on whichever connection.
    NextAnswer,
    /// The answer to the next request to PostgreSQL that runs a statement in which one of these texts stands; it is lost once it is whole, so
    /// what the request did is committed by then.
    AnswerTo(&'static [&'static str]),
}

/// What becomes of the bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Weather {
    delay: Option<Delay>,
    held: Held,
}

/// What all connections of a proxy share.
#[derive(Debug)]
struct Line {
    server: Arc<str>,
    weather: watch::Sender<Weather>,
    swallow: Mutex<Option<Swallow>>,
    swallowed: AtomicUsize,
    chance: Mutex<ChaCha8Rng>,
    /// The connections by their number; those that ended are forgotten when another comes.
    connections: Mutex<BTreeMap<u64, JoinHandle<()>>>,
    accepted: AtomicU64,
}

impl Proxy {
    /// A proxy in front of `server` (`host:port`) on a port of its own, which refuses connections until it is opened.
    ///
    /// # Errors
    /// When there is no free port.
    pub fn new(server: impl Into<Arc<str>>, seed: u64) -> Result<Self> {
        Ok(Self::at(SocketAddr::from((Ipv4Addr::LOCALHOST, Ports::Free.pick(0)?)), server, seed))
    }

    /// A proxy in front of `server` (`host:port`) at a given address, which refuses connections until it is opened.
    #[must_use]
    pub fn at(address: SocketAddr, server: impl Into<Arc<str>>, seed: u64) -> Self {
        let line = Line {
            server: server.into(),
            weather: watch::Sender::default(),
            swallow: Mutex::default(),
            swallowed: AtomicUsize::default(),
            chance: Mutex::new(ChaCha8Rng::seed_from_u64(seed)),
            connections: Mutex::default(),
            accepted: AtomicU64::default(),
        };
        Self { address, line: Arc::new(line), accepting: None }
    }

    /// Where clients connect to.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes connections from now on.
    ///
    /// # Errors
    /// When another process has taken the port meanwhile.
    pub async fn open(&mut self) -> Result<()> {
        if self.accepting.is_some() {
            return Ok(());
        }
        let listener = TcpListener::bind(self.address).await.with_context(|| format!("opening the proxy at {}", self.address))?;
        let line = Arc::clone(&self.line);
        self.accepting = Some(tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let passing = tokio::spawn(pass::pass(client, Arc::clone(&line)));
                let number = line.accepted.fetch_add(1, Ordering::Relaxed);
                let mut connections = locked(&line.connections);
                connections.retain(|_, connection| !connection.is_finished());
                connections.insert(number, passing);
            }
        }));
        Ok(())
    }

    /// Cuts every connection and refuses new ones.
    pub async fn shut(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
            let _cancelled = accepting.await;
        }
        let connections = std::mem::take(&mut *locked(&self.line.connections));
        for connection in connections.into_values() {
            connection.abort();
            let _cancelled = connection.await;
        }
    }

    /// Cuts connections, each with this likelihood; clients may connect again at once. Returns how many were cut.
    pub fn cut(&self, per_thousand: u32) -> usize {
        let mut connections = locked(&self.line.connections);
        let mut cut = 0;
        for connection in connections.values().filter(|connection| !connection.is_finished()) {
            if self.line.random(0..1_000) < u64::from(per_thousand) {
                connection.abort();
                cut += 1;
            }
        }
        connections.retain(|_, connection| !connection.is_finished());
        cut
    }

    /// Delays bytes from now on, or no more.
    pub fn delay(&self, delay: Option<Delay>) {
        self.line.weather.send_modify(|weather| weather.delay = delay);
    }

    /// Holds bytes back from now on. Those that were held and no longer are go on.
    pub fn hold(&self, held: Held) {
        self.line.weather.send_modify(|weather| weather.held = held);
    }

    /// From now on the next answer of this sort is lost.
    pub fn swallow(&self, swallow: Swallow) {
        *locked(&self.line.swallow) = Some(swallow);
    }

    /// No answer is lost from now on.
    pub fn swallow_nothing(&self) {
        *locked(&self.line.swallow) = None;
    }

    /// How many answers were lost so far.
    #[must_use]
    pub fn swallowed(&self) -> usize {
        self.line.swallowed.load(Ordering::SeqCst)
    }

    /// How many connections there are.
    #[must_use]
    pub fn connections(&self) -> usize {
        locked(&self.line.connections).values().filter(|connection| !connection.is_finished()).count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(accepting) = self.accepting.take() {
            accepting.abort();
        }
        for connection in locked(&self.line.connections).values() {
            connection.abort();
        }
    }
}

impl Line {
    fn random(&self, range: std::ops::Range<u64>) -> u64 {
        if range.is_empty() { range.start } else { locked(&self.chance).random_range(range) }
    }
}

/// Nothing is left half done under these locks, so a panic elsewhere does no harm to what they keep.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
