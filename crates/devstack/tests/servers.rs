//! What is on the servers once they are prepared.

use anyhow::Result;
use idempo_devstack::{Options, Progress, Servers, testing};

#[tokio::test]
async fn preparing_makes_databases_and_topics_and_may_be_repeated() -> Result<()> {
    // Panics with a hint where the environment names no servers.
    let brokers = testing::kafka_brokers();
    let servers = Servers::start(Options::throwaway(Progress::silent())).await?;
    assert_eq!((servers.kafka_brokers(), servers.pids().len()), (brokers.as_str(), 0), "the servers of the environment are used");
    tokio::try_join!(servers.prepare(), servers.prepare())?;
    servers.prepare().await?;
    for database in idempo_schemas::databases() {
        let (client, connection) = idempo_pg::connect(&servers.cluster()?.role(database.name, "idempo_auditor")).await?;
        tokio::spawn(connection);
        for set in database.sets {
            let count: i64 = client.query_one(&format!("SELECT count(*) FROM {}", set.history), &[]).await?.get(0);
            assert_eq!(usize::try_from(count)?, set.files.len(), "{}", set.history);
        }
    }
    let config = idempo_kafka::Config { brokers, ..idempo_kafka::Config::default() };
    for topic in idempo_schemas::topics().topics {
        let watermarks = idempo_kafka::watermarks(&config, topic.name, topic.partitions).await?;
        assert_eq!(watermarks.len(), usize::try_from(topic.partitions)?);
    }
    servers.stop().await
}
