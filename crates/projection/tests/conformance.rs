//! What every store promises, on the twin in memory and on PostgreSQL.

use std::collections::BTreeMap;
use std::sync::Arc;

use idempo_dead_letter::{Disposition, Stage};
use idempo_ids::EventId;
use idempo_kafka::RecordHeaders;
use idempo_projection::{
    Batch, Commit, Drain, Drainage, Drained, Entry, Failure, Lease, Letter, Next, Parked, Parking, Store, StoreError, StreamEnd, Wished,
    Wishes,
};
use jiff::Timestamp;

use crate::support::{Memory, Postgres, TOTAL_MAX, TallyWrites, Totals, View, granted, player, stream_of, under};

/// A store, and a way to look behind it.
trait Subject {
    type Store: Store<Writes = TallyWrites>;
    async fn begin() -> Self;
    fn store(&self) -> &Self::Store;
    async fn totals(&self) -> Totals;
    /// Asks for the dead letter of an offset of partition 0 to be replayed or discarded.
    async fn wish(&self, offset: i64, is_discard: bool);
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

    async fn wish(&self, offset: i64, is_discard: bool) {
        assert!(self.0.wish(0, offset, is_discard));
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

    async fn wish(&self, offset: i64, is_discard: bool) {
        self.0
            .execute(&format!(
                "SELECT wish_for_dead_letters('tally', 1, 'numbers', '{{0}}', '{{{offset}}}', '{{any}}', {is_discard}, false, 5, 'tester', 'a test')"
            ))
            .await;
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
        parking: Parking::default(),
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
    let parking = Parking::default();
    Arc::new(Batch { partition, epoch, from, to, newest_at: None, last_event: None, versions, writes, parking })
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

/// A record of player 1.
fn record(offset: i64, version: u64) -> Entry {
    Entry {
        timestamp_ms: 1_750_000_000_123,
        headers: RecordHeaders::of([("a", Some(&b"1"[..])), ("b", None)]),
        ..under(1, offset, Some(granted(1, version, 1)))
    }
}

fn failure() -> Failure {
    let at = Timestamp::from_second(1_750_000_000).expect("a time");
    Failure {
        stage: Stage::Apply,
        disposition: Disposition::PoisonDomain,
        code: "VERSION_GAP",
        reason: "a\0gap".to_owned(),
        attempts: 3,
        replay_count: 0,
        first_failed_at: at,
        failed_at: at,
    }
}

fn letter(offset: i64) -> Letter {
    Letter { group: Arc::from("idempo.tally.g1"), entry: record(offset, 9), failure: failure(), streams: vec![stream_of(1)] }
}

fn parking(lease: Lease, (from, to): (i64, i64), parking: Parking) -> Arc<Batch<TallyWrites>> {
    let (versions, writes) = (Vec::new(), TallyWrites::default());
    Arc::new(Batch { partition: 0, epoch: lease.epoch, from, to, newest_at: None, last_event: None, versions, writes, parking })
}

/// Parks record 0, and records 1 to 3 behind it.
async fn park<S: Store<Writes = TallyWrites>>(store: &S) -> Lease {
    let lease = store.acquire(0).await.expect("a lease");
    let head = parking(lease, (0, 1), Parking { letter: Some(letter(0)), followers: Vec::new() });
    assert_eq!(commit(store, &head).await, Commit::Committed);
    let followers = (1..4).map(|offset| record(offset, offset.unsigned_abs())).collect();
    let behind = parking(lease, (1, 4), Parking { letter: None, followers });
    assert_eq!(commit(store, &behind).await, Commit::Committed);
    lease
}

fn drain(lease: Lease, letters: Vec<Drained>, quantity: i64) -> Drain<TallyWrites> {
    let writes = TallyWrites(BTreeMap::from([(player(1), (quantity, 1))]));
    Drain { partition: 0, epoch: lease.epoch, versions: vec![end(1)], writes, letters }
}

fn drained(wished: &Wished, through: i64, applied: u64, next: Next) -> Drained {
    Drained { offset: wished.offset, revision: wished.revision, through, applied, next }
}

async fn what_a_batch_parks_is_there_for_whoever_comes_next_and_counts_with_the_checkpoint<T: Subject>() {
    let subject = T::begin().await;
    let store = subject.store();
    let zombie = store.acquire(0).await.expect("a lease");
    let lease = park(store).await;
    let parked = store.parked(0).await.expect("it answers");
    assert_eq!((parked.keys.len(), parked.records), (1, 3));
    assert_eq!(store.checkpoints().await.expect("checkpoints")[0].next_offset, 4);
    let zombies = parking(zombie, (0, 1), Parking { letter: Some(letter(0)), followers: Vec::new() });
    assert_eq!(commit(store, &zombies).await, Commit::Fenced);
    let again = parking(lease, (1, 4), Parking { letter: None, followers: vec![record(1, 1)] });
    assert_eq!(commit(store, &again).await, Commit::Committed, "its answer was lost");
    assert_eq!(store.parked(0).await.expect("it answers"), parked);
    assert_eq!(store.parked(1).await.expect("it answers"), Parked::default());
    let found = store.parked_stream(&[stream_of(2), stream_of(1)]).await.expect("it answers");
    assert_eq!(found.map(|letter| (letter.group, letter.partition, letter.offset)), Some(("idempo.tally.g1".to_owned(), 0, 0)));
    assert_eq!(store.parked_stream(&[stream_of(2)]).await.expect("it answers"), None);
    let counts = store.parked_counts().await.expect("it answers");
    assert_eq!((counts.letters, counts.keys, counts.records), (1, 1, 3));
    assert_eq!(store.wishes().await.expect("it answers"), Wishes { partitions: vec![], has_letters: true });
    assert_eq!(store.wished(0).await.expect("it answers"), []);
}

async fn a_drain_counts_once_under_the_lease_and_the_revision<T: Subject>() {
    let subject = T::begin().await;
    let store = subject.store();
    let lease = park(store).await;
    subject.wish(0, false).await;
    assert_eq!(store.wishes().await.expect("it answers").partitions, [0]);
    let wished = store.wished(0).await.expect("it answers").remove(0);
    assert_eq!((&wished.head, wished.has_more, wished.is_discard, wished.is_begun), (&record(0, 9), false, false, false));
    assert_eq!(wished.followers, (1..4).map(|offset| record(offset, offset.unsigned_abs())).collect::<Vec<_>>());
    // The first part: the dead letter and one behind it.
    let first = drain(lease, vec![drained(&wished, 1, 2, Next::More)], 10);
    assert_eq!(store.drain(&first).await.expect("it answers"), Drainage::Done);
    assert_eq!(store.drain(&first).await.expect("it answers"), Drainage::Stale, "it is in");
    assert_eq!((subject.totals().await, store.versions(&[stream_of(1)]).await.expect("versions")), (totals(10, 1), vec![end(1)]));
    let wished = store.wished(0).await.expect("it answers").remove(0);
    assert_eq!((wished.is_begun, wished.followers.len()), (true, 2));
    let rest = drain(lease, vec![drained(&wished, 3, 2, Next::Free)], 1);
    let owner = store.acquire(0).await.expect("a lease");
    assert_eq!(store.drain(&rest).await.expect("it answers"), Drainage::Fenced);
    let rest = Drain { epoch: owner.epoch, ..rest };
    assert_eq!(store.drain(&rest).await.expect("it answers"), Drainage::Done);
    assert_eq!((subject.totals().await, store.parked(0).await.expect("it answers")), (totals(11, 2), Parked::default()));
    assert_eq!(store.checkpoints().await.expect("checkpoints")[0].next_offset, 4, "it has not moved");
}

async fn what_fails_again_waits_as_before_and_a_follower_that_fails_takes_its_place<T: Subject>() {
    let subject = T::begin().await;
    let store = subject.store();
    let lease = park(store).await;
    subject.wish(0, false).await;
    let wished = store.wished(0).await.expect("it answers").remove(0);
    let again = Failure { replay_count: 1, attempts: 4, ..failure() };
    let failed = Drain {
        writes: TallyWrites::default(),
        versions: Vec::new(),
        ..drain(lease, vec![drained(&wished, 0, 0, Next::Failed(again))], 0)
    };
    assert_eq!(store.drain(&failed).await.expect("it answers"), Drainage::Done);
    assert_eq!(store.wished(0).await.expect("it answers"), []);
    subject.wish(0, true).await;
    let wished = store.wished(0).await.expect("it answers").remove(0);
    assert_eq!((wished.is_discard, wished.replay_count, wished.attempts), (true, 1, 4));
    let refused = store.drain(&drain(lease, vec![drained(&wished, 3, 3, Next::Free)], TOTAL_MAX + 1)).await;
    assert!(matches!(refused, Err(StoreError::Refused(_))), "{refused:?}");
    assert_eq!(store.parked(0).await.expect("it answers").records, 3, "nothing of it is in");
    let blocked = Next::Blocked(Box::new(Letter { entry: record(2, 2), ..letter(2) }));
    let drained = drain(lease, vec![drained(&wished, 1, 1, blocked)], 5);
    assert_eq!(store.drain(&drained).await.expect("it answers"), Drainage::Done);
    let parked = store.parked(0).await.expect("it answers");
    assert_eq!((parked.keys.len(), parked.records), (1, 1));
    subject.wish(2, false).await;
    let wished = store.wished(0).await.expect("it answers").remove(0);
    assert_eq!((wished.head, wished.followers), (record(2, 2), vec![record(3, 3)]));
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
    what_a_batch_parks_is_there_for_whoever_comes_next_and_counts_with_the_checkpoint
    a_drain_counts_once_under_the_lease_and_the_revision
    what_fails_again_waits_as_before_and_a_follower_that_fails_takes_its_place
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
