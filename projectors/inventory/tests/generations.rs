//! Generations on real servers: built anew beside the live one, compared, switched to, rolled back, dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use idempo_devstack::testing::eventually;
use idempo_inventory_projector::{fold, read_rows};
use idempo_pg::Pool;
use idempo_proto::inventory::v1::ListItemsRequest;
use idempo_proto::ops::v1::{
    CancelRebuildRequest, DropGenerationRequest, GenerationState, GetVerificationRequest, PauseProjectionRequest, RebuildPhase,
    RebuildSource, ResumeProjectionRequest, RollBackGenerationRequest, StartRebuildRequest, SwitchGenerationRequest, VerificationState,
};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::stage::{PROJECTION, Stage, generation_name, said};
use crate::support::LIMIT;
use crate::world::{large_sample, player};

/// A rebuild of so few events a second is under way for as long as a test looks at it.
const SLOW: i64 = 20;

/// A cancellation is answered within this, also while something else has its tables; locks are waited for longer.
const CANCEL_LIMIT: Duration = Duration::from_secs(2);

fn reason(status: &Status) -> String {
    status.get_details_error_info().expect("an ErrorInfo").reason
}

pub(crate) fn rebuild(source: RebuildSource) -> StartRebuildRequest {
    let workers = if source == RebuildSource::Kafka { 0 } else { 2 };
    StartRebuildRequest {
        name: PROJECTION.to_owned(),
        source: source.into(),
        workers,
        events_per_second_max: 0,
        reason: "a test".to_owned(),
    }
}

pub(crate) fn switch(number: i32, force: bool) -> SwitchGenerationRequest {
    SwitchGenerationRequest { name: generation_name(number), live_generation: 0, force, reason: "a test".to_owned() }
}

