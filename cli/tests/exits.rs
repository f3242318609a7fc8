//! How commands end.

use anyhow::{Result, ensure};
use idempo_kafka::by_hand;

use crate::world::World;

/// How many partitions the topic of the economy has.
const PARTITIONS: i32 = 12;
/// A relay's place where nobody listens.
const NOBODY: &str = "IDEMPO_CLI_RELAYS='[\"127.0.0.1:1\"]'";

pub(crate) async fn every_way_to_end_has_its_code(world: &mut World) -> Result<()> {
    for (code, words, said) in [
        (0, "relay status", ""),
        (0, "--help", ""),
        (0, "man relay pause", ""),
        (3, "man relay pose", "did you mean pause?"),
        (0, "completions fish", ""),
        (0, "relay status -o jsonl | head -c 1", ""),
        (2, "relay stauts", "similar subcommands exist"),
        (2, "relay status --timeout soon", "no length of time"),
        (2, "relay pause wallet", "--reason"),
        (2, "relay pause wallet --reason x", "--yes"),
        (2, "relay status --config /nowhere.toml", "does not exist"),
        (2, "relay status --token-file /nowhere.token", "can't be read"),
        (0, "operator new ana --role viewer --config /nowhere.toml", "kept nowhere"),
        (2, "operator new 'a b' --role viewer", "no name of an operator"),
        (2, "operator new ana --role king", "invalid value 'king'"),
        (3, "relay status walet", "did you mean wallet?"),
        (3, "relay status --profile lokal", "did you mean local?"),
        (3, "outbox show wallet 7", "no row in quarantine `7`"),
        (4, "relay step-down wallet --epoch 1000000 --reason x --yes", "LEASE_EPOCH_MISMATCH"),
        (3, "projection status inventroy", "did you mean inventory?"),
        (3, "projection switch inventory 77 --reason x --yes", "no generation of projections/inventory `77`"),
        (3, "event stream --type funds_send", "did you mean funds_sent"),
        (3, "event stream --store walet", "did you mean wallet?"),
        (2, "replay --to somewhere --yes", "--reason"),
        (4, "replay --to economy-events --reason x --yes", "a topic that the platform reads"),
        (124, "relay status --timeout 1ns", "not done"),
    ] {
        let ended = world.idempo(words)?;
        ensure!(ended.code == code || words.contains('|'), "`{words}` ended with {} instead of {code}: {ended:?}", ended.code);
        ensure!(ended.stderr.contains(said), "`{words}` does not say «{said}»: {ended:?}");
        ensure!(code == 0 || ended.stdout.is_empty(), "`{words}` failed and printed data: {ended:?}");
    }
    for (code, line) in [
        (7, "IDEMPO_CLI_TOKEN=nobody-knows-this-token idempo dlq groups"),
        (7, "IDEMPO_CLI_TOKEN=$VIEWER idempo projection pause inventory --reason x --yes"),
        (0, "IDEMPO_CLI_TOKEN=$VIEWER idempo projection status inventory"),
        (8, "IDEMPO_CLI_TOKEN=nobody-knows-this-token idempo doctor"),
        // A role that may not connect to this database.
        (7, "IDEMPO_CLI_STORES__WALLET=$FOREIGN idempo event stream --store wallet"),
        (130, "timeout --preserve-status -s INT 1 idempo event tail"),
        // What can't be written is a failure, and no panic.
        (0, "{ idempo completions zsh; echo $? >&2; } 2>&1 >/dev/full | grep -qx 1"),
        (2, "IDEMPO_CLI_RELAY=x idempo relay status"),
        (6, "IDEMPO_CLI_KAFKA__BROKERS=127.0.0.1:1 idempo event tail --timeout 20s"),
    ] {
        let foreign = world.cluster.role_url("wallet_db", "idempo_inventory_projector");
        let output = world.shell(line).env("FOREIGN", foreign).output()?;
        ensure!(output.status.code() == Some(code), "`{line}` did not end with {code}: {output:?}");
    }
    partly_done(world).await?;
    let away = world.shell(&format!("{NOBODY} idempo relay status")).output()?;
    ensure!(away.status.code() == Some(6), "a relay that is away: {away:?}");
    Ok(())
}

