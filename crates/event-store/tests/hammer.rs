//! Random commands, most of them sent more than once and some of them dropped on the way, through several executors over one database. What was
//! answered must be what is stored, and every answer to one key the same.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use idempo_devstack::testing::TestDatabase;
use idempo_event_store::postgres::{PostgresStore, maintain_key_partitions};
use idempo_event_store::store::{Batch, CommandResult, Settled, Store, StoreError, StoredEvent};
use idempo_event_store::{Config, Error, Executor, Handle, IdempotencyKey, NoInline, Outcome, StreamTarget};
use idempo_ids::StreamId;
use idempo_proto::event::v1::EventEnvelope;
use idempo_proto::event::v1::event_envelope::Data;
use prost::Message as _;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tokio_util::sync::CancellationToken;

use crate::support::{Accounts, Command, clock, fresh_account, fresh_key, key, submission};

const EXECUTORS: usize = 3;
const ACCOUNTS: usize = 6;
const CLIENTS: u64 = 24;
const COMMANDS_PER_CLIENT: usize = 40;
/// How often a command is sent again before the test gives up on a definite answer.
const SENDS_MAX: usize = 100;

/// A store that now and then loses an answer, or fails before it begins.
struct Unreliable {
    inner: PostgresStore<NoInline>,
    calls: AtomicUsize,
}

impl Store for Unreliable {
    type Rows = ();

    async fn append(&self, batch: Batch<()>) -> Result<Vec<CommandResult>, StoreError> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        if call % 17 == 5 {
            return Err(StoreError::Away("away".into()));
        }
        let result = self.inner.append(batch).await;
        if call % 11 == 3 { Err(StoreError::Unknown("cut".into())) } else { result }
    }

    async fn load(&self, after: Vec<(StreamId, u64)>) -> Result<Vec<StoredEvent>, StoreError> {
        self.inner.load(after).await
    }

    async fn lookup(&self, key: &IdempotencyKey) -> Result<Option<Settled>, StoreError> {
        self.inner.lookup(key).await
    }

    fn ring(&self) {}
}

async fn executors(database: &TestDatabase) -> Vec<Handle<Accounts>> {
    let mut handles = Vec::new();
    for _ in 0..EXECUTORS {
        let pool = idempo_pg::Pool::open(&database.config("idempo_wallet")).unwrap();
        let shared: idempo_clock::SharedClock = clock();
        maintain_key_partitions(&pool, &shared).await.unwrap();
        let store = Arc::new(Unreliable { inner: PostgresStore::new(pool), calls: AtomicUsize::new(0) });
        // So few answers are remembered that most duplicates go to the database.
        let config = Config { cached_answers_max: 8, batch_commands_max: 16, ..Config::default() };
        let (handle, executor) = Executor::new(Arc::new(Accounts), store, clock(), config);
        tokio::spawn(executor.run(CancellationToken::new()));
        handles.push(handle);
    }
    handles
}

/// A command as it was sent, and all that was answered to it.
#[derive(Clone)]
struct Sent {
    key: IdempotencyKey,
    command: Command,
    streams: Vec<StreamTarget>,
    answers: Arc<Mutex<Vec<Outcome>>>,
}

impl Sent {
    fn random(rng: &mut ChaCha8Rng, accounts: &[StreamTarget]) -> Self {
        let first = rng.random_range(0..ACCOUNTS);
        let second = (first + rng.random_range(1..ACCOUNTS)) % ACCOUNTS;
        let amount = rng.random_range(1..50);
        let large = rng.random_range(50..150);
        let (command, streams) = match rng.random_range(0..5) {
            0 | 1 => (Command::Deposit(amount), vec![accounts[first]]),
            2 => (Command::Withdraw(large), vec![accounts[first]]),
            _ => (Command::Move(amount), vec![accounts[first], accounts[second]]),
        };
        Self { key: key(fresh_key(), 1), command, streams, answers: Arc::default() }
    }

    /// Sends it once, and remembers a definite answer.
    async fn send(self, handle: Handle<Accounts>) -> Result<(), Error> {
        let answer = handle.execute(submission(self.key.clone(), self.command.clone(), &self.streams)).await?;
        self.answers.lock().unwrap().push(answer);
        Ok(())
    }
}

/// One client: sends each command once or more at the same time, goes away from some of them, and comes back to those later.
async fn client(seed: u64, accounts: Vec<StreamTarget>, handles: Vec<Handle<Accounts>>) -> Vec<Sent> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut all: Vec<Sent> = Vec::new();
    for _ in 0..COMMANDS_PER_CLIENT {
        let sent = if !all.is_empty() && rng.random_bool(0.2) {
            all[rng.random_range(0..all.len())].clone()
        } else {
            let sent = Sent::random(&mut rng, &accounts);
            all.push(sent.clone());
            sent
        };
        let mut sends: Vec<_> =
            (0..rng.random_range(1..4)).map(|_| Box::pin(sent.clone().send(handles[rng.random_range(0..EXECUTORS)].clone()))).collect();
        if rng.random_bool(0.3) {
            let gone = sends.pop().unwrap();
            let _too_late = tokio::time::timeout(Duration::from_micros(rng.random_range(0..3_000)), gone).await;
        }
        for answer in futures_util::future::join_all(sends).await {
            assert!(matches!(answer, Ok(()) | Err(Error::Unavailable | Error::Contended)), "{answer:?}");
        }
    }
    for sent in &all {
        let mut sends = 0;
        while sent.clone().send(handles[rng.random_range(0..EXECUTORS)].clone()).await.is_err() {
            sends += 1;
            assert!(sends < SENDS_MAX, "no definite answer to {:?}", sent.command);
        }
    }
    all
}

