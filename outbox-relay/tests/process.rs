//! The process: it is ready, it ends when it is asked to, and it is quick.

use std::time::{Duration, Instant};

use idempo_devstack::testing::{self, Signal};

use crate::support::{LIMIT, Session, Stage, dump};
use crate::writers::write_some;

#[tokio::test]
async fn it_is_ready_relays_and_ends_in_order_giving_its_lease_back() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    let mut relay = stage.relay("relay").start();
    testing::eventually(LIMIT, "the relay is ready", async || relay.is_ready()).await;
    write_some(&session, 1, 1_000).await;
    stage.relayed(&session).await;
    testing::eventually(LIMIT, "its metrics say so", async || relay.metric("messaging_client_sent_messages_total") == Some(1_000.0)).await;
    relay.signal(Signal::TERM);
    assert_eq!(relay.ended().await, Some(0), "{}", relay.log());
    let owner: Option<String> = session.client.query_one("SELECT owner FROM outbox.lease", &[]).await.expect("an answer").get(0);
    assert_eq!(owner, None);
    assert_eq!(dump(&stage.topic(), 12).await.len(), 1_000);
}

#[tokio::test]
async fn a_doorbell_ends_the_wait_of_an_idle_relay() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    let relay = stage.relay("relay").start();
    testing::eventually(LIMIT, "the relay is ready", async || relay.is_ready()).await;
    let mut quickest = Duration::MAX;
    for round in 1..=10 {
        write_some(&session, 1, 1).await;
        session.client.batch_execute("NOTIFY outbox").await.expect("rung");
        let rung = Instant::now();
        let sent = Some(f64::from(round));
        testing::eventually(LIMIT, "the row is sent", async || relay.metric("messaging_client_sent_messages_total") == sent).await;
        quickest = quickest.min(rung.elapsed());
        testing::eventually(LIMIT, "it waits as long as it ever does", async || is_idle(&session).await).await;
    }
    assert!(quickest < Duration::from_millis(50), "the quickest took {quickest:?}");
}

/// Whether the relay's reader has not looked for so long that its wait between two looks must be the longest.
async fn is_idle(session: &Session) -> bool {
    let sql = "SELECT count(*) > 0 FROM pg_stat_activity WHERE query ILIKE '%pg_current_snapshot%' AND state = 'idle' \
               AND datname = current_database() AND pid <> pg_backend_pid() AND clock_timestamp() - state_change > interval '70 ms'";
    session.client.query_one(sql, &[]).await.expect("an answer").get(0)
}
