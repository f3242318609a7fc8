//! A proxy in front of PostgreSQL.

use anyhow::Result;
use idempo_devstack::testing;
use idempo_devstack::{Proxy, Swallow};

#[tokio::test]
async fn a_statement_whose_answer_is_swallowed_has_its_effect() -> Result<()> {
    let database = testing::empty_database().await;
    let (direct, connection) = idempo_pg::connect(&database.superuser()).await?;
    tokio::spawn(connection);
    direct.batch_execute("CREATE TABLE kept (id integer PRIMARY KEY)").await?;

    let mut proxy = Proxy::new(testing::cluster().address(), 7)?;
    proxy.open().await?;
    let config = testing::cluster().at(proxy.address()).superuser(database.name());
    let count = async || anyhow::Ok(direct.query_one("SELECT count(*) FROM kept", &[]).await?.try_get::<_, i64>(0)?);
    let open = async || {
        let (client, connection) = idempo_pg::connect(&config).await?;
        tokio::spawn(connection);
        anyhow::Ok(client)
    };

    let client = open().await?;
    // Prepared before it is watched for, as pooled connections have them.
    let insert = client.prepare("INSERT INTO kept VALUES ($1)").await?;
    client.execute(&insert, &[&1]).await?;
    proxy.swallow(Swallow::AnswerTo(&["INSERT INTO kept"]));
    client.simple_query("SELECT 1").await?;
    assert_eq!(proxy.swallowed(), 0, "another statement's answer is not lost");
    assert!(client.execute(&insert, &[&2]).await.is_err(), "its answer is lost");
    assert_eq!((proxy.swallowed(), count().await?), (1, 2), "it was committed");

    let mut client = open().await?;
    let transaction = client.transaction().await?;
    transaction.execute("INSERT INTO kept VALUES (3)", &[]).await?;
    proxy.swallow(Swallow::AnswerTo(&["COMMIT"]));
    assert!(transaction.commit().await.is_err(), "the answer to the commit is lost");
    assert_eq!((proxy.swallowed(), count().await?), (2, 3), "and it was committed");
    Ok(())
}
