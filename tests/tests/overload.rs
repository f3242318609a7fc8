//! More load than can be carried: what is answered stays as much as before, the rest is refused at once, and nothing of it is left afterwards.
//!
//! The service is a replica that appends one command at a time, each a little late (a failpoint), so that it is short of its database and of nothing
//! else: then the callers, who share the machine with it, can offer many times what it can do without taking anything from it.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use idempo_ids::{Uuid, derive};
use idempo_proto::wallet::v1 as api;
use idempo_proto::wallet::v1::wallet_service_client::WalletServiceClient;
use idempo_tests::{World, probe};
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

/// The replica.
const REPLICA: &str = "wallet-overload";
/// Its settings.
const SETTINGS: [(&str, &str); 3] = [
    ("IDEMPO_EXECUTOR__BATCH_COMMANDS_MAX", "1"),
    ("IDEMPO_EXECUTOR__BATCHES_IN_FLIGHT_MAX", "1"),
    ("FAILPOINTS", "append.before_call=sleep(15)"),
];
/// The variable that makes this test, and others that are about time, last long.
const LONG: &str = "IDEMPO_TESTS_LONG";
/// Over how many connections the calls come: together they take more calls than the service does.
const CONNECTIONS: usize = 8;
/// How many wallets the coins are granted to.
const WALLETS: usize = 64;
/// How many callers of the closed loop there are, each with one call at a time.
const CLOSED_CALLERS: usize = 8;
/// How much more than the sustainable rate is offered.
const OVERLOAD: f64 = 5.0;
/// What is offered before and after, as a share of the sustainable rate.
const EASE: f64 = 0.5;
/// The callers' deadline.
const DEADLINE: Duration = Duration::from_secs(1);
/// The least goodput under overload, as a share of the sustainable rate.
const GOODPUT_MIN: f64 = 0.8;
/// The most calls that may end without an answer, as a share of those that were offered.
const UNANSWERED_MAX: f64 = 0.02;
/// The least sustainable rate, in commands a second: on a machine that is too busy for it, nothing can be said.
const SUSTAINABLE_MIN: f64 = 20.0;
/// How much more memory the service may hold after the overload than before it, in KiB: the calls that it takes at once with all they carry.
const GROWTH_KIB_MAX: u64 = 96 * 1_024;
/// How long the latency may take to be what it was, once the load has dropped.
const RECOVERY_LIMIT: Duration = Duration::from_secs(8);
/// How much the latency may differ from what it was before the overload, beside this factor: what the machine does besides.
const LATENCY_SLACK: Duration = Duration::from_millis(30);
const LATENCY_FACTOR: u32 = 3;

/// Whether tests that are about time last long.
pub(crate) fn is_long() -> bool {
    std::env::var_os(LONG).is_some()
}

/// Who calls: connections, wallets, and keys that no one has used.
struct Callers {
    connections: Vec<WalletServiceClient<Channel>>,
    wallets: Vec<String>,
    base: Uuid,
    count: AtomicU32,
}

/// What became of the calls of one load.
#[derive(Default)]
struct Outcome {
    /// How long each call took that was granted.
    granted: Vec<Duration>,
    /// How many were refused, as they should be.
    refused: usize,
    /// How many came to an end without an answer.
    unanswered: usize,
    /// How long the load lasted.
    took: Duration,
}

impl Callers {
    async fn new(world: &World) -> Result<Self> {
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(WalletServiceClient::new(world.channel(REPLICA)?));
        }
        let mut wallets = Vec::new();
        for _ in 0..WALLETS {
            wallets.push(world.wallet(0).await?);
        }
        Ok(Self { connections, wallets, base: world.id(), count: AtomicU32::new(0) })
    }

    /// Grants a coin with the callers' deadline.
    async fn call(&self) -> Result<(), Status> {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let index = usize::try_from(number).unwrap_or_default();
        let (Some(client), Some(wallet)) = (self.connections.get(index % CONNECTIONS), self.wallets.get(index % WALLETS)) else {
            return Err(Status::internal("there are no callers"));
        };
        let mut request = Request::new(api::GrantFundsRequest {
            request_id: derive(self.base, "grant", number).to_string(),
            wallet: wallet.clone(),
            asset: idempo_proto::event::v1::Asset::Coin.into(),
            amount: 1,
            ..Default::default()
        });
        request.set_timeout(DEADLINE);
        client.clone().grant_funds(request).await.map(|_| ())
    }

    /// As many calls as go, from a fixed number of callers who each wait for their answer.
    async fn closed(self: &Arc<Self>, lasting: Duration) -> Result<Outcome> {
        let began = Instant::now();
        let mut callers = JoinSet::new();
        for _ in 0..CLOSED_CALLERS {
            let this = Arc::clone(self);
            callers.spawn(async move {
                let mut outcome = Outcome::default();
                while began.elapsed() < lasting {
                    let called = Instant::now();
                    outcome.count(this.call().await, called.elapsed())?;
                }
                anyhow::Ok(outcome)
            });
        }
        Self::sum(callers, began).await
    }

    /// Calls at a rate, whatever comes back.
    async fn open(self: &Arc<Self>, per_second: f64, lasting: Duration) -> Result<Outcome> {
        let began = Instant::now();
        let mut callers = JoinSet::new();
        let mut due = Duration::ZERO;
        while due < lasting {
            tokio::time::sleep_until((began + due).into()).await;
            let this = Arc::clone(self);
            callers.spawn(async move {
                let (mut outcome, called) = (Outcome::default(), Instant::now());
                outcome.count(this.call().await, called.elapsed())?;
                anyhow::Ok(outcome)
            });
            due += Duration::from_secs_f64(1.0 / per_second);
        }
        Self::sum(callers, began).await
    }

    async fn sum(mut callers: JoinSet<Result<Outcome>>, began: Instant) -> Result<Outcome> {
        let mut sum = Outcome::default();
        while let Some(outcome) = callers.join_next().await {
            let outcome = outcome??;
            sum.granted.extend(outcome.granted);
            sum.refused += outcome.refused;
            sum.unanswered += outcome.unanswered;
        }
        sum.granted.sort_unstable();
        sum.took = began.elapsed();
        Ok(sum)
    }
}

