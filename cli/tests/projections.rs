//! Generations from the command line: built, stopped, compared, switched to and back, and what is refused meanwhile.

use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use idempo_devstack::testing::eventually;
use idempo_proto::inventory::v1::GrantItemRequest;
use idempo_proto::inventory::v1::inventory_service_client::InventoryServiceClient;
use serde_json::{Value, json};

use crate::world::{Ended, RED, World, key};

/// How long the projector may take to heed something.
const HEED_LIMIT: Duration = Duration::from_secs(60);

/// Items for Red, each an event of its own.
async fn grant(world: &World, numbers: std::ops::Range<u32>) -> Result<()> {
    let mut inventories = InventoryServiceClient::new(world.channel("inventory")?);
    for number in numbers {
        let request = GrantItemRequest {
            request_id: key(number).to_string(),
            player: format!("players/{RED}"),
            item_type: "itemTypes/iron_sword".to_owned(),
            quantity: 1,
            reason: "for a rebuild".to_owned(),
            ..Default::default()
        };
        inventories.grant_item(request).await?;
    }
    Ok(())
}

/// A field of a document, and null where it has none.
fn field<'a>(value: &'a Value, name: &str) -> &'a Value {
    value.get(name).unwrap_or(&Value::Null)
}

/// Runs a command that must end so, and say so on stderr.
fn ends(world: &World, code: i32, said: &str, words: &str) -> Result<Ended> {
    let ended = world.idempo(&format!("projection {words}"))?;
    ensure!(ended.code == code && ended.stderr.contains(said), "`{words}` did not end with {code} and «{said}»: {ended:?}");
    Ok(ended)
}

fn document(stdout: &str) -> Result<Value> {
    serde_json::from_str(stdout).with_context(|| format!("{stdout:?}"))
}

fn status(world: &World) -> Result<Value> {
    document(&ends(world, 0, "", "status inventory -o json")?.stdout)
}

fn live(world: &World) -> Result<i64> {
    field(&status(world)?, "live_generation").as_i64().context("a live generation")
}

fn generation(world: &World, number: i64) -> Result<Option<Value>> {
    let found = status(world)?;
    let generations = field(&found, "generations").as_array().context("generations")?;
    Ok(generations.iter().find(|generation| *field(generation, "generation") == number).cloned())
}

/// The number of a generation that a rebuild has printed.
fn number(printed: &str) -> Result<i64> {
    field(&document(printed)?, "generation").as_i64().with_context(|| format!("a number in {printed}"))
}

async fn is_gone(world: &World, number: i64) {
    eventually(HEED_LIMIT, "the generation is removed", async || generation(world, number).is_ok_and(|found| found.is_none())).await;
}

/// The generation that is being built.
async fn building(world: &World) -> Result<i64> {
    let of = |world: &World| {
        let found = status(world).ok()?;
        let generations = field(&found, "generations").as_array()?;
        generations.iter().find(|one| *field(one, "state") == "GENERATION_STATE_BUILDING").and_then(|one| field(one, "generation").as_i64())
    };
    eventually(HEED_LIMIT, "a generation is being built", async || of(world).is_some()).await;
    of(world).context("a generation")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) async fn one_rebuild_at_a_time_goes_on_without_whoever_waits_for_it(world: &mut World) -> Result<()> {
    grant(world, 3_000..3_010).await?;
    // A generation that is built from Kafka has nothing while no consumer reads.
    ends(world, 0, "", "pause inventory --reason slow --yes")?;
    let slow = "rebuild inventory --from kafka --rps 1 --reason slow --wait --yes";
    let given_up = ends(world, 124, "it goes on: `idempo projection cancel inventory", &format!("{slow} --timeout 8s"))?;
    ensure!(given_up.stdout.is_empty(), "stdout has the answer and nothing else: {given_up:?}");
    let is_progress = |line: &str| line.starts_with("generation ") && line.contains(" of ") && line.contains(" events");
    ensure!(given_up.stderr.lines().any(is_progress), "it says on stderr how it gets on: {given_up:?}");
    let first = building(world).await?;
    ensure!(given_up.stderr.contains(&format!("cancel inventory {first}` stops it")), "{given_up:?}");
    ensure!(world.idempo("projection status inventory")?.stdout.contains("catching up, 0 of "), "status shows how far it is");

    let by_whom = format!("generation {first} is being built already, as dev asked for");
    for words in ["--yes", "--dry-run"] {
        let refused = ends(world, 4, &by_whom, &format!("rebuild inventory --reason two {words}"))?;
        ensure!(refused.stderr.contains("REBUILD_UNDER_WAY") && refused.stdout.is_empty(), "{refused:?}");
    }
    ends(world, 4, "GENERATION_STATE", &format!("drop inventory {first} --reason x --dry-run"))?;
    ends(world, 4, "GENERATION_STATE", &format!("switch inventory {first} --force --reason x --dry-run"))?;
    ends(world, 0, "dry run: would end the rebuild", "cancel inventory --reason slow --dry-run")?;
    ensure!(generation(world, first)?.is_some(), "a dry run cancels nothing");
    ends(world, 0, "", "cancel inventory --reason slow --yes")?;
    for words in ["--yes", "--dry-run"] {
        ends(world, 4, "no generation that is building", &format!("cancel inventory --reason slow {words}"))?;
    }
    is_gone(world, first).await;

    let interrupted = world.shell(&format!("timeout --preserve-status -s INT 3 idempo projection {slow}")).output()?;
    ensure!(interrupted.status.code() == Some(130) && said(&interrupted).contains("it goes on: "), "{interrupted:?}");
    let second = building(world).await?;
    ends(world, 0, "", "cancel inventory --reason slow --yes")?;
    is_gone(world, second).await;

    let waits = world.shell(&format!("exec idempo projection {slow}")).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let third = building(world).await?;
    ends(world, 0, "", &format!("cancel inventory {third} --reason slow --yes"))?;
    let waited = waits.wait_with_output()?;
    ensure!(waited.status.code() == Some(4) && said(&waited).contains("the rebuild was cancelled"), "{waited:?}");
    is_gone(world, third).await;
    ends(world, 0, "", "resume inventory --reason slow --yes")?;
    Ok(())
}

