//! `project`: events from Kafka into the inventory read model, exactly once, by one projector process, beside a bare rdkafka consumer loop.

mod process;
pub(crate) mod topic;
pub(crate) mod world;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::ensure;
use idempo_devstack::testing::{self, TestDatabase};
use idempo_inventory_projector::{Config, InventoryProjector, Rows, Writes, read_rows};
use idempo_pg::Pool;
use idempo_projection::memory::Model as _;
use idempo_projection::{Event, Projector as _};
use tokio_postgres::Client;

use crate::report::Row;
use process::Projector;
use world::Record;

/// As many as `economy-events` has.
pub(crate) const PARTITIONS: i32 = 12;
/// From which the history is made.
pub(crate) const SEED: u64 = 0x1de_3b0;
/// How long the projector may take.
const PROJECT_MAX: Duration = Duration::from_secs(900);
/// How often the checkpoints are looked at: how exactly the end is known.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// The most events of which a rate at the beginning, and one near the end, is told.
const SPAN_EVENTS_MAX: u32 = 100_000;
/// The rate over the first events, from the first commit on.
pub(crate) const EARLY: &str = "project: into an empty read model";
/// The rate over as many when four fifths are there. At the very end, partitions run out one by one.
pub(crate) const LATE: &str = "project: into one that has most";

/// Fills a topic once and measures it `rounds` times: the bare loop, then a projector with an empty read model.
pub(crate) async fn run(events: u32, rounds: u32) -> anyhow::Result<Vec<Row>> {
    let brokers = testing::kafka_brokers();
    let topic = format!("{}economy-events", testing::topic_prefix());
    let records = world::history(usize::try_from(events)?, PARTITIONS, SEED);
    topic::fill(&brokers, &topic, PARTITIONS, &records).await?;
    let mut report = Vec::new();
    for round in 1..=rounds {
        let bare = tokio::task::block_in_place(|| topic::read_bare(&brokers, &topic, PARTITIONS, records.len()))?;
        let bare = f64::from(events) / bare.as_secs_f64();
        report.push(Row::reference(round, "bare rdkafka consumer loop", bare, "events/s"));
        let bench = Bench { database: testing::database("inventory_view_db").await, brokers: brokers.clone(), topic: topic.clone() };
        let used = bench.project(&records, round).await?;
        bench.check(&records).await?;
        let rate = f64::from(events) / used.took.as_secs_f64();
        let million = |seconds: f64| seconds * 1_000_000.0 / f64::from(events);
        report.push(Row::measured(round, "project", rate, "events/s", rate / bare));
        let part = i64::from((events / 10).min(SPAN_EVENTS_MAX));
        let late = i64::from(events - events / 5);
        for (name, from) in [(EARLY, 0), (LATE, late)] {
            if let Some(rate) = rate_between(&used.looks, from, from + part) {
                report.push(Row::reference(round, name, rate, "events/s"));
            }
        }
        report.push(Row::reference(round, "project: CPU of the projector", million(used.projector_s), "s/million"));
        report.push(Row::reference(round, "project: CPU of PostgreSQL", million(used.postgres_s), "s/million"));
        report.push(Row::reference(round, "project: peak memory of the projector", used.peak_mib, "MiB"));
    }
    Ok(report)
}

/// What one run of the projector used.
struct Used {
    /// From the start of its process until the read model had everything.
    took: Duration,
    projector_s: f64,
    postgres_s: f64,
    peak_mib: f64,
    looks: Vec<Look>,
}

/// How many events the read model had at a moment.
#[derive(Debug, Clone, Copy)]
struct Look {
    /// Since the start of the projector's process.
    at: Duration,
    events: i64,
}

/// Events a second while the read model grew from `from` events to `to`, to the exactness of a look.
fn rate_between(looks: &[Look], from: i64, to: i64) -> Option<f64> {
    // From nothing on: when it last had nothing, so that the start of the process does not count.
    let start = if from == 0 { looks.iter().rfind(|look| look.events == 0) } else { looks.iter().find(|look| look.events >= from) }?;
    let end = looks.iter().find(|look| look.events >= to && look.at > start.at)?;
    Some(f64::from(u32::try_from(end.events - start.events).ok()?) / (end.at - start.at).as_secs_f64())
}

/// A read model that is empty at first.
struct Bench {
    database: TestDatabase,
    brokers: String,
    topic: String,
}

