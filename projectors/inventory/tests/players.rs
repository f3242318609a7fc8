//! The rows of one player made anew, on real servers, while players go on.

use std::os::unix::process::ExitStatusExt as _;

use idempo_devstack::testing::eventually;
use idempo_ids::PlayerId;
use idempo_inventory_projector::{Rows, fold, read_rows};
use idempo_pg::Pool;
use idempo_proto::event::v1::EventEnvelope;
use idempo_proto::event::v1::event_envelope::Data;
use idempo_proto::event::v1::item_portion::What;
use idempo_proto::ops::v1::projection_service_client::ProjectionServiceClient;
use idempo_proto::ops::v1::{RebuildPlayerRequest, RebuildPlayerResponse, VerificationAgainst, VerificationState};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::metrics::beside_with;
use crate::stage::{PROJECTION, Stage, said};
use crate::support::LIMIT;
use crate::world::{World, large_sample, player, stream};

/// So many events come between two rebuilds of a player.
const CHUNK: usize = 60;
/// The most streams and events that a player's rows may follow from.
const STREAMS_MAX: usize = 1_000;
const EVENTS_MAX: usize = 100_000;
/// The signal with which a process ends itself at a named point.
const SIGKILL: i32 = 9;

fn reason(status: &Status) -> String {
    status.get_details_error_info().expect("an ErrorInfo").reason
}

fn asked(who: PlayerId, validate_only: bool) -> RebuildPlayerRequest {
    let (name, player) = (PROJECTION.to_owned(), format!("players/{who}"));
    RebuildPlayerRequest { name, player, generation: 0, validate_only, reason: "a test".to_owned() }
}

async fn rebuilt(stage: &Stage, who: PlayerId, validate_only: bool) -> RebuildPlayerResponse {
    stage.ops.clone().rebuild_player(said(asked(who, validate_only))).await.expect("it is rebuilt").into_inner()
}

/// Missing, changed and superfluous rows, of all tables.
fn counts(answer: &RebuildPlayerResponse) -> [i64; 3] {
    let sum = |of: fn(&idempo_proto::ops::v1::PlayerTable) -> i64| answer.tables.iter().map(of).sum();
    [sum(|table| table.rows_missing), sum(|table| table.rows_changed), sum(|table| table.rows_superfluous)]
}

/// A stage on which these have happened, and the live generation has them.
async fn with_all_in(envelopes: &[EventEnvelope]) -> Stage {
    let stage = Stage::start().await;
    stage.append(envelopes, "7").await;
    stage.publish(envelopes).await;
    eventually(LIMIT, "all is in", async || stage.lag().await == 0).await;
    stage
}

async fn rows(stage: &Stage) -> Rows {
    read_rows(&Pool::open(&stage.config.generation_database(1)).expect("a pool")).await.expect("rows")
}