impl Outcome {
    fn count(&mut self, answer: Result<(), Status>, took: Duration) -> Result<()> {
        let Err(status) = answer else {
            self.granted.push(took);
            return Ok(());
        };
        match status.code() {
            Code::ResourceExhausted => {
                ensure!(status.get_details_retry_info().is_some_and(|info| info.retry_delay.is_some()), "no RetryInfo in {status:?}");
                self.refused += 1;
            }
            Code::Cancelled | Code::DeadlineExceeded => self.unanswered += 1,
            _ => anyhow::bail!("overload is no reason for {status:?}"),
        }
        Ok(())
    }

    fn per_second(&self) -> f64 {
        f64::from(u32::try_from(self.granted.len()).unwrap_or(u32::MAX)) / self.took.as_secs_f64()
    }

    fn unanswered_share(&self) -> f64 {
        let all = self.granted.len() + self.refused + self.unanswered;
        f64::from(u32::try_from(self.unanswered).unwrap_or(u32::MAX)) / f64::from(u32::try_from(all.max(1)).unwrap_or(u32::MAX))
    }

    /// The latency below which this many of a hundred granted calls stay.
    fn percentile(&self, percent: usize) -> Duration {
        let index = (self.granted.len() * percent / 100).min(self.granted.len().saturating_sub(1));
        self.granted.get(index).copied().unwrap_or_default()
    }

    fn tell(&self, what: &str) -> Result<()> {
        let (granted, refused, unanswered) = (self.granted.len(), self.refused, self.unanswered);
        let (half, most) = (self.percentile(50).as_millis(), self.percentile(99).as_millis());
        let rate = self.per_second();
        writeln!(
            std::io::stderr(),
            "{what}: {granted} granted ({rate:.0}/s), {refused} refused, {unanswered} without an answer; p50 {half} ms, p99 {most} ms"
        )?;
        Ok(())
    }
}

pub(crate) async fn five_times_the_sustainable_rate_is_refused_and_the_rest_is_done_as_before(world: &mut World) -> Result<()> {
    world.platform.start_replica("wallet", REPLICA, &SETTINGS).await?;
    let callers = Arc::new(Callers::new(world).await?);
    let pid = world.platform.service(REPLICA)?.pid().context("a process that runs")?;
    let lasting = Duration::from_secs(if is_long() { 30 } else { 4 });
    // The caches are filled, and the connections are there.
    callers.closed(Duration::from_secs(1)).await?;

    let sustainable = callers.closed(lasting / 2).await?;
    sustainable.tell("closed loop")?;
    let peak = sustainable.per_second();
    ensure!(peak >= SUSTAINABLE_MIN, "{peak:.0}/s without overload: the machine is too busy with something else");
    let before = callers.open(peak * EASE, lasting / 2).await?;
    before.tell("half the sustainable rate")?;
    let resident_kib = probe::resident_kib(pid)?;
    let overload = callers.open(peak * OVERLOAD, lasting).await?;
    overload.tell("five times the sustainable rate")?;
    let grown_kib = probe::resident_kib(pid)?.saturating_sub(resident_kib);
    writeln!(std::io::stderr(), "the service holds {grown_kib} KiB more than before the overload")?;

    recovered(&callers, peak, before.percentile(50)).await?;
    let after = callers.closed(lasting / 2).await?;
    after.tell("closed loop again")?;
    // What the machine can do is not the same all the time: the overload lies between these two.
    let peak = peak.midpoint(after.per_second());
    // The last calls are answered after the load has ended.
    let goodput = f64::from(u32::try_from(overload.granted.len())?) / overload.took.max(lasting).as_secs_f64();
    ensure!(goodput >= peak * GOODPUT_MIN, "{goodput:.0}/s under overload, {peak:.0}/s without");
    ensure!(overload.refused > 0, "nothing was refused");
    ensure!(overload.unanswered_share() <= UNANSWERED_MAX, "{} calls had no answer", overload.unanswered);
    ensure!(overload.percentile(99) <= DEADLINE, "answers took {:?}", overload.percentile(99));
    ensure!(grown_kib <= GROWTH_KIB_MAX, "the service holds {grown_kib} KiB more");
    Ok(())
}

/// Waits until half the sustainable rate is answered as it was before the overload.
async fn recovered(callers: &Arc<Callers>, peak: f64, usual: Duration) -> Result<()> {
    let began = Instant::now();
    loop {
        let window = callers.open(peak * EASE, Duration::from_secs(1)).await?;
        let is_usual = window.percentile(50) <= usual * LATENCY_FACTOR + LATENCY_SLACK;
        if is_usual && window.refused == 0 && window.unanswered == 0 {
            writeln!(std::io::stderr(), "the latency was usual {} ms after the load had dropped", began.elapsed().as_millis())?;
            return Ok(());
        }
        window.tell("after the overload")?;
        ensure!(began.elapsed() < RECOVERY_LIMIT, "the latency is not what it was after {:?}", began.elapsed());
    }
}
