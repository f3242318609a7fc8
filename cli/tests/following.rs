//! Events are followed by any of their ids, and as they come.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use idempo_devstack::testing::eventually;
use idempo_proto::event::v1::Asset;
use idempo_proto::wallet::v1::GrantFundsRequest;
use idempo_proto::wallet::v1::wallet_service_client::WalletServiceClient;
use serde_json::Value;
use tonic::Request;

use crate::world::{RED, World, key};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
/// How long what was sent may take to be seen.
const SEEN_LIMIT: Duration = Duration::from_secs(20);

fn traced(world: &World, id: &str) -> Result<Value> {
    let ended = world.idempo(&format!("trace {id} -o json"))?;
    ensure!(ended.code == 0, "{id}: {ended:?}");
    serde_json::from_str(&ended.stdout).context("JSON")
}

fn text<'a>(value: &'a Value, path: &str) -> Result<&'a str> {
    value.pointer(path).and_then(Value::as_str).with_context(|| format!("{path} in {value}"))
}

/// Grants a coin to Red, under a trace.
async fn grant(world: &World, process: &str, number: u32) -> Result<String> {
    let request_id = key(number).to_string();
    let mut request = Request::new(GrantFundsRequest {
        request_id: request_id.clone(),
        wallet: format!("wallets/{RED}"),
        asset: Asset::Coin.into(),
        amount: 1,
        reason: "traced".to_owned(),
        ..Default::default()
    });
    request.metadata_mut().insert("traceparent", format!("00-{TRACE}-b7ad6b7169203331-01").parse()?);
    WalletServiceClient::new(world.channel(process)?).grant_funds(request).await?;
    Ok(request_id)
}

pub(crate) async fn a_command_is_found_by_each_of_its_ids(world: &mut World) -> Result<()> {
    // Traces are kept by a process that has somewhere to send them; whether they arrive does not matter here.
    world.platform.start_replica("wallet", "wallet-traced", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")]).await?;
    let request_id = grant(world, "wallet-traced", 500).await?;
    world.platform.kill("wallet-traced")?;
    world.wait_until_quiet().await?;
    let by_request = traced(world, &request_id)?;
    for path in ["/events/0/event_id", "/commands/0/command_id"] {
        let found = traced(world, text(&by_request, path)?)?;
        ensure!(found.get("events") == by_request.get("events"), "by {path}: {found} instead of {by_request}");
    }
    let by_trace = traced(world, TRACE)?;
    ensure!(by_trace.get("events") == by_request.get("events"), "by the trace: {by_trace} instead of {by_request}");
    ensure!(text(&by_trace, "/commands/0/request_id")? == request_id, "{by_trace}");
    let transfer = traced(world, &world.transfer.to_string())?;
    let events = transfer.get("events").and_then(Value::as_array).context("events")?;
    ensure!(events.len() == 2, "both legs: {transfer}");
    for event in events {
        ensure!(event.pointer("/records/0").is_some() && event.pointer("/records/1").is_none(), "one record: {event}");
        ensure!(event.pointer("/projections/0/has_read") == Some(&Value::Bool(true)), "the read model is past it: {event}");
    }
    Ok(())
}

pub(crate) async fn a_command_is_followed_as_far_as_what_is_there_tells(world: &mut World) -> Result<()> {
    let transfer = world.transfer;
    for (away, is_known) in
        [("IDEMPO_CLI_KAFKA__BROKERS=127.0.0.1:1", false), ("IDEMPO_CLI_VIEWS__INVENTORY=postgres://x@127.0.0.1:1/x", true)]
    {
        let output = world.shell(&format!("{away} idempo trace {transfer} -o json")).output()?;
        ensure!(output.status.code() == Some(5), "{away}: {output:?}");
        let told: Value = serde_json::from_slice(&output.stdout)?;
        ensure!(told.pointer("/events/1/outbox/state") == Some(&Value::from("relayed")), "what the store says is told: {told}");
        ensure!(told.pointer("/events/0/records/0").is_some() == is_known && told.pointer("/not_known/0").is_some(), "{away}: {told}");
        ensure!(String::from_utf8_lossy(&output.stderr).contains("is not known"), "{away}: {output:?}");
    }
    Ok(())
}

pub(crate) async fn what_happens_is_seen_as_it_comes(world: &mut World) -> Result<()> {
    let mut tail = world.shell(&format!("exec idempo event tail --player {RED} --type funds_minted -o jsonl --limit 1"));
    let mut tail = tail.stdout(Stdio::piped()).spawn()?;
    let out = tail.stdout.take().context("stdout")?;
    let reading = std::thread::spawn(move || BufReader::new(out).lines().next());
    // It begins at the end of the log, whenever that is: what is granted again and again is seen once it has begun.
    let mut number = 600;
    while !reading.is_finished() {
        ensure!(number < 700, "nothing was seen");
        grant(world, "wallet", number).await?;
        number += 1;
        tokio::time::timeout(Duration::from_millis(250), eventually(SEEN_LIMIT, "a line", async || reading.is_finished())).await.ok();
    }
    let line = reading.join().ok().flatten().context("a line")??;
    let seen: Value = serde_json::from_str(&line)?;
    ensure!(text(&seen, "/event_type")? == "funds_minted" && text(&seen, "/topic")? == "economy-events", "{seen}");
    ensure!(tail.wait()?.code() == Some(0), "it ends after one");
    Ok(())
}

pub(crate) async fn colour_is_where_it_is_wanted_and_nowhere_else(world: &mut World) -> Result<()> {
    for (words, is_colored) in
        [("relay status", false), ("relay status --color always", true), ("relay status --color always -o json", false)]
    {
        let ended = world.idempo(words)?;
        ensure!(ended.stdout.contains('\u{1b}') == is_colored, "`{words}`: {:?}", ended.stdout);
    }
    Ok(())
}

pub(crate) async fn whoever_is_asked_at_a_terminal_decides(world: &mut World) -> Result<()> {
    for (answer, code) in [("n", 1), ("y", 0)] {
        let line = format!("echo {answer} | script -qec 'idempo relay resume wallet --reason asked' /dev/null");
        let output = world.shell(&line).output()?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.code() == Some(code) && printed.contains("[y/N]"), "{answer}: {output:?}");
    }
    Ok(())
}

pub(crate) async fn top_shows_what_moves_until_it_is_left(world: &mut World) -> Result<()> {
    let ended = world.idempo("top")?;
    ensure!(ended.code == 2 && ended.stderr.contains("needs a terminal"), "{ended:?}");
    // The key comes when there was something to see: until then it would be read as well, and nothing be shown.
    let line = "(sleep 2; printf q) | script -qec 'stty cols 160 rows 30; idempo top --every 200ms' /dev/null";
    let output = world.shell(line).env("TERM", "xterm").output()?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.code() == Some(0) && printed.contains("relaying") && printed.contains("inventory"), "{output:?}");
    Ok(())
}
