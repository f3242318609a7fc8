//! The age of the backlog, as a service asks its own database for it.

use std::time::Duration;

use idempo_devstack::testing::{self, TestDatabase};
use idempo_event_store::NoInline;
use idempo_event_store::postgres::{PostgresStore, backlog_age, maintain_key_partitions};
use idempo_event_store::store::Store;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tokio_postgres::Client;

use crate::conformance::batch;
use crate::support::{append, clock, fresh_account, fresh_key, key};

/// The most pages that one look may read: three indexes and tables from the top, the cursor, the catalogues.
const PAGES_MAX: i64 = 200;

/// What is sent of a row and of a transaction, in the words of `position.rs`: everything that s1 shows, and of what s2 shows the rows up to
/// acked_seq. Looked for without any floor.
const BY_DEFINITION: &str = "
    SELECT (extract(epoch FROM clock_timestamp() - min(o.recorded_at)) / 3600)::bigint AS hours
    FROM (SELECT * FROM outbox.r0 UNION ALL SELECT * FROM outbox.r1 UNION ALL SELECT * FROM outbox.r2) AS o, outbox.cursor AS c
    WHERE NOT pg_visible_in_snapshot(o.xid, c.s1) AND (c.s2 IS NULL OR NOT pg_visible_in_snapshot(o.xid, c.s2) OR o.seq > c.acked_seq)";
const AS_ASKED: &str = "SELECT (outbox.backlog_age_ms() / 3600000.0)::bigint AS hours";

/// As the relay does: the number before the xid.
const MARK: &str = "
    WITH drawn AS MATERIALIZED (SELECT coalesce(pg_sequence_last_value('outbox.seq'), 0) AS seq)
    INSERT INTO marks SELECT (age('3'::xid)::bigint + 3)::text::xid8, d.seq FROM drawn AS d";

async fn session(config: &idempo_pg::Config) -> Client {
    let (client, connection) = idempo_pg::connect(config).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A relay's view of the cursor, with the plainest arithmetic that holds.
struct Cursor {
    client: Client,
    /// The SQL of what is taken for the snapshot.
    snapshot: String,
}

impl Cursor {
    async fn of(database: &TestDatabase) -> Self {
        let client = session(&database.superuser()).await;
        client.batch_execute("CREATE TEMP TABLE marks (xid xid8, floor bigint); INSERT INTO marks VALUES ('3', 0)").await.unwrap();
        Self { client, snapshot: "pg_current_snapshot()".to_owned() }
    }

    async fn mark(&self) {
        self.client.batch_execute(MARK).await.unwrap();
    }

    /// Begins a batch, unless one is open.
    async fn open(&self) {
        self.mark().await;
        let open = format!(
            "UPDATE outbox.cursor SET s2 = {}, s2_mark_xid = m.xid, s2_mark_floor = m.floor, acked_seq = 0
             FROM (SELECT * FROM marks ORDER BY floor DESC, xid DESC LIMIT 1) AS m WHERE s2 IS NULL",
            self.snapshot
        );
        self.client.execute(&open, &[]).await.unwrap();
    }

    /// Acknowledges about a share of what is left of the open batch, from its beginning.
    async fn acknowledge(&self, share: f64) {
        let acknowledge = "UPDATE outbox.cursor AS c SET acked_seq = coalesce((
                SELECT percentile_disc($1) WITHIN GROUP (ORDER BY o.seq)
                FROM (SELECT * FROM outbox.r0 UNION ALL SELECT * FROM outbox.r1 UNION ALL SELECT * FROM outbox.r2) AS o
                WHERE o.seq > c.acked_seq AND pg_visible_in_snapshot(o.xid, c.s2) AND NOT pg_visible_in_snapshot(o.xid, c.s1)
            ), c.acked_seq) WHERE c.s2 IS NOT NULL";
        self.client.execute(acknowledge, &[&share]).await.unwrap();
    }

    /// Ends the open batch: everything that s2 shows is sent.
    async fn close(&self) {
        let close = "UPDATE outbox.cursor AS c SET s1 = s2, s2 = NULL, s2_mark_xid = NULL, s2_mark_floor = NULL,
                xip_floors = (SELECT coalesce(array_agg((SELECT max(m.floor) FROM marks AS m WHERE m.xid <= x.xid) ORDER BY x.xid), '{}')
                    FROM pg_snapshot_xip(c.s2) AS x (xid)),
                mark_xids = (SELECT array_agg(m.xid ORDER BY m.xid, m.floor) FROM marks AS m),
                mark_floors = (SELECT array_agg(m.floor ORDER BY m.xid, m.floor) FROM marks AS m)
            WHERE s2 IS NOT NULL";
        self.client.execute(close, &[]).await.unwrap();
        let drain = "DELETE FROM marks AS m USING outbox.cursor AS c WHERE c.s2 IS NULL AND m.xid < (
            SELECT max(n.xid) FROM marks AS n WHERE n.xid <= pg_snapshot_xmax(c.s1))";
        self.client.execute(drain, &[]).await.unwrap();
    }

    /// The age in hours by its definition, and as it is asked for.
    async fn ages(&self) -> (i64, i64) {
        let row = self.client.query_one(BY_DEFINITION, &[]).await.unwrap();
        let defined: Option<i64> = row.get("hours");
        (defined.unwrap_or(0), self.client.query_one(AS_ASKED, &[]).await.unwrap().get("hours"))
    }
}

