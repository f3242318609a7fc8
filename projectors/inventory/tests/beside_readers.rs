//! What rebuilds and switches do so that those who read notice nothing of them.

use std::time::{Duration, Instant};

use idempo_devstack::testing::eventually;
use idempo_proto::inventory::v1::ListItemsRequest;
use idempo_proto::ops::v1::{CancelRebuildRequest, GenerationState, RebuildSource, StartRebuildRequest, VerificationState};

use crate::generations::{Readers, rebuild, switch};
use crate::stage::{Stage, generation_name, said};
use crate::support::LIMIT;
use crate::world::{large_sample, player};

/// The parts that are read at once while nobody reads the live generation.
const WORKERS: i32 = 4;
/// How long a part is made to take, and how long is rested after such a one at least.
const PART: Duration = Duration::from_secs(1);
const REST: Duration = Duration::from_secs(2);
/// Reads that come at the same moment.
const READS: i64 = 12;

async fn with_events() -> Stage {
    let (stage, world) = (Stage::start().await, large_sample());
    stage.append(&world.envelopes, "7").await;
    stage.publish(&world.envelopes).await;
    eventually(LIMIT, "all is in", async || stage.lag().await == 0).await;
    stage
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_somebody_reads_a_rebuild_reads_one_part_at_a_time_and_rests_after_it() {
    let mut stage = with_events().await;
    let of_many = || StartRebuildRequest { workers: WORKERS, ..rebuild(RebuildSource::EventStore) };
    let lock = stage.lock_events().await;
    stage.ops.start_rebuild(said(of_many())).await.expect("it begins");
    eventually(LIMIT, "parts are read side by side", async || stage.wait_for_events().await == i64::from(WORKERS)).await;
    let cancel = CancelRebuildRequest { name: generation_name(2), reason: "a test".to_owned() };
    stage.ops.cancel_rebuild(said(cancel)).await.expect("it is cancelled");
    lock.commit().await;
    eventually(LIMIT, "nothing is left of it", async || stage.traces(2).await == 0).await;

    let readers = Readers::start(&stage);
    let began = Instant::now();
    while began.elapsed() < PART {
        readers.read_on().await;
    }
    let lock = stage.lock_events().await;
    stage.ops.start_rebuild(said(of_many())).await.expect("it begins");
    eventually(LIMIT, "a part is read", async || stage.wait_for_events().await == 1).await;
    let began = Instant::now();
    while began.elapsed() < PART {
        readers.read_on().await;
        assert!(stage.wait_for_events().await <= 1, "while somebody reads there is one at a time");
    }
    lock.commit().await;
    let freed = Instant::now();
    assert_eq!(stage.settled(3).await.state(), GenerationState::Ready);
    assert!(freed.elapsed() >= REST, "after a long part comes a rest: {:?}", freed.elapsed());
    readers.stop().await;
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_has_as_many_connections_to_a_generation_as_its_readers_had_before_it_answers_them_from_it() {
    let mut stage = with_events().await;
    stage.ops.start_rebuild(said(rebuild(RebuildSource::EventStore))).await.expect("it begins");
    assert_eq!(stage.settled(2).await.state(), GenerationState::Ready);
    assert_eq!(stage.verified(2).await.state(), VerificationState::Equal);

    // Reads that wait for each other have a connection each.
    let lock = stage.lock_items().await;
    let reads: Vec<_> = (0..READS)
        .map(|_| {
            let mut client = stage.queries.clone();
            let asked = ListItemsRequest { parent: format!("players/{}", player(0)), ..ListItemsRequest::default() };
            tokio::spawn(async move { client.list_items(asked).await })
        })
        .collect();
    eventually(LIMIT, "all of them wait", async || stage.wait_for_rows().await == READS).await;
    lock.commit().await;
    for read in reads {
        read.await.expect("no panic").expect("an answer");
    }
    let before = stage.sessions().await;
    stage.ops.switch_generation(said(switch(2, false))).await.expect("it is switched to");
    eventually(LIMIT, "the connections are there though nobody has read", async || stage.sessions().await >= before + READS).await;
    eventually(LIMIT, "reads are answered from generation 2", async || stage.read_generation().await == 2).await;
    stage.stop().await;
}
