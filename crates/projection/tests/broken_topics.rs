//! What a projection does with a topic that is not as it must be: each state has a name, stops what it must, and skips nothing.

use idempo_devstack::testing::eventually;
use idempo_kafka::by_hand::{self, Anything};
use idempo_projection::{Cause, Halt, PartitionState, TopicFault};
use idempo_proto::event::v1::EventEnvelope;
use prost::Message as _;

use crate::runtime::{PARTITIONS, Process, Topic, eventually_totals, grants, kafka, totals};
use crate::support::{LIMIT, Totals, View, granted, malformed, of_unknown_type, player};

/// A player of a partition: the lowest.
fn resident(partition: i32, partitions: i32) -> u128 {
    (0..).find(|number| idempo_kafka::partition_of(player(*number).to_string().as_bytes(), partitions) == partition).expect("there is one")
}

fn changed(envelope: &[u8], change: impl FnOnce(&mut EventEnvelope)) -> Vec<u8> {
    let mut envelope = EventEnvelope::decode(envelope).expect("an envelope");
    change(&mut envelope);
    envelope.encode_to_vec()
}

/// A spoilt record: its key, or none, and its value, or none.
type Poison = (Option<String>, Option<Vec<u8>>);

/// What can stand in a topic that is no next event of a stream, for a player who has versions 1 and 2, and the code of the state it leads to.
fn poisons(number: u128, stranger: u128) -> Vec<(&'static str, Poison)> {
    let key = |number: u128| Some(player(number).to_string());
    let third = granted(number, 3, 1);
    let other_stream = changed(&granted(number, 1, 1), |envelope| envelope.stream_id = vec![9; 16].into());
    let other_second = changed(&granted(number, 2, 7), |envelope| envelope.event_id = vec![9; 16].into());
    let large = changed(&third, |envelope| envelope.traceparent = "x".repeat(900_000)).into_iter().chain([0xff]).collect();
    vec![
        ("UNDECODABLE_RECORD", (key(number), Some(b"\xff\xfe not an envelope".to_vec()))),
        ("UNDECODABLE_RECORD", (key(number), Some(third[..third.len() - 5].to_vec()))),
        ("UNDECODABLE_RECORD", (key(number), Some(Vec::new()))),
        ("UNDECODABLE_RECORD", (key(number), Some(large))),
        ("UNDECODABLE_RECORD", (key(number), Some(prost_types::Timestamp { seconds: 7, nanos: 9 }.encode_to_vec()))),
        ("UNDECODABLE_RECORD", (key(number), None)),
        ("UNKNOWN_EVENT_TYPE", (key(number), Some(of_unknown_type(number, 3)))),
        ("MALFORMED_EVENT", (key(number), Some(malformed(number, 3)))),
        ("FOREIGN_STREAM", (key(number), Some(other_stream))),
        ("KEY_MISMATCH", (None, Some(third.clone()))),
        ("KEY_MISMATCH", (key(stranger), Some(third))),
        ("MISPLACED_RECORD", (key(stranger), Some(granted(stranger, 1, 1)))),
        ("VERSION_GAP", (key(number), Some(granted(number, 4, 1)))),
        ("VERSION_CONFLICT", (key(number), Some(other_second))),
    ]
}

