//! One suite for every implementation of the store.

use std::sync::Arc;

use idempo_event_store::NoInline;
use idempo_event_store::memory::MemoryStore;
use idempo_event_store::postgres::{PostgresStore, maintain_key_partitions};
use idempo_event_store::store::{Batch, CommandAppend, CommandResult, LOAD_EVENTS_MAX, Store};

use crate::support::{append, fresh_account, fresh_key, key};

pub(crate) fn batch(commands: Vec<CommandAppend>) -> Batch<()> {
    Batch { commands, rows: () }
}

async fn versions<S: Store<Rows = ()>>(store: &S, stream: idempo_ids::StreamId) -> Vec<u64> {
    store.load(vec![(stream, 0)]).await.unwrap().into_iter().map(|event| event.version).collect()
}

pub(crate) async fn a_key_is_claimed_once_and_answers_with_what_it_was_bound_to<S: Store<Rows = ()>>(store: &S) {
    let (target, id) = (fresh_account(), fresh_key());
    let first = append(key(id, 1), &[(target, 0, 2)]);
    assert_eq!(store.append(batch(vec![first.clone()])).await.unwrap(), [CommandResult::Appended]);
    let again = append(key(id, 1), &[(target, 2, 1)]);
    assert_eq!(store.append(batch(vec![again])).await.unwrap(), [CommandResult::Taken(first.settled.clone())]);
    assert_eq!(versions(store, target.stream_id).await, [1, 2]);
    assert_eq!(store.lookup(&first.key).await.unwrap(), Some(first.settled));
}

