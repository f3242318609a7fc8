//! Commits that partitions share: each batch is in once, whatever becomes of the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use idempo_projection::memory::Fault;
use idempo_projection::{Batch, Commit, Group, Lease, Parking, Store, StreamEnd};

use crate::support::{Memory, TOTAL_MAX, TallyWrites, player, stream_of};

const PARTITIONS: i32 = 8;

fn batch(partition: i32, lease: Lease, quantity: i64) -> Arc<Batch<TallyWrites>> {
    let number = u128::from(partition.unsigned_abs());
    let versions = vec![StreamEnd { stream: stream_of(number), version: 1, event_id: None }];
    let writes = TallyWrites(BTreeMap::from([(player(number), (quantity, 1))]));
    let (epoch, from, to) = (lease.epoch, lease.next_offset, lease.next_offset + 1);
    let parking = Parking::default();
    Arc::new(Batch { partition, epoch, from, to, newest_at: None, last_event: None, versions, writes, parking })
}

async fn leases(store: &Memory) -> Vec<Lease> {
    let mut leases = Vec::new();
    for partition in 0..PARTITIONS {
        leases.push(store.acquire(partition).await.expect("a lease"));
    }
    leases
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_lost_a_zombie_and_a_refused_batch_leave_the_other_batches_alone() {
    for fault in [None, Some(Fault::Away), Some(Fault::AnswerLost)] {
        let store = Arc::new(Memory::new());
        let group = Group::new(Arc::clone(&store));
        let leases = leases(&store).await;
        let stale = store.acquire(3).await.map(|lease| lease.epoch).expect("a lease");
        assert!(stale > leases[3].epoch, "partition 3 has been taken by somebody else");
        store.inject(fault);
        let commits = (0..PARTITIONS).zip(&leases).map(|(partition, lease)| {
            let batch = batch(partition, *lease, if partition == 5 { TOTAL_MAX + 1 } else { 1 });
            let group = &group;
            // As a partition's task does: again, where it is not known whether it is in.
            async move {
                loop {
                    match group.commit(&batch).await {
                        Err(error) if error.is_transient() => {}
                        result => return result,
                    }
                }
            }
        });
        let results = futures_util::future::join_all(commits).await;
        for (partition, result) in results.iter().enumerate() {
            match partition {
                3 => assert!(matches!(result, Ok(Commit::Fenced)), "{result:?}"),
                5 => assert!(result.is_err(), "{result:?}"),
                _ => assert!(matches!(result, Ok(Commit::Committed)), "partition {partition}, {fault:?}: {result:?}"),
            }
        }
        let expected: BTreeMap<_, _> = [0, 1, 2, 4, 6, 7].map(|number| (player(number), (1, 1))).into();
        assert_eq!(store.model().0, expected, "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_goes_away_while_it_waits_takes_nobody_along() {
    let store = Arc::new(Memory::new());
    let group = Arc::new(Group::new(Arc::clone(&store)));
    let leases = leases(&store).await;
    let mut tasks = Vec::new();
    for (partition, lease) in (0..PARTITIONS).zip(leases) {
        let group = Arc::clone(&group);
        tasks.push(tokio::spawn(async move { group.commit(&batch(partition, lease, 1)).await }));
    }
    // Whether they have led, waited or not begun: it is the same to the others.
    for task in tasks.iter().step_by(2) {
        task.abort();
    }
    for (partition, task) in tasks.into_iter().enumerate() {
        if partition % 2 == 1 {
            assert!(matches!(task.await.expect("no panic"), Ok(Commit::Committed)), "partition {partition}");
        }
    }
    let total: i64 = store.model().0.values().map(|(total, _)| total).sum();
    assert!((4..=8).contains(&total), "{total}");
}
