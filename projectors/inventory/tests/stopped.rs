//! Partitions that have stopped, in several processes, and an operator who has them tried again.

use idempo_devstack::testing::eventually;
use idempo_ids::PlayerId;
use idempo_inventory_projector::read_rows;
use idempo_kafka::partition_of;
use idempo_pg::Pool;
use idempo_projection::POISON_PER_MINUTE_MAX;
use idempo_proto::ops::v1::ResumeProjectionRequest;
use idempo_proto::ops::v1::parked_letter_outcome::Outcome;

use crate::metrics::{beside, is, says};
use crate::stage::{PARTITIONS, PROJECTION, Stage, said};
use crate::support::LIMIT;
use crate::world::{granted, player};

/// So many players of each partition have rows that are refused: some more than make it stop.
const REFUSED: usize = POISON_PER_MINUTE_MAX + 2;

fn partition(player: PlayerId) -> i32 {
    partition_of(player.to_string().as_bytes(), PARTITIONS)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_resume_a_projection_has_the_stopped_partitions_of_all_its_processes_tried_again() {
    let mut stage = Stage::start().await;
    let log = std::env::temp_dir().join(format!("{}stopped.log", stage.topic));
    let mut process = beside(&stage, &log).await;
    let refused: Vec<usize> =
        (0..PARTITIONS).flat_map(|of| (1_000..).filter(move |number| partition(player(*number)) == of).take(REFUSED)).collect();
    stage.damage("ALTER TABLE inventory_g1.stacks ADD CONSTRAINT forgotten CHECK (quantity < 0)").await;
    stage.publish(&refused.iter().map(|number| granted(*number)).collect::<Vec<_>>()).await;
    eventually(LIMIT, "every partition has stopped", async || stage.projection().await.stopped_partitions == PARTITIONS).await;
    says(&process, "stopped_partitions", "", |stopped| stopped > 0.0 && stopped < f64::from(PARTITIONS)).await;

    stage.damage("ALTER TABLE inventory_g1.stacks DROP CONSTRAINT forgotten").await;
    let asked = ResumeProjectionRequest { name: PROJECTION.to_owned(), reason: "mended".to_owned() };
    stage.ops.resume_projection(said(asked)).await.expect("it is resumed");
    eventually(LIMIT, "all is read", async || stage.lag().await == 0).await;
    says(&process, "stopped_partitions", "", is(0.0)).await;
    assert_eq!(stage.projection().await.stopped_partitions, 0);
    assert_eq!(stage.audit().await.first().map(|entry| (entry.action.as_str(), entry.outcome.as_str())), Some(("resume", "DONE")));

    let names: Vec<String> = stage.letters().await.into_iter().map(|letter| letter.name).collect();
    assert_eq!(names.len(), POISON_PER_MINUTE_MAX * refused.len() / REFUSED);
    let outcomes = stage.replay(&names, false).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Applied(applied) if applied.records == 1)), "{outcomes:?}");
    let rows = read_rows(&Pool::open(&stage.config.generation_database(1)).expect("a pool")).await.expect("rows");
    assert_eq!(rows.stacks.len(), refused.len());
    process.stop().await.expect("it stops");
    stage.stop().await;
    let _ = std::fs::remove_file(log);
}
