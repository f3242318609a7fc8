//! Dead letters from the command line: poison in the topic and in the read model's tables, and what becomes of it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use idempo_devstack::testing::eventually;
use idempo_kafka::by_hand::{self, Anything};
use idempo_kafka::{Config, partition_of};
use idempo_proto::event::v1::{ItemKind, Rarity};
use idempo_proto::inventory::v1::inventory_service_client::InventoryServiceClient;
use idempo_proto::inventory::v1::{CreateItemTypeRequest, GrantItemRequest, ItemType};
use serde_json::Value;

use crate::world::{Letters, World, key};

/// How long the projector and the dead-letter service may take to heed something.
const HEED_LIMIT: Duration = Duration::from_secs(30);
pub(crate) const TOPIC: &str = "economy-events";
/// The player whose item the read model refuses, and the one under whose key somebody writes what is no event.
const GREEN: &str = "01890000-0000-7000-8000-00000000000c";
const WHITE: &str = "01890000-0000-7000-8000-00000000000d";

/// The documents that a command prints, one a line.
pub(crate) fn lines(world: &World, words: &str) -> Vec<Value> {
    let stdout = world.idempo(&format!("{words} -o jsonl")).map(|ended| ended.stdout).unwrap_or_default();
    stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

pub(crate) fn text(value: &Value, field: &str) -> String {
    value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}

async fn grant(world: &World, player: &str, item_type: &str, quantity: i64, number: u32) -> Result<String> {
    let request_id = key(number).to_string();
    let request = GrantItemRequest {
        request_id: request_id.clone(),
        player: format!("players/{player}"),
        item_type: format!("itemTypes/{item_type}"),
        quantity,
        reason: "found".to_owned(),
        ..Default::default()
    };
    InventoryServiceClient::new(world.channel("inventory")?).grant_item(request).await?;
    Ok(request_id)
}

/// A check that somebody has forgotten in the live generation's tables refuses moonstones.
async fn forget_a_check(world: &World) -> Result<()> {
    let item_type = ItemType {
        name: "itemTypes/moonstone".to_owned(),
        display_name: "Moonstone".to_owned(),
        kind: ItemKind::Stackable.into(),
        rarity: Rarity::Rare.into(),
        ..Default::default()
    };
    let request = CreateItemTypeRequest { request_id: key(900).to_string(), item_type: Some(item_type), validate_only: false };
    InventoryServiceClient::new(world.channel("inventory")?).create_item_type(request).await?;
    let (client, connection) = idempo_pg::connect(&world.cluster.superuser("inventory_view_db")).await?;
    tokio::spawn(connection);
    Ok(client.batch_execute("ALTER TABLE inventory_g1.stacks ADD CONSTRAINT no_moonstones CHECK (item_type <> 'moonstone')").await?)
}

/// Puts poison in: a real event that the read model refuses, with another parked behind it, and a record that is no event.
pub(crate) async fn poison(world: &mut World) -> Result<()> {
    forget_a_check(world).await?;
    grant(world, GREEN, "moonstone", 3, 901).await?;
    let parked = grant(world, GREEN, "iron_sword", 1, 902).await?;
    // One after the other, so that they are known in this order.
    eventually(HEED_LIMIT, "the first is known", async || lines(world, "dlq list --state open").len() == 1).await;
    let topics = idempo_schemas::topics();
    let partitions = topics.topics.iter().find(|topic| topic.name == TOPIC).context("the topic")?.partitions;
    let config = Config { brokers: world.servers.kafka_brokers().to_owned(), ..Default::default() };
    let garbage = Anything {
        partition: partition_of(WHITE.as_bytes(), partitions),
        key: Some(WHITE.as_bytes()),
        value: Some(b"\xff\xff not an event"),
    };
    by_hand::write(&config, TOPIC, &[garbage]).await?;
    eventually(HEED_LIMIT, "both are known, and one waits", async || {
        let parked: i64 = lines(world, "dlq parked inventory").iter().filter_map(|letter| letter.get("parked_records")?.as_i64()).sum();
        lines(world, "dlq list --state open").len() == 2 && parked == 1
    })
    .await;
    let of = |code: &str| {
        let letter = lines(world, &format!("dlq list --code {code}")).pop().with_context(|| format!("no dead letter is {code}"))?;
        Ok::<_, anyhow::Error>(text(&letter, "name").trim_start_matches("deadLetters/").to_owned())
    };
    world.letters = Some(Letters { refused: of("READ_MODEL_REFUSED")?, garbage: of("UNDECODABLE_RECORD")?, parked });
    Ok(())
}

/// As after the transcripts, in which everything is settled, also where they were not run.
pub(crate) async fn settled(world: &mut World) -> Result<()> {
    if world.letters.is_some() {
        return Ok(());
    }
    poison(world).await?;
    let (client, connection) = idempo_pg::connect(&world.cluster.superuser("inventory_view_db")).await?;
    tokio::spawn(connection);
    client.batch_execute("ALTER TABLE inventory_g1.stacks DROP CONSTRAINT no_moonstones").await?;
    for words in ["dlq replay --code READ_MODEL_REFUSED", "dlq discard --code UNDECODABLE_RECORD"] {
        let ended = world.idempo(&format!("{words} --wait --reason settled --yes"))?;
        ensure!(ended.code == 0, "{words}: {ended:?}");
    }
    Ok(())
}

/// Names that are none, and what is refused.
pub(crate) async fn what_is_settled_can_not_be_settled_again(world: &mut World) -> Result<()> {
    settled(world).await?;
    let letters = lines(world, "dlq list");
    ensure!(letters.len() == 2, "both are known still: {letters:?}");
    let discarded = letters.iter().find(|letter| text(letter, "state") == "DEAD_LETTER_STATE_DISCARDED").context("one is discarded")?;
    let name = text(discarded, "name");
    let near = name.replace("economy", "economi");
    for (code, words, said) in [
        (3, format!("dlq show {near}"), "did you mean"),
        (3, format!("dlq discard {near} --reason x --yes"), "did you mean"),
        (3, format!("dlq annotate {near} note --reason x --yes"), "did you mean"),
        (3, "dlq job 1000000".to_owned(), "there is no job"),
        (3, "dlq rehearse 1000000 --reason x".to_owned(), "there is no job"),
        (3, "dlq list --group 1000000".to_owned(), "there is no group of dead letters"),
        (3, "dlq parked inventroy".to_owned(), "did you mean inventory?"),
        (3, "dlq import /nowhere.jsonl --reason x --yes".to_owned(), "/nowhere.jsonl"),
        (4, format!("dlq discard {name} --reason x --yes"), "DEAD_LETTER_NOT_OPEN"),
        (4, format!("dlq plan {name} --reason x --yes"), "DEAD_LETTER_NOT_OPEN"),
        (2, format!("dlq discard {name} --yes"), "--reason"),
        (4, format!("dlq discard {name} --reason x"), "is not open"),
        (2, "dlq replay --reason x --yes".to_owned(), "either dead letters are named"),
        (2, format!("dlq plan {name} --code X --reason x --yes"), "either dead letters are named"),
        (2, "dlq list --since tomorrow".to_owned(), "no moment"),
    ] {
        let ended = world.idempo(&words)?;
        ensure!(ended.code == code, "`{words}` ended with {} instead of {code}: {ended:?}", ended.code);
        ensure!(ended.stderr.contains(said), "`{words}` does not say «{said}»: {ended:?}");
        ensure!(ended.stdout.is_empty(), "`{words}` failed and printed data: {ended:?}");
    }
    let away = world.shell("IDEMPO_CLI_DEAD_LETTERS='[\"127.0.0.1:1\"]' idempo dlq groups").output()?;
    ensure!(away.status.code() == Some(6), "a service that is away: {away:?}");
    Ok(())
}

/// What was exported is taken in once, and is only there to be looked at.
pub(crate) async fn what_is_exported_is_known_when_it_comes_back(world: &mut World) -> Result<()> {
    settled(world).await?;
    let file = world.profile.with_extension("jsonl");
    let exported = world.idempo(&format!("dlq export --reason kept > {}", file.display()))?;
    ensure!(exported.code == 0 && exported.stderr.contains("2 dead letters are exported"), "{exported:?}");
    let imported = world.idempo(&format!("dlq import {} --reason 'to see' --yes -o json", file.display()))?;
    let counts: Value = serde_json::from_str(&imported.stdout).with_context(|| format!("{imported:?}"))?;
    ensure!(counts.get("imported") == Some(&Value::from(0)) && counts.get("known") == Some(&Value::from(2)), "{counts}");
    let lines = std::fs::read_to_string(&file)?;
    ensure!(lines.lines().count() == 2, "one line each: {lines}");
    std::fs::remove_file(&file)?;
    Ok(())
}
