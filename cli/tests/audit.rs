//! The audit is green on a platform that is well, and names what was damaged by hand.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use idempo_checker::kafka;
use idempo_kafka::by_hand::{self, Anything};
use serde_json::Value;

use crate::world::World;

/// How long a dump may take.
const DUMP_LIMIT: Duration = Duration::from_secs(20);

/// Names of the invariants that don't hold, and all that is said of them.
fn broken(world: &World) -> Result<(i32, Vec<String>, String)> {
    let ended = world.idempo("audit --patience 5s -o json")?;
    let verdicts: Vec<Value> = serde_json::from_str(&ended.stdout).with_context(|| format!("{ended:?}"))?;
    let broken: Vec<&Value> = verdicts.iter().filter(|verdict| verdict["state"] == "broken").collect();
    let names = broken.iter().map(|verdict| verdict["invariant"].as_str().unwrap_or_default().to_owned()).collect();
    let flaws = broken.iter().map(|verdict| verdict["flaws"].to_string()).collect::<Vec<_>>().join("\n");
    Ok((ended.code, names, flaws))
}

async fn damage(world: &World, database: &str, statement: &str) -> Result<u64> {
    let (client, connection) = idempo_pg::connect(&world.cluster.superuser(database)).await?;
    tokio::spawn(connection);
    client.batch_execute("SET session_replication_role = replica").await?;
    Ok(client.execute(statement, &[]).await?)
}

pub(crate) async fn one_damaged_row_of_each_kind_is_named(world: &mut World) -> Result<()> {
    world.wait_until_quiet().await?;
    let (code, names, flaws) = broken(world)?;
    ensure!((code, names.is_empty()) == (0, true), "the platform is well: {code} {names:?} {flaws}");

    let changed = damage(world, "inventory_view_db", "UPDATE inventory_g1.items SET hop = hop + 1 WHERE hop = 2").await?;
    ensure!(changed == 1, "{changed} items were damaged");
    let (code, names, flaws) = broken(world)?;
    ensure!(code == 8 && names == ["I7", "I7"] && flaws.contains("items "), "an item of the read model: {code} {names:?} {flaws}");

    a_rebuild_shows_what_is_damaged(world)?;

    let changed = damage(world, "wallet_db", "UPDATE wallet.entries SET posted_after = posted_after + 1 WHERE posted_delta = 500").await?;
    ensure!(changed == 1, "{changed} lines of the ledger were damaged");
    let (code, names, flaws) = broken(world)?;
    ensure!(code == 8 && flaws.contains("entries ") && names.len() > 2, "a line of the ledger: {code} {names:?} {flaws}");

    let brokers = world.servers.kafka_brokers().to_owned();
    let topic = kafka::dump(&brokers, "economy-events", DUMP_LIMIT).await?;
    let record = topic.records.last().context("a record")?;
    let mut bytes = record.value.to_vec();
    *bytes.last_mut().context("a byte")? ^= 1;
    let config = idempo_kafka::Config { brokers, ..Default::default() };
    let damaged = Anything { partition: record.partition, key: Some(&record.key), value: Some(&bytes) };
    by_hand::write(&config, "economy-events", &[damaged]).await?;
    let ended = world.idempo("audit --patience 1s")?;
    ensure!(ended.code == 8, "{ended:?}");
    let kafka = format!("economy-events partition {} offset", record.partition);
    for named in ["items ", "entries ", &kafka] {
        ensure!(ended.stdout.contains(named), "«{named}» is not named: {}", ended.stdout);
    }
    ensure!(ended.stderr.contains("I5") && ended.stderr.contains("I7"), "{}", ended.stderr);
    Ok(())
}

/// A new generation, compared with the damaged one, differs in the damaged row. It is not switched to without force, and is removed again.
fn a_rebuild_shows_what_is_damaged(world: &World) -> Result<()> {
    let built = world.idempo("projection rebuild inventory --reason damaged --wait --yes -o json")?;
    let generation: Value = serde_json::from_str(&built.stdout).with_context(|| format!("{built:?}"))?;
    let number = generation.get("generation").and_then(Value::as_i64).context("a number")?;
    let verified = world.idempo(&format!("projection verify inventory {number} --reason damaged --yes"))?;
    ensure!(verified.code == 8 && verified.stdout.contains("differs from 1"), "{verified:?}");
    let differences = world.idempo(&format!("projection diff inventory {number} -o jsonl"))?;
    ensure!(differences.code == 8 && differences.stdout.lines().count() == 1, "one row differs: {differences:?}");
    ensure!(differences.stdout.contains("\"table\":\"items\""), "{differences:?}");
    let switched = world.idempo(&format!("projection switch inventory {number} --reason damaged --yes"))?;
    ensure!(switched.code == 4 && switched.stderr.contains("GENERATION_UNVERIFIED"), "{switched:?}");
    let dropped = world.idempo(&format!("projection drop inventory {number} --reason 'seen enough' --yes"))?;
    ensure!(dropped.code == 0, "{dropped:?}");
    Ok(())
}

pub(crate) async fn what_it_finds_is_there_as_gauges(world: &mut World) -> Result<()> {
    world.wait_until_quiet().await?;
    let file = world.profile.with_extension("prom");
    let ended = world.idempo(&format!("audit --every 200ms --metrics {} --timeout 6s", file.display()))?;
    ensure!(ended.code == 124 && ended.stdout.is_empty(), "it goes on, and says nothing while all is well: {ended:?}");
    let text = std::fs::read_to_string(&file)?;
    let flaws: Vec<&str> = text.lines().filter(|line| line.starts_with("idempo_audit_flaws{")).collect();
    ensure!(flaws.len() > 10 && flaws.iter().all(|line| line.ends_with(" 0")), "{text}");
    ensure!(text.contains("idempo_audit_succeeded 1"), "{text}");
    std::fs::remove_file(&file)?;
    Ok(())
}

/// How many audits are made under load.
const AUDITS: usize = 3;

pub(crate) async fn it_is_green_while_players_play(world: &mut World) -> Result<()> {
    let playing = world.play_on()?;
    for _ in 0..AUDITS {
        let (code, names, flaws) = tokio::task::block_in_place(|| broken(world))?;
        ensure!((code, names.is_empty()) == (0, true), "under load: {code} {names:?} {flaws}");
    }
    ensure!(playing.count() > AUDITS * 20, "only {} commands were played meanwhile", playing.count());
    Ok(())
}
