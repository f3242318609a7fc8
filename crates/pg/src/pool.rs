//! A bounded pool whose connections are clean whenever they are handed out.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Object, PoolError, RecyclingMethod, Runtime, TimeoutType};
use tokio::runtime::Handle;
use tokio_postgres::NoTls;

use crate::classify::{classify, classify_connect};
use crate::metrics::Meters;
use crate::{Config, Error};

/// How long the clean-up of a returned connection may take, in milliseconds, before the connection is given up. It includes the rest of a
/// statement whose caller has gone away.
const RESET_TIMEOUT_MS: u64 = 1_000;
/// How long telling the server to stop a statement may take, in milliseconds.
const CANCEL_TIMEOUT_MS: u64 = 1_000;

/// A pool of connections to one database with one role. Cheap to clone.
#[derive(Clone)]
pub struct Pool {
    inner: deadpool_postgres::Pool,
    meters: Meters,
    handed_out: Arc<AtomicU64>,
}

impl Pool {
    /// A pool that connects when a connection is first asked for.
    ///
    /// # Errors
    /// [`Error::Config`] where the configuration is unusable.
    pub fn open(config: &Config) -> Result<Self, Error> {
        let manager = Manager::from_config(config.driver()?, NoTls, ManagerConfig { recycling_method: RecyclingMethod::Fast });
        let max_lifetime = Duration::from_millis(config.max_lifetime_ms);
        let max_connections = usize::try_from(config.max_connections).unwrap_or(usize::MAX);
        let inner = deadpool_postgres::Pool::builder(manager)
            .max_size(max_connections)
            .wait_timeout(Some(config.acquire_timeout()))
            .create_timeout(Some(config.connect_timeout()))
            .recycle_timeout(Some(config.connect_timeout()))
            .runtime(Runtime::Tokio1)
            .pre_recycle(Hook::sync_fn(move |_, metrics| {
                if metrics.age() < max_lifetime { Ok(()) } else { Err(HookError::message("older than max_lifetime_ms")) }
            }))
            .build()
            .map_err(|error| Error::Config(error.to_string()))?;
        Ok(Self { inner, meters: Meters::new(&config.application_name, max_connections), handed_out: Arc::default() })
    }

    /// A clean connection: outside any transaction, with no session state but the configured settings.
    ///
    /// Waits at most `acquire_timeout_ms` for one to become free, then at most `connect_timeout_ms` for a new one.
    ///
    /// # Errors
    /// [`Error::Busy`] when none became free, [`Error::Unavailable`] or [`Error::Refused`] when a new one can't be made.
    ///
    /// # Cancel safety
    /// Safe: a connection that was already made stays in the pool.
    pub async fn get(&self) -> Result<Client, Error> {
        let waiting = Instant::now();
        let _pending = self.meters.pending();
        let object = self.inner.get().await.map_err(|error| self.acquire_error(error))?;
        self.meters.acquired(waiting.elapsed());
        self.handed_out.fetch_add(1, Ordering::Relaxed);
        let client = Client { object: Some(object), meters: self.meters.clone(), since: Instant::now() };
        self.meters.connections(self.inner.status());
        Ok(client)
    }

    /// Asks the server for an answer: for readiness probes.
    ///
    /// # Errors
    /// As [`Pool::get`], and [`Error::Unknown`] when the connection is lost meanwhile.
    pub async fn check(&self) -> Result<(), Error> {
        self.get().await?.simple_query("").await.map_err(classify)?;
        Ok(())
    }

    /// Opens connections until there are so many, and prepares these statements on each: so nobody waits for either who comes next. One after the other:
    /// a server that makes many at once answers nobody else meanwhile.
    ///
    /// # Errors
    /// As [`Pool::get`], and what the server says of a statement. What was opened stays open.
    ///
    /// # Cancel safety
    /// Safe, as [`Pool::get`].
    pub async fn warm(&self, connections: usize, statements: &[&str]) -> Result<(), Error> {
        // Each is held until all are there, or the next would be given the same one.
        let mut clients = Vec::new();
        for _ in 0..connections.min(self.max_connections()) {
            let client = self.get().await?;
            for statement in statements {
                client.prepare_cached(statement).await.map_err(classify)?;
            }
            clients.push(client);
        }
        Ok(())
    }