/// Damages rows of player 1 in every table: missing ones, changed ones and ones that should not be. What comes later can be applied all the same.
async fn damage(stage: &Stage) {
    let (own, other) = (player(1), player(3));
    let ghost = "00000000-0000-7000-8000-00000000dead";
    let of_own = format!("SELECT item_id FROM inventory_g1.items WHERE owner_id = '{own}' AND state = 1 ORDER BY item_id");
    for sql in [
        format!("UPDATE inventory_g1.stacks SET quantity = quantity + 1000 WHERE player_id = '{own}'"),
        format!("INSERT INTO inventory_g1.stacks VALUES ('{own}', 'ghost', 1, 0, now())"),
        format!("UPDATE inventory_g1.items SET owner_id = '{other}' WHERE item_id IN ({of_own} LIMIT 1)"),
        format!("DELETE FROM inventory_g1.items WHERE item_id IN ({of_own} LIMIT 1)"),
        format!("UPDATE inventory_g1.items SET item_type = 'damaged' WHERE item_id IN ({of_own} LIMIT 1)"),
        format!("INSERT INTO inventory_g1.items VALUES ('{ghost}', 'ghost', '{own}', 1, NULL, 9, 0, now())"),
        format!(
            "UPDATE inventory_g1.items SET owner_id = '{own}' WHERE item_id IN (
                SELECT item_id FROM inventory_g1.items WHERE owner_id = '{other}' AND state = 1 ORDER BY item_id DESC LIMIT 1)"
        ),
        format!("INSERT INTO inventory_g1.item_events VALUES ('{ghost}', 9, 9, '{ghost}', 201, '{own}', NULL, now())"),
        format!(
            "DELETE FROM inventory_g1.item_events WHERE (item_id, hop, ordinal) IN (
                SELECT e.item_id, e.hop, e.ordinal FROM inventory_g1.item_events AS e JOIN inventory_g1.items AS i USING (item_id)
                WHERE e.player_id = '{own}' AND i.hop > e.hop + 2 ORDER BY 1, 2, 3 LIMIT 2)"
        ),
        format!(
            "UPDATE inventory_g1.item_events SET decided_at = now() WHERE (item_id, hop, ordinal) IN (
                SELECT item_id, hop, ordinal FROM inventory_g1.item_events WHERE player_id = '{own}' ORDER BY 1 DESC, 2, 3 LIMIT 1)"
        ),
        format!("DELETE FROM inventory_g1.loadouts WHERE player_id = '{own}' AND NOT equipped"),
        format!("INSERT INTO inventory_g1.loadouts VALUES ('{own}', '{ghost}', false, now())"),
    ] {
        stage.damage(&sql).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_rows_of_a_player_are_made_anew_in_every_table_and_all_others_stay_as_they_are() {
    let world = large_sample();
    let stage = with_all_in(&world.envelopes).await;
    let expected = fold(&world.events()).expect("it folds");
    assert_eq!(rows(&stage).await, expected);
    assert_eq!(counts(&rebuilt(&stage, player(1), false).await), [0, 0, 0], "nothing is wrong");

    // Somebody else's row is wrong too, and nobody asked for that one.
    stage.damage(&format!("UPDATE inventory_g1.stacks SET quantity = quantity + 1 WHERE player_id = '{}'", player(2))).await;
    let others = rows(&stage).await;
    damage(&stage).await;
    let damaged = rows(&stage).await;
    assert!(damaged.items != others.items && damaged.stacks != others.stacks);
    assert!(damaged.loadouts != others.loadouts && damaged.item_events != others.item_events);

    let told = rebuilt(&stage, player(1), true).await;
    assert_eq!(rows(&stage).await, damaged, "it was only asked what would be done");
    let done = rebuilt(&stage, player(1), false).await;
    assert_eq!(rows(&stage).await, others);
    assert_eq!((&told.tables, &told.differences), (&done.tables, &done.differences));
    assert!(counts(&done).iter().all(|count| *count >= 3), "{:?}", done.tables);
    assert!(done.tables.len() == 4 && done.tables.iter().all(|table| table.rows > 0), "{:?}", done.tables);
    assert!(done.differences.iter().any(|row| row.row.contains("ghost") && row.fold_row.is_empty()), "{:?}", done.differences);
    assert!(done.streams >= 3 && done.events > 1_000 && done.things > 10 && done.generation == 1, "{done:?}");
    assert_eq!(counts(&rebuilt(&stage, player(1), false).await), [0, 0, 0], "twice is the same as once");

    assert!(counts(&rebuilt(&stage, player(2), false).await) == [0, 1, 0] && rows(&stage).await == expected);
    let audited = stage.twin_audit().await;
    let newest: Vec<(&str, &str, &str)> =
        audited.iter().take(2).map(|entry| (entry.action.as_str(), entry.target.as_str(), entry.outcome.as_str())).collect();
    let (first, second) = (format!("players/{}", player(2)), format!("players/{}", player(1)));
    assert_eq!(newest, [("rebuild_player", first.as_str(), "DONE"), ("rebuild_player", second.as_str(), "DONE")]);
    assert!(audited[0].detail.contains("0 were missing, 1 other than they should be, 0 too many"), "{}", audited[0].detail);
    assert_eq!(audited.len(), 4, "what was only asked is not noted");
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_player_is_rebuilt_while_that_very_player_goes_on() {
    let world = large_sample();
    let (before, meanwhile) = world.envelopes.split_at(world.envelopes.len() / 2);
    let mut stage = with_all_in(before).await;
    damage(&stage).await;
    let coming = async {
        for some in meanwhile.chunks(CHUNK) {
            stage.append(some, "7").await;
            stage.publish(some).await;
        }
    };
    let rebuilding = async {
        let mut wrong = [0; 3];
        for _ in 0..8 {
            let found = counts(&rebuilt(&stage, player(1), false).await);
            wrong.iter_mut().zip(found).for_each(|(sum, found)| *sum += found);
        }
        wrong
    };
    let ((), wrong) = tokio::join!(coming, rebuilding);
    assert!(wrong.iter().all(|count| *count >= 2), "{wrong:?}");
    eventually(LIMIT, "all is in", async || stage.lag().await == 0).await;
    assert_eq!(counts(&rebuilt(&stage, player(1), false).await), [0, 0, 0]);
    assert_eq!(rows(&stage).await, fold(&world.events()).expect("it folds"));
    let (found, _) = stage.compared(1, VerificationAgainst::Fold).await;
    assert_eq!(found.state(), VerificationState::Equal, "{found:?}");
    stage.stop().await;
}

/// Whether player 1 uses some arrows up by this event.
fn uses_arrows(envelope: &EventEnvelope) -> bool {
    let what = match &envelope.data {
        Some(Data::ItemConsumed(consumed)) => consumed.portion.as_ref().and_then(|portion| portion.what.as_ref()),
        _ => None,
    };
    envelope.stream_id == stream(1).uuid().as_bytes().as_slice() && matches!(what, Some(What::Quantity(_)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_damaged_row_has_parked_a_key_the_player_is_rebuilt_and_the_key_replayed() {
    let world = large_sample();
    let at = world.envelopes.iter().rposition(uses_arrows).expect("arrows are used");
    let stage = with_all_in(&world.envelopes[..at]).await;
    stage.damage(&format!("UPDATE inventory_g1.stacks SET quantity = 0, reserved = 0 WHERE player_id = '{}'", player(1))).await;
    stage.append(&world.envelopes[at..], "7").await;
    stage.publish(std::slice::from_ref(&world.envelopes[at])).await;
    eventually(LIMIT, "there are no arrows to use", async || stage.letters().await.len() == 1).await;
    stage.publish(&world.envelopes[at + 1..]).await;
    eventually(LIMIT, "the rest is parked", async || stage.lag().await == 0).await;

    // As of the events before the dead letter: what is parked is not in it.
    assert_eq!(counts(&rebuilt(&stage, player(1), false).await), [0, 1, 0]);
    assert_eq!(stage.letters().await.len(), 1);
    let names: Vec<String> = stage.letters().await.into_iter().map(|letter| letter.name).collect();
    stage.replay(&names, false).await;
    eventually(LIMIT, "nothing is parked", async || stage.letters().await.is_empty()).await;
    assert_eq!(rows(&stage).await, fold(&world.events()).expect("it folds"));
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_done_leaves_everything_as_it_was_and_is_noted() {
    let world = large_sample();
    let stage = with_all_in(&world.envelopes).await;
    let nobody = PlayerId::new(idempo_ids::Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_ffff));
    let refused = async |request: RebuildPlayerRequest| stage.ops.clone().rebuild_player(said(request)).await.expect_err("it is refused");
    let unknown = refused(asked(nobody, false)).await;
    assert_eq!((unknown.code(), reason(&unknown).as_str()), (Code::NotFound, "PLAYER_NOT_FOUND"));
    assert!(unknown.get_details_resource_info().expect("what is missing").resource_name.ends_with(&nobody.to_string()));
    let nowhere = refused(RebuildPlayerRequest { generation: 7, ..asked(player(1), false) }).await;
    assert_eq!((nowhere.code(), reason(&nowhere).as_str()), (Code::NotFound, "GENERATION_NOT_FOUND"));
    let nameless = refused(RebuildPlayerRequest { player: "players/red".to_owned(), ..asked(player(1), false) }).await;
    assert_eq!(nameless.code(), Code::InvalidArgument);

    damage(&stage).await;
    let damaged = rows(&stage).await;
    // The last table but one can't be written: what was done to those before it is undone.
    let refusing = "CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'full'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON inventory_g1.loadouts FOR EACH ROW EXECUTE FUNCTION public.refuse()";
    stage.damage(refusing).await;
    let failed = refused(asked(player(1), false)).await;
    assert_ne!(failed.code(), Code::Ok);
    assert_eq!(rows(&stage).await, damaged);
    stage.damage("DROP TRIGGER refuse ON inventory_g1.loadouts").await;

    // An event that the generation has and nobody stored.
    let last = world.envelopes.iter().rev().find(|one| one.stream_id == stream(1).uuid().as_bytes().as_slice()).expect("an event");
    stage.forget_event(last).await;
    let beyond = refused(asked(player(1), false)).await;
    assert_eq!((beyond.code(), reason(&beyond).as_str()), (Code::FailedPrecondition, "STREAM_BEYOND_STORE"));
    assert_eq!(rows(&stage).await, damaged);
    stage.append(std::slice::from_ref(last), "7").await;

    // Without its version there is nothing to go by.
    stage.damage(&format!("DELETE FROM projection.stream_version WHERE stream_id = '{}'", stream(1))).await;
    let gone = refused(asked(player(1), false)).await;
    assert_eq!(reason(&gone), "PLAYER_NOT_IN_GENERATION");
    assert_eq!(rows(&stage).await, damaged);
    let outcomes: Vec<String> = stage.twin_audit().await.into_iter().map(|entry| entry.outcome).collect();
    assert_eq!(outcomes.len(), 6, "{outcomes:?}");
    assert!(!outcomes.contains(&"DONE".to_owned()), "{outcomes:?}");
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_player_whose_rows_follow_from_too_much_is_refused_and_one_who_is_at_the_limit_is_not() {
    let stage = Stage::start().await;
    // Player 0's stream, and one of each other.
    let world = World::of_gifts(STREAMS_MAX - 1);
    stage.append_at_once(&world.envelopes, "7").await;
    stage.publish(&world.envelopes).await;
    eventually(LIMIT, "all is in", async || stage.lag().await == 0).await;
    let before = rows(&stage).await;
    let done = rebuilt(&stage, player(0), false).await;
    assert_eq!((done.streams, counts(&done)), (1_000, [0, 0, 0]), "{done:?}");

    // One more stream, by a gift that the generation need not even have.
    let further = World::of_gifts(STREAMS_MAX).envelopes.split_off(world.envelopes.len());
    stage.append(&further, "8").await;
    let refused = stage.ops.clone().rebuild_player(said(asked(player(0), false))).await.expect_err("it is too much");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "PLAYER_TOO_LARGE"));
    assert!(refused.message().contains("more than 1000 streams"), "{refused:?}");
    // Whoever has one of the gifts has no more to do with the others.
    let small = rebuilt(&stage, player(5), false).await;
    assert_eq!((small.streams, small.things), (2, 1), "{small:?}");
    assert_eq!(rows(&stage).await, before);
    let outcomes: Vec<String> = stage.twin_audit().await.into_iter().map(|entry| entry.outcome).collect();
    assert_eq!(outcomes, ["DONE", "PLAYER_TOO_LARGE", "DONE"]);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_player_with_more_events_than_are_folded_at_once_is_refused() {
    let stage = Stage::start().await;
    let world = World::of_arrows(EVENTS_MAX + 1);
    let (most, last) = world.envelopes.split_at(EVENTS_MAX);
    stage.append_at_once(most, "7").await;
    stage.publish(most).await;
    eventually(LIMIT, "all is in", async || stage.lag().await == 0).await;
    let done = rebuilt(&stage, player(0), false).await;
    assert_eq!((done.events, counts(&done)), (100_000, [0, 0, 0]), "{done:?}");

    stage.append(last, "8").await;
    let refused = stage.ops.clone().rebuild_player(said(asked(player(0), true))).await.expect_err("it is too much");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "PLAYER_TOO_LARGE"));
    assert!(refused.message().contains("more than 100000 events"), "{refused:?}");
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_killed_before_it_commits_a_player_leaves_everything_as_it_was_and_holds_nobody() {
    let world = large_sample();
    let (before, after) = world.envelopes.split_at(world.envelopes.len() - CHUNK);
    let stage = with_all_in(before).await;
    damage(&stage).await;
    let damaged = rows(&stage).await;
    let log = std::env::temp_dir().join(format!("{}killed.log", stage.topic));
    let mut doomed = beside_with(&stage, &log, &[("IDEMPO_KILL_AT", idempo_projection::failpoint::PLAYER_BEFORE_COMMIT)]).await;
    let mut ops = ProjectionServiceClient::connect(format!("http://{}", doomed.grpc())).await.expect("it is reached");
    ops.rebuild_player(said(asked(player(1), false))).await.expect_err("it dies over it");
    let status = doomed.wait_end(LIMIT).await.expect("it is dead");
    assert_eq!(status.signal(), Some(SIGKILL), "{status}");
    assert_eq!(rows(&stage).await, damaged);
    assert_eq!(stage.twin_audit().await, []);

    // Its locks are gone with it: the consumers go on, those that were its own with another process.
    stage.append(after, "7").await;
    stage.publish(after).await;
    eventually(LIMIT, "all is in", async || stage.lag().await == 0).await;
    assert!(counts(&rebuilt(&stage, player(1), false).await).iter().all(|count| *count >= 2));
    assert_eq!(rows(&stage).await, fold(&world.events()).expect("it folds"));
    stage.stop().await;
    let _ = std::fs::remove_file(log);
}
