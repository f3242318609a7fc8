//! What every log of effects promises, on the twin in memory and on PostgreSQL.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use idempo_devstack::testing::{self, TestDatabase};
use idempo_pg::{Client, Pool};
use idempo_projection::memory::MemoryEffectLog;
use idempo_projection::{
    EffectCounts, EffectId, EffectLog, Ending, Look, Pending, Place, PostgresEffectLog, Recorded, Recording, Settlement,
};
use idempo_schemas::{Database, REACTOR};
use jiff::Timestamp;

use crate::reactor_support::{Pusher, effect_of, event_of};
use crate::support::player;

/// A log.
trait Subject {
    type Log: EffectLog;
    async fn begin() -> Self;
    fn log(&self) -> &Self::Log;
}

struct InMemory(MemoryEffectLog);

impl Subject for InMemory {
    type Log = MemoryEffectLog;

    async fn begin() -> Self {
        Self(MemoryEffectLog::new())
    }

    fn log(&self) -> &MemoryEffectLog {
        &self.0
    }
}

/// A database with nothing but a log, to which only the role of reactors gets.
pub(crate) struct LogDatabase {
    pub(crate) database: TestDatabase,
    /// A session that was there before the database's own role was set.
    owner: Client,
}

impl LogDatabase {
    pub(crate) async fn new() -> Self {
        let like = Database { name: "effects", sets: &[REACTOR], connect_roles: &[] };
        let database = testing::database_like(&like).await;
        let owner = Pool::open(&database.superuser()).expect("a pool").get().await.expect("the database answers");
        // Sessions that begin from here on have the rights of this role.
        owner.batch_execute(&format!("ALTER DATABASE {} SET role = 'idempo_reactor_group'", database.name())).await.expect("it is set");
        Self { database, owner }
    }

    pub(crate) fn log(&self, topic: &str) -> Arc<PostgresEffectLog> {
        let pool = Pool::open(&self.database.superuser()).expect("a pool");
        Arc::new(PostgresEffectLog::new::<Pusher<false>>(pool, topic.to_owned()))
    }

    /// Passes over a record by hand. `false` where the reactor does not stand before it.
    pub(crate) async fn pass_over(&self, topic: &str, partition: i32, offset: i64) -> bool {
        let sql = "SELECT reactor.pass_over('pusher', $1, $2, $3, 'tester', 'garbage')";
        self.owner.query_one(sql, &[&topic, &partition, &offset]).await.expect("a row").get(0)
    }

    /// The effects in the log, by their states.
    pub(crate) async fn effects(&self) -> Vec<(EffectId, String)> {
        let sql = "SELECT effect_id, state FROM reactor.effect ORDER BY partition, record_offset, ordinal";
        let rows = self.owner.query(sql, &[]).await.expect("rows");
        rows.iter().map(|row| (EffectId::new(row.get(0)), row.get(1))).collect()
    }
}

