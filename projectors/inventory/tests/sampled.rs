//! Players' rows beside the fold of their events, all the time, in a process that shares the work with another one.

use std::path::{Path, PathBuf};

use idempo_devstack::Service;
use idempo_devstack::testing::{self, eventually};
use idempo_inventory_projector::{Rows, fold, read_rows};
use idempo_pg::Pool;
use idempo_proto::event::v1::EventEnvelope;
use idempo_proto::ops::v1::{
    CancelRebuildRequest, PauseProjectionRequest, RebuildPlayerRequest, ResumeProjectionRequest, StartRebuildRequest,
};

use crate::metrics::{beside_with, is, says, value};
use crate::stage::{PROJECTION, Stage, generation_name, said};
use crate::support::LIMIT;
use crate::world::{PLAYERS, World, large_sample, player, sample, stream};

/// Often, so that the tests are quick.
const OFTEN: (&str, &str) = ("IDEMPO_SAMPLE_INTERVAL_MS", "100");
/// The most events that are folded for a sample.
const EVENTS_MAX: usize = 5_000;
/// Of so many streams it is looked what it costs to draw one.
const STREAMS: i64 = 200_000;

const ROWS: &str = "reason=\"READ_MODEL_DIFFERS\"";
const BEYOND: &str = "reason=\"STREAM_BEYOND_STORE\"";

/// A projector in which these events are, and another one beside it that samples.
async fn sampling(world: &[EventEnvelope], name: &str, interval: (&str, &str)) -> (Stage, Service, PathBuf) {
    let stage = Stage::start().await;
    stage.append(world, "7").await;
    stage.publish(world).await;
    eventually(LIMIT, "all is in", async || stage.lag().await == 0).await;
    let log = std::env::temp_dir().join(format!("{}{name}.log", stage.topic));
    let process = beside_with(&stage, &log, &[interval]).await;
    (stage, process, log)
}

async fn end(stage: Stage, mut process: Service, log: &Path) {
    process.stop().await.expect("it stops");
    stage.stop().await;
    let _ = std::fs::remove_file(log);
}

/// How many players it has compared.
async fn compared(process: &Service) -> f64 {
    value(process, "sampled_players_total", "").await.unwrap_or_default()
}

/// Waits until it has compared so many more.
async fn compares(process: &Service, more: f64) {
    let before = compared(process).await;
    says(process, "sampled_players_total", "", |players| players >= before + more).await;
}

async fn rows(stage: &Stage) -> Rows {
    let pool = Pool::open(&stage.config.generation_database(1)).expect("a pool");
    read_rows(&pool).await.expect("they can be read")
}

/// What the log says of differences.
fn differences(log: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(log).expect("a log");
    text.lines().filter(|line| line.contains("rows of a player are not as the events say")).map(ToOwned::to_owned).collect()
}