pub(crate) async fn a_stale_version_is_a_conflict_that_hands_back_the_events_since<S: Store<Rows = ()>>(store: &S) {
    let target = fresh_account();
    let first = append(key(fresh_key(), 1), &[(target, 0, 3)]);
    store.append(batch(vec![first.clone()])).await.unwrap();
    let stale = append(key(fresh_key(), 1), &[(target, 1, 1)]);
    let results = store.append(batch(vec![stale.clone()])).await.unwrap();
    let [CommandResult::Conflict { since }] = &*results else { panic!("{results:?}") };
    assert_eq!(since.iter().map(|event| event.version).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(since[0].envelope, first.events[1].envelope);
    assert_eq!(store.lookup(&stale.key).await.unwrap(), None, "a conflict binds no key");
    let begun_by_another = append(key(fresh_key(), 1), &[(target, 0, 1)]);
    assert!(matches!(&*store.append(batch(vec![begun_by_another])).await.unwrap(), [CommandResult::Conflict { .. }]));
}

pub(crate) async fn one_commands_conflict_leaves_its_neighbours_alone<S: Store<Rows = ()>>(store: &S) {
    let (a, b, c) = (fresh_account(), fresh_account(), fresh_account());
    let commands = [(a, 0), (b, 5), (c, 0)].map(|(target, expected)| append(key(fresh_key(), 1), &[(target, expected, 1)]));
    let results = store.append(batch(commands.to_vec())).await.unwrap();
    assert_eq!(results, [CommandResult::Appended, CommandResult::Conflict { since: vec![] }, CommandResult::Appended]);
    assert_eq!(versions(store, b.stream_id).await, [0; 0]);
}

pub(crate) async fn commands_on_one_stream_are_appended_as_a_chain<S: Store<Rows = ()>>(store: &S) {
    let target = fresh_account();
    let commands = (0..5).map(|n| append(key(fresh_key(), 1), &[(target, n, 1)])).collect();
    assert_eq!(store.append(batch(commands)).await.unwrap(), vec![CommandResult::Appended; 5]);
    assert_eq!(versions(store, target.stream_id).await, [1, 2, 3, 4, 5]);
}

pub(crate) async fn what_was_decided_on_top_of_a_duplicate_comes_back_and_leaves_nothing<S: Store<Rows = ()>>(store: &S) {
    let (target, other, id) = (fresh_account(), fresh_account(), fresh_key());
    store.append(batch(vec![append(key(id, 1), &[(target, 0, 1)])])).await.unwrap();
    let before = append(key(fresh_key(), 1), &[(target, 1, 1)]);
    let duplicate = append(key(id, 1), &[(target, 2, 1)]);
    let follower = append(key(fresh_key(), 1), &[(target, 3, 1), (other, 0, 1)]);
    let results = store.append(batch(vec![before, duplicate, follower.clone()])).await.unwrap();
    assert!(matches!(&*results, [CommandResult::Appended, CommandResult::Taken(_), CommandResult::Conflict { .. }]), "{results:?}");
    assert_eq!(versions(store, target.stream_id).await, [1, 2]);
    assert_eq!(versions(store, other.stream_id).await, [0; 0], "a stream that only the follower began does not exist");
    assert_eq!(store.lookup(&follower.key).await.unwrap(), None);
    let again = append(follower.key, &[(target, 2, 1), (other, 0, 1)]);
    assert_eq!(store.append(batch(vec![again])).await.unwrap(), [CommandResult::Appended]);
}

pub(crate) async fn a_command_on_two_streams_takes_effect_on_both_or_on_neither<S: Store<Rows = ()>>(store: &S) {
    let (paying, paid) = (fresh_account(), fresh_account());
    let both = append(key(fresh_key(), 1), &[(paying, 0, 1), (paid, 0, 1)]);
    assert_eq!(store.append(batch(vec![both])).await.unwrap(), [CommandResult::Appended]);
    for half_stale in [[(paying, 1, 1), (paid, 0, 1)], [(paying, 0, 1), (paid, 1, 1)]] {
        let results = store.append(batch(vec![append(key(fresh_key(), 1), &half_stale)])).await.unwrap();
        assert!(matches!(&*results, [CommandResult::Conflict { .. }]));
    }
    let next = append(key(fresh_key(), 1), &[(paying, 1, 1), (paid, 1, 1)]);
    assert_eq!(store.append(batch(vec![next])).await.unwrap(), [CommandResult::Appended], "neither stream had moved");
}

pub(crate) async fn a_refusal_binds_its_key_and_is_checked_against_the_version<S: Store<Rows = ()>>(store: &S) {
    let (target, never_begun) = (fresh_account(), fresh_account());
    store.append(batch(vec![append(key(fresh_key(), 1), &[(target, 0, 1)])])).await.unwrap();
    let stale = append(key(fresh_key(), 1), &[(target, 0, 0)]);
    assert!(matches!(&*store.append(batch(vec![stale])).await.unwrap(), [CommandResult::Conflict { .. }]));
    for (refused, version) in [(target, 1), (never_begun, 0)] {
        let refusal = append(key(fresh_key(), 1), &[(refused, version, 0)]);
        assert_eq!(store.append(batch(vec![refusal.clone()])).await.unwrap(), [CommandResult::Appended]);
        assert_eq!(store.append(batch(vec![refusal.clone()])).await.unwrap(), [CommandResult::Taken(refusal.settled)]);
    }
    assert_eq!(versions(store, never_begun.stream_id).await, [0; 0]);
}

pub(crate) async fn many_racing_batches_on_one_new_stream_have_one_winner<S: Store<Rows = ()>>(store: Arc<S>) {
    let (target, id) = (fresh_account(), fresh_key());
    let mut racing = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let (store, other) = (Arc::clone(&store), Arc::clone(&store));
        racing.spawn(async move { other.append(batch(vec![append(key(id, 1), &[(target, 0, 1)])])).await.unwrap().remove(0) });
        racing.spawn(async move { store.append(batch(vec![append(key(fresh_key(), 1), &[(target, 0, 1)])])).await.unwrap().remove(0) });
    }
    let results = racing.join_all().await;
    assert_eq!(results.iter().filter(|result| **result == CommandResult::Appended).count(), 1);
    assert_eq!(versions(&*store, target.stream_id).await, [1]);
}

pub(crate) async fn a_long_stream_is_read_page_by_page<S: Store<Rows = ()>>(store: &S) {
    let target = fresh_account();
    let events = u32::try_from(LOAD_EVENTS_MAX).unwrap() + 10;
    store.append(batch(vec![append(key(fresh_key(), 1), &[(target, 0, events)])])).await.unwrap();
    let page = store.load(vec![(target.stream_id, 0)]).await.unwrap();
    assert_eq!(page.len(), LOAD_EVENTS_MAX);
    let rest = store.load(vec![(target.stream_id, page.last().unwrap().version)]).await.unwrap();
    assert_eq!(rest.len(), 10);
}

