//! An event store that can be loaded: the executor on a database of its own, and drivers that keep commands under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use idempo_clock::{Clock as _, SystemClock};
use idempo_devstack::testing::{self, TestDatabase};
use idempo_event_store::postgres::{PostgresStore, maintain_key_partitions};
use idempo_event_store::{Config, Executor, Handle, NoInline, Outcome, StreamTarget};
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use crate::accounts::{Accounts, command};
use crate::database::{session, url_of};
use crate::latency::Latencies;
use crate::report::Cost;
use crate::usage::{Postgres, Watch, float};

/// How commands are spread over streams.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Spread {
    /// Each driver stays on its stream.
    Own,
    /// Each command goes to another stream.
    Everywhere,
}

/// How the store is loaded: every driver sends its next command when the one before is answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Commands under way at once.
    pub(crate) drivers: u32,
    /// Streams that are written.
    pub(crate) streams: u32,
    pub(crate) spread: Spread,
}

/// What a load came to.
pub(crate) struct Driven {
    /// Commands a second.
    pub(crate) rate: f64,
    /// How long each command took.
    pub(crate) latencies: Latencies,
    /// CPU of this process, which drives too, and of PostgreSQL; the peak of this process.
    pub(crate) cost: Cost,
}

/// A store with nothing in it.
pub(crate) struct LoadedStore {
    pub(crate) database: TestDatabase,
    pub(crate) client: Client,
    postgres: Postgres,
    handle: Handle<Accounts>,
    next: u32,
    began: i64,
    account: fn(u32) -> StreamTarget,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
}

impl LoadedStore {
    /// Opens a database of its own; streams are what `account` makes of their number.
    pub(crate) async fn open(account: fn(u32) -> StreamTarget) -> anyhow::Result<Self> {
        let database = testing::database("wallet_db").await;
        let client = session(&database.superuser()).await?;
        let postgres = Postgres::of(&client).await?;
        let pool = idempo_pg::Pool::open(&database.config("idempo_wallet"))?;
        let clock = SystemClock::shared();
        maintain_key_partitions(&pool, &clock).await?;
        let store = Arc::new(PostgresStore::<NoInline>::new(pool));
        let (handle, executor) = Executor::new(Arc::new(Accounts), store, clock, Config::default());
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(executor.run(shutdown.clone()));
        let began = SystemClock.now().as_millisecond();
        Ok(Self { database, client, postgres, handle, next: 0, began, account, shutdown, running })
    }

    /// The superuser's address of the database.
    pub(crate) fn url(&self) -> anyhow::Result<String> {
        url_of(&self.database)
    }

    /// What the server behind it uses from now on.
    pub(crate) fn watch_server(&self) -> anyhow::Result<Watch> {
        Watch::begin(None, self.postgres)
    }

    /// Keeps commands under way for `seconds`.
    pub(crate) async fn drive(&mut self, load: Load, seconds: u32) -> anyhow::Result<Driven> {
        let next = Arc::new(AtomicU32::new(self.next));
        let watch = Watch::begin(Some(std::process::id()), self.postgres)?;
        let began = Instant::now();
        let until = began + Duration::from_secs(seconds.into());
        let mut drivers = tokio::task::JoinSet::new();
        for driver in 0..load.drivers {
            let driver =
                Driver { handle: self.handle.clone(), next: Arc::clone(&next), millis: self.began, account: self.account, load, driver };
            drivers.spawn(driver.run(until));
        }
        let mut latencies = Latencies::new()?;
        while let Some(of_driver) = drivers.join_next().await {
            latencies.add(&of_driver??)?;
        }
        let elapsed = began.elapsed().as_secs_f64();
        self.next = next.load(Ordering::Relaxed);
        Ok(Driven { rate: float(latencies.count()) / elapsed, cost: watch.cost(latencies.count())?, latencies })
    }

    /// Checks that what was answered is what is stored, beyond what was filled in before, and ends.
    pub(crate) async fn close(self, filled: u32) -> anyhow::Result<()> {
        let row = self.client.query_one(include_str!("sql/check_append.sql"), &[]).await?;
        let (events, answers, gaps): (i64, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let commands = i64::from(self.next) + i64::from(filled);
        ensure!(events == commands, "{commands} commands were answered, {events} events are stored");
        ensure!(answers == commands, "{commands} commands were answered, {answers} answers are stored");
        ensure!(gaps == 0, "{gaps} streams have gaps");
        self.shutdown.cancel();
        Ok(self.running.await?)
    }
}

struct Driver {
    handle: Handle<Accounts>,
    next: Arc<AtomicU32>,
    millis: i64,
    account: fn(u32) -> StreamTarget,
    load: Load,
    driver: u32,
}

impl Driver {
    async fn run(self, until: Instant) -> anyhow::Result<Latencies> {
        let mut latencies = Latencies::new()?;
        while Instant::now() < until {
            let n = self.next.fetch_add(1, Ordering::Relaxed);
            let stream = match self.load.spread {
                Spread::Own => self.driver,
                // Fibonacci hashing: neighbours in time are far apart.
                Spread::Everywhere => n.wrapping_mul(2_654_435_769) >> 8,
            };
            let sent = Instant::now();
            let outcome = self.handle.execute(command(self.millis, n, (self.account)(stream % self.load.streams))).await?;
            ensure!(matches!(outcome, Outcome::Replied { replayed: false, .. }), "{outcome:?}");
            latencies.record(sent.elapsed());
        }
        Ok(latencies)
    }
}
