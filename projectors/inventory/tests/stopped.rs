//! Partitions that have stopped, in several processes, and an operator who has them tried again.

use idempo_devstack::testing::eventually;
use idempo_ids::PlayerId;
use idempo_inventory_projector::read_rows;
use idempo_kafka::partition_of;
use idempo_pg::Pool;
use idempo_projection::{PARKED_KEYS_MAX, POISON_PER_MINUTE_MAX};
use idempo_proto::ops::v1::parked_letter_outcome::Outcome;
use idempo_proto::ops::v1::{ListParkedLettersRequest, ResumeProjectionRequest};

use crate::metrics::{beside, is, says};
use crate::stage::{PARTITIONS, PROJECTION, Stage, said};
use crate::standings::FAR;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_without_room_for_another_parked_key_stops_until_somebody_has_made_room() {
    let stage = Stage::start().await;
    let (topic, partition) = (stage.topic.clone(), partition(player(0)));
    let fill = format!(
        "INSERT INTO projection.dead_letter (projection, generation, topic, partition, record_offset, group_id, key, headers, streams, stage, code,
            reason, first_code, first_reason, attempts, first_failed_at, last_failed_at)
        SELECT 'inventory', 1, '{topic}', {partition}, {FAR} + n, '{topic}.g1', convert_to(n::text, 'UTF8'), '', '{{}}', 'decode', 'LONG_AGO', '',
            'LONG_AGO', '', 3, now() - interval '1 hour', now() - interval '1 hour'
        FROM generate_series(1, {PARKED_KEYS_MAX}) AS n"
    );
    stage.damage(&fill).await;
    // Whoever takes the partition then finds it full.
    let mut stage = stage.replaced().await;
    stage.garbage(player(0).uuid(), Some(b"not an envelope")).await;
    let stop_code = async || {
        let live = stage.projection().await.generations.remove(0);
        live.partitions.into_iter().find(|one| one.partition == partition).map(|one| one.stop_code).unwrap_or_default()
    };
    eventually(LIMIT, "the partition has stopped", async || stop_code().await == "PARKING_FULL").await;

    let oldest = stage.letters().await.remove(0).name;
    assert!(
        matches!(stage.discard(&[oldest]).await[..], [Outcome::Discarded(_)]),
        "what is parked can be settled while the partition stands"
    );
    let asked = ResumeProjectionRequest { name: PROJECTION.to_owned(), reason: "there is room".to_owned() };
    stage.ops.resume_projection(said(asked)).await.expect("it is resumed");
    eventually(LIMIT, "all is read", async || stage.lag().await == 0).await;
    let asked =
        ListParkedLettersRequest { parent: PROJECTION.to_owned(), key: player(0).to_string(), ..ListParkedLettersRequest::default() };
    let found = stage.parked.clone().list_parked_letters(said(asked)).await.expect("a list").into_inner().parked_letters;
    assert_eq!(found.iter().map(|letter| letter.code.as_str()).collect::<Vec<_>>(), ["UNDECODABLE_RECORD"]);
    stage.stop().await;
}