async fn mend_all(stage: &Stage) {
    for number in 0..PLAYERS {
        let (name, player) = (PROJECTION.to_owned(), format!("players/{}", player(number)));
        let asked = RebuildPlayerRequest { name, player, reason: "a test".to_owned(), ..RebuildPlayerRequest::default() };
        stage.ops.clone().rebuild_player(said(asked)).await.expect("it is mended");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_player_is_found_and_told_of_once_and_stays_as_it_is_until_somebody_mends_it() {
    let (stage, process, log) = sampling(&sample(0).envelopes, "damaged", OFTEN).await;
    compares(&process, 8.0).await;
    says(&process, "sample_different_total", ROWS, is(0.0)).await;
    says(&process, "sampled_rows_total", "", |rows| rows > 8.0).await;

    let whose = "(SELECT player_id FROM inventory_g1.loadouts JOIN inventory_g1.stacks USING (player_id) ORDER BY 1 LIMIT 1)";
    let damage = format!(
        "BEGIN; UPDATE inventory_g1.stacks SET quantity = quantity + 1 WHERE player_id = {whose};
        INSERT INTO inventory_g1.stacks SELECT p, 'ghost', 1, 0, now() FROM {whose} AS s (p);
        DELETE FROM inventory_g1.loadouts WHERE (player_id, item_id) IN (
            SELECT player_id, item_id FROM inventory_g1.loadouts WHERE player_id = {whose} ORDER BY 2 LIMIT 1); COMMIT"
    );
    stage.damage(&damage).await;
    let damaged = rows(&stage).await;
    says(&process, "sample_different_total", ROWS, is(1.0)).await;
    says(&process, "sample_different_players", "", is(1.0)).await;
    compares(&process, 12.0).await;
    says(&process, "sample_different_total", ROWS, is(1.0)).await;
    assert_eq!(rows(&stage).await, damaged, "it is not for it to mend");
    let said = differences(&log);
    let [line] = said.as_slice() else { panic!("said {} times: {said:?}", said.len()) };
    for part in ["ERROR", "loadouts: 1 missing, 0 changed, 0 superfluous; stacks: 0 missing, 1 changed, 1 superfluous", "--dry-run"] {
        assert!(line.contains(part), "{line}");
    }
    assert!((0..PLAYERS).any(|number| line.contains(&player(number).to_string())), "{line}");

    mend_all(&stage).await;
    says(&process, "sample_different_players", "", is(0.0)).await;
    says(&process, "sample_different_total", ROWS, is(1.0)).await;
    end(stage, process, &log).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_item_in_the_wrong_hands_is_found_with_whoever_has_to_do_with_it() {
    let world = World::of_gifts(3);
    let (stage, process, log) = sampling(&world.envelopes, "hands", OFTEN).await;
    compares(&process, 4.0).await;
    // It was given to player 1, and was never player 3's.
    let item = world.items[0].id;
    stage.damage(&format!("UPDATE inventory_g1.items SET owner_id = '{}' WHERE item_id = '{item}'", player(3))).await;
    says(&process, "sample_different_players", "", is(3.0)).await;
    let mut found: Vec<usize> =
        (0..4).filter(|number| differences(&log).iter().any(|line| line.contains(&player(*number).to_string()))).collect();
    found.sort_unstable();
    assert_eq!(found, [0, 1, 3], "who gave it, who has it, and in whose hands it is laid");
    end(stage, process, &log).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_are_right_are_never_different_while_players_go_on() {
    let world = large_sample();
    let (before, meanwhile) = world.envelopes.split_at(world.envelopes.len() / 4);
    let (stage, process, log) = sampling(before, "right", OFTEN).await;
    compares(&process, 1.0).await;
    let began = compared(&process).await;
    for some in meanwhile.chunks(40) {
        stage.append(some, "7").await;
        stage.publish(some).await;
    }
    let during = compared(&process).await - began;
    assert!(during >= 10.0, "it has compared {during} players meanwhile");
    eventually(LIMIT, "all is in", async || stage.lag().await == 0).await;
    compares(&process, 8.0).await;
    assert_eq!(rows(&stage).await, fold(&world.events()).expect("it folds"));
    for reason in [ROWS, BEYOND] {
        says(&process, "sample_different_total", reason, is(0.0)).await;
    }
    assert_eq!(differences(&log), Vec::<String>::new());
    end(stage, process, &log).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_the_generation_has_and_nobody_stored_is_a_difference_with_a_reason_of_its_own() {
    let world = sample(0);
    let (stage, process, log) = sampling(&world.envelopes, "beyond", OFTEN).await;
    compares(&process, 4.0).await;
    says(&process, "sample_different_total", BEYOND, is(0.0)).await;
    let last = world.envelopes.iter().rev().find(|one| one.stream_id == stream(1).uuid().as_bytes().as_slice()).expect("an event");
    stage.forget_event(last).await;
    says(&process, "sample_different_total", BEYOND, |players| players >= 1.0).await;
    says(&process, "sample_different_total", ROWS, is(0.0)).await;
    stage.append(std::slice::from_ref(last), "7").await;
    says(&process, "sample_different_players", "", is(0.0)).await;
    end(stage, process, &log).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_compared_while_the_projection_is_paused_or_rebuilt() {
    let (mut stage, process, log) = sampling(&large_sample().envelopes, "busy", OFTEN).await;
    compares(&process, 2.0).await;
    let pause = PauseProjectionRequest { name: PROJECTION.to_owned(), reason: "a test".to_owned() };
    stage.ops.pause_projection(said(pause)).await.expect("it is paused");
    says(&process, "sample_skips_total", "reason=\"paused\"", |skips| skips >= 1.0).await;
    let (before, skips) = (compared(&process).await, value(&process, "sample_skips_total", "reason=\"paused\"").await.expect("some"));
    says(&process, "sample_skips_total", "reason=\"paused\"", |now| now >= skips + 5.0).await;
    assert!(is(before)(compared(&process).await), "it compared nobody meanwhile");
    says(&process, "sample_age_seconds", "", |age| age > 0.4).await;
    let resume = ResumeProjectionRequest { name: PROJECTION.to_owned(), reason: "a test".to_owned() };
    stage.ops.resume_projection(said(resume)).await.expect("it goes on");
    compares(&process, 2.0).await;

    let (name, reason) = (PROJECTION.to_owned(), "a test".to_owned());
    let slowly = StartRebuildRequest { name, events_per_second_max: 20, reason, ..StartRebuildRequest::default() };
    stage.ops.start_rebuild(said(slowly)).await.expect("it begins");
    says(&process, "sample_skips_total", "reason=\"busy\"", |skips| skips >= 1.0).await;
    let before = compared(&process).await;
    says(&process, "sample_skips_total", "reason=\"busy\"", |skips| skips >= 6.0).await;
    assert!(is(before)(compared(&process).await), "it compared nobody meanwhile");
    let cancel = CancelRebuildRequest { name: generation_name(2), reason: "a test".to_owned() };
    stage.ops.cancel_rebuild(said(cancel)).await.expect("it is cancelled");
    compares(&process, 2.0).await;
    says(&process, "sample_different_total", ROWS, is(0.0)).await;
    end(stage, process, &log).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_somebody_has_locked_are_left_alone_after_a_moment_and_compared_afterwards() {
    let (stage, process, log) = sampling(&sample(0).envelopes, "locked", OFTEN).await;
    compares(&process, 2.0).await;
    let lock = stage.lock_items().await;
    says(&process, "sample_skips_total", "reason=\"away\"", |skips| skips >= 2.0).await;
    let before = compared(&process).await;
    says(&process, "sample_skips_total", "reason=\"away\"", |skips| skips >= 4.0).await;
    assert!(is(before)(compared(&process).await), "it compared nobody meanwhile");
    lock.commit().await;
    compares(&process, 2.0).await;
    says(&process, "sample_different_total", ROWS, is(0.0)).await;
    let text = std::fs::read_to_string(&log).expect("a log");
    assert_eq!(text.matches("rows of players can't be compared with their events now").count(), 1, "{text}");
    end(stage, process, &log).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_player_whose_rows_follow_from_too_much_is_left_out_and_counted() {
    let stage = Stage::start().await;
    let world = World::of_arrows(EVENTS_MAX + 1);
    let (most, last) = world.envelopes.split_at(EVENTS_MAX);
    stage.append_at_once(most, "7").await;
    stage.publish(most).await;
    eventually(LIMIT, "all is in", async || stage.lag().await == 0).await;
    let log = std::env::temp_dir().join(format!("{}large.log", stage.topic));
    let process = beside_with(&stage, &log, &[OFTEN]).await;
    compares(&process, 2.0).await;
    assert_eq!(value(&process, "sample_skips_total", "reason=\"too_large\"").await, None, "that is not too much");
    stage.append(last, "8").await;
    says(&process, "sample_skips_total", "reason=\"too_large\"", |skips| skips >= 1.0).await;
    let before = compared(&process).await;
    says(&process, "sample_skips_total", "reason=\"too_large\"", |skips| skips >= 4.0).await;
    assert!(is(before)(compared(&process).await), "nobody else is there");
    end(stage, process, &log).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_an_interval_of_zero_nobody_is_compared() {
    let (stage, process, log) = sampling(&sample(0).envelopes, "off", ("IDEMPO_SAMPLE_INTERVAL_MS", "0")).await;
    says(&process, "live_generation", "", is(1.0)).await;
    assert_eq!(value(&process, "sampled_players_total", "").await, None);
    assert_eq!(value(&process, "sample_different_total", "").await, None);
    end(stage, process, &log).await;
}

#[tokio::test]
async fn one_page_is_read_to_draw_a_player_of_however_many() {
    let database = testing::database("inventory_db").await;
    let owner = Pool::open(&database.superuser()).expect("a pool").get().await.expect("a connection");
    let streams = format!("INSERT INTO es.streams SELECT gen_random_uuid(), 0, gen_random_uuid(), 1 FROM generate_series(1, {STREAMS})");
    owner.batch_execute(&streams).await.expect("streams");
    owner.batch_execute("VACUUM ANALYZE es.streams").await.expect("it is known how many");
    let client = Pool::open(&database.config("idempo_rebuilder")).expect("a pool").get().await.expect("a connection");
    let blocks = include_str!("../../../crates/projection/src/sampling/sql/stream_blocks.sql");
    let blocks: i64 = client.query_one(blocks, &[]).await.expect("a row").get(0);
    assert!(blocks > 1_000, "{blocks}");

    let draw = include_str!("../../../crates/projection/src/sampling/sql/streams_of_block.sql");
    let mut drawn = 0;
    for block in 0..blocks {
        drawn += client.query(&client.prepare_cached(draw).await.expect("a statement"), &[&block]).await.expect("rows").len();
    }
    assert_eq!(i64::try_from(drawn).expect("few"), STREAMS, "each stream is in one block");
    let explain = format!("EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF) {draw}");
    let plan: Vec<String> = client.query(&explain, &[&(blocks / 2)]).await.expect("a plan").iter().map(|row| row.get(0)).collect();
    assert!(plan[0].starts_with("Tid Range Scan"), "{plan:#?}");
    assert!(plan.iter().any(|line| line.trim() == "Buffers: shared hit=1"), "{plan:#?}");
}
