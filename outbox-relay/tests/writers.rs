//! Writers that do everything a writer may do to hurt a reader's order.
//!
//! Each transaction adds versions to some of a few hot streams, under their row locks, and writes a row for each into the outbox. Transactions
//! may have their xid long before they wait for the first lock, stay open after they have written, or be rolled back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::support::{Session, Stage, TOPIC};

/// Locks streams in the order of their ids, adds `$2` versions to each, and writes the rows, into the table that is current now.
const WRITE: &str = "
WITH locked AS MATERIALIZED (
    SELECT s.stream_id, s.version FROM es.streams AS s WHERE s.stream_id = ANY ($1::uuid[]) ORDER BY s.stream_id FOR UPDATE
), moved AS (
    UPDATE es.streams AS s SET version = l.version + $2::bigint FROM locked AS l WHERE s.stream_id = l.stream_id
)
INSERT INTO outbox.r{table} (topic, key, payload)
SELECT $3::smallint, l.stream_id, convert_to(rpad((l.version + n)::text, 64), 'UTF8')
FROM locked AS l CROSS JOIN generate_series(1, $2::bigint) AS n ORDER BY l.stream_id, n";

/// What the writers are to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) writers: u64,
    pub(crate) keys: u64,
    /// Rows after which they stop.
    pub(crate) rows: u64,
    pub(crate) seed: u64,
}

/// Writers at work.
pub(crate) struct Writers {
    tasks: JoinSet<()>,
    written: Arc<AtomicU64>,
    pub(crate) done: Arc<AtomicBool>,
}

impl Writers {
    /// Starts the writers, and one more whose transactions stay open for long.
    pub(crate) async fn start(stage: &Stage, load: Load) -> Self {
        let session = stage.session().await;
        for key in 0..load.keys {
            let sql = "INSERT INTO es.streams (stream_id, category, partition_key, version) VALUES ($1, 1, $1, 0)";
            session.client.execute(sql, &[&key_id(key)]).await.expect("a stream");
        }
        let (written, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let mut tasks = JoinSet::new();
        for writer in 0..load.writers {
            let (session, written) = (stage.session().await, Arc::clone(&written));
            tasks.spawn(write(session, load, writer, written));
        }
        tasks.spawn(hold(stage.session().await, load, Arc::clone(&written)));
        Self { tasks, written, done }
    }

    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Waits until they have written what they were to.
    pub(crate) async fn finish(mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("the writer does not fail");
        }
        self.done.store(true, Ordering::Release);
    }
}

pub(crate) fn key_id(key: u64) -> Uuid {
    Uuid::from_u64_pair(0x0193_0000_0000_7000, 0x8000_0000_0000_0000 | key)
}

async fn write(session: Session, load: Load, writer: u64, written: Arc<AtomicU64>) {
    let mut rng = ChaCha8Rng::seed_from_u64(load.seed ^ (writer << 32));
    while written.load(Ordering::Relaxed) < load.rows {
        let mut keys: Vec<Uuid> = (0..rng.random_range(1..=4)).map(|_| key_id(rng.random_range(0..load.keys))).collect();
        keys.sort_unstable();
        keys.dedup();
        let each = rng.random_range(1..=8_i64);
        session.client.batch_execute("BEGIN").await.expect("begun");
        if rng.random_bool(0.7) {
            // The xid comes now, the locks later: the order of xids is not that of the rows.
            session.client.batch_execute("SELECT pg_current_xact_id()").await.expect("an xid");
            pause(&mut rng, 1_500).await;
        }
        let rows = insert(&session, &keys, each).await;
        if rng.random_bool(0.3) {
            pause(&mut rng, 4_000).await;
        }
        if rng.random_bool(0.1) {
            session.client.batch_execute("ROLLBACK").await.expect("rolled back");
        } else {
            session.client.batch_execute("COMMIT").await.expect("committed");
            written.fetch_add(rows, Ordering::Relaxed);
        }
    }
}

/// Transactions on a stream of their own that stay open while the others write thousands of rows.
async fn hold(session: Session, load: Load, written: Arc<AtomicU64>) {
    let own = key_id(load.keys);
    let sql = "INSERT INTO es.streams (stream_id, category, partition_key, version) VALUES ($1, 1, $1, 0)";
    session.client.execute(sql, &[&own]).await.expect("a stream");
    let mut round = 0_u64;
    while written.load(Ordering::Relaxed) < load.rows {
        session.client.batch_execute("BEGIN").await.expect("begun");
        insert(&session, &[own], 3).await;
        let until = written.load(Ordering::Relaxed) + load.rows / 12;
        while written.load(Ordering::Relaxed) < until.min(load.rows) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        round += 1;
        let end = if round.is_multiple_of(3) { "ROLLBACK" } else { "COMMIT" };
        session.client.batch_execute(end).await.expect("ended");
    }
}

pub(crate) async fn insert(session: &Session, keys: &[Uuid], each: i64) -> u64 {
    let current: i16 = session.client.query_one("SELECT current FROM outbox.rotation", &[]).await.expect("an answer").get(0);
    let sql = WRITE.replace("{table}", &current.to_string());
    session.client.execute(&sql, &[&keys, &each, &TOPIC]).await.expect("rows are written")
}

/// A stream and some rows for it, committed at once.
pub(crate) async fn write_some(session: &Session, key: u64, rows: i64) {
    let id = key_id(key);
    let sql = "INSERT INTO es.streams (stream_id, category, partition_key, version) VALUES ($1, 1, $1, 0) ON CONFLICT DO NOTHING";
    session.client.execute(sql, &[&id]).await.expect("a stream");
    insert(session, &[id], rows).await;
}

/// As many rows for each of many streams, committed at once.
pub(crate) async fn write_many(session: &Session, streams: u64, rows_each: i64) {
    let keys: Vec<Uuid> = (0..streams).map(key_id).collect();
    let sql = "INSERT INTO es.streams (stream_id, category, partition_key, version) SELECT id, 1, id, 0 FROM unnest($1::uuid[]) AS k (id) \
               ON CONFLICT DO NOTHING";
    session.client.execute(sql, &[&keys]).await.expect("streams");
    insert(session, &keys, rows_each).await;
}

async fn pause(rng: &mut ChaCha8Rng, micros_max: u64) {
    tokio::time::sleep(Duration::from_micros(rng.random_range(0..micros_max))).await;
}