impl Bench {
    async fn project(&self, records: &[Record], round: u32) -> anyhow::Result<Used> {
        let (client, connection) = idempo_pg::connect(&self.database.superuser()).await?;
        tokio::spawn(connection);
        let backend: i32 = client.query_one("SELECT pg_backend_pid()", &[]).await?.try_get(0)?;
        let backend = u32::try_from(backend)?;
        let url = testing::cluster().role_url(self.database.name(), "idempo_inventory_projector");
        let ends = ends(records)?;
        let before = process::server_cpu_seconds(backend)?;
        let began = Instant::now();
        let mut projector = Projector::start(&url, &self.brokers, &self.topic, PARTITIONS, &format!("{}-{round}", self.topic))?;
        let mut looks = Vec::new();
        loop {
            let checkpoints = self.checkpoints(&client).await?;
            looks.push(Look { at: began.elapsed(), events: checkpoints.values().sum() });
            if checkpoints == ends {
                break;
            }
            projector.check()?;
            ensure!(began.elapsed() < PROJECT_MAX, "the projector is not done after {} s", PROJECT_MAX.as_secs());
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        let took = began.elapsed();
        let (projector_s, peak_mib) = (projector.cpu_seconds()?, projector.peak_mib()?);
        let postgres_s = process::server_cpu_seconds(backend)? - before;
        projector.stop().await?;
        ensure!(self.checkpoints(&client).await? == ends, "the checkpoints moved after the end");
        Ok(Used { took, projector_s, postgres_s, peak_mib, looks })
    }

    /// Where each partition stands that is not at its beginning.
    async fn checkpoints(&self, client: &Client) -> anyhow::Result<HashMap<i32, i64>> {
        let rows = client.query(include_str!("../sql/project_checkpoints.sql"), &[&self.topic]).await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// The read model is the fold of the records, row by row, and so are the versions of the streams.
    async fn check(&self, records: &[Record]) -> anyhow::Result<()> {
        let mut writes = Writes::default();
        let mut versions: HashMap<_, u64> = HashMap::new();
        for record in records {
            let event = Event::decode(&record.value.clone().into())?;
            InventoryProjector::apply(&event, &mut writes)?;
            versions.insert(event.stream_id.uuid(), event.version);
        }
        let mut expected = Rows::default();
        expected.merge(&writes).map_err(|problem| anyhow::anyhow!(problem))?;
        let database = testing::cluster().role(self.database.name(), "idempo_inventory_projector");
        let config = Config { database: idempo_pg::Config { statement_timeout_ms: 0, ..database }, ..Config::default() };
        let pool = Pool::open(&config.generation_database(1))?;
        let found = read_rows(&pool).await?;
        let counts = |rows: &Rows| (rows.items.len(), rows.stacks.len(), rows.loadouts.len(), rows.item_events.len());
        ensure!(counts(&found) == counts(&expected), "rows: {:?} and not {:?}", counts(&found), counts(&expected));
        ensure!(found == expected, "the read model is not the fold");
        let rows = pool.get().await?.query(include_str!("../sql/project_versions.sql"), &[]).await?;
        let found: HashMap<idempo_ids::Uuid, u64> =
            rows.iter().map(|row| Ok((row.try_get(0)?, u64::try_from(row.try_get::<_, i64>(1)?)?))).collect::<anyhow::Result<_>>()?;
        ensure!(found == versions, "the versions of the streams are not those of the topic");
        Ok(())
    }
}

/// Where each partition ends that has a record.
fn ends(records: &[Record]) -> anyhow::Result<HashMap<i32, i64>> {
    let mut ends = HashMap::new();
    for record in records {
        *ends.entry(record.partition).or_insert(0_i64) += 1;
    }
    ensure!(!ends.is_empty(), "a topic of nothing");
    Ok(ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_its_span_and_does_not_count_the_start_of_the_process() {
        let looks = [(0, 0), (900, 0), (1_000, 50), (1_100, 100), (1_300, 200)];
        let looks = looks.map(|(ms, events)| Look { at: Duration::from_millis(ms), events });
        let rate = |from, to| rate_between(&looks, from, to).map(f64::round);
        assert_eq!(rate(0, 100), Some(500.0));
        assert_eq!(rate(100, 200), Some(500.0));
        assert_eq!(rate(50, 100), Some(500.0));
        assert_eq!(rate(200, 300), None, "it never had so many");
    }
}
