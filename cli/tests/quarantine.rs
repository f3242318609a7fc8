//! A row that Kafka refuses, from the command line: seen, understood, sent again.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use idempo_devstack::testing::eventually;
use idempo_kafka::by_hand;
use idempo_proto::event::v1::Asset;
use idempo_proto::wallet::v1::GrantFundsRequest;
use idempo_proto::wallet::v1::wallet_service_client::WalletServiceClient;
use serde_json::Value;

use crate::world::{RED, World, key};

/// How long the relay may take to heed something.
const HEED_LIMIT: Duration = Duration::from_secs(30);
/// What records may have as long as nothing is refused, in bytes.
const USUAL_BYTES_MAX: &str = "1048588";

async fn allow(world: &World, bytes: &str) -> Result<()> {
    let config = idempo_kafka::Config { brokers: world.servers.kafka_brokers().to_owned(), ..Default::default() };
    Ok(by_hand::set_topic_property(&config, "economy-events", "max.message.bytes", bytes).await?)
}

/// Grants Red a coin, and gives the key.
async fn grant(world: &World, number: u32, reason: &str) -> Result<String> {
    let request_id = key(number).to_string();
    let request = GrantFundsRequest {
        request_id: request_id.clone(),
        wallet: format!("wallets/{RED}"),
        asset: Asset::Coin.into(),
        amount: 1,
        reason: reason.to_owned(),
        ..Default::default()
    };
    WalletServiceClient::new(world.channel("wallet")?).grant_funds(request).await?;
    Ok(request_id)
}

/// The rows in quarantine in this state.
fn rows(world: &World, state: &str) -> Vec<Value> {
    let listed = world.idempo(&format!("outbox list wallet --state {state} -o jsonl")).map(|ended| ended.stdout).unwrap_or_default();
    listed.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

pub(crate) async fn a_refused_row_is_seen_and_sent_again(world: &mut World) -> Result<()> {
    allow(world, "160").await?;
    let large = grant(world, 800, &"a long reason ".repeat(8)).await?;
    let behind = grant(world, 801, "short").await?;
    eventually(HEED_LIMIT, "both rows are in quarantine", async || rows(world, "held").len() == 1 && rows(world, "parked").len() == 1)
        .await;

    let held = rows(world, "held").pop().context("a row")?;
    ensure!(text(&held, "key") == RED && text(&held, "code") == "RECORD_TOO_LARGE", "{held}");
    let seq = held.get("seq").and_then(Value::as_i64).context("a number")?;
    let shown = world.idempo(&format!("outbox show wallet {seq}"))?;
    ensure!(shown.stdout.contains("\"funds_minted\"") && shown.stdout.contains("a long reason"), "{shown:?}");
    for (request, state) in [(&large, "in quarantine (held)"), (&behind, "in quarantine (parked)")] {
        let traced = world.idempo(&format!("trace {request}"))?;
        ensure!(traced.stdout.contains(state) && traced.stdout.contains("no record"), "{traced:?}");
    }
    let audited = world.idempo("audit")?;
    ensure!(audited.code == 0, "what is kept from Kafka is not lost: {audited:?}");
    let status = world.idempo("relay status wallet -o json")?;
    let status: Vec<Value> = serde_json::from_str(&status.stdout)?;
    ensure!(status.first().and_then(|outbox| outbox.pointer("/quarantine/held")) == Some(&Value::from(1)), "{status:?}");

    let parked = rows(world, "parked").pop().and_then(|row| row.get("seq")?.as_i64()).context("a number")?;
    let refused = world.idempo(&format!("outbox requeue wallet {parked} --reason x --yes"))?;
    ensure!(refused.code == 4 && refused.stderr.contains("QUARANTINED_ROW_STATE"), "a row that was not refused: {refused:?}");
    allow(world, USUAL_BYTES_MAX).await?;
    let rehearsed = world.idempo("outbox requeue wallet --code RECORD_TOO_LARGE --reason x --dry-run")?;
    ensure!(rehearsed.stderr.contains("takes 1 refused rows") && rows(world, "held").len() == 1, "nothing is done: {rehearsed:?}");
    let requeued = world.idempo("outbox requeue wallet --code RECORD_TOO_LARGE --reason 'the limit is raised' --yes")?;
    ensure!(requeued.code == 0 && requeued.stdout.contains("1 rows"), "{requeued:?}");
    eventually(HEED_LIMIT, "both rows are in Kafka", async || rows(world, "held").is_empty() && rows(world, "parked").is_empty()).await;
    world.wait_until_quiet().await?;
    let traced = world.idempo(&format!("trace {behind}"))?;
    ensure!(traced.stdout.contains("relayed") && traced.stdout.contains("economy-events partition"), "{traced:?}");
    let audited = world.idempo("audit")?;
    ensure!(audited.code == 0, "and in order: {audited:?}");
    Ok(())
}