/// Writes some rows into one of the tables, in the session's transaction. They have waited ever longer the lower their numbers are.
async fn write(client: &Client, table: u32, rows: i32) {
    let insert = format!(
        "INSERT INTO outbox.r{table} (seq, recorded_at, topic, key, payload)
         SELECT n, clock_timestamp() - interval '100000 hours' + n * interval '1 hour', 3, gen_random_uuid(), '\\x00'
         FROM (SELECT nextval('outbox.seq') AS n FROM generate_series(1, $1)) AS drawn"
    );
    client.execute(&insert, &[&rows]).await.unwrap();
}

#[tokio::test]
async fn the_age_is_that_of_the_oldest_event_that_is_not_sent_and_a_service_may_ask_for_it() {
    let database = testing::database("wallet_db").await;
    let pool = idempo_pg::Pool::open(&database.config("idempo_wallet")).unwrap();
    let clock: idempo_clock::SharedClock = clock();
    maintain_key_partitions(&pool, &clock).await.unwrap();
    let store = PostgresStore::<NoInline>::new(pool.clone());
    let cursor = Cursor::of(&database).await;
    assert_eq!(backlog_age(&pool).await.unwrap(), Duration::ZERO);
    store.append(batch(vec![append(key(fresh_key(), 1), &[(fresh_account(), 0, 2)])])).await.unwrap();
    let pause = Duration::from_millis(5);
    testing::eventually(Duration::from_secs(5), "the backlog grows older", async || backlog_age(&pool).await.unwrap() > pause).await;
    cursor.open().await;
    cursor.acknowledge(0.1).await;
    assert!(backlog_age(&pool).await.unwrap() > pause, "the second event has waited as long");
    cursor.acknowledge(1.0).await;
    assert_eq!(backlog_age(&pool).await.unwrap(), Duration::ZERO, "both are acknowledged");
    cursor.close().await;
    assert_eq!(backlog_age(&pool).await.unwrap(), Duration::ZERO);
    let services = session(&database.config("idempo_wallet")).await;
    for denied in ["SELECT outbox.floor_beyond('3:3:')", "SELECT outbox.first_unseen(0, 1, '3:3:')", "SELECT s1 FROM outbox.cursor"] {
        assert!(services.query(denied, &[]).await.is_err(), "{denied}");
    }
}

