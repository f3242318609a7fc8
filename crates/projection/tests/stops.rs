//! A partition that has stopped is tried again when people say that the cause is mended.

use idempo_devstack::testing::eventually;
use idempo_kafka::partition_of;
use idempo_projection::{Cause, Halt, POISON_PER_MINUTE_MAX};

use crate::runtime::{PARTITIONS, Process, Topic, eventually_totals, grants, totals};
use crate::support::{LIMIT, TOTAL_MAX, Totals, View, granted, player};

/// The partition that stops.
const STOPS: i32 = 2;
/// So many more records of it can't be applied than make it stop.
const FURTHER: usize = 6;

fn stops(number: u128) -> bool {
    partition_of(player(number).to_string().as_bytes(), PARTITIONS) == STOPS
}

/// Says that the cause is mended, as `ResumeProjection` does.
async fn resume(view: &View) {
    let client = view.pool.get().await.expect("the database answers");
    let sql = include_str!("../src/sql/set_paused.sql");
    client.execute(sql, &[&"tally", &false, &"tester", &"a test"]).await.expect("it is said");
}

/// The epoch of the partition, and why it has stopped.
async fn stands(view: &View) -> (i64, Option<String>) {
    let client = view.pool.get().await.expect("the database answers");
    let row = client.query_one("SELECT epoch, stopped_code FROM checkpoint WHERE partition = $1", &[&STOPS]).await.expect("a row");
    (row.get(0), row.get(1))
}

/// Where the partition stands.
async fn position(view: &View) -> i64 {
    let client = view.pool.get().await.expect("the database answers");
    client.query_one("SELECT next_offset FROM checkpoint WHERE partition = $1", &[&STOPS]).await.expect("a row").get(0)
}

async fn stopped_after(view: &View, epoch: i64) -> i64 {
    eventually(LIMIT, "it has stopped, and says so", async || {
        let (now, code) = stands(view).await;
        now > epoch && code.as_deref() == Some("DEAD_LETTER_FLOOD")
    })
    .await;
    stands(view).await.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_a_flood_has_stopped_goes_on_where_it_was_once_the_cause_is_mended_and_people_say_so() {
    let (view, topic) = (View::new().await, Topic::new().await);
    let process = Process::start(&view, &topic, "");
    let spoilt: Vec<u128> = (1_000..).filter(|number| stops(*number)).take(POISON_PER_MINUTE_MAX + FURTHER).collect();
    topic.write(grants(40, 1..=10)).await;
    eventually_totals(&view, &totals(40, 10)).await;
    eventually(LIMIT, "nothing is left", async || process.view.lag(None).events == 0).await;
    let begins = position(&view).await;

    topic.write(spoilt.iter().map(|number| (*number, granted(*number, 1, TOTAL_MAX + 1)))).await;
    topic.write(spoilt.iter().map(|number| (*number, granted(*number, 2, 1)))).await;
    topic.write(grants(40, 11..=20)).await;
    let first = stopped_after(&view, 0).await;
    let offset = begins + i64::try_from(POISON_PER_MINUTE_MAX).expect("small");
    assert_eq!(*process.progress.stopped().borrow(), [(STOPS, Halt { offset, cause: Cause::Flood })]);

    // Nothing is mended: it stops before the same record.
    resume(&view).await;
    let again = stopped_after(&view, first).await;
    assert_eq!(position(&view).await, offset);

    // As long as nobody says so, it stands.
    view.execute("ALTER TABLE tally DROP CONSTRAINT tally_total_check").await;
    let others: Totals =
        totals(40, 20).into_iter().filter(|(id, _)| partition_of(id.to_string().as_bytes(), PARTITIONS) != STOPS).collect();
    eventually(LIMIT, "the others go on", async || {
        let rows = view.totals().await;
        others.iter().all(|(id, row)| rows.get(id) == Some(row))
    })
    .await;
    assert_eq!(stands(&view).await, (again, Some("DEAD_LETTER_FLOOD".to_owned())));

    resume(&view).await;
    eventually(LIMIT, "nothing is left", async || process.view.lag(None).events == 0).await;
    assert_eq!((process.progress.stops(None), stands(&view).await.1), (vec![], None));
    let sql = "SELECT wish_for_dead_letters('tally', 1, topic, array_agg(partition), array_agg(record_offset), array_agg(code), false, false, 5, 'tester', 'a test')
        FROM dead_letter GROUP BY topic";
    view.execute(sql).await;
    let mut expected = totals(40, 20);
    expected.extend(spoilt.iter().map(|number| (player(*number), (TOTAL_MAX + 2, 2))));
    eventually(LIMIT, "what was parked is in", async || view.totals().await == expected).await;
    process.stop().await;
}
