//! A storm of deadlines that are too short: calls are given up at every point of their way, and sent again.

use std::io::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::future::try_join_all;
use idempo_devstack::testing::eventually;
use idempo_ids::{Uuid, derive};
use idempo_proto::wallet::v1 as api;
use idempo_proto::wallet::v1::wallet_service_client::WalletServiceClient;
use idempo_tests::{World, metrics, probe};
use tonic::transport::Channel;
use tonic::{Code, Request};

use crate::overload::is_long;

/// How many callers there are, and over how many connections they come.
const CALLERS: usize = 48;
const CONNECTIONS: usize = 4;
/// How many wallets they grant coins to: some streams are contended, some are not.
const WALLETS: usize = 12;
/// The shortest and the longest deadline of the storm, in milliseconds.
const DEADLINE_MS: (u64, u64) = (1, 50);
/// The deadline of what comes after the storm.
const PATIENT: Duration = Duration::from_secs(10);
/// How long the storm lasts.
const STORM: Duration = Duration::from_secs(4);
/// How long it lasts in a long run.
const LONG_STORM: Duration = Duration::from_secs(60);
/// How long everything may take to be settled after it.
const SETTLE_LIMIT: Duration = Duration::from_secs(20);

/// What one caller was told.
#[derive(Default)]
struct Told {
    /// Each request that was answered, with its answer.
    granted: Vec<(api::GrantFundsRequest, api::GrantFundsResponse)>,
    /// How many calls came to nothing.
    given_up: usize,
}

/// Sends grants until `end`, each until it is answered: with deadlines of the storm while it lasts, and then with a long one.
async fn storm(mut wallets: WalletServiceClient<Channel>, base: Uuid, template: api::GrantFundsRequest, end: Instant) -> Result<Told> {
    let mut told = Told::default();
    let (mut number, mut attempt) = (0, 0);
    while Instant::now() < end {
        number += 1;
        let grant = api::GrantFundsRequest { request_id: derive(base, "grant", number).to_string(), ..template.clone() };
        let answer = loop {
            attempt += 1;
            let (least, most) = DEADLINE_MS;
            let drawn = u64::try_from(derive(base, "deadline", attempt).as_u128() % u128::from(most - least + 1))?;
            let mut request = Request::new(grant.clone());
            request.set_timeout(if Instant::now() < end { Duration::from_millis(least + drawn) } else { PATIENT });
            match wallets.grant_funds(request).await {
                Ok(answer) => break answer.into_inner(),
                Err(status) => {
                    let unsettled = [Code::Cancelled, Code::DeadlineExceeded, Code::Unavailable, Code::ResourceExhausted];
                    ensure!(unsettled.contains(&status.code()), "a short deadline is no reason for {status:?}");
                    told.given_up += 1;
                    if Instant::now() > end + SETTLE_LIMIT {
                        bail!("still {status:?}");
                    }
                }
            }
        };
        told.granted.push((grant, answer));
    }
    Ok(told)
}

pub(crate) async fn a_storm_of_short_deadlines_poisons_no_pool_and_loses_or_doubles_no_command(world: &mut World) -> Result<()> {
    let mut names = Vec::new();
    for _ in 0..WALLETS {
        names.push(world.wallet(0).await?);
    }
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(WalletServiceClient::new(world.channel("wallet")?));
    }
    let end = Instant::now() + if is_long() { LONG_STORM } else { STORM };
    let callers = names.iter().cycle().zip(connections.iter().cycle()).take(CALLERS);
    let callers = callers.map(|(name, client)| tokio::spawn(storm(client.clone(), world.id(), world.grant(name, 1), end)));
    let mut granted = Vec::new();
    let mut given_up = 0;
    for told in try_join_all(callers.collect::<Vec<_>>()).await? {
        let told = told?;
        granted.extend(told.granted);
        given_up += told.given_up;
    }
    writeln!(std::io::stderr(), "{} grants were answered, {given_up} calls given up", granted.len())?;
    assert!(given_up > CALLERS && granted.len() >= CALLERS, "{given_up} calls given up, {} answered", granted.len());

    for name in &names {
        let told = granted.iter().filter(|(grant, _)| grant.wallet == *name).count();
        assert_eq!(world.coins(name, "").await?, i64::try_from(told)?, "{name}: each grant has had its effect once");
        let player: Uuid = name.rsplit_once('/').context("a name")?.1.parse()?;
        let events = world.auditor("wallet_db").await?.query_one(include_str!("sql/events.sql"), &[&player]).await?;
        let expected = i64::try_from(told)? + 1;
        assert_eq!(
            (events.try_get::<_, i64>(0)?, events.try_get::<_, i64>(1)?),
            (expected, expected),
            "{name}: its events and its version"
        );
    }
    let mut wallets = world.wallets()?;
    for (grant, answer) in granted.iter().step_by(granted.len() / 100 + 1) {
        assert_eq!(wallets.grant_funds(grant.clone()).await?.get_ref(), answer, "the same key gets the same answer");
    }
    nothing_is_left_open(world).await?;
    the_whole_pool_answers(world, &names).await?;
    let (_, page) = probe::get(world.platform.service("wallet")?.admin(), "/metrics").await?;
    let samples = metrics::parse(&page)?;
    let ended = |code: &str| -> f64 {
        let label = format!("rpc_status_code=\"{code}\"");
        let calls =
            samples.iter().filter(|(sample, _)| sample.starts_with("rpc_server_call_duration_seconds_count") && sample.contains(&label));
        calls.map(|(_, value)| value).sum()
    };
    writeln!(
        std::io::stderr(),
        "the service counts {} calls cancelled, {} past their deadline",
        ended("CANCELLED"),
        ended("DEADLINE_EXCEEDED")
    )?;
    assert!(ended("CANCELLED") + ended("DEADLINE_EXCEEDED") > 0.0, "{page}");
    Ok(())
}

async fn nothing_is_left_open(world: &World) -> Result<()> {
    let (client, connection) = idempo_pg::connect(&world.servers.cluster()?.superuser("wallet_db")).await?;
    let connection = tokio::spawn(connection);
    eventually(SETTLE_LIMIT, "no session is left in a transaction", async || {
        let row = client.query_one(include_str!("sql/sessions_left_open.sql"), &[]).await;
        row.and_then(|row| row.try_get::<_, i64>(0)).is_ok_and(|count| count == 0)
    })
    .await;
    connection.abort();
    Ok(())
}

/// Reads many times at once, over and over: each connection of the pool is used.
async fn the_whole_pool_answers(world: &World, names: &[String]) -> Result<()> {
    let wallets = world.wallets()?;
    for _ in 0..4 {
        let reads = names.iter().cycle().take(64).map(|name| {
            let (mut wallets, name) = (wallets.clone(), name.clone());
            async move { wallets.get_wallet(api::GetWalletRequest { name, ..Default::default() }).await }
        });
        try_join_all(reads).await.context("a connection of the pool does not answer")?;
    }
    Ok(())
}