pub(crate) async fn a_rebuild_from_kafka_is_one_of_all_records(world: &mut World) -> Result<()> {
    ends(world, 2, "--workers", "rebuild inventory --from kafka --workers 2 --reason x --yes")?;
    ends(world, 2, "--workers", "rebuild inventory --workers 9 --reason x --yes")?;
    ends(world, 2, "--rps", "rebuild inventory --rps=-1 --reason x --yes")?;
    let built = ends(world, 0, "", "rebuild inventory --from kafka --rps 100000 --reason 'from kafka' --wait --yes -o json")?;
    let built_one = document(&built.stdout)?;
    let rebuild = field(&built_one, "rebuild");
    ensure!(*field(rebuild, "source") == "REBUILD_SOURCE_KAFKA" && *field(rebuild, "phase") == "REBUILD_PHASE_DONE", "{rebuild}");
    let number = number(&built.stdout)?;
    ends(world, 0, "", &format!("verify inventory {number} --against fold --reason 'from kafka' --yes"))?;
    ends(world, 0, "", &format!("drop inventory {number} --reason 'from kafka' --yes"))?;
    is_gone(world, number).await;
    Ok(())
}

pub(crate) async fn a_switch_that_is_asked_for_twice_never_flips_readers_back(world: &mut World) -> Result<()> {
    world.wait_until_quiet().await?;
    let before = live(world)?;
    ends(world, 4, "NO_PREVIOUS_GENERATION", "rollback inventory --reason x --dry-run")?;
    ends(world, 4, &format!("generation {before} is live already"), "switch inventory --reason x --dry-run")?;
    let built = ends(world, 0, "", "rebuild inventory --workers 8 --reason twice --wait --yes -o json")?;
    let number = number(&built.stdout)?;
    ends(world, 4, "never compared", &format!("diff inventory {number}"))?;
    let unverified = ends(world, 4, "GENERATION_UNVERIFIED", "switch inventory --reason twice --dry-run -o json")?;
    ensure!(unverified.stdout.is_empty(), "{unverified:?}");
    ends(world, 0, "", "verify inventory --reason twice --yes")?;
    ends(world, 0, &format!("equal to {before}"), "diff inventory")?;

    let name = format!("projections/inventory/generations/{number}");
    let would = ends(world, 0, "dry run: would answer reads", "switch inventory --reason twice --dry-run -o json")?;
    let expected = format!("answer reads of projections/inventory from {name} instead of generation {before}");
    let expected = json!({ "dry_run": true, "action": "projection switch", "target": name, "would": expected });
    ensure!(document(&would.stdout)? == expected && live(world)? == before, "{would:?}");

    ends(world, 0, "", "switch inventory --reason twice --yes")?;
    ensure!(live(world)? == number, "it is switched to");
    let again = ends(world, 4, &format!("generation {number} is live already"), "switch inventory --reason twice --yes")?;
    ensure!(again.stdout.is_empty() && live(world)? == number, "readers stay where they are: {again:?}");
    ends(world, 4, "no generation that is ready", "verify inventory --reason twice --yes")?;
    ends(world, 0, "", &format!("switch inventory {number} --reason twice --yes"))?;
    ends(world, 0, "which is live already", &format!("switch inventory {number} --reason twice --dry-run"))?;
    ends(world, 4, "GENERATION_STATE", &format!("drop inventory {number} --reason twice --dry-run"))?;
    ends(world, 4, "GENERATION_STATE", &format!("cancel inventory {number} --reason twice --dry-run"))?;
    ends(world, 4, "GENERATION_STATE", &format!("verify inventory {number} --reason twice --dry-run"))?;

    ends(world, 0, &format!("from generation {before} again"), "rollback inventory --reason back --dry-run")?;
    ends(world, 0, "", "rollback inventory --reason back --yes")?;
    ensure!(live(world)? == before, "it is rolled back");
    ends(world, 0, "", &format!("drop inventory {number} --reason twice --yes"))?;
    is_gone(world, number).await;
    Ok(())
}

