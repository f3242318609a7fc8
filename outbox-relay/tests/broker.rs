//! Brokers that are away, and rows that can't be sent.

use std::time::Duration;

use idempo_devstack::testing;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::support::{LIMIT, Report, Stage, check, dump};
use crate::writers::write_some;

#[tokio::test]
async fn rows_wait_while_the_brokers_are_away_and_go_when_they_are_back() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    // A port where nobody listens for now.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let relay = stage.relay("relay").brokers(&address.to_string()).start();
    write_some(&session, 1, 100).await;
    testing::eventually(LIMIT, "the relay says why it is not ready", async || {
        relay.get("/readyz").is_some_and(|answer| answer.starts_with("HTTP/1.1 503") && answer.contains("broker_away"))
    })
    .await;
    assert!(relay.get("/livez").is_some_and(|answer| answer.starts_with("HTTP/1.1 200")));
    assert!(stage.backlog(&session).await > 0);

    let listener = TcpListener::bind(address).await.expect("the port is still free");
    let brokers = testing::kafka_brokers();
    let forwarding = tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let brokers = brokers.clone();
            tokio::spawn(async move {
                if let Ok(mut far) = TcpStream::connect(brokers).await {
                    // Either side may hang up.
                    let _ = copy_bidirectional(&mut near, &mut far).await;
                }
            });
        }
    });
    testing::eventually(LIMIT, "the relay is ready again", async || relay.is_ready()).await;
    stage.relayed(&session).await;
    let report = check(&stage, &session).await;
    assert_eq!(report, Report { committed: 100, arrived: 100, ..Report::default() });
    let refused: i64 = session.client.query_one("SELECT count(*) FROM outbox.quarantine", &[]).await.expect("an answer").get(0);
    assert_eq!(refused, 0, "brokers that are away refuse nothing");
    forwarding.abort();
}

#[tokio::test]
async fn a_row_that_the_quarantine_has_no_room_for_stops_its_outbox_loudly_and_is_not_skipped() {
    let stage = Stage::new().await;
    let session = stage.session().await;
    write_some(&session, 1, 10).await;
    let poison = "INSERT INTO outbox.r0 (topic, key, payload) VALUES (99, gen_random_uuid(), '\\x01')";
    session.client.batch_execute(poison).await.expect("inserted");
    write_some(&session, 1, 10).await;
    let relay = stage.relay("relay").with("quarantine_rows_max = 0").start();
    testing::eventually(LIMIT, "the outbox is blocked", async || relay.metric("idempo_outbox_dead") == Some(1.0)).await;
    let answer = relay.get("/readyz").expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("row 11: it is for topic 99"), "{answer}");
    assert!(relay.log().contains("\"ERROR\""), "{}", relay.log());
    assert_eq!(dump(&stage.topic(), 12).await.len(), 10, "what stands before it is sent, once");

    // Nobody but an operator may do this.
    session.client.batch_execute("DELETE FROM outbox.r0 WHERE topic = 99").await.expect("deleted");
    stage.relayed(&session).await;
    testing::eventually(Duration::from_secs(20), "the outbox is not blocked any more", async || {
        relay.metric("idempo_outbox_dead") == Some(0.0) && relay.is_ready()
    })
    .await;
    let report = check(&stage, &session).await;
    assert_eq!(report, Report { committed: 20, arrived: 20, ..Report::default() });
}
