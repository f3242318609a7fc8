//! Generations compared with the fold of the events, on real servers: when the live one is wrong, and when the other one is.

use idempo_devstack::testing::eventually;
use idempo_proto::event::v1::EventEnvelope;
use idempo_proto::ops::v1::{
    DropGenerationRequest, GenerationState, StartRebuildRequest, SwitchGenerationRequest, VerificationAgainst, VerificationState,
    VerifyGenerationRequest,
};
use tonic::Status;
use tonic_types::StatusExt as _;

use crate::stage::{PROJECTION, Stage, generation_name, said};
use crate::support::LIMIT;
use crate::world::{large_sample, player, stream};

/// So many events come at a time while a comparison is under way.
const CHUNK: usize = 40;

fn reason(status: &Status) -> String {
    status.get_details_error_info().expect("an ErrorInfo").reason
}

fn switch(number: i32) -> SwitchGenerationRequest {
    SwitchGenerationRequest { name: generation_name(number), reason: "a test".to_owned(), ..SwitchGenerationRequest::default() }
}

async fn rebuilt(stage: &mut Stage, number: i32) {
    let asked = StartRebuildRequest { name: PROJECTION.to_owned(), reason: "a test".to_owned(), ..StartRebuildRequest::default() };
    stage.ops.start_rebuild(said(asked)).await.expect("it begins");
    assert_eq!(stage.settled(number).await.state(), GenerationState::Ready);
}