    /// How many connections are open now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.inner.status().size
    }

    /// How often a connection was handed out, ever.
    #[must_use]
    pub fn handed_out(&self) -> u64 {
        self.handed_out.load(Ordering::Relaxed)
    }

    /// How many connections the pool may have.
    #[must_use]
    pub fn max_connections(&self) -> usize {
        self.inner.status().max_size
    }

    /// Closes the pool: idle connections at once, the others when they come back. Later calls of [`Pool::get`] fail.
    pub fn close(&self) {
        self.inner.close();
    }

    fn acquire_error(&self, error: PoolError) -> Error {
        match error {
            PoolError::Timeout(TimeoutType::Wait) => {
                self.meters.timed_out();
                Error::Busy
            }
            PoolError::Backend(error) => classify_connect(error),
            PoolError::Timeout(_) | PoolError::Closed | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {
                Error::Unavailable(None)
            }
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("status", &self.inner.status()).finish_non_exhaustive()
    }
}

/// A connection of a [`Pool`]. Derefs to the driver's client; `prepare_cached` and `transaction` are there too.
///
/// When it is dropped, a task waits for a statement that may still run, rolls back and clears the session, and only then gives the connection
/// back; a connection for which that fails or takes over a second is closed. So whoever holds a client for long keeps it from others, and
/// whoever does one thing after another on the same client saves the clean-up between them.
pub struct Client {
    object: Option<Object>,
    meters: Meters,
    since: Instant,
}

impl Client {
    /// Closes the connection instead of giving it back: for one that is known to be spoilt.
    pub fn discard(mut self) {
        drop(Unclean(self.object.take()));
    }

    #[expect(clippy::expect_used, reason = "discard and drop take the object, and both consume the client")]
    fn object(&self) -> &Object {
        self.object.as_ref().expect("a client has its connection until it is dropped")
    }
}

impl Deref for Client {
    type Target = Object;

    fn deref(&self) -> &Object {
        self.object()
    }
}

impl DerefMut for Client {
    #[expect(clippy::expect_used, reason = "discard and drop take the object, and both consume the client")]
    fn deref_mut(&mut self) -> &mut Object {
        self.object.as_mut().expect("a client has its connection until it is dropped")
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let Some(object) = self.object.take() else { return };
        self.meters.used(self.since.elapsed());
        match Handle::try_current() {
            Ok(runtime) => {
                runtime.spawn(give_back(Unclean(Some(object)), self.meters.clone()));
            }
            // No runtime, so nobody who could clean it: better gone.
            Err(_) => drop(Unclean(Some(object))),
        }
    }
}

/// A connection that is not known to be clean: closed when it is dropped, also with a task that is never run to its end.
struct Unclean(Option<Object>);

impl Unclean {
    /// Gives the connection back to its pool.
    fn give_back(mut self) {
        self.0 = None;
    }
}

impl Drop for Unclean {
    fn drop(&mut self) {
        if let Some(object) = self.0.take() {
            drop(Object::take(object));
        }
    }
}

/// Cleans a connection and gives it back to its pool, or closes it.
async fn give_back(unclean: Unclean, meters: Meters) {
    let Some(object) = &unclean.0 else { return };
    let pool = Object::pool(object);
    if !object.is_closed() {
        match tokio::time::timeout(Duration::from_millis(RESET_TIMEOUT_MS), object.batch_execute(include_str!("sql/reset.sql"))).await {
            Ok(Ok(())) => unclean.give_back(),
            Ok(Err(error)) => {
                tracing::debug!(error = %error, "a connection came back in a state that can't be cleared, so it is closed");
                drop(unclean);
            }
            Err(_) => {
                tracing::debug!("a connection came back with a statement that goes on, so both are ended");
                let cancel = object.cancel_token();
                drop(unclean);
                let _ = tokio::time::timeout(Duration::from_millis(CANCEL_TIMEOUT_MS), cancel.cancel_query(NoTls)).await;
            }
        }
    }
    if let Some(pool) = pool {
        meters.connections(pool.status());
    }
}
