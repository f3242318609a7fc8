//! Readiness is the sum of its conditions.

use idempo_runtime::{Missing, Readiness};

fn missing(condition: &str, reason: &str) -> Missing {
    Missing { condition: condition.to_owned(), reason: reason.to_owned() }
}

#[test]
fn a_role_is_ready_when_every_condition_is_met() {
    let readiness = Readiness::new("sample");
    let database = readiness.condition("database");
    let broker = readiness.condition("broker");
    assert!(!readiness.is_ready());
    database.met();
    assert_eq!(readiness.missing(), [missing("broker", "not yet")]);
    broker.met();
    assert!(readiness.is_ready() && readiness.missing().is_empty());
    database.unmet("connection refused");
    assert_eq!(readiness.missing(), [missing("database", "connection refused")]);
    drop(database);
    assert!(readiness.is_ready());
}

#[test]
fn a_role_that_is_stopping_is_never_ready_again() {
    let readiness = Readiness::new("sample");
    let database = readiness.condition("database");
    database.met();
    readiness.stop();
    database.met();
    assert!(!readiness.is_ready());
    assert_eq!(readiness.missing(), [missing("running", "stopping")]);
}

#[tokio::test]
async fn followers_see_readiness_change() {
    let readiness = Readiness::new("sample");
    let database = readiness.condition("database");
    let mut follower = readiness.subscribe();
    assert!(!*follower.borrow_and_update());
    let waiting = tokio::spawn({
        let readiness = readiness.clone();
        async move { readiness.wait_ready().await }
    });
    database.met();
    waiting.await.unwrap();
    assert!(follower.has_changed().unwrap() && *follower.borrow_and_update());
}

#[tokio::test(start_paused = true)]
async fn a_watched_condition_follows_what_is_found() {
    let platform = idempo_runtime::Platform::new("sample", idempo_clock::ManualClock::new(jiff::Timestamp::UNIX_EPOCH));
    let (there, look) = tokio::sync::watch::channel(false);
    platform.watch("database", move || {
        let is_there = *look.borrow();
        async move { if is_there { Ok(()) } else { Err("connection refused") } }
    });
    let mut ready = platform.readiness.subscribe();
    assert!(!platform.readiness.is_ready());
    there.send_replace(true);
    ready.wait_for(|ready| *ready).await.unwrap();
    there.send_replace(false);
    ready.wait_for(|ready| !*ready).await.unwrap();
    assert_eq!(platform.readiness.missing(), [missing("database", "connection refused")]);
    platform.tasks.shut_down(std::time::Duration::from_secs(1)).await.unwrap();
}