/// The dead letters in the store: partition, offset and code.
async fn letters(view: &View) -> Vec<(i32, i64, String)> {
    let client = view.pool.get().await.expect("the database answers");
    let rows = client.query("SELECT partition, record_offset, code FROM dead_letter ORDER BY 1, 2", &[]).await.expect("rows");
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_else_stands_in_a_topic_is_a_dead_letter_by_name_and_without_it_all_goes_on() {
    let cases = poisons(0, 0).len();
    let partitions = i32::try_from(cases).expect("small") + 1;
    let (view, topic) = (View::new().await, Topic::with(partitions).await);
    let healthy = resident(partitions - 1, partitions);
    let mut records = Vec::new();
    let mut expected = Vec::new();
    let mut rows = Totals::new();
    for partition in 0..partitions - 1 {
        let number = resident(partition, partitions);
        let (code, (key, value)) = poisons(number, healthy).swap_remove(usize::try_from(partition).expect("small"));
        let own = Some(player(number).to_string());
        // What has another key, or none, leaves its player's own key alone.
        rows.insert(player(number), if key == own { (2, 2) } else { (3, 3) });
        for (key, value) in [
            (own.clone(), Some(granted(number, 1, 1))),
            (own.clone(), Some(granted(number, 2, 1))),
            (key, value),
            (own, Some(granted(number, 3, 1))),
        ] {
            records.push((partition, key, value));
        }
        expected.push((partition, 2, code.to_owned()));
    }
    let records: Vec<Anything<'_>> = records
        .iter()
        .map(|(partition, key, value)| Anything { partition: *partition, key: key.as_ref().map(String::as_bytes), value: value.as_deref() })
        .collect();
    by_hand::write(&kafka(), &topic.name, &records).await.expect("it is written");
    topic.write([(healthy, granted(healthy, 1, 1))]).await;
    rows.insert(player(healthy), (1, 1));

    let process = Process::start(&view, &topic, "");
    eventually(LIMIT, "each is a dead letter", async || letters(&view).await.len() >= cases).await;
    eventually_totals(&view, &rows).await;
    assert_eq!(letters(&view).await, expected);
    assert_eq!(process.progress.stops(None), []);
    eventually(LIMIT, "all is read", async || process.view.lag(None).events == 0).await;
    let ends = idempo_kafka::watermarks(&kafka(), &idempo_dead_letter::dlq_topic(&topic.name), 1).await.expect("the broker answers");
    assert_eq!(ends, [(0, i64::try_from(cases).expect("small"))]);

    // Another process has them as they are, and parks what follows behind them.
    process.stop().await;
    let again = Process::start(&view, &topic, "-again");
    topic.write((0..partitions - 1).map(|partition| resident(partition, partitions)).map(|number| (number, granted(number, 4, 1)))).await;
    let rows: Totals = rows.into_iter().map(|(id, row)| (id, if row == (3, 3) { (4, 4) } else { row })).collect();
    eventually_totals(&view, &rows).await;
    eventually(LIMIT, "all is read", async || again.view.lag(None).events == 0).await;
    assert_eq!((letters(&view).await, again.progress.stops(None)), (expected, vec![]));
    view.execute(&format!(
        "SELECT wish_for_dead_letters('tally', 1, '{}', array_agg(partition), array_agg(record_offset), array_agg(code), true, false, 5, 'tester', 'a test')
         FROM dead_letter",
        topic.name
    ))
    .await;
    let rows: Totals = rows.into_keys().map(|id| (id, if id == player(healthy) { (1, 1) } else { (4, 4) })).collect();
    eventually_totals(&view, &rows).await;
    eventually(LIMIT, "none is left", async || letters(&view).await.is_empty()).await;
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_added_by_hand_are_not_read_and_the_others_go_on() {
    let (view, topic) = (View::new().await, Topic::new().await);
    let process = Process::start(&view, &topic, "");
    topic.write(grants(20, 1..=5)).await;
    eventually_totals(&view, &totals(20, 5)).await;
    let total = usize::try_from(PARTITIONS).expect("small") + 1;
    by_hand::add_partitions(&kafka(), &topic.name, total).await.expect("a partition more");
    let fault = TopicFault::Partitions { topic: topic.name.clone(), found: total, expected: total - 1 };
    let mut faults = process.progress.topic_fault();
    let known = tokio::time::timeout(LIMIT, faults.wait_for(|known| known.as_ref() == Some(&fault))).await;
    known.expect("it is noticed").expect("the progress lives");

    let stray = resident(PARTITIONS, PARTITIONS + 1);
    let (key, value) = (player(stray).to_string(), granted(stray, 6, 1));
    let record = Anything { partition: PARTITIONS, key: Some(key.as_bytes()), value: Some(&value) };
    by_hand::write(&kafka(), &topic.name, &[record]).await.expect("it is written");
    let halt = Halt { offset: 0, cause: Cause::Unexpected { partitions: PARTITIONS } };
    eventually(LIMIT, "the new partition has stopped", async || {
        process.progress.states().contains(&(PARTITIONS, PartitionState::Stopped(halt.clone())))
    })
    .await;
    topic.write(grants(20, 6..=9)).await;
    eventually_totals(&view, &totals(20, 9)).await;
    assert_eq!(process.progress.stops(None).len(), 1);
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_was_deleted_is_named_and_one_made_anew_is_not_taken_for_it() {
    let (view, topic) = (View::new().await, Topic::new().await);
    let process = Process::start(&view, &topic, "");
    topic.write(grants(20, 1..=5)).await;
    eventually_totals(&view, &totals(20, 5)).await;
    eventually(LIMIT, "the checkpoints are at the end", async || process.view.lag(None).events == 0).await;
    by_hand::delete_topic(&kafka(), &topic.name).await.expect("it is deleted");
    let fault = TopicFault::Missing { topic: topic.name.clone() };
    let mut faults = process.progress.topic_fault();
    let known = tokio::time::timeout(LIMIT, faults.wait_for(|known| known.as_ref() == Some(&fault))).await;
    known.expect("it is noticed").expect("the progress lives");
    process.stop().await;

    // The same streams all over again, each begun twice: every position is in the log, and another record before it.
    topic.make().await;
    topic.write((0..40).map(|number| (number % 20, granted(number % 20, 1, 1)))).await;
    topic.write(grants(20, 2..=20)).await;
    let again = Process::start(&view, &topic, "-again");
    let stopped = usize::try_from(PARTITIONS).expect("small");
    eventually(LIMIT, "every partition has stopped", async || again.progress.stops(None).len() == stopped).await;
    let codes: Vec<String> = again.progress.stops(None).into_iter().map(|stop| stop.code).collect();
    assert!(codes.iter().all(|code| code == "LOG_REPLACED"), "{codes:?}");
    assert_eq!(view.totals().await, totals(20, 5), "nothing of the other log is in");
    assert_eq!(*again.progress.topic_fault().borrow(), None);
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_made_anew_that_is_shorter_than_the_position_is_no_log_to_go_on_in() {
    let (view, topic) = (View::new().await, Topic::new().await);
    let process = Process::start(&view, &topic, "");
    topic.write(grants(20, 1..=5)).await;
    eventually_totals(&view, &totals(20, 5)).await;
    process.stop().await;
    by_hand::delete_topic(&kafka(), &topic.name).await.expect("it is deleted");
    topic.make().await;
    let again = Process::start(&view, &topic, "-again");
    let stopped = usize::try_from(PARTITIONS).expect("small");
    eventually(LIMIT, "every partition has stopped", async || again.progress.stops(None).len() == stopped).await;
    assert!(again.progress.stops(None).iter().all(|stop| stop.code == "OFFSET_GONE"));
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_stops_a_partition_only_where_it_has_passed_the_position() {
    let (view, topic) = (View::new().await, Topic::new().await);
    let process = Process::start(&view, &topic, "");
    topic.write(grants(20, 1..=5)).await;
    eventually_totals(&view, &totals(20, 5)).await;
    eventually(LIMIT, "the checkpoints are at the end", async || process.view.lag(None).events == 0).await;
    process.stop().await;
    let ends = idempo_kafka::watermarks(&kafka(), &topic.name, PARTITIONS).await.expect("the broker answers");
    let [first, second] = [0, 1].map(|at| ends[at].1);
    // All that was read of partition 0 is gone, and one record more of partition 1.
    topic.write(grants(20, 6..=7)).await;
    by_hand::delete_before(&kafka(), &topic.name, 0, first).await.expect("records are deleted");
    by_hand::delete_before(&kafka(), &topic.name, 1, second + 1).await.expect("records are deleted");
    let again = Process::start(&view, &topic, "-again");
    eventually(LIMIT, "one has stopped", async || !again.progress.stops(None).is_empty()).await;
    let partition = |id: &idempo_ids::Uuid| idempo_kafka::partition_of(id.to_string().as_bytes(), PARTITIONS);
    let expected: Totals = totals(20, 7).into_iter().map(|(id, row)| (id, if partition(&id) == 1 { (5, 5) } else { row })).collect();
    eventually_totals(&view, &expected).await;
    let stops = again.progress.stops(None);
    assert_eq!(
        stops.iter().map(|stop| (stop.partition, stop.offset, stop.code.as_str())).collect::<Vec<_>>(),
        [(1, second, "OFFSET_GONE")]
    );
    again.stop().await;
}