/// A stage on which all these have happened, and generation 2 has them all.
async fn with_two_generations(envelopes: &[EventEnvelope]) -> Stage {
    let mut stage = Stage::start().await;
    stage.append(envelopes, "7").await;
    stage.publish(envelopes).await;
    rebuilt(&mut stage, 2).await;
    eventually(LIMIT, "all is in", async || stage.projection().await.generations.iter().all(|one| one.lag_events == 0)).await;
    stage
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_live_generation_is_wrong_the_right_one_differs_from_it_equals_the_fold_and_is_switched_to() {
    let world = large_sample();
    let (before, meanwhile) = world.envelopes.split_at(world.envelopes.len() / 2);
    let mut stage = with_two_generations(before).await;
    // A row of somebody who does nothing any more, and one that nothing leads to.
    let damage = "UPDATE inventory_g1.item_events SET counterparty_id = item_id
        WHERE (item_id, hop, ordinal) = (SELECT item_id, hop, ordinal FROM inventory_g1.item_events ORDER BY 1, 2, 3 LIMIT 1)";
    stage.damage(damage).await;
    stage.damage("INSERT INTO inventory_g1.stacks VALUES ('00000000-0000-7000-8000-000000000001', 'ghost', 1, 0, now())").await;

    let (found, _) = stage.compared(2, VerificationAgainst::Live).await;
    assert_eq!(found.state(), VerificationState::Different, "{found:?}");
    let refused = stage.ops.switch_generation(said(switch(2))).await.expect_err("it differs from the live one");
    assert_eq!(reason(&refused), "GENERATION_UNVERIFIED");

    // Events keep coming while it is compared with the fold, again and again.
    let coming = async {
        for some in meanwhile.chunks(CHUNK) {
            stage.append(some, "7").await;
            stage.publish(some).await;
        }
    };
    let comparing = async {
        let mut other = stage.twin();
        let mut found = Vec::new();
        for number in [2, 1, 2] {
            found.push(other.compared(number, VerificationAgainst::Fold).await);
        }
        found
    };
    let ((), found) = tokio::join!(coming, comparing);
    let states: Vec<VerificationState> = found.iter().map(|(one, _)| one.state()).collect();
    assert_eq!(states, [VerificationState::Equal, VerificationState::Different, VerificationState::Equal], "{found:?}");
    assert!(
        found.iter().all(|(one, _)| one.rows > 100 && one.against() == VerificationAgainst::Fold && one.compared_with == 1),
        "{found:?}"
    );

    // What will change for readers is told with the verdict on generation 2; generation 1 is told what it should be.
    let (of_second, of_first) = (&found[2], &found[1]);
    assert!(of_second.0.live_buckets_different >= 2 && of_second.0.buckets_different == 0, "{:?}", of_second.0);
    let ghost = of_second.1.iter().find(|one| one.live_row.contains("ghost")).expect("the ghost is in the sample");
    assert!(ghost.against() == VerificationAgainst::Live && ghost.row.is_empty() && ghost.fold_row.is_empty(), "{ghost:?}");
    let ghost = of_first.1.iter().find(|one| one.row.contains("ghost")).expect("the ghost is in the sample");
    assert!(ghost.against() == VerificationAgainst::Fold && ghost.fold_row.is_empty() && ghost.live_row.is_empty(), "{ghost:?}");
    assert_eq!(of_first.0.live_buckets_different, 0);

    eventually(LIMIT, "all is in", async || stage.projection().await.generations.iter().all(|one| one.lag_events == 0)).await;
    stage.ops.switch_generation(said(switch(2))).await.expect("it is switched to without force");
    eventually(LIMIT, "reads are answered from generation 2", async || stage.read_generation().await == 2).await;
    // It was right beside any live generation, so the way back to 1, which was found different, is refused as a switch.
    let refused = stage.ops.switch_generation(said(switch(1))).await.expect_err("it differs from the fold");
    assert_eq!(reason(&refused), "GENERATION_UNVERIFIED");
    eventually(LIMIT, "no session is left", async || stage.comparing_sessions().await == 0).await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuilt_generation_that_is_wrong_is_not_equal_to_the_fold_though_it_may_equal_the_live_one() {
    let mut stage = with_two_generations(&large_sample().envelopes).await;
    // Both are wrong in the same way.
    for number in [1, 2] {
        stage.damage(&format!("DELETE FROM inventory_g{number}.stacks WHERE player_id = '{}'", player(1))).await;
    }
    let (found, _) = stage.compared(2, VerificationAgainst::Live).await;
    assert_eq!(found.state(), VerificationState::Equal, "{found:?}");
    let (found, sample) = stage.compared(2, VerificationAgainst::Fold).await;
    assert_eq!((found.state(), found.buckets_different, found.live_buckets_different), (VerificationState::Different, 1, 0), "{found:?}");
    let [row] = sample.as_slice() else { panic!("one row differs: {sample:?}") };
    assert!(row.table == "stacks" && row.key.contains(&player(1).to_string()) && row.fold_row.contains("arrow"), "{row:?}");
    assert!(row.row.is_empty() && row.against() == VerificationAgainst::Fold, "{row:?}");
    let refused = stage.ops.switch_generation(said(switch(2))).await.expect_err("the last comparison counts");
    assert_eq!(reason(&refused), "GENERATION_UNVERIFIED");
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_never_came_through_is_missed_and_one_that_nobody_stored_is_a_difference() {
    let world = large_sample();
    let last = world.envelopes.iter().rposition(|one| one.stream_id == stream(2).uuid().as_bytes().as_slice()).expect("an event");
    let (lost, came) = (&world.envelopes[last], [&world.envelopes[..last], &world.envelopes[last + 1..]].concat());
    let mut stage = with_two_generations(&came).await;
    stage.append(std::slice::from_ref(lost), "7").await;
    let (found, _) = stage.compared(2, VerificationAgainst::Fold).await;
    assert_eq!(found.state(), VerificationState::Failed, "{found:?}");
    let told = format!("of {} it has version {}, the generation {}", stream(2), lost.version, lost.version - 1);
    assert!(found.failure.starts_with("NOT_AT_THE_SAME_EVENTS: 1 streams") && found.failure.contains(&told), "{found:?}");
    stage.publish(std::slice::from_ref(lost)).await;
    let (found, _) = stage.compared(2, VerificationAgainst::Fold).await;
    assert_eq!(found.state(), VerificationState::Equal, "{found:?}");

    stage.forget_event(lost).await;
    let (found, sample) = stage.compared(2, VerificationAgainst::Fold).await;
    assert_eq!(found.state(), VerificationState::Different, "{found:?}");
    assert!(sample.iter().any(|one| one.table == "stream_version" && one.row.contains(&stream(2).to_string())), "{sample:?}");
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generation_that_is_dropped_while_it_is_compared_leaves_no_trace_and_holds_nobody() {
    let mut stage = with_two_generations(&large_sample().envelopes).await;
    let lock = stage.lock_events().await;
    let asked =
        VerifyGenerationRequest { name: generation_name(2), reason: "a test".to_owned(), against: VerificationAgainst::Fold.into() };
    stage.ops.verify_generation(said(asked)).await.expect("it begins");
    eventually(LIMIT, "it waits for the events", async || stage.waits_for_lock().await).await;
    assert!(stage.comparing_sessions().await > 0);
    let dropped = DropGenerationRequest { name: generation_name(2), reason: "a test".to_owned() };
    stage.ops.drop_generation(said(dropped)).await.expect("it is dropped");
    eventually(LIMIT, "nothing is left of it", async || stage.traces(2).await == 0 && stage.comparing_sessions().await == 0).await;
    lock.commit().await;
    stage.stop().await;
}