pub(crate) async fn a_replay_into_a_live_topic_is_noted_before_it_or_not_made(world: &mut World) -> Result<()> {
    const REPLAY: &str = "idempo replay --to economy-events --type wallet_opened --player $RED --force --reason 'it was lost' --yes";
    const NOTED: &str = "idempo outbox audit wallet -o jsonl | grep '\"action\":\"replay\"'";
    let config = idempo_kafka::Config { brokers: world.servers.kafka_brokers().to_owned(), ..Default::default() };
    let count = async || -> Result<i64> {
        let ends = idempo_kafka::watermarks(&config, "economy-events", PARTITIONS).await?;
        Ok(ends.into_iter().map(|(_, end)| end).sum())
    };
    let before = count().await?;
    for (code, line) in [(7, format!("IDEMPO_CLI_TOKEN=$VIEWER {REPLAY}")), (6, format!("{NOBODY} {REPLAY}"))] {
        let output = world.shell(&line).output()?;
        ensure!(output.status.code() == Some(code) && count().await? == before, "`{line}` did not end with {code}, or wrote: {output:?}");
    }
    let denied = world.shell(NOTED).output()?.stdout;
    ensure!(String::from_utf8_lossy(&denied).contains("OPERATOR_ROLE_REQUIRED"), "a denied try is noted too: {denied:?}");
    let replayed = world.shell(REPLAY).output()?;
    ensure!(replayed.status.success() && count().await? == before + 1, "{replayed:?}");
    let noted = String::from_utf8(world.shell(NOTED).output()?.stdout)?;
    let last = noted.lines().next().unwrap_or_default();
    for said in ["topic economy-events", "it was lost", "1 events: ", "DONE"] {
        ensure!(last.contains(said), "{said} is not in {last}");
    }
    Ok(())
}

pub(crate) async fn a_doctor_tells_what_does_not_move(world: &mut World) -> Result<()> {
    let foreign = world.cluster.role_url("wallet_db", "idempo_inventory_projector");
    for (code, before, lines) in [
        (6, NOBODY, vec![["relay", "away"], ["view", "schema inventory_view"]]),
        (8, "IDEMPO_CLI_STORES__WALLET=$FOREIGN", vec![["store", "wrong"], ["relay", "fine"]]),
    ] {
        let output = world.shell(&format!("{before} idempo doctor")).env("FOREIGN", &foreign).output()?;
        let told = String::from_utf8(output.stdout)?;
        let is_told = |words: &[&str; 2]| told.lines().any(|line| words.iter().all(|word| line.contains(word)));
        ensure!(output.status.code() == Some(code) && lines.iter().all(is_told), "{before}: {:?}, {told}", output.status);
    }
    for (pause, resume) in [("relay pause wallet", "relay resume wallet"), ("projection pause inventory", "projection resume inventory")] {
        ensure!(world.idempo(&format!("{pause} --reason 'to be looked at' --yes"))?.code == 0, "{pause}");
        let told = world.idempo("doctor")?;
        ensure!(world.idempo(&format!("{resume} --reason x --yes"))?.code == 0, "{resume}");
        let is_told = told.stdout.lines().any(|line| line.contains("  odd  ") && line.contains("to be looked at"));
        ensure!(told.code == 0 && is_told, "{pause}: {told:?}");
    }
    Ok(())
}

/// A replay of which the brokers take only what is small.
async fn partly_done(world: &World) -> Result<()> {
    const TOPIC: &str = "replay-of-small-ones";
    let first = world.idempo(&format!("replay --to {TOPIC} --type wallet_opened --reason x --yes"))?;
    ensure!(first.code == 0 && first.stdout.contains("written  2"), "{first:?}");
    let config = idempo_kafka::Config { brokers: world.servers.kafka_brokers().to_owned(), ..Default::default() };
    by_hand::set_topic_property(&config, TOPIC, "max.message.bytes", "300").await?;
    let partly = world.idempo(&format!("replay --to {TOPIC} --reason x --yes -o json"))?;
    ensure!(partly.code == 5 && partly.stderr.contains("were not taken"), "{partly:?}");
    let counts: serde_json::Value = serde_json::from_str(&partly.stdout)?;
    let count = |name: &str| counts.get(name).and_then(serde_json::Value::as_u64).unwrap_or_default();
    ensure!(count("refused") > 0 && count("written") + count("refused") == count("events"), "{counts}");
    Ok(())
}
