//! What every store promises, on the twin in memory and on PostgreSQL.

use std::collections::BTreeMap;
use std::sync::Arc;

use idempo_ids::EventId;
use idempo_projection::{Batch, Commit, Lease, Store, StoreError, StreamEnd};

use crate::support::{Memory, Postgres, TOTAL_MAX, TallyWrites, Totals, View, player, stream_of};

/// A store, and a way to look behind it.
trait Subject {
    type Store: Store<Writes = TallyWrites>;
    async fn begin() -> Self;
    fn store(&self) -> &Self::Store;
    async fn totals(&self) -> Totals;
}

struct InMemory(Memory);

impl Subject for InMemory {
    type Store = Memory;

    async fn begin() -> Self {
        Self(Memory::new())
    }

    fn store(&self) -> &Memory {
        &self.0
    }

    async fn totals(&self) -> Totals {
        self.0.model().0
    }
}

struct OnPostgres(View, Arc<Postgres>);

impl Subject for OnPostgres {
    type Store = Postgres;

    async fn begin() -> Self {
        let view = View::new().await;
        let store = view.store("numbers");
        Self(view, store)
    }

    fn store(&self) -> &Postgres {
        &self.1
    }

    async fn totals(&self) -> Totals {
        self.0.totals().await
    }
}

/// A batch that grants `quantity` to player 1.
fn batch(lease: Lease, offsets: (i64, i64), version: u64, quantity: i64) -> Arc<Batch<TallyWrites>> {
    Arc::new(Batch {
        partition: 0,
        epoch: lease.epoch,
        from: offsets.0,
        to: offsets.1,
        newest_at: None,
        last_event: Some(event(offsets.1)),
        versions: vec![end(version)],
        writes: TallyWrites(BTreeMap::from([(player(1), (quantity, 1))])),
    })
}

/// The event in the record before an offset.
fn event(offset: i64) -> EventId {
    EventId::new(idempo_ids::derive(player(1), "record", u32::try_from(offset).expect("small")))
}

/// How far the stream of player 1 is.
fn end(version: u64) -> StreamEnd {
    let event_id = EventId::new(idempo_ids::derive(player(1), "event", u32::try_from(version).expect("small")));
    StreamEnd { stream: stream_of(1), version, event_id: Some(event_id) }
}

async fn commit<S: Store<Writes = TallyWrites>>(store: &S, batch: &Arc<Batch<TallyWrites>>) -> Commit {
    store.commit(batch).await.expect("the store answers")
}

fn totals(total: i64, events: i64) -> Totals {
    BTreeMap::from([(player(1), (total, events))])
}

async fn each_lease_has_a_greater_epoch_and_begins_where_the_last_commit_ended<T: Subject>() {
    let subject = T::begin().await;
    let store = subject.store();
    let first = store.acquire(0).await.expect("a lease");
    assert_eq!((first.next_offset, first.last_event), (0, None));
    assert_eq!(commit(store, &batch(first, (0, 5), 3, 10)).await, Commit::Committed);
    let second = store.acquire(0).await.expect("a lease");
    assert!(second.epoch > first.epoch);
    assert_eq!((second.next_offset, second.last_event), (5, Some(event(5))));
    assert_eq!(store.acquire(1).await.expect("a lease").next_offset, 0, "partitions stand apart");
}

async fn rows_versions_and_checkpoint_move_together<T: Subject>() {
    let subject = T::begin().await;
    let store = subject.store();
    let lease = store.acquire(0).await.expect("a lease");
    assert_eq!(commit(store, &batch(lease, (0, 5), 3, 10)).await, Commit::Committed);
    assert_eq!(commit(store, &batch(lease, (5, 9), 4, 1)).await, Commit::Committed);
    assert_eq!(subject.totals().await, totals(11, 2));
    let versions = store.versions(&[stream_of(1), stream_of(2)]).await.expect("versions");
    assert_eq!(versions, [end(4)], "a stream that is not there has no version");
    let checkpoints = store.checkpoints().await.expect("checkpoints");
    assert_eq!(checkpoints.iter().map(|c| (c.partition, c.epoch, c.next_offset)).collect::<Vec<_>>(), [(0, lease.epoch, 9)]);
}

