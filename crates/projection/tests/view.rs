//! What readers learn: whether a read model has what they wrote, and how far behind it is.

use std::sync::Arc;
use std::time::Duration;

use idempo_projection::memory::Fault;
use idempo_projection::{Lag, Parked, Partition, Reached, Store, View, run_partition};
use tokio_util::sync::CancellationToken;

use crate::support::{HOME, LIMIT, Memory, Tally, entries, feed, granted, letters_to, progress, stream_of};

#[tokio::test]
async fn a_reader_waits_for_the_position_it_asks_for_and_no_longer() {
    let (store, progress) = (Arc::new(Memory::new()), progress());
    let view = View::new(Arc::clone(&store), Arc::clone(&progress), 1);
    let lease = store.acquire(0).await.expect("a lease");
    let (tap, feed) = feed();
    let (topic, parked, letters) = (Arc::from("numbers"), Parked::default(), letters_to(&Arc::default()));
    let partition = Partition { store, progress, topic, home: HOME, lease, parked, letters };
    let task = tokio::spawn(run_partition::<Tally, Memory, _>(partition, feed, CancellationToken::new()));

    assert_eq!(view.reached(&[], Duration::ZERO).await.expect("the store answers"), Reached::Yes, "no position is always reached");
    let position = [(stream_of(1), 2), (stream_of(2), 1)];
    assert_eq!(view.reached(&position, Duration::from_millis(30)).await.expect("the store answers"), Reached::NotYet);
    let waiting = tokio::spawn({
        let view = view.clone();
        async move { view.reached(&[(stream_of(1), 2), (stream_of(2), 1)], LIMIT).await }
    });
    tap.send(entries([granted(1, 1, 1), granted(1, 2, 1)]));
    tokio::task::yield_now().await;
    assert_eq!(view.reached(&[(stream_of(1), 2)], LIMIT).await.expect("the store answers"), Reached::Yes);
    assert!(!waiting.is_finished(), "one of two streams is not there yet");
    tap.send(entries([granted(1, 1, 1), granted(1, 2, 1), granted(2, 1, 1)]).into_iter().skip(2));
    assert_eq!(waiting.await.expect("no panic").expect("the store answers"), Reached::Yes);
    drop(tap);
    task.await.expect("no panic");
}

#[tokio::test]
async fn a_reader_is_told_when_the_store_is_away() {
    let (store, progress) = (Arc::new(Memory::new()), progress());
    store.inject([Fault::Away]);
    let view = View::new(store, progress, 1);
    assert!(view.reached(&[(stream_of(1), 1)], LIMIT).await.is_err());
    assert_eq!(view.lag(None), Lag::default());
}