async fn in_view(world: &World, statement: &str) -> Result<u64> {
    let (client, connection) = idempo_pg::connect(&world.cluster.superuser("inventory_view_db")).await?;
    tokio::spawn(connection);
    client.batch_execute("SET session_replication_role = replica").await?;
    Ok(client.execute(statement, &[]).await?)
}

pub(crate) async fn a_generation_that_is_behind_is_switched_to_by_force_alone(world: &mut World) -> Result<()> {
    world.wait_until_quiet().await?;
    let before = live(world)?;
    let number = number(&ends(world, 0, "", "rebuild inventory --reason behind --wait --yes -o json")?.stdout)?;
    ends(world, 0, "", "verify inventory --reason behind --yes")?;
    // As the projector itself holds a generation, and for longer.
    let hold = format!(
        "INSERT INTO projection.hold SELECT 'inventory', {number}, partition, 0, clock_timestamp() + interval '10 minutes' FROM generate_series(0, 63) AS partition"
    );
    in_view(world, &hold).await?;
    let is_behind = |world: &World| {
        generation(world, number).ok().flatten().is_some_and(|found| field(&found, "lag_events").as_i64().is_some_and(|lag| lag > 0))
    };
    let mut next = 3_200;
    eventually(HEED_LIMIT, "it falls behind", async || {
        next += 1;
        grant(world, next..next + 1).await.is_ok() && is_behind(world)
    })
    .await;
    let switch = format!("switch inventory {number} --reason behind");
    // The events come to be in the live one.
    eventually(HEED_LIMIT, "the live one has more", async || {
        world.idempo(&format!("projection {switch} --dry-run")).is_ok_and(|ended| ended.stderr.contains("does not have all"))
    })
    .await;
    ends(world, 0, "GENERATION_LAGGING", &format!("{switch} --dry-run"))?;
    let refused = ends(world, 4, "GENERATION_LAGGING", &format!("{switch} --yes"))?;
    ensure!(refused.stdout.is_empty() && live(world)? == before, "{refused:?}");
    ends(world, 0, "", "pause inventory --reason behind --yes")?;
    ends(world, 4, "GENERATION_LAGGING", &format!("{switch} --dry-run"))?;
    ends(world, 0, "dev has paused it already", "pause inventory --reason behind --dry-run")?;
    ends(world, 0, "", "resume inventory --reason behind --yes")?;
    ends(world, 0, "none is paused", "resume inventory --reason behind --dry-run")?;
    ends(world, 0, "", &format!("{switch} --force --yes"))?;
    ensure!(live(world)? == number, "it is forced");
    let audit = ends(world, 0, "", "audit inventory --limit 1 -o json")?;
    ensure!(audit.stdout.contains("forced") && audit.stdout.contains("behind"), "{audit:?}");

    ends(world, 0, "", "rollback inventory --reason behind --yes")?;
    in_view(world, "DELETE FROM projection.hold").await?;
    ends(world, 0, "", &format!("drop inventory {number} --reason behind --yes"))?;
    is_gone(world, number).await;
    Ok(())
}

pub(crate) async fn what_differs_from_a_live_one_that_is_wrong_is_no_fault(world: &mut World) -> Result<()> {
    world.wait_until_quiet().await?;
    let changed = in_view(world, "UPDATE inventory_g1.items SET hop = hop + 1 WHERE hop = 2").await?;
    ensure!(changed == 1, "{changed} items were damaged");
    let number = number(&ends(world, 0, "", "rebuild inventory --reason wrong --wait --yes -o json")?.stdout)?;
    ends(world, 8, "", &format!("verify inventory {number} --reason wrong --yes"))?;
    let beside = ends(world, 8, "differs from 1", &format!("diff inventory {number} -o jsonl"))?;
    ensure!(beside.stdout.lines().count() == 1, "{beside:?}");
    ends(world, 0, "", &format!("verify inventory {number} --against fold --reason wrong --yes"))?;
    let right = ends(world, 0, "equal to the fold", &format!("diff inventory {number} -o jsonl"))?;
    ensure!(right.stdout.lines().count() == 1, "what readers will see change is shown: {right:?}");
    ends(world, 8, "", "verify inventory 1 --against fold --reason wrong --yes")?;
    ends(world, 8, "differs from the fold", "diff inventory 1")?;
    ends(world, 0, "", &format!("drop inventory {number} --reason wrong --yes"))?;
    is_gone(world, number).await;
    let mended = ends(world, 0, "", &format!("rebuild inventory --player {RED} --reason wrong --yes -o json"))?;
    ensure!(mended.stdout.contains("\"rows_changed\": \"1\"") || mended.stdout.contains("\"rows_changed\": 1"), "{mended:?}");
    Ok(())
}