/// What is stored: the amounts of each command's events by stream, and each stream's balance after each version.
#[derive(Default)]
struct Stored {
    by_command: HashMap<Vec<u8>, BTreeMap<StreamId, i64>>,
    balances: HashMap<StreamId, Vec<i64>>,
}

impl Stored {
    async fn read(database: &TestDatabase) -> Self {
        let (client, connection) = idempo_pg::connect(&database.superuser()).await.unwrap();
        tokio::spawn(connection);
        let mut stored = Self::default();
        let events = "SELECT e.stream_id, e.version, e.envelope, o.seq IS NOT NULL AS sent
            FROM es.events AS e LEFT JOIN outbox.r0 AS o ON o.seq = e.seq AND o.payload = e.envelope AND o.xid = e.xid
            ORDER BY e.seq";
        for row in client.query(events, &[]).await.unwrap() {
            assert!(row.get::<_, bool>("sent"), "an event is not in the outbox");
            let stream = StreamId::new(row.get("stream_id"));
            let envelope = EventEnvelope::decode(row.get::<_, &[u8]>("envelope")).unwrap();
            let amount = match envelope.data {
                Some(Data::FundsMinted(minted)) => minted.amount,
                Some(Data::FundsBurned(burned)) => -burned.amount,
                other => panic!("{other:?}"),
            };
            let balances = stored.balances.entry(stream).or_default();
            balances.push(balances.last().copied().unwrap_or(0) + amount);
            assert!(balances.last().is_some_and(|balance| *balance >= 0), "a balance is below zero");
            assert_eq!(row.get::<_, i64>("version"), i64::try_from(balances.len()).unwrap(), "in the order of seq, versions have a gap");
            let earlier = stored.by_command.entry(envelope.command_id.to_vec()).or_default().insert(stream, amount);
            assert_eq!(earlier, None, "a command has two events on one stream");
        }
        let counts = "SELECT (SELECT count(*) FROM es.events), (SELECT count(*) FROM outbox.r0),
            (SELECT count(*) FROM es.streams), (SELECT sum(version)::bigint FROM es.streams)";
        let counts = client.query_one(counts, &[]).await.unwrap();
        assert_eq!(counts.get::<_, i64>(0), counts.get::<_, i64>(1), "the outbox holds what is no event");
        assert_eq!(counts.get::<_, i64>(0), counts.get::<_, i64>(3), "a stream's version is not the number of its events");
        assert_eq!(counts.get::<_, i64>(2), i64::try_from(stored.balances.len()).unwrap(), "a stream has no events");
        stored
    }

    /// Checks what was answered to a command against what is stored, and says whether it was applied.
    fn check(&mut self, sent: &Sent) -> bool {
        let answers = sent.answers.lock().unwrap();
        let effect = self.by_command.remove(sent.key.command_id().bytes().as_slice()).unwrap_or_default();
        let text = |answer: &Outcome| match answer {
            Outcome::Replied { reply, .. } => String::from_utf8(reply.to_vec()).unwrap(),
            Outcome::Refused { status, .. } => String::from_utf8(status.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        };
        assert!(answers.iter().all(|answer| text(answer) == text(&answers[0])), "{:?}: {answers:?}", sent.command);
        let history = |stream: &StreamTarget| self.balances.get(&stream.stream_id).map(Vec::as_slice).unwrap_or_default();
        if text(&answers[0]) == "INSUFFICIENT" {
            assert!(effect.is_empty(), "{:?} was refused and has an effect", sent.command);
            let (Command::Withdraw(amount) | Command::Move(amount)) = sent.command else { panic!("a deposit was refused") };
            assert!(std::iter::once(&0).chain(history(&sent.streams[0])).any(|balance| *balance < amount), "it could always be paid");
            return false;
        }
        let amounts: Vec<i64> = match sent.command {
            Command::Deposit(amount) => vec![amount],
            Command::Withdraw(amount) => vec![-amount],
            Command::Move(amount) => vec![-amount, amount],
        };
        let expected: BTreeMap<_, _> = sent.streams.iter().map(|stream| stream.stream_id).zip(amounts).collect();
        assert_eq!(effect, expected, "{:?}", sent.command);
        let answered_at = |(at, balance): (usize, &i64)| format!("balance {balance} at {}", at + 1) == text(&answers[0]);
        assert!(history(&sent.streams[0]).iter().enumerate().any(answered_at), "{} never was", text(&answers[0]));
        true
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_sent_however_often_is_answered_as_it_is_stored() {
    let database = idempo_devstack::testing::database("wallet_db").await;
    let handles = executors(&database).await;
    let accounts: Vec<_> = (0..ACCOUNTS).map(|_| fresh_account()).collect();
    let mut clients = tokio::task::JoinSet::new();
    for seed in 0..CLIENTS {
        clients.spawn(client(seed, accounts.clone(), handles.clone()));
    }
    let all: Vec<Sent> = clients.join_all().await.into_iter().flatten().collect();
    let mut stored = Stored::read(&database).await;
    let applied = all.iter().filter(|sent| stored.check(sent)).count();
    assert!(stored.by_command.is_empty(), "{} commands have an effect and were never sent", stored.by_command.len());
    let replayed = all.iter().map(|sent| sent.answers.lock().unwrap().len()).sum::<usize>() - all.len();
    assert!(applied > 300 && all.len() - applied > 20 && replayed > 300, "{applied} applied of {}, {replayed} replayed", all.len());
}
