//! Making and checking topics.

use idempo_devstack::testing;
use idempo_kafka::{Error, ensure_topics, watermarks};

use crate::support::{fill, kafka, spec, topic};

#[tokio::test]
async fn a_topic_is_made_once_and_found_the_second_time() {
    let name = format!("{}twice", testing::topic_prefix());
    for _ in 0..2 {
        ensure_topics(&kafka(), &[spec(&name, 3)]).await.expect("made or found");
    }
}

#[tokio::test]
async fn a_topic_with_another_number_of_partitions_is_refused() {
    let name = format!("{}three", testing::topic_prefix());
    ensure_topics(&kafka(), &[spec(&name, 3)]).await.expect("made");
    let refused = ensure_topics(&kafka(), &[spec(&name, 4)]).await;
    assert!(matches!(refused, Err(Error::Partitions { found: 3, expected: 4, .. })), "{refused:?}");
}

#[tokio::test]
async fn watermarks_are_what_was_written() {
    let topic = topic(2).await;
    fill(&topic, 1, 0..7).await;
    assert_eq!(watermarks(&kafka(), &topic, 2).await.expect("the broker answers"), [(0, 0), (0, 7)]);
}
