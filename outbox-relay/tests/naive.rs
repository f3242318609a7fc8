//! Readers that look right and are not: the torture must find them out. They are nowhere in the product.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use idempo_devstack::testing;
use idempo_kafka::{Delivery, Outgoing, Producer, ProducerConfig, SendError, partition_of};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::support::{LIMIT, Report, Session, Stage, check, kafka};
use crate::writers::{Load, Writers};

const ROWS: &str = "(SELECT * FROM outbox.r0 UNION ALL SELECT * FROM outbox.r1 UNION ALL SELECT * FROM outbox.r2) AS o";
const LOAD: Load = Load { writers: 12, keys: 40, rows: 15_000, seed: 11 };

/// Runs the torture with a reader that pages by `sql` from `($1, $2)` on, its cursor being the xid and seq of the last row.
async fn torture(sql: &str) -> Report {
    let stage = Stage::new().await;
    let (session, reading) = (stage.session().await, stage.session().await);
    let writers = Writers::start(&stage, LOAD).await;
    let done = Arc::clone(&writers.done);
    let topic = stage.topic();
    tokio::join!(writers.finish(), relay(&reading, sql, &topic, &done));
    check(&stage, &session).await
}

async fn relay(session: &Session, sql: &str, topic: &str, done: &AtomicBool) {
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let hears = Arc::clone(&acknowledged);
    let producer = Producer::start(&kafka(), &ProducerConfig::default(), move |_, delivery| {
        assert!(matches!(delivery, Delivery::Acknowledged { .. }), "{delivery:?}");
        hears.fetch_add(1, Ordering::SeqCst);
    })
    .expect("a producer");
    let (mut cursor, mut sent) = ((String::from("0"), 0_i64), 0);
    loop {
        let last_look = done.load(Ordering::Acquire);
        let parameters: [&(dyn ToSql + Sync); 2] = [&cursor.0, &cursor.1];
        let rows: Vec<Row> = session.client.query(sql, &parameters).await.expect("an answer");
        for row in &rows {
            let key = row.get::<_, Uuid>(2).hyphenated().to_string();
            let partition = partition_of(key.as_bytes(), 12);
            let record = Outgoing { topic, partition, key: key.as_bytes(), value: row.get(3), headers: &[] };
            while let Err(error) = producer.send(&record, 0) {
                assert!(matches!(error, SendError::Full), "{error:?}");
                tokio::task::yield_now().await;
            }
            sent += 1;
            cursor = (row.get(0), row.get(1));
        }
        if rows.is_empty() && last_look {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    testing::eventually(LIMIT, "everything that was read is in Kafka", async || acknowledged.load(Ordering::SeqCst) == sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_only_follows_the_numbers_loses_rows() {
    let sql = format!(
        "SELECT o.xid::text, o.seq, o.key, o.payload FROM {ROWS} WHERE $1::text IS NOT NULL AND o.seq > $2 ORDER BY o.seq LIMIT 1000"
    );
    let report = torture(&sql).await;
    assert!(report.lost > 0, "the torture does not hurt: {report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_waits_for_the_xid_horizon_inverts_rows() {
    let sql = format!(
        "SELECT o.xid::text, o.seq, o.key, o.payload FROM {ROWS}
        WHERE (o.xid, o.seq) > ($1::text::xid8, $2) AND o.xid < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY o.xid, o.seq LIMIT 1000"
    );
    let report = torture(&sql).await;
    assert!(report.inverted > 0, "the torture does not hurt: {report:?}");
}
