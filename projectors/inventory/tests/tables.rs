//! The tables hold what the fold says, whichever partition gets ahead.

use std::collections::BTreeMap;
use std::sync::Arc;

use idempo_ids::StreamId;
use idempo_inventory_projector::{InventoryProjector, InventoryTables, Writes, fold, read_rows};
use idempo_projection::{Batch, Commit, Event, Group, Parking, PostgresStore, Scope, Store, StoreError, StreamEnd};

use crate::support::{ReadModel, interleaved, writes};
use crate::world::{large_sample, sample};

type InventoryStore = PostgresStore<InventoryTables>;

/// Commits the events of a partition in batches, as its task would.
async fn project(store: &impl Store<Writes = Writes>, partition: i32, events: Vec<Event>, batch_size: usize) {
    let lease = store.acquire(partition).await.expect("a lease");
    let mut from = lease.next_offset;
    for events in events.chunks(batch_size) {
        let end = |event: &Event| StreamEnd { stream: event.stream_id, version: event.version, event_id: Some(event.event_id) };
        let versions: BTreeMap<StreamId, StreamEnd> = events.iter().map(|event| (event.stream_id, end(event))).collect();
        let last_event = events.last().map(|event| event.event_id);
        let to = from + i64::try_from(events.len()).expect("small");
        let newest_at = events.iter().map(|event| event.decided_at).max();
        let versions = versions.into_values().collect();
        let (epoch, writes, parking) = (lease.epoch, writes(events), Parking::default());
        let batch = Arc::new(Batch { partition, epoch, from, to, newest_at, last_event, versions, writes, parking });
        loop {
            match store.commit(&batch).await {
                Ok(commit) => break assert_eq!(commit, Commit::Committed),
                Err(StoreError::Unavailable(_)) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
        from = to;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_that_run_side_by_side_leave_the_rows_of_the_fold() {
    for number in 0..12_usize {
        let read_model = ReadModel::new().await;
        let scope = Scope { generation: 1, topic: "economy-events".to_owned() };
        let store = InventoryStore::new::<InventoryProjector>(read_model.pool.clone(), scope, InventoryTables);
        let events = sample(number).events();
        let of_partition = |partition: usize| -> Vec<Event> {
            let own: Vec<Event> =
                events.iter().filter(|event| usize::from(event.stream_id.bytes()[15] % 3) == partition).cloned().collect();
            if own.is_empty() { own } else { interleaved(&own, &[number, 1, 3, 2]) }
        };
        if number % 2 == 0 {
            tokio::join!(
                project(&store, 0, of_partition(0), 1 + number % 4),
                project(&store, 1, of_partition(1), 7),
                project(&store, 2, of_partition(2), 2_000),
            );
        } else {
            // The same, where commits are shared.
            let group = Group::new(Arc::new(store));
            tokio::join!(
                project(&group, 0, of_partition(0), 1 + number % 4),
                project(&group, 1, of_partition(1), 7),
                project(&group, 2, of_partition(2), 5),
            );
        }
        let expected = fold(&events).expect("it folds");
        assert_eq!(read_rows(&read_model.pool).await.expect("the rows can be read"), expected, "world {number}");
    }
}

#[tokio::test]
async fn large_batches_leave_the_rows_of_the_fold() {
    let read_model = ReadModel::new().await;
    let scope = Scope { generation: 1, topic: "economy-events".to_owned() };
    let store = InventoryStore::new::<InventoryProjector>(read_model.pool.clone(), scope, InventoryTables);
    let events = large_sample().events();
    let expected = fold(&events).expect("it folds");
    assert!(expected.item_events.len() > 1_500, "only {} entries in histories", expected.item_events.len());
    project(&store, 0, events, 1_000).await;
    assert_eq!(read_rows(&read_model.pool).await.expect("the rows can be read"), expected);
}

#[tokio::test]
async fn a_stack_that_would_fall_below_zero_is_refused_as_a_whole() {
    let read_model = ReadModel::new().await;
    let scope = Scope { generation: 1, topic: "economy-events".to_owned() };
    let store = InventoryStore::new::<InventoryProjector>(read_model.pool.clone(), scope, InventoryTables);
    let lease = store.acquire(0).await.expect("a lease");
    let mut writes = writes(&sample(0).events());
    for change in writes.stacks.values_mut() {
        change.quantity -= 1_000_000;
    }
    assert!(!writes.stacks.is_empty());
    let batch = Arc::new(Batch {
        partition: 0,
        epoch: lease.epoch,
        from: 0,
        to: 1,
        newest_at: None,
        last_event: None,
        versions: Vec::new(),
        writes,
        parking: Parking::default(),
    });
    assert!(matches!(store.commit(&batch).await, Err(StoreError::Refused(_))));
    assert_eq!(read_rows(&read_model.pool).await.expect("the rows can be read"), idempo_inventory_projector::Rows::default());
}

#[tokio::test]
async fn rows_whose_ids_end_alike_are_compared_in_one_part() {
    let model = ReadModel::new().await;
    let client = model.pool.get().await.expect("a connection");
    let player = |end: &str| format!("01890000-0000-7000-8000-{end}");
    for (end, item_type) in [("00000000000a", "arrow"), ("00000000000a", "ore"), ("00000000010a", "arrow"), ("00000000000b", "arrow")] {
        let sql = format!("INSERT INTO stacks VALUES ('{}', '{item_type}', 1, 0, now())", player(end));
        client.batch_execute(&sql).await.expect("a row");
    }
    let sql = "SELECT bucket, row_count FROM projection.fingerprints('inventory', 1, 'stacks', 'player_id') ORDER BY 1";
    let rows = client.query(sql, &[]).await.expect("fingerprints");
    let parts: Vec<(i32, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(parts, [(0x0a, 3), (0x0b, 1)]);
}