async fn suite<S: Store<Rows = ()>>(store: Arc<S>) {
    a_key_is_claimed_once_and_answers_with_what_it_was_bound_to(&*store).await;
    a_stale_version_is_a_conflict_that_hands_back_the_events_since(&*store).await;
    one_commands_conflict_leaves_its_neighbours_alone(&*store).await;
    commands_on_one_stream_are_appended_as_a_chain(&*store).await;
    what_was_decided_on_top_of_a_duplicate_comes_back_and_leaves_nothing(&*store).await;
    a_command_on_two_streams_takes_effect_on_both_or_on_neither(&*store).await;
    a_refusal_binds_its_key_and_is_checked_against_the_version(&*store).await;
    a_long_stream_is_read_page_by_page(&*store).await;
    many_racing_batches_on_one_new_stream_have_one_winner(store).await;
}

#[tokio::test]
async fn the_memory_twin_conforms() {
    suite(Arc::new(MemoryStore::<()>::default())).await;
}

/// A store on a database of its own, as the wallet service's role.
pub(crate) async fn postgres() -> (idempo_devstack::testing::TestDatabase, Arc<PostgresStore<NoInline>>) {
    let database = idempo_devstack::testing::database("wallet_db").await;
    let pool = idempo_pg::Pool::open(&database.config("idempo_wallet")).unwrap();
    let clock: idempo_clock::SharedClock = crate::support::clock();
    maintain_key_partitions(&pool, &clock).await.unwrap();
    (database, Arc::new(PostgresStore::new(pool)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_conforms() {
    let (_database, store) = postgres().await;
    suite(store).await;
}

/// A refusal looks at its stream without locking it. What another transaction does to that stream meanwhile must stand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn undoing_a_failed_command_leaves_streams_alone_that_the_batch_only_looked_at() {
    let (database, store) = postgres().await;
    let (looked_at, never_begun, contested, id) = (fresh_account(), fresh_account(), fresh_account(), fresh_key());
    store.append(batch(vec![append(key(fresh_key(), 1), &[(looked_at, 0, 1)])])).await.unwrap();

    let (mut other, connection) = idempo_pg::connect(&database.superuser()).await.unwrap();
    tokio::spawn(connection);
    let claim = "INSERT INTO es.command_dedup (key, scope, fingerprint, outcome, reply) VALUES ($1, $2, '', 0, 'theirs')";
    let advance = "INSERT INTO es.streams VALUES ($1, 1, $1, 2) ON CONFLICT (stream_id) DO UPDATE SET version = 2";
    let transaction = other.transaction().await.unwrap();
    transaction.execute(claim, &[&id, &[7_u8; 16].as_slice()]).await.unwrap();

    // The batch looks at two streams, then waits for the key that the other transaction has claimed.
    let ours = vec![
        append(key(fresh_key(), 1), &[(looked_at, 1, 0)]),
        append(key(fresh_key(), 1), &[(never_begun, 0, 0)]),
        append(key(id, 1), &[(contested, 0, 1)]),
    ];
    let appending = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.append(batch(ours)).await.unwrap() }
    });
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    idempo_devstack::testing::eventually(std::time::Duration::from_secs(10), "the batch waits for the key", async || {
        transaction.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 1
    })
    .await;
    for stream in [looked_at, never_begun] {
        transaction.execute(advance, &[&stream.stream_id.uuid()]).await.unwrap();
    }
    transaction.commit().await.unwrap();

    assert!(matches!(&*appending.await.unwrap(), [CommandResult::Appended, CommandResult::Appended, CommandResult::Taken(_)]));
    for (stream, version) in [(looked_at, Some(2)), (never_begun, Some(2)), (contested, None)] {
        let row = other.query_opt("SELECT version FROM es.streams WHERE stream_id = $1", &[&stream.stream_id.uuid()]).await.unwrap();
        assert_eq!(row.map(|row| row.get::<_, i64>(0)), version);
    }
}