#[tokio::test]
async fn the_age_is_the_defined_one_whatever_transactions_and_the_cursor_do() {
    for seed in 0..4 {
        let database = testing::database("wallet_db").await;
        let cursor = Cursor::of(&database).await;
        let mut writers = Vec::new();
        for _ in 0..4 {
            writers.push((session(&database.superuser()).await, false));
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut seen = 0;
        for step in 0..250 {
            let index = rng.random_range(0..writers.len());
            let (writer, is_open) = &mut writers[index];
            match rng.random_range(0..12) {
                0..=3 => {
                    if !*is_open {
                        writer.batch_execute("BEGIN").await.unwrap();
                        *is_open = true;
                    }
                    write(writer, rng.random_range(0..3), rng.random_range(1..4)).await;
                }
                4..=6 if *is_open => {
                    writer.batch_execute(if rng.random_bool(0.8) { "COMMIT" } else { "ROLLBACK" }).await.unwrap();
                    *is_open = false;
                }
                7 => cursor.mark().await,
                8 => cursor.open().await,
                9 => cursor.acknowledge(rng.random_range(0.1..1.0)).await,
                10 => {
                    cursor.acknowledge(1.0).await;
                    cursor.close().await;
                }
                _ => write(&cursor.client, rng.random_range(0..3), 1).await,
            }
            let (defined, asked) = cursor.ages().await;
            assert_eq!(asked, defined, "seed {seed}, step {step}");
            seen += i32::from(defined > 0);
        }
        assert!((20..250).contains(&seen), "with and without a backlog: {seen}");
    }
}

/// How many pages a look reads, by what the server counts.
async fn pages(client: &Client) -> i64 {
    let plan = client.query("EXPLAIN (ANALYZE, BUFFERS, TIMING off) SELECT outbox.backlog_age_ms()", &[]).await.unwrap();
    let lines: Vec<String> = plan.iter().map(|row| row.get::<_, String>(0)).collect();
    let buffers = lines.iter().find(|line| line.contains("Buffers: shared")).unwrap_or_else(|| panic!("{lines:?}"));
    let counted = buffers.split_whitespace().filter(|word| word.starts_with("hit=") || word.starts_with("read="));
    counted.map(|word| word.split_once('=').unwrap().1.parse::<i64>().unwrap()).sum()
}

#[tokio::test]
async fn a_look_reads_a_few_pages_however_many_rows_were_sent_and_wait_and_whoever_holds_a_transaction_open() {
    const MANY: i32 = 150_000;
    let database = testing::database("wallet_db").await;
    let (mut cursor, held) = (Cursor::of(&database).await, session(&database.superuser()).await);
    held.batch_execute("BEGIN").await.unwrap();
    write(&held, 0, 1).await;
    // The transactions of other databases, where other tests run, are in the server's snapshots too. Here they have written nothing.
    let xid: String = held.query_one("SELECT pg_current_xact_id()::text", &[]).await.unwrap().get(0);
    cursor.snapshot = format!("format('%s:%s:%s', {xid}, pg_snapshot_xmax(pg_current_snapshot()), {xid})::pg_snapshot");
    let mut told = Vec::new();
    // Sent: some in a table that may not be emptied, because the held transaction has written into it.
    write(&cursor.client, 0, MANY).await;
    write(&cursor.client, 1, MANY).await;
    cursor.open().await;
    cursor.close().await;
    assert_eq!(cursor.client.query_one("SELECT outbox.backlog_age_ms()", &[]).await.unwrap().get::<_, i64>(0), 0);
    told.push(("everything is sent", pages(&cursor.client).await));
    write(&cursor.client, 2, MANY).await;
    told.push(("nothing of a backlog is sent", pages(&cursor.client).await));
    cursor.open().await;
    cursor.acknowledge(0.5).await;
    told.push(("half of an open batch is sent", pages(&cursor.client).await));
    write(&cursor.client, 2, 1_000).await;
    cursor.acknowledge(1.0).await;
    told.push(("an open batch is sent and more has come", pages(&cursor.client).await));
    cursor.client.batch_execute("ANALYZE outbox.r0, outbox.r1, outbox.r2").await.unwrap();
    told.push(("and the planner knows the tables", pages(&cursor.client).await));
    assert!(told.iter().all(|(_, pages)| *pages <= PAGES_MAX), "{told:?}");
    held.batch_execute("ROLLBACK").await.unwrap();
}