/// A batch of partition `partition` that grants 1 to a player of its own.
fn of_partition(partition: i32, lease: Lease) -> Arc<Batch<TallyWrites>> {
    let number = 10 + u128::try_from(partition).expect("small");
    let versions = vec![StreamEnd { stream: stream_of(number), version: 1, event_id: None }];
    let writes = TallyWrites(BTreeMap::from([(player(number), (1, 1))]));
    let (epoch, from, to) = (lease.epoch, lease.next_offset, lease.next_offset + 1);
    Arc::new(Batch { partition, epoch, from, to, newest_at: None, last_event: None, versions, writes })
}

async fn batches_of_different_partitions_are_committed_together_or_not_at_all<T: Subject>() {
    let subject = T::begin().await;
    let store = subject.store();
    let mut batches = Vec::new();
    for partition in 0..4 {
        batches.push(of_partition(partition, store.acquire(partition).await.expect("a lease")));
    }
    // Somebody else takes one of them.
    let taken = store.acquire(2).await.expect("a lease");
    assert!(!store.commit_together(&batches).await.expect("the store answers"));
    assert_eq!(subject.totals().await, BTreeMap::new(), "nothing of any is in");
    batches[2] = of_partition(2, taken);
    assert!(store.commit_together(&batches).await.expect("the store answers"));
    assert_eq!(subject.totals().await, (10..14_u128).map(|number| (player(number), (1, 1))).collect());
    assert!(!store.commit_together(&batches).await.expect("the store answers"), "they are in");
    for batch in &batches {
        assert_eq!(commit(store, batch).await, Commit::Committed, "each says so by itself");
    }
    assert_eq!(subject.totals().await.len(), 4);
    let next = store.checkpoints().await.expect("checkpoints").iter().map(|c| c.next_offset).collect::<Vec<_>>();
    assert_eq!(next, [1; 4]);
}

async fn a_batch_whose_answer_was_lost_is_committed_once<T: Subject>() {
    let subject = T::begin().await;
    let store = subject.store();
    let lease = store.acquire(0).await.expect("a lease");
    let batch = batch(lease, (0, 5), 3, 10);
    for _ in 0..3 {
        assert_eq!(commit(store, &batch).await, Commit::Committed);
    }
    assert_eq!(subject.totals().await, totals(10, 1));
}

async fn a_batch_read_under_an_earlier_lease_is_fenced_and_leaves_nothing<T: Subject>() {
    let subject = T::begin().await;
    let store = subject.store();
    let zombie = store.acquire(0).await.expect("a lease");
    assert_eq!(commit(store, &batch(zombie, (0, 5), 3, 10)).await, Commit::Committed);
    let owner = store.acquire(0).await.expect("a lease");
    assert_eq!(commit(store, &batch(zombie, (5, 9), 4, 100)).await, Commit::Fenced);
    assert_eq!(subject.totals().await, totals(10, 1));
    assert_eq!(store.versions(&[stream_of(1)]).await.expect("versions"), [end(3)]);
    assert_eq!(commit(store, &batch(owner, (5, 9), 4, 1)).await, Commit::Committed);
    assert_eq!(commit(store, &batch(zombie, (5, 9), 4, 1)).await, Commit::Fenced, "even though the same offsets are in");
    assert_eq!(subject.totals().await, totals(11, 2));
}

async fn a_batch_that_does_not_begin_at_the_checkpoint_is_fenced<T: Subject>() {
    let subject = T::begin().await;
    let store = subject.store();
    let lease = store.acquire(0).await.expect("a lease");
    assert_eq!(commit(store, &batch(lease, (7, 9), 1, 10)).await, Commit::Fenced);
    assert_eq!(commit(store, &batch(lease, (0, 5), 1, 10)).await, Commit::Committed);
    assert_eq!(commit(store, &batch(lease, (0, 3), 1, 10)).await, Commit::Fenced);
    assert_eq!(subject.totals().await, totals(10, 1));
}