struct OnPostgres(#[expect(dead_code, reason = "the database goes with it")] LogDatabase, Arc<PostgresEffectLog>);

impl Subject for OnPostgres {
    type Log = PostgresEffectLog;

    async fn begin() -> Self {
        let database = LogDatabase::new().await;
        let log = database.log("numbers");
        Self(database, log)
    }

    fn log(&self) -> &PostgresEffectLog {
        &self.1
    }
}

/// The effect of a grant, in a record at this offset.
fn effect(number: u128, version: u64, offset: i64) -> Pending {
    Pending {
        id: effect_of(number, version, 0),
        place: Place { offset, ordinal: 0 },
        event: event_of(number, version),
        key: player(number),
        decided_at: Timestamp::from_second(1_750_000_000 + offset).expect("a time"),
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
        effect: Bytes::from_static(b"\0any\xff"),
    }
}

fn recording(epoch: i64, (from, to): (i64, i64), effects: Vec<Pending>) -> Recording {
    Recording { partition: 0, epoch, from, to, last_event: Some(event_of(9, to.unsigned_abs())), effects, expired: BTreeSet::new() }
}

/// Takes partition 0 and has it begin at 0.
async fn begun<L: EffectLog>(log: &L) -> i64 {
    let epoch = log.acquire(0).await.expect("it answers").epoch;
    assert_eq!(log.begin(0, epoch, 0).await.expect("it answers"), Some(0));
    epoch
}

fn ids(effects: &[Pending]) -> BTreeSet<EffectId> {
    effects.iter().map(|effect| effect.id).collect()
}

fn failed() -> Ending {
    Ending::Failed { attempts: 3, code: "PUSH_REFUSED".to_owned(), reason: "no".to_owned() }
}

async fn where_a_partition_begins_is_decided_once<T: Subject>() {
    let subject = T::begin().await;
    let log = subject.log();
    let zombie = log.acquire(0).await.expect("it answers");
    assert_eq!((zombie.next_offset, zombie.last_event, zombie.settlements), (None, None, 0));
    let owner = log.acquire(0).await.expect("it answers");
    assert!(owner.epoch > zombie.epoch && owner.next_offset.is_none());
    assert_eq!(log.begin(0, zombie.epoch, 3).await.expect("it answers"), None, "somebody else has it");
    assert_eq!(log.begin(0, owner.epoch, 7).await.expect("it answers"), Some(7));
    assert_eq!(log.begin(0, owner.epoch, 9).await.expect("it answers"), Some(7), "its answer was lost");
    assert_eq!(log.acquire(0).await.expect("it answers").next_offset, Some(7));
    assert_eq!(log.acquire(1).await.expect("it answers").next_offset, None, "partitions stand apart");
    assert_eq!(log.look(2).await.expect("it answers"), None);
}

async fn effects_and_position_are_in_together_and_once<T: Subject>() {
    let subject = T::begin().await;
    let log = subject.log();
    let epoch = begun(log).await;
    let first = recording(epoch, (0, 5), vec![effect(1, 1, 0), effect(2, 1, 3)]);
    for _ in 0..3 {
        assert_eq!(log.record(&first).await.expect("it answers"), Recorded::Entered(ids(&first.effects)), "also where its answer was lost");
    }
    // An event that comes again, and one that is in the batch twice.
    let second = recording(epoch, (5, 9), vec![effect(2, 1, 5), effect(1, 2, 6), effect(1, 2, 8)]);
    for _ in 0..2 {
        assert_eq!(log.record(&second).await.expect("it answers"), Recorded::Entered(BTreeSet::from([effect_of(1, 2, 0)])));
    }
    assert_eq!(log.record(&first).await.expect("it answers"), Recorded::Fenced, "the position is elsewhere");
    assert_eq!(log.look(0).await.expect("it answers"), Some(Look { epoch, next_offset: Some(9), settlements: 0 }));
    let pending = log.unfinished(0, None, 100).await.expect("it answers");
    assert_eq!(pending, [effect(1, 1, 0), effect(2, 1, 3), effect(1, 2, 6)]);
    let taken = log.acquire(0).await.expect("it answers");
    assert_eq!((taken.next_offset, taken.last_event), (Some(9), Some(event_of(9, 9))));
}

async fn under_an_earlier_epoch_nothing_is_entered_or_given_up<T: Subject>() {
    let subject = T::begin().await;
    let log = subject.log();
    let zombie = begun(log).await;
    let first = recording(zombie, (0, 1), vec![effect(1, 1, 0)]);
    assert!(matches!(log.record(&first).await, Ok(Recorded::Entered(_))));
    let owner = log.acquire(0).await.expect("it answers").epoch;
    assert_eq!(log.record(&recording(zombie, (1, 2), vec![effect(1, 2, 1)])).await.expect("it answers"), Recorded::Fenced);
    assert_eq!(log.record(&first).await.expect("it answers"), Recorded::Fenced, "even though it is in");
    assert!(!log.end(0, zombie, effect_of(1, 1, 0), &failed()).await.expect("it answers"));
    assert!(!log.end(0, zombie, effect_of(1, 1, 0), &Ending::Expired).await.expect("it answers"));
    assert_eq!(log.unfinished(0, None, 100).await.expect("it answers"), [effect(1, 1, 0)]);
    // What it has performed is performed.
    log.done(&[effect_of(1, 1, 0)]).await.expect("it answers");
    assert_eq!(log.unfinished(0, None, 100).await.expect("it answers"), []);
    assert!(log.end(0, owner, effect_of(1, 1, 0), &failed()).await.expect("it answers"), "it is the owner");
    assert_eq!(log.counts().await.expect("it answers"), EffectCounts::default(), "and what is done stays so");
}

async fn what_is_pending_is_found_in_its_order_page_by_page<T: Subject>() {
    let subject = T::begin().await;
    let log = subject.log();
    let epoch = begun(log).await;
    let second_of_first = Pending { id: effect_of(1, 1, 1), place: Place { offset: 0, ordinal: 1 }, ..effect(1, 1, 0) };
    let all = vec![effect(1, 1, 0), second_of_first, effect(1, 2, 4), effect(2, 1, 7)];
    let expired = BTreeSet::from([all[2].id]);
    let entered = log.record(&Recording { expired, ..recording(epoch, (0, 10), all.clone()) }).await.expect("it answers");
    assert_eq!(entered, Recorded::Entered(ids(&all)));
    let page = log.unfinished(0, None, 2).await.expect("it answers");
    assert_eq!(page, all[..2]);
    assert_eq!(log.unfinished(0, Some(page[1].place), 2).await.expect("it answers"), all[3..]);
    assert_eq!(log.unfinished(1, None, 2).await.expect("it answers"), []);
    let counts = log.counts().await.expect("it answers");
    assert_eq!(counts, EffectCounts { unfinished: 3, failed: 0, oldest_at: Some(all[0].decided_at) });
    log.done(&[all[0].id, all[1].id, all[2].id]).await.expect("it answers");
    log.done(&[all[0].id]).await.expect("it answers");
    assert_eq!(log.unfinished(0, None, 9).await.expect("it answers"), all[3..]);
}

async fn what_has_failed_waits_for_people_and_stays_as_they_settle_it<T: Subject>() {
    let subject = T::begin().await;
    let log = subject.log();
    let epoch = begun(log).await;
    let all = vec![effect(1, 1, 0), effect(2, 1, 1), effect(3, 1, 2)];
    log.record(&recording(epoch, (0, 3), all.clone())).await.expect("it answers");
    for effect in &all {
        assert!(log.end(0, epoch, effect.id, &failed()).await.expect("it answers"));
        assert!(log.end(0, epoch, effect.id, &failed()).await.expect("it answers"), "its answer was lost");
    }
    assert_eq!(log.failed_keys(0).await.expect("it answers"), all.iter().map(|effect| effect.key).collect());
    assert_eq!(log.counts().await.expect("it answers"), EffectCounts { failed: 3, ..EffectCounts::default() });
    // It was performed after all.
    log.done(&[all[0].id]).await.expect("it answers");
    assert!(log.settle(all[1].id, Settlement::Again, "tester", "mended").await.expect("it answers"));
    assert!(log.settle(all[2].id, Settlement::Dropped, "tester", "gone").await.expect("it answers"));
    for settled in &all {
        assert!(!log.settle(settled.id, Settlement::Again, "tester", "once more").await.expect("it answers"));
    }
    assert_eq!(log.unfinished(0, None, 9).await.expect("it answers"), [effect(2, 1, 1)]);
    assert_eq!(log.failed_keys(0).await.expect("it answers"), BTreeSet::new());
    assert_eq!(log.look(0).await.expect("it answers").map(|look| look.settlements), Some(2));
}

async fn of_racing_recordings_of_one_batch_one_takes_effect<T: Subject>() {
    let subject = T::begin().await;
    let log = subject.log();
    let epoch = begun(log).await;
    let recording = recording(epoch, (0, 5), vec![effect(1, 1, 0), effect(2, 1, 3)]);
    let answers = futures_util::future::join_all((0..8).map(|_| log.record(&recording))).await;
    let expected = Recorded::Entered(ids(&recording.effects));
    assert!(answers.iter().all(|answer| answer.as_ref().is_ok_and(|answer| *answer == expected)), "{answers:?}");
    assert_eq!(log.unfinished(0, None, 9).await.expect("it answers").len(), 2);
}

macro_rules! on_every_log {
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

on_every_log! {
    where_a_partition_begins_is_decided_once
    effects_and_position_are_in_together_and_once
    under_an_earlier_epoch_nothing_is_entered_or_given_up
    what_is_pending_is_found_in_its_order_page_by_page
    what_has_failed_waits_for_people_and_stays_as_they_settle_it
    of_racing_recordings_of_one_batch_one_takes_effect
}

/// Something of everything is in it: a pending effect, one that is done, and one that people have dropped.
async fn filled() -> (LogDatabase, Arc<PostgresEffectLog>, i64) {
    let database = LogDatabase::new().await;
    let log = database.log("numbers");
    let epoch = begun(&*log).await;
    let all = vec![effect(1, 1, 0), effect(2, 1, 1), effect(3, 1, 2)];
    log.record(&recording(epoch, (0, 3), all.clone())).await.expect("it answers");
    log.done(&[all[1].id]).await.expect("it answers");
    assert!(log.end(0, epoch, all[2].id, &failed()).await.expect("it answers"));
    assert!(log.settle(all[2].id, Settlement::Dropped, "tester", "gone").await.expect("it answers"));
    (database, log, epoch)
}

#[tokio::test]
async fn a_reactors_role_can_neither_clear_the_log_nor_rewrite_what_is_in_it() {
    let (database, ..) = filled().await;
    let pool = Pool::open(&database.database.superuser()).expect("a pool");
    let client = pool.get().await.expect("the database answers");
    let role: String = client.query_one("SELECT current_user::text", &[]).await.expect("a row").get(0);
    assert_eq!(role, "idempo_reactor_group");
    for sql in [
        "DELETE FROM reactor.effect",
        "TRUNCATE reactor.effect",
        "DELETE FROM reactor.position",
        "UPDATE reactor.effect SET effect = ''",
        "UPDATE reactor.effect SET effect_id = gen_random_uuid()",
        "UPDATE reactor.effect SET key = event_id",
        "UPDATE reactor.effect SET state = 'pending' WHERE state = 'done'",
        "UPDATE reactor.effect SET state = 'done' WHERE state = 'dropped'",
        "UPDATE reactor.position SET settlements = 9",
        "UPDATE reactor.position SET topic = 'other'",
        "INSERT INTO reactor.audit (caller, action, target, reason) VALUES ('a', 'b', 'c', 'd')",
        "DELETE FROM reactor.audit",
        "SELECT reactor.pass_over('pusher', 'numbers', 0, 3, 'me', 'why not')",
        "CREATE TABLE reactor.mine ()",
    ] {
        let refused = client.batch_execute(sql).await;
        assert!(refused.is_err(), "{sql}");
    }
    let states: Vec<String> = database.effects().await.into_iter().map(|(_, state)| state).collect();
    assert_eq!(states, ["pending", "done", "dropped"]);
}

#[tokio::test]
async fn not_even_the_owner_clears_the_log_by_mistake() {
    let (database, ..) = filled().await;
    let client = &database.owner;
    for sql in
        ["DELETE FROM reactor.effect", "TRUNCATE reactor.effect", "DELETE FROM reactor.position", "UPDATE reactor.audit SET caller = 'b'"]
    {
        let refused = client.batch_execute(sql).await.expect_err(sql);
        assert_eq!(refused.code().map(tokio_postgres::error::SqlState::code), Some("23001"), "{sql}");
    }
}

#[tokio::test]
async fn a_record_is_passed_over_by_hand_only_where_the_reactor_stands_before_it_and_the_audit_says_who_did_it() {
    let (database, log, epoch) = filled().await;
    for (offset, passed) in [(2, false), (3, true), (3, false)] {
        assert_eq!(database.pass_over("numbers", 0, offset).await, passed, "{offset}");
    }
    let look = log.look(0).await.expect("it answers").expect("it is there");
    assert_eq!(look.next_offset, Some(4));
    assert!(look.epoch > epoch, "whoever has it gives it up");
    let rows = database.owner.query("SELECT caller, action, target, reason FROM reactor.audit ORDER BY id", &[]).await.expect("rows");
    let audit: Vec<[String; 4]> = rows.iter().map(|row| [row.get(0), row.get(1), row.get(2), row.get(3)]).collect();
    let dropped = ["tester", "drop", &effect_of(3, 1, 0).uuid().to_string(), "gone"].map(str::to_owned);
    assert_eq!(audit, [dropped, ["tester", "pass_over", "pusher numbers/0@3", "garbage"].map(str::to_owned)]);
}