/// A switch to generation 2, which was found equal, is refused while another one is live than the caller knows, and while a partition of it has stopped.
async fn refused_though_equal(stage: &mut Stage) {
    let other = SwitchGenerationRequest { live_generation: 9, ..switch(2, false) };
    let refused = stage.ops.switch_generation(said(other)).await.expect_err("another one is live");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Aborted, "LIVE_GENERATION_MISMATCH"));
    stage.damage("UPDATE projection.checkpoint SET stopped_code = 'TEST' WHERE generation = 2 AND partition = 0").await;
    let refused = stage.ops.switch_generation(said(switch(2, false))).await.expect_err("a partition of it has stopped");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "GENERATION_LAGGING"));
    stage.damage("UPDATE projection.checkpoint SET stopped_code = NULL WHERE generation = 2").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generation_rebuilt_while_events_come_equals_the_live_one_and_readers_notice_nothing_of_the_switch() {
    let mut stage = Stage::start().await;
    let world = large_sample();
    let (last, envelopes) = world.envelopes.split_last().expect("events");
    let third = envelopes.len() / 3;
    // What is in the store when the rebuild begins, of which a part is in Kafka; the rest comes meanwhile. Of the first third the numbers of
    // transactions are those of another cluster, as after a restore.
    stage.append(&envelopes[..third], "999999999999").await;
    stage.publish(&envelopes[..third]).await;
    stage.append(&envelopes[third..2 * third], "7").await;
    // A transaction that was begun before the rebuild and is open after its end does not hold it up.
    let open = stage.append_and_stay_open(last).await;

    let refused = stage.ops.switch_generation(said(switch(2, true))).await.expect_err("there is none");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "GENERATION_NOT_FOUND"));
    let begun = stage.ops.start_rebuild(said(rebuild(RebuildSource::EventStore))).await.expect("it begins").into_inner();
    assert_eq!(begun.generation.expect("a generation").generation, 2);
    stage.publish(&envelopes[third..2 * third]).await;
    for some in envelopes[2 * third..].chunks(97) {
        stage.append(some, "7").await;
        stage.publish(some).await;
    }
    let built = stage.settled(2).await;
    assert_eq!(built.state(), GenerationState::Ready, "{built:?}");
    let how = built.rebuild.expect("it was rebuilt");
    assert!(how.buckets_total > 2 && how.buckets_done == how.buckets_total, "{how:?}");
    open.commit().await;
    stage.publish(std::slice::from_ref(last)).await;

    let refused = stage.ops.switch_generation(said(switch(2, false))).await.expect_err("it was not compared");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "GENERATION_UNVERIFIED"));
    let verdict = stage.verified(2).await;
    assert_eq!(verdict.state(), VerificationState::Equal, "{verdict:?}");
    assert!(verdict.rows > 100 && verdict.buckets_different == 0, "{verdict:?}");

    refused_though_equal(&mut stage).await;

    let readers = Readers::start(&stage);
    stage.ops.switch_generation(said(switch(2, false))).await.expect("it is switched to");
    eventually(LIMIT, "reads are answered from generation 2", async || stage.read_generation().await == 2).await;
    readers.read_on().await;
    let rolled_back = RollBackGenerationRequest { name: PROJECTION.to_owned(), force: false, reason: "a test".to_owned() };
    let back =
        stage.ops.roll_back_generation(said(rolled_back)).await.expect("it goes back").into_inner().projection.expect("a projection");
    assert_eq!((back.live_generation, back.previous_generation), (1, 2));
    eventually(LIMIT, "reads are answered from generation 1", async || stage.read_generation().await == 1).await;
    readers.read_on().await;
    stage.ops.switch_generation(said(switch(2, false))).await.expect("and to it again");
    eventually(LIMIT, "reads are answered from generation 2 again", async || stage.read_generation().await == 2).await;
    readers.read_on().await;
    let slowest_us = readers.stop().await;
    assert!(slowest_us < 1_000_000, "a read took {slowest_us} us");

    let expected = fold(&world.events()).expect("it folds");
    for number in [1, 2] {
        let pool = Pool::open(&stage.config.generation_database(number)).expect("a pool");
        eventually(LIMIT, "the rows are those of the fold", async || read_rows(&pool).await.expect("rows") == expected).await;
    }
    let drop_first = DropGenerationRequest { name: generation_name(1), reason: "a test".to_owned() };
    stage.ops.drop_generation(said(drop_first)).await.expect("it is dropped");
    eventually(LIMIT, "generation 1 is gone", async || stage.traces(1).await == 0).await;
    let audited: Vec<(String, String)> = stage.audit().await.into_iter().map(|entry| (entry.action, entry.outcome)).collect();
    let audited: Vec<(&str, &str)> = audited.iter().rev().map(|(action, outcome)| (action.as_str(), outcome.as_str())).collect();
    assert_eq!(
        audited,
        [
            ("switch", "GENERATION_NOT_FOUND"),
            ("rebuild", "DONE"),
            ("switch", "GENERATION_UNVERIFIED"),
            ("verify", "DONE"),
            ("switch", "LIVE_GENERATION_MISMATCH"),
            ("switch", "GENERATION_LAGGING"),
            ("switch", "DONE"),
            ("roll_back", "DONE"),
            ("switch", "DONE"),
            ("drop", "DONE"),
        ]
    );
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rebuilt_from_the_store_and_from_kafka_it_is_the_same() {
    let mut stage = Stage::start().await;
    let world = large_sample();
    stage.append(&world.envelopes, "7").await;
    stage.publish(&world.envelopes).await;
    for (number, source) in [(2, RebuildSource::EventStore), (3, RebuildSource::Kafka)] {
        stage.ops.start_rebuild(said(rebuild(source))).await.expect("it begins");
        assert_eq!(stage.settled(number).await.state(), GenerationState::Ready);
        let verdict = stage.verified(number).await;
        assert_eq!(verdict.state(), VerificationState::Equal, "{source:?}: {verdict:?}");
        assert_eq!(verdict.compared_with, number - 1);
        stage.ops.switch_generation(said(switch(number, false))).await.expect("it is switched to");
    }
    let pool = Pool::open(&stage.config.generation_database(3)).expect("a pool");
    assert_eq!(read_rows(&pool).await.expect("rows"), fold(&world.events()).expect("it folds"));
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_rebuild_is_refused_and_a_cancelled_one_leaves_no_trace() {
    let mut stage = Stage::start().await;
    let world = large_sample();
    stage.append(&world.envelopes, "7").await;
    stage.publish(&world.envelopes).await;
    let slow = StartRebuildRequest { events_per_second_max: SLOW, ..rebuild(RebuildSource::EventStore) };
    stage.ops.start_rebuild(said(slow)).await.expect("it begins");
    eventually(LIMIT, "some events are in", async || stage.generation(2).await.rebuild.is_some_and(|how| how.events_done > 0)).await;
    let scanning = stage.generation(2).await.rebuild.expect("a rebuild");
    assert_eq!(scanning.phase(), RebuildPhase::Scanning);
    assert!(scanning.remaining_ms > 0 && scanning.events_per_second > 0.0 && !scanning.worker_instance.is_empty(), "{scanning:?}");

    let refused = stage.ops.start_rebuild(said(rebuild(RebuildSource::Kafka))).await.expect_err("one is under way");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "REBUILD_UNDER_WAY"));
    let told = refused.get_details_error_info().expect("an ErrorInfo").metadata;
    assert_eq!((told["caller"].as_str(), told["generation"].as_str()), ("tester", "2"));

    let cancel = CancelRebuildRequest { name: generation_name(2), reason: "a test".to_owned() };
    stage.ops.cancel_rebuild(said(cancel.clone())).await.expect("it is cancelled");
    eventually(LIMIT, "nothing is left of it", async || stage.traces(2).await == 0).await;
    let refused = stage.ops.cancel_rebuild(said(cancel)).await.expect_err("there is none");
    assert_eq!(refused.code(), Code::NotFound);

    let begun = stage.ops.start_rebuild(said(rebuild(RebuildSource::EventStore))).await.expect("another begins").into_inner();
    assert_eq!(begun.generation.expect("a generation").generation, 3, "a number is never used again");
    assert_eq!(stage.settled(3).await.state(), GenerationState::Ready);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cancels_does_not_wait_for_indexes_that_are_being_made() {
    let mut stage = Stage::start().await;
    let world = large_sample();
    stage.append(&world.envelopes, "7").await;
    stage.publish(&world.envelopes).await;
    // Slowly enough for a reader to come before the indexes.
    let events_per_second_max = i64::try_from(world.envelopes.len()).expect("few") / 2;
    stage
        .ops
        .start_rebuild(said(StartRebuildRequest { events_per_second_max, ..rebuild(RebuildSource::EventStore) }))
        .await
        .expect("it begins");
    // Who reads the table keeps its indexes from being made: as if they took long.
    let reader = stage.read_items_of(2).await;
    eventually(LIMIT, "the indexes are being made", async || stage.wait_for_rows().await > 0).await;
    assert_eq!(stage.generation(2).await.rebuild.expect("a rebuild").phase(), RebuildPhase::Indexing);
    let cancel = CancelRebuildRequest { name: generation_name(2), reason: "a test".to_owned() };
    let cancelled = tokio::time::timeout(CANCEL_LIMIT, stage.ops.cancel_rebuild(said(cancel))).await;
    cancelled.expect("it does not wait").expect("it is cancelled");
    drop(reader);
    eventually(LIMIT, "nothing is left of it", async || stage.traces(2).await == 0).await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_difference_is_found_and_shown_and_keeps_the_generation_from_being_switched_to() {
    let mut stage = Stage::start().await;
    let world = large_sample();
    stage.append(&world.envelopes, "7").await;
    stage.publish(&world.envelopes).await;
    stage.ops.start_rebuild(said(rebuild(RebuildSource::EventStore))).await.expect("it begins");
    stage.settled(2).await;
    let damage = "WITH x AS (SELECT item_id FROM inventory_g2.items ORDER BY item_id LIMIT 1)
        UPDATE inventory_g2.items AS i SET item_type = 'damaged' FROM x WHERE i.item_id = x.item_id";
    stage.damage(damage).await;
    let verdict = stage.verified(2).await;
    assert_eq!((verdict.state(), verdict.buckets_different), (VerificationState::Different, 1), "{verdict:?}");
    let asked = GetVerificationRequest { name: generation_name(2) };
    let shown = stage.ops.get_verification(said(asked)).await.expect("a verification").into_inner().differences;
    assert_eq!(shown.len(), 1, "{shown:?}");
    assert!(shown[0].table == "items" && shown[0].row.contains("damaged") && shown[0].live_row.contains("sword"), "{shown:?}");
    let refused = stage.ops.switch_generation(said(switch(2, false))).await.expect_err("they differ");
    assert_eq!(reason(&refused), "GENERATION_UNVERIFIED");
    stage.ops.switch_generation(said(switch(2, true))).await.expect("it is forced");
    eventually(LIMIT, "reads are answered from generation 2", async || stage.read_generation().await == 2).await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_without_its_first_records_is_no_source() {
    let mut stage = Stage::start().await;
    let world = large_sample();
    stage.publish(&world.envelopes).await;
    stage.forget_first_record().await;
    let refused = stage.ops.start_rebuild(said(rebuild(RebuildSource::Kafka))).await.expect_err("history is incomplete");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "HISTORY_INCOMPLETE"));
    assert!(refused.message().contains("begins at offset 1"), "{refused:?}");
    assert_eq!(stage.traces(2).await, 0);
    let nameless = stage.ops.start_rebuild(rebuild(RebuildSource::EventStore)).await.expect_err("who asks?");
    assert_eq!(nameless.code(), Code::InvalidArgument);
    assert_eq!(stage.audit().await.len(), 2);
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_projection_stands_still_and_goes_on_where_it_stood() {
    let mut stage = Stage::start().await;
    let world = large_sample();
    let half = world.envelopes.len() / 2;
    stage.publish(&world.envelopes[..half]).await;
    eventually(LIMIT, "the first half is in", async || stage.lag().await == 0).await;
    let pause = PauseProjectionRequest { name: PROJECTION.to_owned(), reason: "a test".to_owned() };
    stage.ops.pause_projection(said(pause)).await.expect("it is paused");
    eventually(LIMIT, "the gates are heard to be shut", async || stage.looked_since_paused().await).await;
    stage.publish(&world.envelopes[half..]).await;
    let behind = i64::try_from(world.envelopes.len() - half).expect("small");
    eventually(LIMIT, "the lag is seen", async || stage.lag().await == behind).await;
    let resume = ResumeProjectionRequest { name: PROJECTION.to_owned(), reason: "a test".to_owned() };
    stage.ops.resume_projection(said(resume)).await.expect("it goes on");
    eventually(LIMIT, "all is in", async || stage.lag().await == 0).await;
    let pool = Pool::open(&stage.config.generation_database(1)).expect("a pool");
    assert_eq!(read_rows(&pool).await.expect("rows"), fold(&world.events()).expect("it folds"));
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_whose_process_is_gone_is_ended_by_another_one() {
    let mut stage = Stage::start().await;
    let world = large_sample();
    stage.append(&world.envelopes, "7").await;
    stage.publish(&world.envelopes).await;
    let slow = StartRebuildRequest { events_per_second_max: 200, ..rebuild(RebuildSource::EventStore) };
    stage.ops.start_rebuild(said(slow)).await.expect("it begins");
    eventually(LIMIT, "some events are in", async || stage.generation(2).await.rebuild.is_some_and(|how| how.events_done > 0)).await;
    assert_eq!(stage.generation(2).await.rebuild.expect("a rebuild").phase(), RebuildPhase::Scanning);
    let mut other = stage.replaced().await;
    let built = other.settled(2).await;
    assert_eq!(built.state(), GenerationState::Ready, "{built:?}");
    let verdict = other.verified(2).await;
    assert_eq!(verdict.state(), VerificationState::Equal, "{verdict:?}");
    other.stop().await;
}

/// Clients that read without a pause.
pub(crate) struct Readers {
    stop: Arc<AtomicBool>,
    slowest_us: Arc<AtomicU64>,
    reads: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Readers {
    pub(crate) fn start(stage: &Stage) -> Self {
        let (stop, slowest_us, reads) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (mut client, stopped, slowest, ended) = (stage.queries.clone(), Arc::clone(&stop), Arc::clone(&slowest_us), Arc::clone(&reads));
        let task = tokio::spawn(async move {
            while !stopped.load(Ordering::SeqCst) {
                let began = tokio::time::Instant::now();
                let asked = ListItemsRequest { parent: format!("players/{}", player(0)), ..ListItemsRequest::default() };
                client.list_items(asked).await.expect("every read is answered");
                slowest.fetch_max(u64::try_from(began.elapsed().as_micros()).expect("short"), Ordering::SeqCst);
                ended.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { stop, slowest_us, reads, task }
    }

    /// Waits until some more reads are answered.
    pub(crate) async fn read_on(&self) {
        let before = self.reads.load(Ordering::SeqCst);
        eventually(LIMIT, "reads are answered", async || self.reads.load(Ordering::SeqCst) > before + 5).await;
    }

    /// The slowest read, in microseconds.
    pub(crate) async fn stop(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        tokio::time::timeout(Duration::from_secs(10), self.task).await.expect("it ends").expect("no read failed");
        self.slowest_us.load(Ordering::SeqCst)
    }
}