async fn a_batch_of_a_partition_that_was_never_taken_is_fenced<T: Subject>() {
    let subject = T::begin().await;
    let lease = Lease { epoch: 1, next_offset: 0, last_event: None };
    assert_eq!(commit(subject.store(), &batch(lease, (0, 5), 1, 10)).await, Commit::Fenced);
    assert_eq!(subject.totals().await, Totals::new());
}

async fn a_batch_that_the_read_model_refuses_leaves_nothing<T: Subject>() {
    let subject = T::begin().await;
    let store = subject.store();
    let lease = store.acquire(0).await.expect("a lease");
    let refused = store.commit(&batch(lease, (0, 5), 3, TOTAL_MAX + 1)).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    assert_eq!(subject.totals().await, Totals::new());
    assert_eq!(store.versions(&[stream_of(1)]).await.expect("versions"), []);
    assert_eq!(commit(store, &batch(lease, (0, 5), 3, 1)).await, Commit::Committed, "the checkpoint has not moved");
}

async fn of_racing_commits_of_one_batch_one_takes_effect<T: Subject>() {
    let subject = T::begin().await;
    let store = subject.store();
    let lease = store.acquire(0).await.expect("a lease");
    let batch = batch(lease, (0, 5), 3, 10);
    let answers = futures_util::future::join_all((0..8).map(|_| commit(store, &batch))).await;
    assert!(answers.iter().all(|answer| *answer == Commit::Committed), "{answers:?}");
    assert_eq!(subject.totals().await, totals(10, 1));
}

async fn why_a_partition_has_stopped_is_known_until_it_is_taken_again<T: Subject>() {
    let subject = T::begin().await;
    let store = subject.store();
    let stopped = async || store.checkpoints().await.expect("checkpoints")[0].stopped.clone();
    let zombie = store.acquire(0).await.expect("a lease");
    let owner = store.acquire(0).await.expect("a lease");
    store.note_stop(0, zombie.epoch, "VERSION_GAP", "a zombie's").await.expect("the store answers");
    assert_eq!(stopped().await, None, "who lost the partition has nothing to say about it");
    store.note_stop(0, owner.epoch, "VERSION_GAP", "the owner's").await.expect("the store answers");
    assert_eq!(stopped().await.as_deref(), Some("VERSION_GAP"));
    store.acquire(0).await.expect("a lease");
    assert_eq!(stopped().await, None);
}

macro_rules! on_every_store {
    ($($promise:ident)+) => {
        mod memory {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise::<super::InMemory>().await;
            })+
        }
        mod postgres {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise::<super::OnPostgres>().await;
            })+
        }
    };
}

on_every_store! {
    each_lease_has_a_greater_epoch_and_begins_where_the_last_commit_ended
    rows_versions_and_checkpoint_move_together
    a_batch_whose_answer_was_lost_is_committed_once
    a_batch_read_under_an_earlier_lease_is_fenced_and_leaves_nothing
    a_batch_that_does_not_begin_at_the_checkpoint_is_fenced
    a_batch_of_a_partition_that_was_never_taken_is_fenced
    a_batch_that_the_read_model_refuses_leaves_nothing
    of_racing_commits_of_one_batch_one_takes_effect
    batches_of_different_partitions_are_committed_together_or_not_at_all
    why_a_partition_has_stopped_is_known_until_it_is_taken_again
}

#[tokio::test]
async fn a_generation_takes_only_the_logic_it_was_begun_with() {
    let view = View::new().await;
    let store = view.store("numbers");
    store.claim::<crate::support::Tally>().await.expect("the first claim");
    store.claim::<crate::support::Tally>().await.expect("the same logic again");
    view.execute("UPDATE generation SET code_hash = 'tally/0' WHERE projection = 'tally'").await;
    assert!(matches!(store.claim::<crate::support::Tally>().await, Err(StoreError::OtherLogic { generation: 1, .. })));
}
